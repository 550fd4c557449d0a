"""Tests of the ``SENTINEL`` commands that change state: exact errors, and ``+OK`` only after the save."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tests.server.harness import PEER_ID, ServerHarness, ServerTestCase
from txsentinel.config.errors import WriteStuck
from txsentinel.config.quoting import split_line, written
from txsentinel.core.effects import Reconnect
from txsentinel.core.options import GuardOptions, SentinelOptions, copied
from txsentinel.core.role import Role
from txsentinel.model.address import Address
from txsentinel.server.all_commands import TABLE
from txsentinel.server.commands.sentinel_changes import MAX_SET_WORDS
from txsentinel.server.replies import Stepwise
from txsentinel.server.steps import run_all

NOT_SAVED = b"-ERR Failed to save config file. Check server logs.\r\n"
NO_MASTER = "ERR No such master with that name"
DENIED = (
    "ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig"
    " configuration directive in your Sentinel configuration"
)


class DeferredReplyTests(ServerTestCase):
    """Replies after a save, and after a save that failed."""

    CHANGES = (
        ("MONITOR", "new", "127.0.0.1", "6400", "1"),
        ("SET", "mymaster", "quorum", "3"),
        ("CONFIG", "SET", "announce-port", "5000"),
        ("FLUSHCONFIG",),
        ("REMOVE", "mymaster"),
    )

    def test_ok_when_saved(self) -> None:
        """No reply is sent before the save."""
        for words in self.CHANGES:
            self.assertEqual(self.client.ask("SENTINEL", *words), b"", words)
            self.harness.save()
            self.assertEqual(self.client.raw(), b"+OK\r\n", words)

    def test_error_when_not_saved(self) -> None:
        """A refused change is not applied, and no event announces it, then or later."""
        for words in self.CHANGES:
            harness = ServerHarness()
            master = harness.watch()
            before = copied(master.options), harness.core.options.announce_port
            client = harness.connect()
            client.send("SENTINEL", *words)
            harness.fail()
            self.assertEqual(client.raw(), NOT_SAVED, words)
            harness.executor.drain()
            harness.save()
            self.assertEqual(harness.events, [], words)
            self.assertEqual(list(harness.core.registry.masters), ["mymaster"], words)
            master = harness.core.master("mymaster")
            self.assertEqual((master.options, harness.core.options.announce_port), before, words)

    def test_pipeline_is_undone_in_reverse(self) -> None:
        """Of several changes that are refused together none is left."""
        self.client.protocol.dataReceived(
            b"SENTINEL SET mymaster quorum 3\r\nSENTINEL SET mymaster quorum 4\r\nSENTINEL REMOVE mymaster\r\n"
            b"SENTINEL MONITOR mymaster 127.0.0.1 6400 7\r\nSENTINEL SET mymaster quorum 5\r\n"
        )
        self.harness.fail()
        self.assertEqual(self.client.raw(), 5 * NOT_SAVED)
        master = self.harness.core.master("mymaster")
        self.assertEqual((master.address.port, master.options.quorum), (6379, 2))

    def test_long_list_is_undone_alone(self) -> None:
        """Changes and events of others during a long request are neither undone with it nor held back."""
        core, other = self.harness.core, self.harness.connect()
        master = core.master("mymaster")
        request = [b"SENTINEL", b"SET", b"mymaster", *[b"quorum", b"5"] * 120]
        command = TABLE.named(b"sentinel|set")
        assert command is not None
        reading = self.harness.factory.handlers[command](self.client.protocol.client, request)
        assert isinstance(reading, Stepwise)
        for _ in range(60):
            next(reading.steps)
        self.assertEqual(master.options.quorum, 2)
        other.send("SENTINEL", "SET", "mymaster", "parallel-syncs", "7")
        self.harness.save()
        self.assertEqual(other.raw(), b"+OK\r\n")
        core.registry.add_peer(master, PEER_ID, Address.literal("127.0.0.1", 6390), self.harness.host.now())
        core.vote_requested("127.0.0.1", 6379, 5, PEER_ID, self.harness.host.now())
        self.harness.executor.drain()
        self.harness.events.clear()
        # The test executes the steps itself, so it also passes on their result.
        self.client.protocol.executor.writer.answer(run_all(reading.steps))
        self.harness.executor.drain()
        self.assertEqual((master.options.quorum, master.options.parallel_syncs), (5, 7))
        self.harness.fail()
        self.assertEqual(self.client.raw(), NOT_SAVED)
        self.assertEqual((master.options.quorum, master.options.parallel_syncs), (2, 7))
        self.harness.executor.drain()
        self.harness.save()
        self.assertEqual([event.split()[0] for event in self.harness.events], ["+new-epoch", "+vote-for-leader"])

    def test_too_many_changes(self) -> None:
        """The changes of one command are made in one turn, so their number is limited; above it nothing changes."""
        line = f"ERR SENTINEL SET takes at most {MAX_SET_WORDS} words"
        self.refused(line, "SENTINEL", "SET", "mymaster", *["quorum", "5"] * 127)
        self.assertEqual(self.harness.core.master("mymaster").options.quorum, 2)

    def test_own_options(self) -> None:
        """An option that C Sentinels do not have is shown at once, and answered when it is saved."""
        self.client.send("SENTINEL", "SET", "mymaster", "crash-failover", "yes", "fence-after", "4000")
        self.assertEqual(self.client.raw(), b"")
        other = self.harness.connect()
        other.send("SENTINEL", "MASTER", "mymaster")
        self.assertIn(b"$14\r\ncrash-failover\r\n$2\r\non\r\n", other.raw())
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n")
        guards = self.harness.core.master("mymaster").options.guards
        self.assertEqual((guards.crash_failover, guards.fence_after), (True, 4000))

    def test_own_options_undone(self) -> None:
        """Such an option that could not be saved has its former value again."""
        self.client.send("SENTINEL", "SET", "mymaster", "crash-failover", "on", "lineage", "strict")
        self.harness.fail()
        self.assertNotEqual(self.client.raw()[:1], b"+")
        self.assertEqual(self.harness.core.master("mymaster").options.guards, GuardOptions())

    def test_own_options_refused(self) -> None:
        """The error has the permitted values."""
        line = "ERR Invalid argument 'o' for SENTINEL SET 'lineage': lineage must be one of warn, strict"
        self.refused(line, "SENTINEL", "SET", "mymaster", "lineage", "o")

    def test_undone_without_reader(self) -> None:
        """A change is also undone if the client turned replies off or disconnected."""
        self.client.send("CLIENT", "REPLY", "OFF")
        self.client.send("SENTINEL", "SET", "mymaster", "quorum", "3")
        other = self.harness.connect()
        other.send("SENTINEL", "SET", "mymaster", "parallel-syncs", "7")
        other.protocol.connectionLost(Failure(ConnectionDone()))
        self.harness.fail()
        options = self.harness.core.master("mymaster").options
        self.assertEqual((options.quorum, options.parallel_syncs), (2, 1))

    def test_removal_undone_keeps_the_vote(self) -> None:
        """A master whose removal could not be saved returns with its epochs, replicas, peers and last vote."""
        master, core, now = self.harness.core.master("mymaster"), self.harness.core, self.harness.host.now()
        place = core.registry.address("127.0.0.1", 6390)
        assert place is not None
        core.registry.add_replica(master, place, now)
        core.registry.add_peer(master, PEER_ID, place, now)
        vote = core.vote_requested("127.0.0.1", 6379, 5, PEER_ID, now)
        self.assertEqual((vote.leader, vote.leader_epoch), (PEER_ID, 5))
        self.client.send("SENTINEL", "REMOVE", "mymaster")
        self.harness.fail()
        again = core.master("mymaster")
        self.assertEqual((list(again.peers), len(again.replicas), again.leader_epoch), ([PEER_ID], 1, 5))
        self.assertEqual(core.vote_requested("127.0.0.1", 6379, 5, "c" * 40, now).fallback().leader, "*")
        self.harness.executor.drain()
        self.harness.save()
        vote = core.vote_requested("127.0.0.1", 6379, 5, "c" * 40, now)
        self.assertEqual((vote.leader, vote.leader_epoch), (PEER_ID, 5))

    def test_votes_of_an_undone_monitor_are_withdrawn(self) -> None:
        """A vote for a master whose ``MONITOR`` could not be saved is never published; votes for others are."""
        core, now = self.harness.core, self.harness.host.now()
        self.client.send("SENTINEL", "MONITOR", "other", "127.0.0.1", "6400", "2")
        for master in core.registry.masters.values():
            place = core.registry.address("127.0.0.1", 26390)
            assert place is not None
            core.registry.add_peer(master, PEER_ID, place, now)
        core.vote_requested("127.0.0.1", 6400, 5, PEER_ID, now)
        core.vote_requested("127.0.0.1", 6379, 6, PEER_ID, now)
        self.harness.executor.drain()
        self.harness.fail()
        self.assertEqual(list(core.registry.masters), ["mymaster"])
        self.harness.save()
        votes = [event for event in self.harness.events if event.startswith("+vote-for-leader")]
        self.assertEqual(votes, [f"+vote-for-leader {PEER_ID} 6"])

    def test_failing_disk_is_tried_again(self) -> None:
        """While saves fail, the next attempt decides the reply."""
        for fine in (False, True):
            self.client.send("SENTINEL", "FLUSHCONFIG")
            self.harness.fail()
            self.client.raw()
            self.assertEqual(self.client.ask("SENTINEL", "SET", "mymaster", "quorum", "3"), b"")
            self.harness.save() if fine else self.harness.fail()
            self.assertEqual(self.client.raw(), b"+OK\r\n" if fine else NOT_SAVED)
            self.assertEqual(self.harness.core.master("mymaster").options.quorum, 3 if fine else 2)

    def test_changes_during_a_hanging_write(self) -> None:
        """While a write hangs, no other can be started: changes are refused at once."""
        self.harness.executor.commit_failed(self.harness.disk.wanted, WriteStuck(110, "The disk does not answer"))
        for words in self.CHANGES:
            self.assertEqual(self.client.ask("SENTINEL", *words), NOT_SAVED, words)
        self.assertEqual(list(self.harness.core.registry.masters), ["mymaster"])

    def test_pipeline_keeps_its_order(self) -> None:
        """Replies behind a deferred one wait for it, those before it do not."""
        self.client.protocol.dataReceived(
            b"PING 1\r\nSENTINEL SET mymaster quorum 3\r\nPING 2\r\nSENTINEL FLUSHCONFIG\r\nPING 3\r\n"
        )
        self.assertEqual(self.client.raw(), b"$1\r\n1\r\n")
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n$1\r\n2\r\n+OK\r\n$1\r\n3\r\n")


class NestedPollTests(ServerTestCase):
    """Requests that arrive during a nested poll."""

    def setUp(self) -> None:
        """An event and three replies wait for the save; each nested poll delivers a request."""
        super().setUp()
        self.other_client = self.harness.connect()
        self.client.send("SENTINEL", "MONITOR", "other", "127.0.0.1", 6400, 1)
        self.client.send("SENTINEL", "FLUSHCONFIG")
        self.client.send("SENTINEL", "FLUSHCONFIG")
        self.received: list[bytes] = []
        self.harness.host.on_yield = self.deliver_next
        self.words: list[str] = []

    def deliver_next(self) -> None:
        """Deliver the next request."""
        if self.words:
            self.other_client.protocol.dataReceived(self.words.pop(0).encode() + b"\r\n")
            self.received.append(self.other_client.wire.value())
            self.other_client.wire.clear()

    def test_queries(self) -> None:
        """Queries are answered between the effects and replies that a commit releases."""
        self.words = ["PING 1", "PING 2", "PING 3"]
        self.harness.save()
        self.assertEqual(self.received, [b"$1\r\n1\r\n", b"$1\r\n2\r\n", b"$1\r\n3\r\n"])
        self.assertEqual(self.client.raw(), b"+OK\r\n+OK\r\n+OK\r\n")

    def test_changes(self) -> None:
        """A request that changes the core waits for the next turn, as do the requests behind it; it runs once."""
        self.words = ["CLIENT REPLY SKIP\r\nSENTINEL SET mymaster quorum 4\r\nPING 1", "PING 2"]
        generation = self.harness.core.outbox.generation
        self.harness.save()
        self.assertEqual(self.received, [b"", b""])
        self.assertEqual(self.harness.core.outbox.generation, generation)
        self.assertEqual(self.harness.core.registry.masters["mymaster"].options.quorum, 2)
        self.harness.host.reactor.advance(0)
        self.assertEqual(self.harness.core.registry.masters["mymaster"].options.quorum, 4)
        self.assertEqual(self.harness.core.outbox.generation, generation + 1)
        self.assertEqual(self.other_client.raw(), b"$1\r\n1\r\n$1\r\n2\r\n")

    def test_refusals(self) -> None:
        """A request with a wrong number of arguments changes nothing and is answered at once."""
        self.words = ["SENTINEL SET mymaster"]
        self.harness.save()
        self.assertIn(b"wrong number of arguments", self.received[0])


class MonitorTests(ServerTestCase):
    """``SENTINEL MONITOR`` and ``REMOVE``."""

    def test_refusals(self) -> None:
        """Arguments are checked in the order of the C Sentinels."""
        for line, words in (
            ("ERR Invalid quorum", ("a", "b", "c", "d")),
            ("ERR Invalid port", ("a", "b", "c", "0")),
            ("ERR Quorum must be 1 or greater.", ("a", "b", "1", "0")),
            ("ERR Invalid IP address or hostname specified", ("a", "b", "70000", "1")),
            ("ERR Invalid port number.", ("mymaster", "127.0.0.1", "70000", "1")),
            ("ERR Duplicate master name.", ("mymaster", "127.0.0.1", "1", "1")),
        ):
            self.refused(line, "SENTINEL", "MONITOR", *words)
        control = "ERR Invalid argument at index 3 for SENTINEL MONITOR: control characters are not allowed"
        self.refused(control, "SENTINEL", "MONITOR", "a", "b\n", "c", "d")

    def test_monitored(self) -> None:
        """The new master has the defaults of ``SENTINEL DEBUG``, and its event follows the reply."""
        self.client.ask("SENTINEL", "DEBUG", "default-down-after", 1234)
        self.client.send("SENTINEL", "MONITOR", "a b", "127.0.0.1", 6400, 2)
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n")
        self.assertEqual(self.harness.core.registry.masters["a b"].options.down_after, 1234)
        self.assertEqual(self.harness.events, ["+monitor master a b 127.0.0.1 6400 quorum 2"])

    def test_removed(self) -> None:
        """Removing it again is an error."""
        self.client.send("SENTINEL", "REMOVE", "mymaster")
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n")
        self.refused(NO_MASTER, "SENTINEL", "REMOVE", "mymaster")


class PasswordTests(ServerTestCase):
    """Passwords of masters."""

    def test_control_characters(self) -> None:
        """Control characters are permitted and are saved in the escaped form that C Sentinels read."""
        self.client.send("SENTINEL", "SET", "mymaster", "quorum", "1", "AUTH-pass", "a\r\nsentinel x\t\x1f\x7f")
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n")
        password = self.master.options.auth_pass or ""
        self.assertEqual(password, "a\r\nsentinel x\t\x1f\x7f")
        line = written(password)
        self.assertEqual(line, '"a\\r\\nsentinel x\\t\\x1f\\x7f"')
        self.assertEqual(split_line(line.encode()), [password.encode()])


class ResetTests(ServerTestCase):
    """``SENTINEL RESET``."""

    def test_count(self) -> None:
        """The reply is the number of masters that matched; the pattern is case-sensitive."""
        self.harness.watch("mister", 6390)
        self.assertEqual(self.client.ask("SENTINEL", "RESET", "m[iy]*"), b":2\r\n")
        self.assertEqual(self.client.ask("SENTINEL", "RESET", "M*"), b":0\r\n")
        self.harness.save()
        self.assertEqual(len(self.harness.events), 2)


class SetTests(ServerTestCase):
    """``SENTINEL SET``."""

    def test_left_to_right(self) -> None:
        """The first invalid option is reported; options before it are applied and saved, those behind it ignored."""
        line = "ERR Invalid argument '0' for SENTINEL SET 'Parallel-Syncs'"
        self.refused(line, "SENTINEL", "SET", "mymaster", "quorum", 5, "Parallel-Syncs", 0, "failover-timeout", 1)
        self.assertEqual(self.master.options.quorum, 5)
        self.assertEqual(self.master.options.failover_timeout, 180_000)
        self.harness.save()
        self.assertEqual(self.harness.events, ["+set master mymaster 127.0.0.1 6379 quorum 5"])

    def test_refusals(self) -> None:
        """Unknown masters are checked first, then control characters, then each option in turn."""
        unknown = "ERR Unknown option or number of arguments for SENTINEL SET '{}'"
        self.refused(NO_MASTER, "SENTINEL", "SET", "nope", "x\n", "y")
        control = "ERR Invalid argument at index 4 for SENTINEL SET: control characters are not allowed"
        self.refused(control, "SENTINEL", "SET", "mymaster", "auth-pass", "x\0y")
        self.refused(control, "SENTINEL", "SET", "mymaster", "auth-user", "x\ny")
        self.refused(control, "SENTINEL", "SET", "mymaster", "auth-user", "auth-pass\n", "auth-pass", "x")
        self.refused(unknown.format("fOO"), "SENTINEL", "SET", "mymaster", "fOO", "1")
        self.refused(unknown.format("quorum"), "SENTINEL", "SET", "mymaster", "parallel-syncs", "1", "quorum")
        self.refused(unknown.format("rename-command"), "SENTINEL", "SET", "mymaster", "rename-command", "config")
        arity = "ERR wrong number of arguments for 'sentinel|set' command"
        self.refused(arity, "SENTINEL", "SET", "mymaster", "quorum")

    def test_rename_takes_two(self) -> None:
        """``rename-command`` is the one option with two values."""
        self.client.send("SENTINEL", "SET", "mymaster", "rename-command", "config", "cfg", "quorum", "1")
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n")
        self.assertEqual(self.master.options.renamed_commands, {"CONFIG": "cfg"})
        self.assertEqual(self.harness.events[0], "+set master mymaster 127.0.0.1 6379 rename-command config cfg")

    def test_scripts(self) -> None:
        """Scripts can only be set if reconfiguration is allowed, and must be executable."""
        self.refused(DENIED, "SENTINEL", "SET", "mymaster", "notification-script", "/good/x")
        self.harness = ServerHarness(sentinel=SentinelOptions(deny_scripts_reconfig=False))
        master = self.harness.watch()
        self.client = self.harness.connect()
        missing = "ERR Notification script seems non existing or non executable"
        self.refused(missing, "SENTINEL", "SET", "mymaster", "notification-script", "/bad/x")
        self.client.send("SENTINEL", "SET", "mymaster", "notification-script", "/good/x")
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n")
        self.assertEqual(master.options.notification_script, "/good/x")

    def test_password_is_masked(self) -> None:
        """The event masks the password; the links authenticate again."""
        self.client.send("SENTINEL", "SET", "mymaster", "auth-pass", "secret")
        self.harness.save()
        self.assertEqual(self.harness.events, ["+set master mymaster 127.0.0.1 6379 auth-pass ******"])
        self.assertTrue(any(isinstance(effect, Reconnect) for effect in self.harness.links.effects))


class FailoverTests(ServerTestCase):
    """``SENTINEL FAILOVER``."""

    def test_refusals(self) -> None:
        """An unknown master, no suitable replica and a running failover are errors."""
        self.refused(NO_MASTER, "SENTINEL", "FAILOVER", "nope")
        self.refused("NOGOODSLAVE No suitable replica to promote", "SENTINEL", "FAILOVER", "mymaster")

    def test_started(self) -> None:
        """``+OK`` is sent once our own vote is saved; a second command is refused."""
        now = self.harness.host.now()
        registry = self.harness.core.registry
        address = registry.address("127.0.0.1", 6380)
        assert address is not None
        replica = registry.add_replica(self.master, address, now)
        assert replica is not None
        self.harness.bring_up(replica.link)
        replica.info_refreshed_at = now
        replica.role_reported = Role.REPLICA
        replica.master_link_up = True
        self.assertEqual(self.client.ask("SENTINEL", "FAILOVER", "mymaster"), b"")
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n")
        self.refused("INPROG Failover already in progress", "SENTINEL", "FAILOVER", "mymaster")


class ConfigTests(ServerTestCase):
    """``SENTINEL CONFIG GET`` and ``SET``."""

    def test_get(self) -> None:
        """Patterns ignore letter case, each option is returned once, in a fixed order for each pattern."""
        self.assertEqual(
            self.client.reply("SENTINEL", "CONFIG", "GET", "ANNOUNCE-*", "*"),
            [
                b"announce-hostnames", b"no", b"announce-ip", b"", b"announce-port", b"0", b"resolve-hostnames", b"no",
                b"sentinel-user", b"", b"sentinel-pass", b"", b"loglevel", b"notice",
            ],
        )  # fmt: skip
        self.assertEqual(self.client.reply("SENTINEL", "CONFIG", "GET", "nope"), [])
        self.client.ask("HELLO", 3)
        self.assertEqual(
            self.client.ask("SENTINEL", "CONFIG", "GET", "announce-port"),
            b"%1\r\n$13\r\nannounce-port\r\n$1\r\n0\r\n",
        )

    def test_set(self) -> None:
        """Several options are set at once, then returned."""
        self.client.send(
            "SENTINEL", "CONFIG", "SET", "Resolve-Hostnames", "YES", "announce-ip", "10.0.0.1",
            "announce-port", "65535", "sentinel-pass", "pw", "loglevel", "DEBUG",
        )  # fmt: skip
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n")
        options = self.harness.core.options
        self.assertEqual((options.resolve_hostnames, options.announce_ip), (True, "10.0.0.1"))
        self.assertEqual((options.announce_port, options.sentinel_pass), (65_535, "pw"))
        self.assertEqual(self.harness.loglevels, ["debug"])
        self.assertEqual(
            self.client.reply("SENTINEL", "CONFIG", "GET", "resolve*", "loglevel"),
            [b"resolve-hostnames", b"yes", b"loglevel", b"debug"],
        )

    def test_empty_means_unset(self) -> None:
        """An empty value unsets an option."""
        self.harness.core.options.announce_ip = "10.0.0.1"
        self.client.send("SENTINEL", "CONFIG", "SET", "announce-ip", "")
        self.assertIsNone(self.harness.core.options.announce_ip)

    def test_all_or_nothing(self) -> None:
        """Every error has its text, and none changes anything."""
        shape = (
            "ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET <param> <value> [<param> <value> ...]"
            " are supported."
        )
        good = ("announce-port", "1")
        for line, words in (
            ("ERR wrong number of arguments for 'sentinel|config' command", ("GET",)),
            (shape, ("FOO", "x")),
            (shape, ("SET", "announce-port")),
            ("ERR Invalid argument 'X' to SENTINEL CONFIG SET", ("SET", *good, "X", "y")),
            ("ERR Duplicate argument 'Announce-Port' to SENTINEL CONFIG SET", ("SET", *good, "Announce-Port", "2")),
            ("ERR Missing argument 'announce-ip' value", ("SET", *good, "announce-ip")),
            ("ERR Invalid value '70000' to SENTINEL CONFIG SET 'announce-port'", ("SET", "announce-port", "70000")),
            ("ERR Invalid value 'x' to SENTINEL CONFIG SET 'loglevel'", ("SET", *good, "loglevel", "x")),
            (
                "ERR Invalid value 'maybe' to SENTINEL CONFIG SET 'announce-hostnames'",
                ("SET", *good, "announce-hostnames", "maybe"),
            ),
            (
                "ERR Invalid argument at index 6 for SENTINEL CONFIG SET: control characters are not allowed",
                ("SET", *good, "announce-ip", "x\n"),
            ),
        ):
            self.refused(line, "SENTINEL", "CONFIG", *words)
        self.assertEqual(self.harness.core.options.announce_port, 0)

    def test_credentials_renew_the_links_to_peers(self) -> None:
        """Only links to Sentinels reconnect, and only after a change of their credentials."""
        hello = f"127.0.0.1,26380,{PEER_ID},0,mymaster,127.0.0.1,6379,0"
        self.client.ask("PUBLISH", "__sentinel__:hello", hello)
        self.harness.confirm(PEER_ID)
        link = self.master.peers[PEER_ID].link
        self.harness.links.effects.clear()
        self.client.send("SENTINEL", "CONFIG", "SET", "announce-port", "1")
        self.harness.save()
        self.assertFalse([each for each in self.harness.links.effects if isinstance(each, Reconnect)])
        self.client.send("SENTINEL", "CONFIG", "SET", "sentinel-user", "me", "sentinel-pass", "pw")
        self.harness.save()
        recycled = [each.link for each in self.harness.links.effects if isinstance(each, Reconnect)]
        self.assertEqual(recycled, [link])
        self.assertEqual((link.username, link.password), ("me", "pw"))


class DebugTests(ServerTestCase):
    """``SENTINEL DEBUG``."""

    def test_show(self) -> None:
        """The reply has thirteen pairs of strings."""
        shown = self.client.reply("SENTINEL", "DEBUG")
        assert isinstance(shown, list)
        self.assertEqual(len(shown), 26)
        self.assertEqual(shown[:4], [b"INFO-PERIOD", b"10000", b"PING-PERIOD", b"1000"])
        self.assertEqual(shown[-2:], [b"SCRIPT-RETRY-DELAY", b"30000"])
        self.client.ask("HELLO", 3)
        self.assertTrue(self.client.ask("SENTINEL", "DEBUG").startswith(b"%13\r\n"))

    def test_change(self) -> None:
        """Options are applied from left to right, in any letter case, at once."""
        self.assertEqual(self.client.ask("SENTINEL", "DEBUG", "Info-Period", 5, "ping-period", 6), b"+OK\r\n")
        timings = self.harness.core.timings
        self.assertEqual((timings.info_period, timings.ping_period), (5, 6))
        self.refused(
            "ERR Invalid argument '0' for SENTINEL DEBUG 'TILT-period'",
            "SENTINEL", "DEBUG", "info-period", 7, "TILT-period", 0,
        )  # fmt: skip
        self.assertEqual(timings.info_period, 7)
        unknown = "ERR Unknown option or number of arguments for SENTINEL DEBUG '{}'"
        self.refused(unknown.format("x"), "SENTINEL", "DEBUG", "x", 1)
        self.refused(unknown.format("ping-period"), "SENTINEL", "DEBUG", "ping-period")


class SimulateFailureTests(ServerTestCase):
    """``SENTINEL SIMULATE-FAILURE``."""

    def test_arguments(self) -> None:
        """Each command replaces the previous one; ``HELP`` lists the arguments and has no other effect."""
        self.assertEqual(self.client.ask("SENTINEL", "SIMULATE-FAILURE", "Crash-After-Election"), b"+OK\r\n")
        self.assertEqual(self.harness.core.simulate_crash, {"crash-after-election"})
        self.assertEqual(
            self.client.reply("SENTINEL", "SIMULATE-FAILURE", "crash-after-promotion", "HELP", "x"),
            [b"crash-after-election", b"crash-after-promotion"],
        )
        self.assertEqual(self.harness.core.simulate_crash, {"crash-after-promotion"})
        self.refused("ERR Unknown failure simulation specified", "SENTINEL", "SIMULATE-FAILURE", "x")
        self.assertEqual(self.harness.core.simulate_crash, set())
