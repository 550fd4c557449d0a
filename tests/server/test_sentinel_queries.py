"""Tests of the ``SENTINEL`` commands that report state."""

from __future__ import annotations

from tests.server.harness import MY_ID, PEER_ID, FakeJob, ServerTestCase
from txsentinel.core.failover_state import FailoverState, SyncStep
from txsentinel.core.instances import Failover, Peer, Replica
from txsentinel.core.kept_text import KeptText
from txsentinel.core.role import Role
from txsentinel.model.address import Address
from txsentinel.wire.resp import pack

NO_MASTER = "ERR No such master with that name"


def words(text: str) -> list[str]:
    """Split a text into words."""
    return text.split()


MASTER_FIELDS = words("""
    name ip port runid flags link-pending-commands link-refcount last-ping-sent last-ok-ping-reply last-ping-reply
    down-after-milliseconds info-refresh role-reported role-reported-time config-epoch num-slaves
    num-other-sentinels quorum failover-timeout parallel-syncs
""")

OWN_MASTER_FIELDS = words("""
    crash-failover crash-confirm failure-classes empty-restart-failover data-lost-event lineage fence-isolated
    fence-after
""")
"""The fields that C Sentinels do not have, which are the last ones."""

REPLICA_FIELDS = words("""
    name ip port runid flags link-pending-commands link-refcount last-ping-sent last-ok-ping-reply last-ping-reply
    down-after-milliseconds info-refresh role-reported role-reported-time master-link-down-time master-link-status
    master-host master-port slave-priority slave-repl-offset replica-announced
""")

PEER_FIELDS = words("""
    name ip port runid flags link-pending-commands link-refcount last-ping-sent last-ok-ping-reply last-ping-reply
    down-after-milliseconds last-hello-message voted-leader voted-leader-epoch
""")


class ReportTestCase(ServerTestCase):
    """A master with a replica and a peer, all connected."""

    def setUp(self) -> None:
        """Add the instances."""
        super().setUp()
        self.replica = self.add_replica(6380)
        self.peer = self.add_peer()
        for instance in (self.master, self.replica, self.peer):
            self.harness.bring_up(instance.link)

    def add_replica(self, port: int) -> Replica:
        """Add a replica."""
        registry = self.harness.core.registry
        replica = registry.add_replica(self.master, Address.literal("127.0.0.1", port), self.harness.host.now())
        assert replica is not None
        return replica

    def add_peer(self) -> Peer:
        """Add a Sentinel."""
        address = Address.literal("127.0.0.1", 26380)
        return self.harness.core.registry.add_peer(self.master, PEER_ID, address, self.harness.host.now())

    def maps(self, *words: str) -> list[dict[str, str]]:
        """Return a list of instance maps."""
        reply = self.client.reply("SENTINEL", *words)
        assert isinstance(reply, list)
        return [self.paired(flat) for flat in reply]

    def paired(self, flat: list[bytes]) -> dict[str, str]:
        """Return a flat array as a map; every element must be a bulk string."""
        self.assertEqual({type(each) for each in flat}, {bytes})
        texts = [each.decode() for each in flat]
        return dict(zip(texts[0::2], texts[1::2], strict=True))

    def one(self) -> dict[str, str]:
        """Return the map of the master."""
        reply = self.client.reply("SENTINEL", "MASTER", "mymaster")
        assert isinstance(reply, list)
        return self.paired(reply)


