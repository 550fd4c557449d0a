"""The subcommands of TXSENTINEL that remove members and drain hosts."""

from __future__ import annotations

from typing import Any

from tests.server.harness import MY_ID, ServerTestCase
from txsentinel.core.effects import SendCommand
from txsentinel.core.instances import Peer, Replica
from txsentinel.model.address import Address
from txsentinel.model.operations import OperationState, Precondition
from txsentinel.wire.values import ErrorLine

OURS, OTHER, C_PEER, DEAD = "b" * 40, "c" * 40, "d" * 40, "e" * 40


class MembershipCase(ServerTestCase):
    """A master with two replicas, two peers of our kind, a C Sentinel, and a peer that is dead."""

    def setUp(self) -> None:
        """Add the instances, and let time pass without hellos of the dead one."""
        super().setUp()
        self.client.ask("HELLO", 3)
        core, now = self.harness.core, self.harness.host.now()
        self.replicas: list[Replica] = []
        for number in (1, 2):
            replica = core.registry.add_replica(self.master, Address.literal(f"10.0.0.{number}", 6379), now)
            assert replica is not None
            self.replicas.append(replica)
        self.peers: dict[str, Peer] = {}
        for number, peer_id in enumerate((OURS, OTHER, C_PEER, DEAD)):
            address = Address.literal(f"10.0.1.{number}", 26379)
            self.peers[peer_id] = core.registry.add_peer(self.master, peer_id, address, now)
        for instance in (self.master, *self.replicas, *self.peers.values()):
            if instance is not self.peers[DEAD]:
                self.harness.bring_up(instance.link)
        self.peers[DEAD].enter_sdown(now)
        self.harness.host.reactor.advance(11)
        for peer_id, mark in ((OURS, "0"), (OTHER, "0"), (C_PEER, "")):
            peer = self.peers[peer_id]
            hello = f"{peer.address.ip},26379,{peer_id},{mark}0,mymaster,127.0.0.1,6379,0"
            core.hello_received(hello.encode(), self.harness.host.now())
        self.harness.commit_all()
        self.harness.links.effects.clear()

    def sent(self) -> dict[str, tuple[bytes, ...]]:
        """Return the commands that were sent to peers since the last call, by the ID of the peer."""
        self.harness.executor.drain()
        effects = [each for each in self.harness.links.effects if isinstance(each, SendCommand)]
        self.harness.links.effects.clear()
        self.numbers = {self.name_of(each): each.number for each in effects}
        return {self.name_of(each): each.words for each in effects}

    def name_of(self, effect: SendCommand) -> str:
        """Return the ID of the peer that gets a command."""
        return next(peer_id for peer_id, peer in self.peers.items() if peer.link is effect.link)

    def answer(self, **replies: object) -> None:
        """Have the peers of our kind answer; both with OK unless another reply is given."""
        now = self.harness.host.now()
        for peer_id, number in self.numbers.items():
            reply = replies.get("ours" if peer_id == OURS else "other", b"OK")
            self.harness.core.command_reply(self.peers[peer_id].link, number, reply, now)
        self.harness.executor.drain()

    def only_reply(self) -> Any:
        """Return the only reply that arrived."""
        (reply,) = self.client.replies()
        return reply


