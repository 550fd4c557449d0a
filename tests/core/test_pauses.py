"""Pauses of automatic failovers in one Sentinel."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture, identity
from txsentinel.core import pauses as pauses_module
from txsentinel.core.durable_records import ALL_MASTERS, RecordKey, RecordKind
from txsentinel.core.effects import SendCommand
from txsentinel.core.errors import CommandError, NoSuchMaster
from txsentinel.core.instances import Master
from txsentinel.core.pause_guarantee import Guarantee, Guarantees
from txsentinel.core.pause_rules import BEST_EFFORT, HANDS_OFF, pause_of
from txsentinel.core.pauses import MAX_PAUSE, SYNC_PERIOD, PauseRequest
from txsentinel.model.explanation import VerdictCode
from txsentinel.model.timings import Millis
from txsentinel.wire.values import ErrorLine

MINUTE: Final[Millis] = 60_000


def confirming(words: tuple[bytes, ...]) -> list[object]:
    """Answer like a Sentinel of our kind that stores a record."""
    fields: dict[bytes, bytes] = dict(zip(words[3::2], words[4::2], strict=True))
    withdrawn = b"1" if words[1] == b"RESUME" else b"0"
    found = [b"id", fields[b"ID"], b"at", fields[b"AT"], b"left-ms", fields[b"FOR"], b"withdrawn", withdrawn]
    return [*found, b"leases", [], b"elections", [], b"in-progress", []]


class Voter:
    """A C Sentinel: answers ``SENTINEL MASTER``, and votes."""

    def __init__(self, failover_timeout: Millis = 10_000) -> None:
        self.failover_timeout = failover_timeout
        self.flags = b"master"
        self.epoch = 0
        self.votes: list[int] = []

    def __call__(self, words: tuple[bytes, ...]) -> object:
        """Answer a command."""
        if words[1] == b"MASTER":
            return [b"flags", self.flags, b"failover-timeout", str(self.failover_timeout).encode()]
        epoch = int(words[4])
        if epoch > self.epoch:
            self.epoch = epoch
            self.votes.append(epoch)
            return [0, words[5], epoch]
        return [0, b"f" * 40, self.epoch]


class PauseCase(SynchronousTestCase):
    """One master, one replica, and the Sentinels a and z, which agree that the master is down when it is."""

    ours = True
    """Whether a and z are of our kind."""

    def setUp(self) -> None:
        """Set up the group."""
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        for letter in "az":
            self.fixture.add_peer(letter)
            self.fixture.hello(letter, MASTER, 0, own=self.ours)
        self.fixture.idle(2_000)
        self.fixture.output()

    def pause(
        self, period: Millis = MINUTE, name: str = "mymaster", scope: str = "failover", require: str = ""
    ) -> bool:
        """Pause failovers as a client does."""
        fixture = self.fixture
        request = PauseRequest(period, scope, require, "alice", "new kernel")
        stored = fixture.core.pauses.order(name, request, fixture.now, fixture.now)
        fixture.finish()
        return stored

    def resume(self, name: str = "mymaster") -> int:
        """End pauses; return their number."""
        fixture = self.fixture
        found = fixture.core.pauses.resume(name, "bob", fixture.now, fixture.now)
        fixture.finish()
        return len(found)

    def kill_master(self) -> None:
        """Let the master die, and the peers agree."""
        self.fixture.kill(MASTER)
        for letter in "az":
            self.fixture.servers[self.fixture.peer(letter).address].reports_down = True

    def explained(self) -> tuple[VerdictCode, str, list[str | None]]:
        """Return code and text of the verdict, and the commands that would unblock it."""
        found = self.fixture.core.explain("mymaster", self.fixture.now, self.fixture.now)
        return found.verdict.code, found.verdict.text, [each.command for each in found.unblock]

    def guarantee(self) -> Guarantee:
        """Return what is guaranteed now."""
        return self.fixture.core.pauses.guarantee(self.fixture.master, self.fixture.now)

    def answer(self, letter: str, reply: object) -> None:
        """Set what a peer replies to commands."""
        self.fixture.servers[self.fixture.peer(letter).address].command_reply = reply

    def attempts(self) -> list[str]:
        """Return the events that concern an attempt to fail over."""
        return [channel for channel in self.fixture.events() if "failover" in channel or "leader" in channel]


class EffectTests(PauseCase):
    """What a paused Sentinel does, and what it does not."""

    def test_no_failover_until_the_end(self) -> None:
        """The master is watched, S_DOWN and O_DOWN, but a failover begins only when the pause has ended, and soon."""
        self.assertTrue(self.pause())
        self.kill_master()
        self.fixture.idle(MINUTE - 500)
        events = self.fixture.events()
        self.assertEqual([event for event in events if "down" in event], ["+sdown", "+odown"])
        self.assertEqual([event for event in events if "failover" in event], [])
        self.fixture.idle(1_500)
        self.assertIn("+try-failover", self.fixture.events())

    def test_resumed(self) -> None:
        """A failover begins soon after the pause is ended by an order."""
        self.pause()
        self.kill_master()
        self.fixture.idle(20_000)
        self.assertEqual(self.attempts(), [])
        self.assertEqual(self.resume(), 1)
        self.fixture.idle(500)
        self.assertIn("+try-failover", self.attempts())

    def test_all_masters(self) -> None:
        """A pause of all masters concerns each, also one that is added later, and is not ended for one alone."""
        self.pause(name=ALL_MASTERS)
        self.fixture.add_master("other", 1)
        for name in ("mymaster", "other"):
            self.assertIsNotNone(pause_of(self.fixture.core.state, name, self.fixture.now))
        error = self.assertRaises(CommandError, self.resume)
        self.assertIn("RESUME *", str(error))
        self.pause()
        self.assertEqual(self.resume(ALL_MASTERS), 2)
        self.assertIsNone(pause_of(self.fixture.core.state, "mymaster", self.fixture.now))
        self.assertEqual(self.resume(), 0)
        self.assertRaises(NoSuchMaster, self.pause, name="nothing")

    def test_renewed(self) -> None:
        """A later order replaces the end, also by an earlier one; an earlier order that arrives late does not."""
        self.pause(MINUTE)
        self.fixture.idle(1_000)
        self.assertTrue(self.pause(2 * MINUTE))
        self.assertEqual(self.fixture.core.records.next_end(), self.fixture.now + 2 * MINUTE)
        late = PauseRequest(3 * MINUTE, requested_unix=self.fixture.now - 900, request_id="x")
        self.assertFalse(self.fixture.core.pauses.order("mymaster", late, self.fixture.now, self.fixture.now))
        self.assertTrue(self.pause(1_000))
        self.assertEqual(self.fixture.core.records.next_end(), self.fixture.now + 1_000)

    def test_clock_set_back_between_orders(self) -> None:
        """Of two orders to one Sentinel the second counts, although its clock was set back in between."""
        self.pause()
        request = PauseRequest(2 * MINUTE)
        self.assertTrue(self.fixture.core.pauses.order("mymaster", request, self.fixture.now, self.fixture.now - 9_999))

    def test_votes(self) -> None:
        """No candidate gets a vote, unless its election was admitted: that candidate, in that epoch."""
        self.pause()
        core, now = self.fixture.core, self.fixture.now
        a, z = identity("a"), identity("z")
        self.assertEqual(core.vote_requested(MASTER.ip, MASTER.port, 5, a, now).leader, "*")
        core.pauses.admit("mymaster", a, 7, 1_000, now)
        for candidate, epoch, at in ((z, 7, now), (a, 6, now), (a, 8, now), (a, 7, now + 1_000)):
            self.assertEqual(core.vote_requested(MASTER.ip, MASTER.port, epoch, candidate, at).leader, "*", epoch)
        self.assertEqual(core.vote_requested(MASTER.ip, MASTER.port, 7, a, now).leader, a)

    def test_campaign_is_aborted(self) -> None:
        """A campaign that has begun is aborted, and does not delay the next one after the pause."""
        for letter in "az":
            self.fixture.servers[self.fixture.peer(letter).address].grants = False
        self.kill_master()
        self.fixture.idle(1_500)
        self.assertIn("+try-failover", self.attempts())
        self.pause(5_000)
        self.fixture.idle(200)
        self.assertEqual(self.attempts(), ["-failover-abort-not-elected"])
        self.fixture.idle(4_000)
        self.assertEqual(self.attempts(), [])
        self.fixture.idle(1_500)
        self.assertIn("+try-failover", self.attempts())

    def test_ordered_failover(self) -> None:
        """An operator can order a failover; the peers admit each election before their votes are requested."""
        self.pause()
        self.fixture.output()
        self.fixture.core.administration.failover("mymaster", self.fixture.now)
        self.fixture.finish()
        epoch = self.fixture.core.current_epoch
        me = self.fixture.options.my_id
        lines = [line for line in self.fixture.output() if line.startswith(("send", "ask"))]
        self.assertEqual(lines[:2], [f"send {who} TXSENTINEL ADMIT mymaster {me} {epoch} 30000" for who in "az"])
        self.assertEqual(lines[2:4], [f"ask {who} {epoch} {me[0]}" for who in "az"])
        self.assertEqual(self.fixture.master.address.ip, "10.0.0.2")

    def test_nothing_is_sent_without_a_pause(self) -> None:
        """An ordered failover without a pause sends no other commands."""
        self.fixture.core.administration.failover("mymaster", self.fixture.now)
        self.fixture.finish()
        self.assertEqual([effect for _, effect in self.fixture.sent if isinstance(effect, SendCommand)], [])

    def test_explained(self) -> None:
        """The explanation names the pause, with its reason and end, first, and what would end it."""
        self.pause()
        code, text, unblock = self.explained()
        self.assertEqual(code, VerdictCode.PAUSED)
        self.assertIn("is up; automatic failovers are paused for another 60 s by alice: new kernel", text)
        self.assertEqual(unblock, ["TXSENTINEL RESUME mymaster"])
        self.kill_master()
        self.fixture.idle(5_000)
        code, text, unblock = self.explained()
        self.assertEqual(code, VerdictCode.PAUSED)
        self.assertIn("is not failed over: automatic failovers are paused", text)
        self.assertEqual(unblock[0], "TXSENTINEL RESUME mymaster")
        found = self.fixture.core.explain("mymaster", self.fixture.now, self.fixture.now)
        self.assertIn("pause_ends", [each.what for each in found.timers])
        self.assertEqual(found.blocked_by[0].code, VerdictCode.PAUSED)
        self.pause(name=ALL_MASTERS)
        self.assertEqual(self.explained()[2][0], "TXSENTINEL RESUME *")

    def test_events_only_if_wanted(self) -> None:
        """The events are published with ``pause-events on``; the log has lines regardless."""
        self.pause()
        self.resume()
        lines = self.fixture.output()
        self.assertEqual([line for line in lines if "pause " in line and line.startswith("event")], [])
        self.assertEqual(len([line for line in lines if line.startswith("note") and "automatic failovers" in line]), 2)
        options = self.fixture.master.options
        options.guards = replace(options.guards, pause_events=True)
        self.pause()
        self.fixture.idle(MINUTE + 500)
        self.assertEqual([event for event in self.fixture.events() if "pause" in event], ["+pause", "-pause"])

    def test_journal(self) -> None:
        """The journal has who paused and why, and who ended it."""
        self.pause()
        self.resume()
        texts = [each.text for each in self.fixture.core.journal.records("mymaster", 0, 0)][-2:]
        self.assertEqual(
            texts,
            [
                "alice paused automatic failovers (failover) for 60000 ms: new kernel",
                "The pause of automatic failovers was ended (failover) by resumed by bob",
            ],
        )

    def test_not_saved(self) -> None:
        """While nothing can be saved, no pause begins."""
        self.fixture.disk_works = False
        self.fixture.core.administration.flush()
        self.fixture.finish()
        error = self.assertRaises(CommandError, self.pause)
        self.assertIn("Failed to save config file", str(error))


class HandsOffTests(PauseCase):
    """The scope in which no server is reconfigured."""

    def test_servers_are_left_alone(self) -> None:
        """A replica of another master, and an old master that is back, are corrected only after the pause."""
        self.assertTrue(self.pause(scope=HANDS_OFF))
        server = self.fixture.servers[self.fixture.replica(2).address]
        server.role = "master"
        self.fixture.idle(MINUTE - 5_000)
        self.assertEqual([line for line in self.fixture.output() if line.startswith("order")], [])
        self.fixture.idle(20_000)
        self.assertEqual(len([line for line in self.fixture.output() if "SLAVEOF" in line]), 1)

    def test_corrected_in_the_other_scope(self) -> None:
        """With the scope ``failover`` servers are corrected as ever."""
        self.pause()
        self.fixture.servers[self.fixture.replica(2).address].role = "master"
        self.fixture.idle(30_000)
        self.assertIn("order 10.0.0.2 SLAVEOF 10.0.0.1 6379", self.fixture.output())

    def test_failover_is_refused(self) -> None:
        """No failover can be ordered."""
        self.pause(scope=HANDS_OFF)
        error = self.assertRaises(CommandError, self.fixture.core.administration.failover, "mymaster", self.fixture.now)
        self.assertTrue(str(error).startswith("PAUSED "), error)

    def test_during_a_failover(self) -> None:
        """It is refused while this Sentinel reconfigures servers."""
        self.fixture.add_replica(3, up=False)
        self.fixture.core.administration.failover("mymaster", self.fixture.now)
        error = self.assertRaises(CommandError, self.pause, scope=HANDS_OFF)
        self.assertTrue(str(error).startswith("INPROG "), error)

    def test_beside_c(self) -> None:
        """C Sentinels cannot be kept from it, so it is refused unless that is accepted."""
        self.fixture.hello("z", MASTER, 0, own=False)
        error = self.assertRaises(CommandError, self.pause, scope=HANDS_OFF)
        self.assertTrue(str(error).startswith("CANNOTGUARANTEE "), error)
        self.assertTrue(self.pause(scope=HANDS_OFF, require=BEST_EFFORT))


class ExchangeTests(PauseCase):
    """Records pass among the Sentinels of our kind."""

    def sent(self) -> list[str]:
        """Return the commands that were sent since the last call."""
        return [line for line in self.fixture.output() if line.startswith("send")]

    def test_sent_when_durable(self) -> None:
        """A record is sent when it is durable, and again periodically, also to a peer that reconnects."""
        self.fixture.disk_slow = True
        self.pause()
        self.fixture.idle(1_000)
        self.assertEqual(self.sent(), [])
        self.fixture.disk_slow = False
        self.fixture.finish()
        self.fixture.idle(600)
        (first, second) = self.sent()
        self.assertIn("send a TXSENTINEL PAUSE mymaster FOR ", first)
        self.assertIn(" BY alice REASON new kernel", first)
        self.assertEqual(first.split()[2:5], second.split()[2:5])
        self.fixture.idle(SYNC_PERIOD + 600)
        self.assertEqual(len(self.sent()), 2)
        self.fixture.reset_connections(self.fixture.peer("a").address)
        self.fixture.idle(200)
        self.assertEqual(len(self.sent()), 2)

    def test_restored(self) -> None:
        """A record of the file has its effect, and is sent."""
        self.pause()
        records = self.fixture.core.records.of_master("mymaster")
        self.fixture.restart()
        self.fixture.core.records.restore(records, self.fixture.now, self.fixture.now)
        for letter in "az":
            self.fixture.hello(letter, MASTER, 0)
            self.answer(letter, confirming)
        self.fixture.idle(1_000)
        self.assertEqual(len(self.sent()), 2)
        self.kill_master()
        self.fixture.idle(30_000)
        self.assertEqual(self.attempts(), [])
        self.assertTrue(self.guarantee().guaranteed)

    def test_newer_record_of_a_peer(self) -> None:
        """A peer that knows of a later order answers with it, and it is taken over: here that the pause has ended."""
        self.pause()
        at = self.fixture.now + 1
        reply = [b"id", b"xyz", b"at", str(at).encode(), b"left-ms", b"99999", b"withdrawn", b"1", b"by", b"bob"]
        self.answer("a", reply)
        self.fixture.idle(1_000)
        self.assertIsNone(pause_of(self.fixture.core.state, "mymaster", self.fixture.now))
        held = self.fixture.core.records.get(RecordKey(RecordKind.PAUSE, "mymaster"))
        assert held is not None
        self.assertEqual((held.record.request_id, held.record.withdrawn), ("xyz", True))

    def test_malformed_answers(self) -> None:
        """Answers that are no records change nothing."""
        self.pause()
        for reply in (
            b"OK",
            [],
            [b"id"],
            [1, 2],
            [b"id", b"x", b"at", b"soon", b"left-ms", b"5"],
            [b"leases", [1, 2, 3]],
        ):
            self.answer("a", reply)
            self.fixture.idle(SYNC_PERIOD + 1_000)
        self.assertIsNotNone(pause_of(self.fixture.core.state, "mymaster", self.fixture.now))

    def test_answer(self) -> None:
        """The answer for a peer has the record, the leases, and the votes that were given not long ago."""
        core, now = self.fixture.core, self.fixture.now
        core.vote_requested(MASTER.ip, MASTER.port, 5, identity("a"), now)
        self.pause()
        self.fixture.hello("z", MASTER, 0, own=False)
        core.pauses.leases.learn("mymaster", identity("z"), self.fixture.now - 50, self.fixture.now + 700)
        found = core.pauses.answer("mymaster", self.fixture.now)
        self.assertEqual(found["left-ms"], str(MINUTE))
        self.assertEqual(found["leases"], ["mymaster", identity("z"), 700])
        self.assertEqual(found["lease-ages"], ["mymaster", identity("z"), 51])
        self.assertEqual(found["elections"], ["mymaster", identity("a"), 30_000])
        self.assertEqual(core.pauses.answer(ALL_MASTERS, self.fixture.now)["in-progress"], [])


class GuaranteeTests(PauseCase):
    """Sentinels of our kind only."""

    def test_confirmed(self) -> None:
        """A failover is impossible once so many have confirmed that the others are fewer than the votes needed."""
        self.pause()
        self.assertEqual([each.sentinel_id for each in self.guarantee().free], [identity("a"), identity("z")])
        self.answer("a", confirming)
        self.fixture.idle(SYNC_PERIOD + 1_000)
        found = self.guarantee()
        self.assertTrue(found.guaranteed)
        self.assertEqual(
            [(each.sentinel_id, each.why) for each in found.free], [(identity("z"), "it has not confirmed the pause")]
        )
        self.assertEqual(found.holder, identity("a"))

    def test_unreachable_peer(self) -> None:
        """A peer that has confirmed stays paused when it cannot be reached any more; another one may not be."""
        for letter in "az":
            self.answer(letter, confirming)
        self.pause()
        self.fixture.idle(1_000)
        self.assertEqual(self.guarantee().free, ())
        self.fixture.kill(self.fixture.peer("a").address)
        self.assertEqual(self.guarantee().free, ())
        self.assertEqual(self.guarantee().holder, self.fixture.options.my_id)

    def test_vote_before_the_pause(self) -> None:
        """A vote given before, for a Sentinel that has not confirmed, may make it a leader still."""
        core = self.fixture.core
        core.vote_requested(MASTER.ip, MASTER.port, 5, identity("z"), self.fixture.now)
        self.fixture.finish()
        self.answer("a", confirming)
        self.pause(5 * MINUTE)
        self.fixture.idle(1_000)
        found = self.guarantee()
        self.assertFalse(found.guaranteed)
        self.assertIn("has voted for " + identity("z"), found.obstacle or "")
        self.fixture.idle(31_000)
        self.assertTrue(self.guarantee().guaranteed)

    def test_vote_of_another(self) -> None:
        """So may the vote of another one that is paused, and a failover that it leads."""

        def voted(words: tuple[bytes, ...]) -> list[object]:
            answer = confirming(words)
            answer[11] = [b"mymaster", identity("z").encode(), 20_000]
            return answer

        def leads(words: tuple[bytes, ...]) -> list[object]:
            answer = confirming(words)
            answer[13] = [b"mymaster"]
            return answer

        self.pause(5 * MINUTE)
        for reply, words in ((voted, "has voted for"), (leads, "is failing it over")):
            self.answer("a", reply)
            self.fixture.idle(SYNC_PERIOD + 1_000)
            self.assertIn(words, self.guarantee().obstacle or "")
        self.answer("a", confirming)
        self.fixture.idle(SYNC_PERIOD + 1_000)
        self.assertTrue(self.guarantee().guaranteed)

    def test_failover_in_progress(self) -> None:
        """A failover whose promotion is ordered goes on, so nothing is guaranteed meanwhile."""
        self.fixture.servers[self.fixture.replica(2).address].obeys = False
        self.kill_master()
        self.fixture.idle(3_000)
        for letter in "az":
            self.answer(letter, confirming)
        self.pause()
        self.fixture.idle(1_000)
        self.assertEqual(self.guarantee().obstacle, "this Sentinel is failing it over")

    def test_not_durable(self) -> None:
        """Nothing is guaranteed before the pause is durable."""
        for letter in "az":
            self.answer(letter, confirming)
        self.fixture.disk_slow = True
        self.pause()
        self.assertEqual(self.guarantee().obstacle, "the pause is not durable yet")

    def test_waiting(self) -> None:
        """A caller that waits for the guarantee is called as soon as there is one, or after its time limit."""
        called: list[Millis] = []
        self.pause()
        self.fixture.core.pauses.await_guarantee(
            "mymaster", self.fixture.now + 3_000, lambda: called.append(self.fixture.now)
        )
        begin = self.fixture.now
        self.fixture.idle(1_000)
        self.assertEqual(called, [])
        self.answer("a", confirming)
        self.fixture.idle(1_500)
        self.assertEqual(len(called), 1)
        self.fixture.core.pauses.await_guarantee("mymaster", begin, lambda: called.append(0))
        self.fixture.idle(200)
        self.assertEqual(called[1:], [0])

    def test_many_masters_wait(self) -> None:
        """With many masters, those for which a caller waits are not evaluated in each sweep."""
        self.patch(pauses_module, "MASTERS_PER_PERIOD", 1)
        evaluated: list[Millis] = []
        guarantee = Guarantees.guarantee

        def counting(rules: Guarantees, master: Master, now: Millis) -> Guarantee:
            evaluated.append(now)
            return guarantee(rules, master, now)

        self.patch(Guarantees, "guarantee", counting)
        self.pause()
        end = self.fixture.now + 1_000
        self.fixture.core.pauses.await_guarantee("mymaster", end, lambda: None)
        self.fixture.wait(900, step=10)
        self.assertGreater(len(evaluated), 10)
        self.assertLess(len(evaluated), 45)


class LeaseTests(PauseCase):
    """C Sentinels only."""

    ours = False

    def setUp(self) -> None:
        """Let both vote."""
        super().setUp()
        self.voters = {letter: Voter() for letter in "az"}
        for letter, voter in self.voters.items():
            self.answer(letter, voter)

    def test_held_and_renewed(self) -> None:
        """Each is asked for its vote in a fresh epoch, again after its own failover-timeout, until the pause ends."""
        self.voters["z"].failover_timeout = 4_000
        self.pause()
        self.fixture.idle(1_000)
        found = self.guarantee()
        self.assertTrue(found.guaranteed)
        self.assertEqual([peer_id for peer_id, _ in found.leased], [identity("a"), identity("z")])
        self.assertEqual(found.needed, 2)
        self.fixture.idle(39_000)
        self.assertIn(len(self.voters["a"].votes), (4, 5))
        self.assertIn(len(self.voters["z"].votes), (9, 10, 11))
        self.assertTrue(self.guarantee().guaranteed)
        self.resume()
        votes = len(self.voters["a"].votes)
        residual = self.fixture.core.pauses.leases.residual("mymaster", self.fixture.now)
        assert residual is not None
        self.assertTrue(0 < residual - self.fixture.now <= 20_000)
        self.fixture.idle(30_000)
        self.assertEqual(len(self.voters["a"].votes), votes)

    def test_higher_epoch(self) -> None:
        """One that has voted in a higher epoch is asked again above it."""
        self.voters["a"].epoch = 40
        self.pause()
        self.fixture.idle(2_000)
        self.assertEqual(self.voters["a"].votes, [41])
        self.assertTrue(self.guarantee().guaranteed)

    def test_not_held(self) -> None:
        """One that cannot be reached, is failing over or refuses, is named with the reason."""
        self.fixture.kill(self.fixture.peer("a").address)
        self.voters["z"].flags = b"master,s_down,failover_in_progress"
        self.pause()
        self.fixture.idle(1_000)
        found = self.guarantee()
        self.assertFalse(found.guaranteed)
        self.assertEqual([each.why for each in found.free], ["it cannot be reached", "it has a failover in progress"])
        self.answer("z", lambda words: ErrorLine(b"NOPERM no"))
        self.fixture.idle(2_000)
        self.assertEqual(self.guarantee().free[1].why, "NOPERM no")

    def test_one_unreachable(self) -> None:
        """With one C Sentinel of two unreachable, it and the leased one have the votes for a failover."""
        self.pause()
        self.fixture.idle(1_000)
        self.assertTrue(self.guarantee().guaranteed)
        self.fixture.kill(self.fixture.peer("a").address)
        self.assertFalse(self.guarantee().guaranteed)

    def test_restarted(self) -> None:
        """A C Sentinel that was restarted knows nothing of its lease: its vote is requested again at once."""
        self.pause()
        self.fixture.idle(1_500)
        votes = len(self.voters["a"].votes)
        self.fixture.reset_connections(self.fixture.peer("a").address)
        self.assertEqual([each.sentinel_id for each in self.guarantee().free], [identity("a")])
        self.fixture.idle(1_000)
        self.assertEqual((len(self.voters["a"].votes), self.guarantee().free), (votes + 1, ()))

    def test_switched(self) -> None:
        """A C Sentinel that switches the master forgets its lease."""
        self.pause()
        self.fixture.idle(1_500)
        self.fixture.core.administration.failover("mymaster", self.fixture.now)
        self.fixture.finish()
        self.assertEqual(self.fixture.master.address.ip, "10.0.0.2")
        self.assertEqual(len(self.guarantee().free), 2)
        self.fixture.idle(1_500)
        self.assertTrue(self.guarantee().guaranteed)

    def test_lease_is_counted_from_the_request(self) -> None:
        """A lease ends here before it ends there."""
        self.pause()
        self.fixture.idle(1_000)
        asked = min(at for at, effect in self.fixture.sent if isinstance(effect, SendCommand))
        self.assertEqual([until for _, until in self.guarantee().leased], [asked + 20_000] * 2)


class MixedTests(PauseCase):
    """The Sentinel a of our kind, z of C."""

    def setUp(self) -> None:
        """Let both answer."""
        super().setUp()
        self.fixture.hello("z", MASTER, 0, own=False)
        self.voter = Voter()
        self.answer("z", self.voter)
        self.answer("a", confirming)

    def test_one_holder(self) -> None:
        """The lowest ID holds the leases; another one continues when it dies, before they end."""
        self.pause(5 * MINUTE)
        self.fixture.idle(1_000)
        self.assertEqual(self.voter.votes, [])
        now = self.fixture.now
        self.fixture.core.pauses.leases.learn("mymaster", identity("z"), now, now + 20_000)
        self.fixture.idle(2_000)
        self.assertEqual((self.voter.votes, self.guarantee().holder), ([], identity("a")))
        self.fixture.kill(self.fixture.peer("a").address)
        for _ in range(20):
            self.fixture.idle(1_000)
            self.assertTrue(self.guarantee().guaranteed)
        self.assertEqual(self.guarantee().holder, self.fixture.options.my_id)
        self.assertGreater(len(self.voter.votes), 1)

    def test_holder_does_not_renew(self) -> None:
        """If the holder lives but cannot renew a lease, another one does."""
        self.pause(5 * MINUTE)
        self.fixture.idle(20_000)
        self.assertGreater(len(self.voter.votes), 0)
        self.assertEqual(self.guarantee().holder, identity("a"))


class CostTests(PauseCase):
    """What a pause costs."""

    def test_long_pause(self) -> None:
        """A day is allowed, and the Sentinel is not woken more often than its probes require."""
        self.pause(MAX_PAUSE)
        sweeps = self.fixture.idle(10_000)
        self.kill_master()
        self.fixture.idle(10_000)
        self.assertLessEqual(self.fixture.idle(10_000), 2 * sweeps)