class InstanceMapTests(ReportTestCase):
    """Names, order and presence of fields."""

    def test_healthy_instances(self) -> None:
        """A master has 20 pairs and our own, a replica 21, a Sentinel 14, in the order that clients rely on."""
        self.assertEqual(list(self.one()), [*MASTER_FIELDS, *OWN_MASTER_FIELDS])
        self.assertEqual([list(each) for each in self.maps("REPLICAS", "mymaster")], [REPLICA_FIELDS])
        self.assertEqual([list(each) for each in self.maps("SENTINELS", "mymaster")], [PEER_FIELDS])

    def test_all_spellings(self) -> None:
        """The old and the new names of a command have the same reply."""
        masters = self.client.ask("SENTINEL", "MASTERS")
        self.assertEqual(self.client.ask("SENTINEL", "PRIMARIES"), masters)
        master = self.client.ask("SENTINEL", "MASTER", "mymaster")
        self.assertEqual(self.client.ask("SENTINEL", "PRIMARY", "mymaster"), master)
        self.assertEqual(masters, b"*1\r\n" + master)
        replicas = self.client.ask("SENTINEL", "REPLICAS", "mymaster")
        self.assertEqual(self.client.ask("sentinel", "slaves", "mymaster"), replicas)

    def test_maps_in_resp3(self) -> None:
        """RESP3 clients get maps."""
        self.client.ask("HELLO", 3)
        count = len(MASTER_FIELDS) + len(OWN_MASTER_FIELDS)
        head = b"%%%d\r\n$4\r\nname\r\n" % count
        self.assertTrue(self.client.ask("SENTINEL", "MASTER", "mymaster").startswith(head))
        self.assertTrue(self.client.ask("SENTINEL", "MASTERS").startswith(b"*1\r\n" + head))
        self.assertTrue(self.client.ask("SENTINEL", "SENTINELS", "mymaster").startswith(b"*1\r\n%14\r\n"))

    def test_unknown_names(self) -> None:
        """Unknown names get the exact error text that clients expect; letter case matters."""
        for word in ("MASTER", "PRIMARY", "REPLICAS", "SLAVES", "SENTINELS", "CKQUORUM"):
            self.refused(NO_MASTER, "SENTINEL", word, "MyMaster")

    def test_times(self) -> None:
        """Times are elapsed milliseconds, 0 for what never happened or is not outstanding."""
        now = self.harness.host.now()
        link = self.master.link
        link.unanswered_ping_at, link.available_at, link.last_reply_at = now - 10, now - 20, now - 15
        self.master.role_reported_at = now - 500
        found = self.one()
        self.assertEqual(
            [found[name] for name in ("last-ping-sent", "last-ok-ping-reply", "last-ping-reply", "info-refresh")],
            ["10", "20", "15", "0"],
        )
        self.assertEqual(found["role-reported-time"], "500")
        link.unanswered_ping_at = None
        self.master.info_refreshed_at = now - 7
        found = self.one()
        self.assertEqual((found["last-ping-sent"], found["info-refresh"]), ("0", "7"))

    def test_down(self) -> None:
        """The two down times are present while the state holds, in their places."""
        now = self.harness.host.now()
        self.master.sdown_since, self.master.odown_since = now - 3000, now - 2000
        found = self.one()
        self.assertEqual(list(found)[10:13], ["s-down-time", "o-down-time", "down-after-milliseconds"])
        self.assertEqual((found["s-down-time"], found["o-down-time"]), ("3000", "2000"))
        self.assertEqual(found["flags"], "s_down,o_down,master")

    def test_failover(self) -> None:
        """The failover state comes behind the link fields; the flags show the reason of the failover."""
        now = self.harness.host.now()
        self.master.failover = Failover(7, now, now, FailoverState.WAIT_PROMOTION, forced=True, promoted=self.replica)
        found = self.one()
        self.assertEqual(list(found)[6:9], ["link-refcount", "failover-state", "last-ping-sent"])
        self.assertEqual(found["failover-state"], "wait_promotion")
        self.assertEqual(found["flags"], "master,failover_in_progress,force_failover")
        self.assertEqual(self.maps("REPLICAS", "mymaster")[0]["flags"], "slave,promoted")

    def test_scripts(self) -> None:
        """Script paths come after the fields that are always there, if they are set; credentials are never shown."""
        self.master.options.client_reconfig_script = "/c"
        self.master.options.notification_script = "/n"
        self.master.options.auth_pass = "secret"
        found = self.one()
        fields = [*MASTER_FIELDS, "notification-script", "client-reconfig-script", *OWN_MASTER_FIELDS]
        self.assertEqual(list(found), fields)
        self.assertNotIn("secret", found.values())

    def test_flags_of_replicas_and_peers(self) -> None:
        """A replica shows the progress of its reconfiguration, a peer its opinion."""
        self.replica.sync = SyncStep.IN_PROGRESS
        self.replica.script_kill_sent = True
        self.peer.reports_master_down = True
        self.peer.link.commands_since = None
        self.assertEqual(self.maps("REPLICAS", "mymaster")[0]["flags"], "slave,reconf_inprog,script_kill_sent")
        self.assertEqual(self.maps("SENTINELS", "mymaster")[0]["flags"], "sentinel,disconnected,master_down")

    def test_reboot(self) -> None:
        """The flags of a master whose run ID changed end with that of the reboot."""
        self.master.rebooting_since = self.harness.host.now()
        self.assertEqual(self.one()["flags"], "master,master_reboot")

    def test_replica_values(self) -> None:
        """The values come from the replica's ``INFO``; a master that it did not name is ``?``."""
        found = self.maps("REPLICAS", "mymaster")[0]
        self.assertEqual(found["name"], "127.0.0.1:6380")
        self.assertEqual(
            [found[name] for name in REPLICA_FIELDS[-7:]],
            ["0", "err", "?", "0", "100", "0", "1"],
        )
        replica = self.replica
        replica.master_host, replica.master_port, replica.master_link_up = "127.0.0.1", 6379, True
        replica.master_link_down_for, replica.priority, replica.repl_offset = 0, 50, 1234
        replica.role_reported = Role.REPLICA
        found = self.maps("REPLICAS", "mymaster")[0]
        self.assertEqual(
            [found[name] for name in REPLICA_FIELDS[-7:]],
            ["0", "ok", "127.0.0.1", "6379", "50", "1234", "1"],
        )

    def test_unannounced_replicas_are_hidden(self) -> None:
        """Replicas that are not announced are counted but not listed."""
        self.add_replica(6381).announced = False
        self.assertEqual(len(self.maps("REPLICAS", "mymaster")), 1)
        self.assertEqual(self.one()["num-slaves"], "2")

    def test_peer_values(self) -> None:
        """A peer is named by its ID; before its first vote its leader is ``?``."""
        found = self.maps("SENTINELS", "mymaster")[0]
        self.assertEqual((found["name"], found["runid"]), (PEER_ID, PEER_ID))
        self.assertEqual((found["voted-leader"], found["voted-leader-epoch"]), ("?", "0"))
        self.peer.voted_leader, self.peer.voted_leader_epoch = MY_ID, 9
        found = self.maps("SENTINELS", "mymaster")[0]
        self.assertEqual((found["voted-leader"], found["voted-leader-epoch"]), (MY_ID, "9"))

    def test_shared_link(self) -> None:
        """The link of a Sentinel that watches two of our masters counts both references."""
        other = self.harness.watch("other", 6390)
        self.harness.core.registry.add_peer(other, PEER_ID, self.peer.address, self.harness.host.now())
        self.assertEqual(self.maps("SENTINELS", "other")[0]["link-refcount"], "2")


