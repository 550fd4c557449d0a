"""Commands of operators: they take the path of the commands of clients, with the rights of a user of the ACL."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txsentinel.interfaces import CommandRefused, IOperator
from txsentinel.model.snapshots import CommandRefusal, Principal
from txsentinel.runtime.operator import CONNECTION_COMMANDS, Operator
from txsentinel.server.all_commands import MODULES
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape

ALICE = Principal("alice", "password", "http 10.9.9.9:41234")
DEFAULT = Principal("default", "none", "test")


class OperatorCase(SynchronousTestCase):
    """The base of the tests: a simulated fleet with a user who may read and set quorums."""

    def setUp(self) -> None:
        """Start the fleet and create the user."""
        self.fleet = Fleet(7, Shape(masters=1))
        self.fleet.start()
        self.assertTrue(self.fleet.converge())
        self.service = self.fleet.sentinels[0].alive
        self.operator: Operator = self.service.surface.operator
        self.ask(DEFAULT, "ACL", "SETUSER", "alice", "on", ">wonderland", "+sentinel|masters", "+sentinel|set")

    def begin(self, principal: Principal, *words: str) -> Deferred[object]:
        """Begin a command."""
        return self.operator.run(principal, [word.encode() for word in words])

    def ask(self, principal: Principal, *words: str) -> object:
        """Return the reply to a command."""
        answered = self.begin(principal, *words)
        self.fleet.run(1.0)
        return self.successResultOf(answered)

    def refusal(self, principal: Principal, *words: str) -> CommandRefusal:
        """Return the error reply to a command."""
        answered = self.begin(principal, *words)
        self.fleet.run(1.0)
        error = self.failureResultOf(answered, CommandRefused).value
        assert isinstance(error, CommandRefused)
        return error.refusal

    def lines(self) -> list[str]:
        """Return the log of the Sentinel."""
        return [line.text for line in self.fleet.lines if line.who == "s1"]

    def clients(self) -> list[str]:
        """Return the addresses of all clients."""
        return [client.address for client in self.service.context.clients]


class ReplyTests(OperatorCase):
    """Replies become plain values."""

    def test_interface(self) -> None:
        """It implements the interface."""
        self.assertTrue(verifyObject(IOperator, self.operator))

    def test_values(self) -> None:
        """A status is bytes, a map a dictionary, a number an integer, null None."""
        self.assertEqual(type(self.ask(DEFAULT, "PING")), bytes)
        (master,) = self.list_of(self.ask(ALICE, "SENTINEL", "MASTERS"))
        assert isinstance(master, dict)
        self.assertEqual(master[b"name"], b"m1")
        self.assertEqual(self.ask(DEFAULT, "SENTINEL", "RESET", "m1"), 1)
        self.assertIsNone(self.ask(DEFAULT, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "unknown"))

    def list_of(self, value: object) -> list[object]:
        """Return a reply that must be a list."""
        assert isinstance(value, list)
        return value

    def test_errors(self) -> None:
        """An error reply is a refusal with its code and text."""
        self.assertEqual(
            self.refusal(DEFAULT, "SENTINEL", "MASTER", "x"), CommandRefusal("ERR", "ERR No such master with that name")
        )
        self.assertEqual(self.refusal(DEFAULT, "NONSENSICAL").code, "ERR")
        self.assertIn("wrong number", self.refusal(DEFAULT, "SENTINEL", "MASTER").text)
        self.assertEqual(self.refusal(DEFAULT).text, "ERR empty command")

    def test_large_reply(self) -> None:
        """A reply that takes many steps arrives as a whole."""
        for index in range(200):
            self.ask(DEFAULT, "SENTINEL", "MONITOR", f"x{index}", "10.5.0.1", str(1000 + index), "1")
        self.assertEqual(len(self.list_of(self.ask(DEFAULT, "SENTINEL", "MASTERS"))), 201)


class DurabilityTests(OperatorCase):
    """A reply is delivered when its change is durable."""

    def test_waits_for_the_disk(self) -> None:
        """The reply to a change arrives only after the save."""
        answered = self.begin(DEFAULT, "SENTINEL", "SET", "m1", "quorum", "1")
        self.fleet.run(0.0)
        generation = self.service.core.outbox.generation
        self.assertNoResult(answered)
        self.fleet.run(1.0)
        self.assertEqual(self.successResultOf(answered), b"OK")
        self.assertGreaterEqual(self.service.core.durable_generation, generation)

    def test_failing_disk(self) -> None:
        """A change that cannot be saved is refused and undone, as for clients."""
        self.fleet.sentinels[0].host.files.fail_with = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        before = self.service.core.master("m1").options.quorum
        self.assertIn("Failed to save", self.refusal(DEFAULT, "SENTINEL", "SET", "m1", "quorum", "1").text)
        self.assertEqual(self.service.core.master("m1").options.quorum, before)


class RightsTests(OperatorCase):
    """The rights of the user decide."""

    def test_denied(self) -> None:
        """A command that the user may not execute is refused, counted, and in ACL LOG with the origin."""
        denied = self.service.context.statistics.denied_commands
        self.assertEqual(self.refusal(ALICE, "SENTINEL", "FAILOVER", "m1").code, "NOPERM")
        self.assertEqual(self.service.context.statistics.denied_commands, denied + 1)
        (entry,) = self.service.context.access.log.shown(10, 0)
        self.assertEqual((entry["username"], entry["object"]), ("alice", "sentinel|failover"))
        self.assertIn("addr=http_10.9.9.9:41234", str(entry["client-info"]))

    def test_allowed(self) -> None:
        """The question whether a command is allowed has the same answers, and logs nothing."""
        self.assertIsNone(self.operator.allowed(ALICE, [b"SENTINEL", b"MASTERS"]))
        for words in ("SENTINEL FAILOVER m1", "PUBLISH x y", "SENTINEL SET", "SUBSCRIBE x", "NO", ""):
            refused = self.operator.allowed(ALICE, words.encode().split())
            self.assertEqual(self.service.context.access.log.shown(10, 0), [], words)
            self.assertEqual(refused, self.refusal(ALICE, *words.split()), words)
            self.service.context.access.log.clear()

    def test_unknown_and_disabled_users(self) -> None:
        """A user that does not exist, or is off, may do nothing."""
        self.assertEqual(self.refusal(Principal("bob", "token", "x"), "PING").code, "NOAUTH")
        self.ask(DEFAULT, "ACL", "SETUSER", "alice", "off")
        self.assertEqual(self.refusal(ALICE, "SENTINEL", "MASTERS").code, "NOAUTH")

    def test_authentication(self) -> None:
        """The right password gives a principal; a wrong one an entry in ACL LOG."""
        self.assertEqual(
            self.operator.authenticate("alice", "wonderland", "http 10.9.9.9:41234"),
            ALICE,
        )
        self.assertEqual(self.service.context.access.log.shown(10, 0), [])
        self.assertIsNone(self.operator.authenticate("alice", "wrong", "http 10.9.9.9:41234"))
        self.assertIsNone(self.operator.authenticate("bob", "wonderland", "x"))
        reasons = [(each["reason"], each["username"]) for each in self.service.context.access.log.shown(10, 0)]
        self.assertEqual(reasons, [("auth", "bob"), ("auth", "alice")])

    def test_without_login(self) -> None:
        """The default user is there without a login as long as it needs no password."""
        self.assertEqual(self.operator.anonymous("test"), DEFAULT)
        self.assertTrue(self.operator.has_passwords())
        self.ask(DEFAULT, "ACL", "DELUSER", "alice")
        self.assertFalse(self.operator.has_passwords())
        self.ask(DEFAULT, "ACL", "SETUSER", "default", ">secret")
        self.assertIsNone(self.operator.anonymous("test"))

    def test_commands_of_connections(self) -> None:
        """Commands about the connection are refused; each of them exists."""
        self.assertEqual(CONNECTION_COMMANDS - {command.name for module in MODULES for command in module}, set())
        for name in CONNECTION_COMMANDS:
            self.assertIn("concerns a connection", self.refusal(DEFAULT, *name.upper().split("|"), "x").text)


class SessionTests(OperatorCase):
    """The session of a command is a client as long as it is executed."""

    def test_listed(self) -> None:
        """CLIENT LIST shows the origin until the reply is there."""
        before = self.clients()
        answered = self.begin(ALICE, "SENTINEL", "SET", "m1", "quorum", "1")
        self.assertEqual(self.clients(), [*before, "http_10.9.9.9:41234"])
        self.fleet.run(1.0)
        self.successResultOf(answered)
        self.assertEqual(self.clients(), before)

    def test_killed(self) -> None:
        """CLIENT KILL, as the removal of its user, ends the command with a refusal."""
        for words in (("CLIENT", "KILL", "USER", "alice"), ("ACL", "DELUSER", "alice")):
            answered = self.begin(ALICE, "SENTINEL", "SET", "m1", "quorum", "1")
            self.ask(DEFAULT, *words)
            self.assertEqual(self.failureResultOf(answered, CommandRefused).value.refusal.code, "CLOSED")

    def test_paused(self) -> None:
        """CLIENT PAUSE delays a command, as those of clients."""
        self.ask(DEFAULT, "CLIENT", "PAUSE", "3000")
        answered = self.begin(ALICE, "SENTINEL", "MASTERS")
        self.fleet.run(1.0)
        self.assertNoResult(answered)
        self.fleet.run(3.0)
        self.assertEqual(len(self.list_of(self.successResultOf(answered))), 1)

    def list_of(self, value: object) -> list[object]:
        """Return a reply that must be a list."""
        assert isinstance(value, list)
        return value

    def test_end_of_the_service(self) -> None:
        """The end of the process fails no later than the reply that was pending."""
        answered = self.begin(ALICE, "SENTINEL", "SET", "m1", "quorum", "1")
        self.service.stopService()
        self.fleet.run(1.0)
        self.assertEqual(self.successResultOf(answered), b"OK")

    def test_shutdown(self) -> None:
        """SHUTDOWN has no reply, which is None."""
        ends: list[bool] = []
        self.service.context.shutdown = lambda: ends.append(True)
        self.assertIsNone(self.ask(DEFAULT, "SHUTDOWN"))
        self.assertEqual(ends, [True])


class LogTests(OperatorCase):
    """Every command that changes something is logged."""

    def operator_lines(self, *commands: Sequence[str]) -> list[str]:
        """Execute commands; return the lines about them."""
        before = len(self.lines())
        for words in commands:
            self.begin(ALICE if words[0] == "alice" else DEFAULT, *words[1:]).addErrback(lambda failure: None)
            self.fleet.run(1.0)
        return [line for line in self.lines()[before:] if line.startswith("Operator")]

    def test_acting(self) -> None:
        """The line has the user, how it logged in, the origin and the words."""
        self.assertEqual(
            self.operator_lines(("alice", "SENTINEL", "SET", "m1", "quorum", "1")),
            ["Operator alice (password, http 10.9.9.9:41234) executes: SENTINEL SET m1 quorum 1"],
        )

    def test_reading_and_refused(self) -> None:
        """Reading is not logged, nor what the user may not do, which is in ACL LOG."""
        self.assertEqual(
            self.operator_lines(
                ("alice", "SENTINEL", "MASTERS"),
                ("alice", "SENTINEL", "FAILOVER", "m1"),
                ("default", "SENTINEL", "CONFIG", "GET", "*"),
                ("default", "SENTINEL", "DEBUG"),
                ("default", "INFO"),
            ),
            [],
        )

    def test_secrets(self) -> None:
        """Passwords are masked, and words from outside escaped."""
        lines = self.operator_lines(
            ("default", "SENTINEL", "SET", "m1", "auth-pass", "opensesame"),
            ("default", "SENTINEL", "SET", "m1", "auth-user", "auth-pass", "Auth-Pass", "opensesame"),
            ("default", "SENTINEL", "CONFIG", "SET", "sentinel-pass", "opensesame"),
            ("default", "ACL", "SETUSER", "carol", "on", ">opensesame", "+ping"),
            ("default", "SENTINEL", "SET", "m1", "client-reconfig-script", "/x\nfake line"),
        )
        self.assertEqual(
            [line.partition("executes: ")[2] for line in lines],
            [
                "SENTINEL SET m1 auth-pass ******",
                "SENTINEL SET m1 auth-user auth-pass ****** ******",
                "SENTINEL CONFIG SET sentinel-pass ******",
                "ACL SETUSER carol on ****** +ping",
                "SENTINEL SET m1 client-reconfig-script /x\\nfake line",
            ],
        )
        self.assertNotIn("opensesame", "\n".join(self.lines()))