class ForgetTests(MembershipCase):
    """FORGET."""

    def test_everywhere(self) -> None:
        """The peers of our kind are asked, then it is saved, then it is passed on; the answers are a table."""
        self.client.send("TXSENTINEL", "FORGET", "mymaster", "ID", DEAD)
        question = (b"TXSENTINEL", b"FORGET", b"mymaster", b"ID", DEAD.encode(), b"CHECK")
        self.assertEqual(self.sent(), {OURS: question, OTHER: question})
        self.answer()
        self.assertEqual(self.sent(), {}, "not before it is durable")
        self.assertIn(DEAD, self.master.peers)
        self.harness.save()
        self.assertNotIn(DEAD, self.master.peers)
        words = self.sent()[OURS]
        self.assertEqual(words[:6], (*question[:5], b"FOR"))
        self.assertEqual(words[-2], b"BY")
        self.assertTrue(words[-1].startswith(b"default from 127.0.0.1:"))
        self.answer(other=ErrorLine(b"NOPERM this user has no permissions"))
        reply = self.only_reply()
        self.assertEqual((reply[b"node"], reply[b"kind"]), (DEAD.encode(), b"sentinel"))
        results = {row[b"id"].decode(): row[b"result"] for row in reply[b"sentinels"]}
        self.assertEqual(
            results,
            {
                MY_ID: b"removed",
                OURS: b"removed",
                OTHER: b"NOPERM this user has no permissions",
                C_PEER: b"keeps it: it is a C Sentinel",
            },
        )
        (group,) = reply[b"masters"]
        self.assertEqual((group[b"sentinels"], group[b"majority"], group[b"warning"]), (4, 3, None))
        tombstone = self.master.membership.tombstones[DEAD]
        self.assertEqual(list(tombstone.confirmed_by), [OURS])

    def test_seen_alive_elsewhere(self) -> None:
        """It is removed nowhere if another Sentinel sees it alive."""
        self.client.send("TXSENTINEL", "FORGET", "*", "NODE", "10.0.1.3", "26379")
        self.sent()
        self.answer(other=ErrorLine(b"STILLALIVE the Sentinel at 10.0.1.3:26379 answers"))
        self.assertEqual(self.sent(), {})
        error = b"STILLALIVE the Sentinel at 10.0.1.1:26379: the Sentinel at 10.0.1.3:26379 answers"
        self.assertEqual(self.only_reply(), error)
        self.assertEqual(self.master.membership.tombstones, {})

    def answer_c(self, *replies: object) -> list[bytes]:
        """Let time pass until the C Sentinel gets commands, and answer each; return the commands."""
        found = []
        for reply in replies:
            for _ in range(100):
                words = self.sent()
                if words:
                    break
                self.harness.host.reactor.advance(0.5)
            found.append(b" ".join(words[C_PEER]))
            now = self.harness.host.now()
            self.harness.core.command_reply(self.peers[C_PEER].link, self.numbers[C_PEER], reply, now)
            self.harness.executor.drain()
        return found

    def test_reset_of_c_sentinels(self) -> None:
        """With RESETC, a C Sentinel is reset, and the reply waits until it knows the group again."""
        now = self.harness.host.now()
        for replica in self.replicas:
            lines = ["role:slave", "master_host:127.0.0.1", "master_port:6379", "master_link_status:up"]
            self.harness.core.ping_reply(replica.link, replica.link.kinds[0], b"PONG", now)
            self.harness.core.info_reply(replica.link, "\r\n".join([*lines, "slave_priority:100"]).encode(), now)
        self.client.send("TXSENTINEL", "FORGET", "mymaster", "ID", DEAD, "RESETC")
        self.sent()
        self.answer()
        self.harness.save()
        self.sent()
        self.answer()
        commands = self.answer_c(1, ErrorLine(b"NOQUORUM 1 usable Sentinels"), b"OK 4", [b"1"], b"OK 4", [b"1", b"2"])
        asked = [b"CKQUORUM", b"CKQUORUM", b"REPLICAS", b"CKQUORUM", b"REPLICAS"]
        self.assertEqual(commands, [b"SENTINEL " + word + b" mymaster" for word in (b"RESET", *asked)])
        results = {row[b"id"].decode(): row[b"result"] for row in self.only_reply()[b"sentinels"]}
        self.assertEqual(results[C_PEER], b"removed by a reset")

    def test_no_reset(self) -> None:
        """A C Sentinel is not reset while no replica could be promoted."""
        self.client.send("TXSENTINEL", "FORGET", "mymaster", "ID", DEAD, "RESETC")
        self.sent()
        self.answer()
        self.harness.save()
        self.sent()
        self.answer()
        self.assertEqual(self.sent(), {})
        results = {row[b"id"].decode(): row[b"result"] for row in self.only_reply()[b"sentinels"]}
        self.assertEqual(results[C_PEER], b"keeps it: no replica could be promoted meanwhile")

    def test_removed_before(self) -> None:
        """Another Sentinel that does not count those removed before is known to, also after a restart."""
        self.client.send("TXSENTINEL", "FORGET", "mymaster", "ID", DEAD)
        self.sent()
        self.answer()
        self.harness.save()
        self.sent()
        self.answer()
        self.only_reply()
        tombstone = self.master.membership.tombstones[DEAD]
        tombstone.confirmed_by.clear()
        self.client.send("TXSENTINEL", "FORGET", "mymaster", "NODE", "10.0.0.1", "6379")
        self.replicas[0].enter_sdown(self.harness.host.now())
        self.client.replies()
        self.client.send("TXSENTINEL", "FORGET", "mymaster", "NODE", "10.0.0.1", "6379")
        self.sent()
        self.answer(ours=[[b"mymaster", b"x", OTHER.encode()]], other=[[b"mymaster", DEAD.encode()]])
        self.assertEqual(list(tombstone.confirmed_by), [OURS])

    def test_not_saved(self) -> None:
        """If it cannot be saved, it is not passed on, and the member stays."""
        self.client.send("TXSENTINEL", "FORGET", "mymaster", "ID", DEAD)
        self.sent()
        self.answer()
        self.harness.fail()
        self.assertEqual(self.sent(), {})
        self.assertEqual(self.only_reply(), b"ERR Failed to save config file. Check server logs.")
        self.assertIn(DEAD, self.master.peers)
        self.assertEqual(self.master.membership.tombstones, {})

    def test_passed_on(self) -> None:
        """A request of another Sentinel is executed here only, once; a repetition is OK."""
        words = (
            "TXSENTINEL",
            "FORGET",
            "mymaster",
            "ID",
            DEAD,
            "FOR",
            "5000",
            "AT",
            "1795241000000",
            "ab-1",
            "BY",
            "x",
        )
        self.client.send(*words)
        self.assertEqual(self.sent(), {})
        self.assertEqual(self.client.replies(), [])
        self.harness.save()
        self.assertEqual(self.only_reply(), b"OK")
        self.assertNotIn(DEAD, self.master.peers)
        self.assertTrue(self.client.reply(*words).startswith(b"UNKNOWNNODE "))  # type: ignore[attr-defined]

    def test_check(self) -> None:
        """A check changes nothing, and returns the Sentinels that count here, also if the member is unknown."""
        words = ("TXSENTINEL", "FORGET", "mymaster", "ID")
        counted = [[b"mymaster", OURS.encode(), OTHER.encode(), C_PEER.encode(), DEAD.encode()]]
        self.assertEqual(self.client.reply(*words, DEAD, "CHECK"), counted)
        self.assertEqual(self.client.reply(*words, "f" * 40, "CHECK"), counted)
        error = self.client.reply("TXSENTINEL", "FORGET", "mymaster", "ID", OURS, "CHECK")
        self.assertEqual(error, b"STILLALIVE the Sentinel at 10.0.1.0:26379 answers")
        self.assertEqual(self.master.membership.tombstones, {})

    def test_refused(self) -> None:
        """Bad words are refused, each with what is wrong."""
        for words, error in (
            (("other", "ID", DEAD), b"ERR No such master with that name"),
            (("mymaster", "ID", "f" * 40), b"UNKNOWNNODE mymaster has no such Sentinel or replica here"),
            (("*", "ID", "f" * 40), b"UNKNOWNNODE no master has such a Sentinel or replica here"),
            (("mymaster", "NODE", "10.0.1.3"), b"ERR syntax error"),
            (("mymaster", "NODE", "10.0.1.3", "0"), b"ERR Invalid port"),
            (("mymaster", "WITH", DEAD), b"ERR syntax error"),
            (("mymaster", "ID", DEAD, "FOR", "0"), b"ERR a time must be from 1 to 31622400000 milliseconds"),
            (("mymaster", "ID", DEAD, "AT", "1"), b"ERR syntax error"),
            (("mymaster", "ID", DEAD, "AT", "1", "a b"), b"ERR the ID of a request has 1 to 64 letters, digits"),
            (("mymaster", "ID", DEAD, "SOON"), b"ERR syntax error"),
            (("mymaster", "NODE", "127.0.0.1", "6379"), b"ERR 127.0.0.1:6379 is the master itself"),
        ):
            reply = self.client.reply("TXSENTINEL", "FORGET", *words)
            assert isinstance(reply, bytes)
            self.assertTrue(reply.startswith(error), (words, reply))