class AddressTests(ServerTestCase):
    """``GET-MASTER-ADDR-BY-NAME``, the query of every client."""

    def test_reply(self) -> None:
        """The reply is two bulk strings, or a null array for an unknown name."""
        expected = b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n"
        for word in ("GET-MASTER-ADDR-BY-NAME", "get-primary-addr-by-name"):
            self.assertEqual(self.client.ask("SENTINEL", word, "mymaster"), expected)
            self.assertEqual(self.client.ask("SENTINEL", word, "nope"), b"*-1\r\n")
        self.client.ask("HELLO", 3)
        self.assertEqual(self.client.ask("SENTINEL", "get-master-addr-by-name", "mymaster"), expected)
        self.assertEqual(self.client.ask("SENTINEL", "get-master-addr-by-name", "nope"), b"_\r\n")

    def test_changes_show_at_once(self) -> None:
        """The cached reply is never older than the address, its announced form, or the master."""

        def asked() -> bytes:
            return self.client.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")

        asked()
        self.master.address = Address("redis.example", "127.0.0.2", 7000)
        self.assertEqual(asked(), b"*2\r\n$9\r\n127.0.0.2\r\n$4\r\n7000\r\n")
        self.harness.core.options.announce_hostnames = True
        self.assertEqual(asked(), b"*2\r\n$13\r\nredis.example\r\n$4\r\n7000\r\n")
        self.client.ask("SENTINEL", "REMOVE", "mymaster")
        self.harness.save()
        self.client.raw()
        self.assertEqual(asked(), b"*-1\r\n")

    def test_promoted_replica(self) -> None:
        """After the promotion was observed, clients get the address of the new master."""
        now = self.harness.host.now()
        replica = self.harness.core.registry.add_replica(self.master, Address.literal("127.0.0.1", 6380), now)
        failover = self.master.failover = Failover(1, now, now, FailoverState.WAIT_PROMOTION, promoted=replica)
        self.assertIn(b"6379", self.client.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"))
        failover.state = FailoverState.RECONF_REPLICAS
        self.assertIn(b"6380", self.client.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"))

    def receive_hello(self, port: int, epoch: int) -> None:
        """A peer announces another address with a newer configuration epoch."""
        if PEER_ID not in self.master.peers:
            address = Address.literal("127.0.0.9", 26379)
            self.harness.core.registry.add_peer(self.master, PEER_ID, address, self.harness.host.now())
        hello = f"127.0.0.9,26379,{PEER_ID},{epoch},mymaster,127.0.0.1,{port},{epoch}"
        self.harness.core.hello_received(hello.encode(), self.harness.host.now(), None)
        self.harness.executor.drain()

    def reported_port(self) -> int:
        """Return the port that a client gets, without waiting."""
        return int(self.client.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster").split(b"\r\n")[4])

    def test_new_address_after_the_save(self) -> None:
        """Until the save, the previous address is returned at once, also after two changes."""
        self.receive_hello(7001, 1)
        self.assertEqual(self.reported_port(), 6379)
        self.receive_hello(7002, 2)
        self.assertEqual(self.reported_port(), 6379)
        self.harness.save()
        self.assertEqual(self.reported_port(), 7002)
        self.receive_hello(6379, 3)
        self.assertEqual(self.reported_port(), 7002)
        self.harness.save()
        self.assertEqual(self.reported_port(), 6379)

    def test_new_address_on_a_failing_disk(self) -> None:
        """If the save fails, the new address is returned nevertheless, and so is the next one."""
        self.receive_hello(7001, 1)
        self.harness.fail()
        self.assertEqual(self.reported_port(), 7001)
        self.receive_hello(7002, 2)
        self.assertEqual(self.reported_port(), 7002)
        self.harness.save()
        self.assertEqual(self.reported_port(), 7002)

    def test_recovered_disk(self) -> None:
        """An address returned during failures is not withdrawn by a write that started before the change."""
        self.harness.core.administration.flush()
        self.harness.executor.drain()
        started = self.harness.disk.wanted
        self.receive_hello(7001, 1)
        ports = [self.reported_port()]
        for step in (
            self.harness.executor.commit_failed,
            lambda generation, reason: self.harness.executor.committed(generation),
        ):
            step(started, OSError(110, "The disk does not answer"))
            ports.append(self.reported_port())
        self.receive_hello(7002, 2)
        ports.append(self.reported_port())
        self.harness.save()
        ports.append(self.reported_port())
        self.assertEqual(ports, [6379, 7001, 7001, 7001, 7002])

    def test_changes_while_saves_fail(self) -> None:
        """Each change is returned at once, and stays when an older write succeeds."""
        self.harness.core.administration.flush()
        self.harness.executor.drain()
        started = self.harness.disk.wanted
        self.harness.fail()
        self.receive_hello(7001, 1)
        self.receive_hello(7002, 2)
        self.assertEqual(self.reported_port(), 7002)
        self.harness.executor.committed(started)
        self.assertEqual(self.reported_port(), 7002)

    def test_nested_poll(self) -> None:
        """A client that gets a switch event during a nested poll and queries at once gets the new address."""
        other = self.harness.connect()
        other.ask("HELLO", 3)
        other.ask("SUBSCRIBE", "+switch-master")
        self.receive_hello(7001, 1)
        received: list[bytes] = []

        def query() -> None:
            other.protocol.dataReceived(pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"))
            received.append(other.wire.value())
            other.wire.clear()

        self.harness.host.on_yield = query
        self.harness.save()
        self.assertIn(b"+switch-master", b"".join(received))
        self.assertNotIn(b"$4\r\n6379\r\n", b"".join(received))

    def test_change_during_a_failover(self) -> None:
        """During a failover the previous address is that of the promoted replica, not of the failed master."""
        core, now = self.harness.core, self.harness.host.now()
        replica = core.registry.add_replica(self.master, Address.literal("127.0.0.1", 6380), now)
        self.master.failover = Failover(1, now, now, FailoverState.RECONF_REPLICAS, promoted=replica)
        self.assertEqual(self.reported_port(), 6380)
        self.receive_hello(7001, 2)
        self.assertEqual(self.reported_port(), 6380)
        self.harness.save()
        self.assertEqual(self.reported_port(), 7001)


class DownTests(ServerTestCase):
    """``IS-MASTER-DOWN-BY-ADDR``: opinions and votes."""

    def add_peers(self) -> None:
        """Add two Sentinels and set the master down."""
        registry, now = self.harness.core.registry, self.harness.host.now()
        for peer_id, port in ((PEER_ID, 26380), ("c" * 40, 26381)):
            registry.add_peer(self.master, peer_id, Address.literal("127.0.0.1", port), now)
        self.master.sdown_since = now

    def ask(self, epoch: int | str = 0, candidate: str = "*", port: int | str = 6379) -> None:
        """Send the query of a peer."""
        self.client.send("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", port, epoch, candidate)

    def test_opinion(self) -> None:
        """0 for a master that is up or unknown, 1 for one that is down; ``*`` requests no vote."""
        self.ask()
        self.assertEqual(self.client.raw(), b"*3\r\n:0\r\n$1\r\n*\r\n:0\r\n")
        self.ask(port=9)
        self.assertEqual(self.client.raw(), b"*3\r\n:0\r\n$1\r\n*\r\n:0\r\n")
        self.master.sdown_since = self.harness.host.now()
        self.assertEqual(
            self.client.ask("sentinel", "is-primary-down-by-addr", "127.0.0.1", "6379", "0", "*"),
            b"*3\r\n:1\r\n$1\r\n*\r\n:0\r\n",
        )

    def test_numbers(self) -> None:
        """Port and epoch must be numbers."""
        for port, epoch in (("x", 0), (6379, "x")):
            self.ask(epoch, port=port)
            self.assertEqual(self.client.raw(), b"-ERR value is not an integer or out of range\r\n")

    def test_vote_waits_for_the_save(self) -> None:
        """A vote is sent after its save, and later replies wait for it."""
        self.add_peers()
        self.ask(5, PEER_ID)
        self.client.send("PING")
        self.assertEqual(self.client.raw(), b"")
        self.harness.save()
        self.assertEqual(self.client.replies(), [[1, PEER_ID.encode(), 5], b"PONG"])
        self.assertIn(f"+vote-for-leader {PEER_ID} 5", self.harness.events)

    def test_vote_that_cannot_be_saved(self) -> None:
        """A vote that cannot be saved is withdrawn: no leader, and the last saved epoch."""
        self.add_peers()
        self.ask(5, PEER_ID)
        self.harness.fail()
        self.assertEqual(self.client.replies(), [[1, b"*", 0]])

    def test_no_second_vote(self) -> None:
        """Another candidate of the same epoch gets the leader that we voted for."""
        self.add_peers()
        self.ask(5, PEER_ID)
        self.harness.save()
        self.client.raw()
        self.ask(5, "c" * 40)
        self.harness.save()
        self.assertEqual(self.client.replies(), [[1, PEER_ID.encode(), 5]])


class OtherQueryTests(ReportTestCase):
    """``MYID``, ``CKQUORUM``, ``PENDING-SCRIPTS`` and ``INFO-CACHE``."""

    def test_myid(self) -> None:
        """The reply is the ID that peers know us by."""
        self.assertEqual(self.client.ask("SENTINEL", "MYID"), b"$40\r\n" + MY_ID.encode() + b"\r\n")

    def test_ckquorum(self) -> None:
        """The reply is the number of usable Sentinels, or what is missing: quorum, majority or both, other blockers."""
        self.replica.info_refreshed_at = self.harness.host.now()
        fine = b"+OK 2 usable Sentinels. Quorum and failover authorization can be reached\r\n"
        self.assertEqual(self.client.ask("SENTINEL", "CKQUORUM", "mymaster"), fine)
        quorum = "Not enough available Sentinels to reach the specified quorum for this master"
        majority = "Not enough available Sentinels to reach the majority and authorize a failover"
        self.master.options.quorum = 3
        too_high = "The quorum is 3 and only 2 Sentinels are known"
        self.refused(f"NOQUORUM 2 usable Sentinels. {quorum}. {too_high}", "SENTINEL", "CKQUORUM", "mymaster")
        self.peer.sdown_since = self.harness.host.now()
        self.refused(
            f"NOQUORUM 1 usable Sentinels. {quorum}. {majority}. {too_high}", "SENTINEL", "CKQUORUM", "mymaster"
        )
        self.master.options.quorum = 1
        self.refused(f"NOQUORUM 1 usable Sentinels. {majority}", "SENTINEL", "CKQUORUM", "mymaster")

    def test_ckquorum_with_a_failing_disk(self) -> None:
        """If votes cannot be saved, no failover can be authorized, however many peers there are; ``INFO`` shows it."""
        self.replica.info_refreshed_at = self.harness.host.now()
        self.harness.core.administration.flush()
        self.harness.executor.drain()
        self.harness.fail()
        wrong = "his Sentinel cannot save its votes: ENOSPC, No space left on device"
        self.refused(f"NOQUORUM 2 usable Sentinels. T{wrong}", "SENTINEL", "CKQUORUM", "mymaster")
        info = self.client.ask("INFO", "sentinel").decode()
        self.assertIn(f"\r\nsentinel_storage:ENOSPC\r\nsentinel_storage_error:t{wrong}\r\n", info)
        self.harness.save()
        self.assertIn("\r\nsentinel_storage:ok\r\n", self.client.ask("INFO", "sentinel").decode())
        self.assertIn(b"+OK 2 usable", self.client.ask("SENTINEL", "CKQUORUM", "mymaster"))

    def test_pending_scripts(self) -> None:
        """Running scripts show their elapsed time, queued ones the time until their start."""
        now = self.harness.host.now()
        self.assertEqual(self.client.reply("SENTINEL", "PENDING-SCRIPTS"), [])
        self.harness.scripts.jobs = [
            FakeJob("/n", ("+sdown", "x"), pid=77, started_at=now - 40, attempts=1),
            FakeJob("/c", (), due_at=now + 500, attempts=2),
            FakeJob("/d", (), due_at=None),
        ]
        self.assertEqual(
            self.client.reply("SENTINEL", "PENDING-SCRIPTS"),
            [
                [b"argv", [b"/n", b"+sdown", b"x"], b"flags", b"running", b"pid", b"77", b"run-time", b"40",
                 b"retry-num", b"1"],
                [b"argv", [b"/c"], b"flags", b"scheduled", b"pid", b"0", b"run-delay", b"500", b"retry-num", b"2"],
                [b"argv", [b"/d"], b"flags", b"scheduled", b"pid", b"0", b"run-delay", b"0", b"retry-num", b"0"],
            ],
        )  # fmt: skip

    def test_info_cache(self) -> None:
        """Age and text of ``INFO`` for the master and its replicas; unknown names are skipped, repeats merged."""
        now = self.harness.host.now()
        self.master.info_kept, self.master.info_refreshed_at = KeptText(b"role:master\r\n"), now - 30
        self.assertEqual(
            self.client.reply("SENTINEL", "INFO-CACHE", "nope", "mymaster", "mymaster"),
            [b"mymaster", [[30, b"role:master\r\n"], [0, None]]],
        )
        self.assertEqual(self.client.reply("SENTINEL", "INFO-CACHE", "nope"), [])
        self.refused("ERR wrong number of arguments for 'sentinel|info-cache' command", "SENTINEL", "INFO-CACHE")

    def test_help(self) -> None:
        """The lines come in the order of Redis."""
        lines = self.client.reply("SENTINEL", "HELP")
        assert isinstance(lines, list)
        found = [line.split(b" ")[0].decode() for line in lines[1:] if not line.startswith(b" ")]
        self.assertEqual(
            found,
            words(
                "CKQUORUM CONFIG CONFIG DEBUG GET-MASTER-ADDR-BY-NAME FAILOVER FLUSHCONFIG INFO-CACHE "
                "IS-MASTER-DOWN-BY-ADDR MASTER MASTERS MONITOR MYID PENDING-SCRIPTS REMOVE REPLICAS RESET "
                "SENTINELS SET SIMULATE-FAILURE HELP"
            ),
        )