class DrainTests(MembershipCase):
    """DRAIN, PARK and UNPARK."""

    def setUp(self) -> None:
        """Make the replicas fit."""
        super().setUp()
        core, now = self.harness.core, self.harness.host.now()
        lines = ["master_host:127.0.0.1", "master_port:6379", "master_link_status:up", "slave_priority:100"]
        for number, replica in enumerate(self.replicas):
            info = ["role:slave", f"run_id:{number:040d}", *lines, "master_failover_state:no-failover"]
            core.ping_reply(replica.link, replica.link.kinds[0], b"PONG", now)
            core.info_reply(replica.link, "\r\n".join(info).encode(), now)
        info = ["role:master", "run_id:" + "9" * 40, "master_failover_state:no-failover", "connected_clients:11"]
        core.ping_reply(self.master.link, self.master.link.kinds[0], b"PONG", now)
        core.info_reply(self.master.link, ("\r\n" + "\r\n".join(info)).encode(), now)
        self.harness.commit_all()
        self.harness.links.effects.clear()

    def test_plan(self) -> None:
        """A dry run returns what would be done."""
        plan = self.client.reply("TXSENTINEL", "DRAIN", "127.0.0.1", "6379", "DRYRUN")
        assert isinstance(plan, dict)
        self.assertEqual((plan[b"masters"], plan[b"problems"], plan[b"safe"]), ([b"mymaster"], [], False))
        self.assertEqual(self.master.membership.parked, {})

    def test_no_other_replica(self) -> None:
        """If no other replica is fit, nothing is done."""
        for replica in self.replicas:
            replica.priority = 0
        reply = self.client.reply("TXSENTINEL", "DRAIN", "127.0.0.1", "6379")
        error = (
            "NOGOODSLAVE mymaster: no other replica can be promoted (10.0.0.1:6379: its priority is 0; 10.0.0.2:6379:"
        )
        self.assertEqual(reply, f"{error} its priority is 0)".encode())
        self.assertEqual(self.master.membership.parked, {})

    def test_too_few_sentinels(self) -> None:
        """A host whose Sentinel is needed for the majority is refused."""
        self.peers[OTHER].enter_sdown(self.harness.host.now())
        reply = self.client.reply("TXSENTINEL", "DRAIN", "10.0.1.0")
        error = b"WOULDBREAKMAJORITY mymaster: 2 of 5 Sentinels would be left, 3 are needed for a failover"
        self.assertEqual(reply, error)

    def test_unknown_host(self) -> None:
        """A host without servers and Sentinels is refused, also by an undo."""
        error = b"UNKNOWNNODE no server or Sentinel of a monitored group is at 10.9.9.9"
        self.assertEqual(self.client.reply("TXSENTINEL", "DRAIN", "10.9.9.9"), error)
        self.assertEqual(self.client.reply("TXSENTINEL", "DRAIN", "10.9.9.9", "UNDO"), error)

    def test_replica(self) -> None:
        """The host of a replica is parked everywhere, and nothing has to be moved."""
        self.client.send("TXSENTINEL", "DRAIN", "10.0.0.1", "PARK", "60000")
        self.assertEqual(self.sent(), {})
        self.harness.save()
        words = self.sent()
        self.assertEqual(set(words), {OURS, OTHER})
        self.assertEqual(words[OURS][:6], (b"TXSENTINEL", b"PARK", b"10.0.0.1", b"*", b"FOR", b"60000"))
        self.answer(other=ErrorLine(b"NOPERM no"))
        reply = self.only_reply()
        self.assertIs(reply[b"safe"], True)
        self.assertEqual((reply[b"moved"], reply[b"still"]), ([], [{b"address": b"10.0.0.1:6379", b"clients": None}]))
        results = {row[b"id"].decode(): row[b"result"] for row in reply[b"sentinels"]}
        kept = b"may promote them: it is a C Sentinel"
        dead = b"it is not connected"
        self.assertEqual(results, {OURS: b"parked", OTHER: b"NOPERM no", C_PEER: kept, DEAD: dead})
        second = self.client.reply("TXSENTINEL", "DRAIN", "10.0.0.2")
        error = b"DRAINING mymaster: another host is being drained, with 10.0.0.1:6379"
        self.assertEqual(second, error)
        plan = self.client.reply("TXSENTINEL", "DRAIN", "10.0.0.2", "DRYRUN", "PARALLEL")
        assert isinstance(plan, dict)
        self.assertEqual(plan[b"problems"], [])
        self.client.send("TXSENTINEL", "DRAIN", "10.0.0.1", "UNDO")
        self.harness.executor.drain()
        self.harness.save()
        self.assertEqual(self.sent()[OURS][:4], (b"TXSENTINEL", b"UNPARK", b"10.0.0.1", b"*"))
        self.answer()
        self.assertEqual(self.only_reply()[b"unparked"], [b"10.0.0.1:6379"])
        self.assertEqual(self.master.membership.parked, {})

    def test_master_that_stays(self) -> None:
        """If the failover does not succeed, the host is not safe, and the reply has the reason."""
        self.client.send("TXSENTINEL", "DRAIN", "127.0.0.1", "6379")
        self.harness.executor.drain()
        self.harness.save()
        self.sent()
        self.answer()
        (operation,) = self.harness.core.state.operations.pending.values()
        now = self.harness.host.now()
        problem = Precondition("no_majority", "only 1 of 5 Sentinels can be reached")
        self.harness.core.state.operations.end(operation, OperationState.FAILED, now, problem)
        self.harness.host.reactor.advance(1)
        reply = self.only_reply()
        self.assertIs(reply[b"safe"], False)
        (moved,) = reply[b"moved"]
        self.assertEqual((moved[b"master"], moved[b"to"]), (b"mymaster", None))
        self.assertEqual(moved[b"problem"], b"only 1 of 5 Sentinels can be reached")
        self.assertEqual((operation.order.comment, operation.order.recorded_cause), ("drain of 127.0.0.1", "drain"))

    def test_passed_on(self) -> None:
        """PARK and UNPARK of another Sentinel have an effect here only."""
        self.client.send("TXSENTINEL", "PARK", "10.0.0.1", "*", "FOR", "60000", "AT", "1795241000000", "ab-1")
        self.harness.executor.drain()
        self.harness.save()
        self.assertEqual(self.only_reply(), 1)
        self.client.send("TXSENTINEL", "UNPARK", "10.0.0.1", "6379", "BY", "alice")
        self.harness.executor.drain()
        self.harness.save()
        self.assertEqual(self.only_reply(), 1)
        self.assertEqual(self.sent(), {})

    def test_refused(self) -> None:
        """Bad words are refused."""
        for words, error in (
            (("DRAIN", "10.0.0.1", "0"), b"ERR Invalid port"),
            (("DRAIN", "10.0.0.1", "WAIT"), b"ERR syntax error"),
            (("DRAIN", "10.0.0.1", "WAIT", "99999999"), b"ERR a time must be from 1 to 3600000 milliseconds"),
            (("DRAIN", "10.0.0.1", "UNDO", "DRYRUN"), b"ERR UNDO excludes DRYRUN and PARALLEL"),
            (("PARK", "10.0.0.1", "*"), b"ERR FOR and AT are required"),
            (("UNPARK", "10.0.0.1", "*", "NOW"), b"ERR syntax error"),
        ):
            reply = self.client.reply("TXSENTINEL", *words)
            assert isinstance(reply, bytes)
            self.assertTrue(reply.startswith(error), (words, reply))
