"""Classes of failures, and the failures that do not begin S_DOWN while there is another proof of life."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from txsentinel.core.effects import Ping
from txsentinel.core.link import LinkKind
from txsentinel.core.options import FailureClasses, GuardOptions
from txsentinel.model.address import Address
from txsentinel.model.failure import CONFIGURATION_FAULTS, FailureClass, class_of_reply

DOWN_AFTER = 2_000


class FailureTestCase(SynchronousTestCase):
    """A master with a replica."""

    guards = GuardOptions()

    def setUp(self) -> None:
        """Start a healthy group."""
        self.fixture = Fixture(down_after=DOWN_AFTER)
        self.fixture.master.options.guards = self.guards
        self.replica = self.fixture.add_replica(2, extra=["master_last_io_seconds_ago:0"])
        self.fixture.wait(3_000, 50)
        self.fixture.output()
        self.master = self.fixture.master

    def pings_refused(self, error: bytes) -> list[str]:
        """Return the output while the master answers PING with ``error`` for three times down-after."""
        self.fixture.servers[MASTER].ping_text = error
        self.fixture.servers[MASTER].refuses = True
        self.fixture.wait(3 * DOWN_AFTER, 50)
        return self.fixture.output()

    def fail_attempts(self, failure: FailureClass) -> list[str]:
        """Return the output while attempts to connect to the master fail for three times down-after."""
        self.fixture.servers[MASTER].up = False
        for kind in LinkKind:
            self.fixture.core.link_down(self.master.link, kind, "lost", self.fixture.now, FailureClass.RESET)
        for _ in range(3 * DOWN_AFTER // 500):
            self.fixture.wait(500, 50)
            self.fixture.core.link_down(self.master.link, LinkKind.COMMANDS, "why", self.fixture.now, failure)
            self.fixture.finish()
        return self.fixture.output()


class ReplyTests(FailureTestCase):
    """An error reply is a proof of life."""

    def test_access_control(self) -> None:
        """A wrong password or a missing permission never begins S_DOWN; the log has the reason, once."""
        for error, word in (
            (b"NOAUTH Authentication required.", "auth"),
            (b"WRONGPASS invalid", "auth"),
            (b"NOPERM no permissions to run the 'ping' command", "noperm"),
        ):
            with self.subTest(error=error):
                self.setUp()
                lines = self.pings_refused(error)
                self.assertEqual([line for line in lines if "+sdown" in line], [])
                excuses = [line for line in lines if "is not considered down" in line]
                self.assertEqual(len(excuses), 1, lines)
                self.assertIn(f": {word} (PING: {error.decode()[:10]}", excuses[0])

    def test_short_down_after(self) -> None:
        """Also if down-after is not longer than the period of PING, and replies are late; PING stays rare otherwise."""
        for down_after, least, most in ((200, 30, 70), (1_000, 9, 13), (3_000, 9, 13), (5_000, 4, 7)):
            with self.subTest(down_after=down_after):
                fixture = Fixture(down_after=down_after)
                fixture.wait(3_000, 10)
                fixture.sent.clear()
                fixture.servers[MASTER].ping_text = b"NOAUTH Authentication required."
                fixture.servers[MASTER].refuses = True
                fixture.wait(5_000, 10)
                self.assertEqual([line for line in fixture.output() if "+sdown" in line], [])
                link = fixture.master.link
                pings = [each for _, each in fixture.sent if isinstance(each, Ping) and each.link is link]
                self.assertTrue(least <= len(pings) <= most, len(pings))

    def test_requests_for_replacement(self) -> None:
        """MISCONF, BUSY and unknown errors begin S_DOWN, as in C Sentinels."""
        for error in (b"MISCONF no disk", b"BUSY script", b"ERR what"):
            with self.subTest(error=error):
                self.setUp()
                lines = self.pings_refused(error)
                self.assertEqual(len([line for line in lines if "event +sdown master" in line]), 1)
                word = class_of_reply(error.decode()).value
                self.assertTrue(
                    any("S_DOWN of master" in line and f": {word} (PING: " in line for line in lines), lines
                )

    def test_silence_after_errors(self) -> None:
        """A server that answered NOAUTH and then nothing is S_DOWN after down-after."""
        self.pings_refused(b"NOAUTH Authentication required.")
        self.fixture.servers[MASTER].hung = True
        self.replica.extra = ["master_last_io_seconds_ago:15"]
        began = self.fixture.now
        self.fixture.wait(2 * DOWN_AFTER, 50)
        self.assertIsNotNone(self.master.sdown_since)
        self.assertGreater(self.master.sdown_since or 0, began + DOWN_AFTER - 1_100)

    def test_as_in_c(self) -> None:
        """``failure-classes as-c`` counts them as silence."""
        self.master.options.guards = GuardOptions(failure_classes=FailureClasses.AS_C)
        self.assertIn("+sdown", "".join(self.pings_refused(b"NOAUTH Authentication required.")))


class ConnectionTests(FailureTestCase):
    """A replica that receives data from the master is a proof of life."""

    def test_own_faults(self) -> None:
        """Faults of the configuration or of this Sentinel do not begin S_DOWN while a replica receives data."""
        for failure in (FailureClass.TLS, FailureClass.DNS, FailureClass.OWN_DESCRIPTORS):
            with self.subTest(failure=failure):
                self.setUp()
                lines = self.fail_attempts(failure)
                self.assertEqual([line for line in lines if "+sdown" in line], [])
                self.assertEqual(len([line for line in lines if "is not considered down" in line]), 1, lines)

    def test_faults_of_others(self) -> None:
        """All other classes begin S_DOWN, whatever replicas receive."""
        for failure in (FailureClass.REFUSED, FailureClass.TIMEOUT, FailureClass.UNREACHABLE, FailureClass.RESET):
            with self.subTest(failure=failure):
                self.assertNotIn(failure, CONFIGURATION_FAULTS)
                self.setUp()
                lines = self.fail_attempts(failure)
                self.assertEqual(len([line for line in lines if "event +sdown master" in line]), 1)
                self.assertTrue(any(f": {failure.value} (why); last acceptable" in line for line in lines), lines)

    def test_no_proof(self) -> None:
        """Without a replica that has received data recently the failure counts."""
        for status, age in (("down", "0"), ("up", "15"), ("up", "-1")):
            with self.subTest(status=status, age=age):
                self.setUp()
                self.replica.link_status, self.replica.extra = status, [f"master_last_io_seconds_ago:{age}"]
                self.fixture.wait(11_000, 100)
                self.assertIn("+sdown", "".join(self.fail_attempts(FailureClass.TLS)))

    def test_proof_ends(self) -> None:
        """The replica loses its link, too."""
        self.fail_attempts(FailureClass.TLS)
        self.replica.link_status = "down"
        self.fixture.core.link_down(self.master.link, LinkKind.COMMANDS, "why", self.fixture.now, FailureClass.TLS)
        self.fixture.wait(2 * DOWN_AFTER, 50)
        self.assertIsNotNone(self.master.sdown_since)


class NameTests(FailureTestCase):
    """A name that does not resolve any more."""

    def test_last_known_address(self) -> None:
        """A refused attempt at the last known address counts as a failed resolution."""
        link = self.master.link
        named = Address("master.example", self.master.address.ip, self.master.address.port)
        self.fixture.core.registry.readdress(self.master, named)
        self.fixture.core.address_resolved(self.master.address, None, self.fixture.now)
        self.fixture.core.link_down(link, LinkKind.COMMANDS, "refused", self.fixture.now, FailureClass.REFUSED)
        assert link.failure is not None
        self.assertEqual(link.failure.failure_class, FailureClass.DNS)
        self.fixture.core.address_resolved(self.master.address, self.master.address.ip, self.fixture.now)
        self.fixture.core.link_down(link, LinkKind.COMMANDS, "refused", self.fixture.now, FailureClass.REFUSED)
        assert link.failure is not None
        self.assertEqual(link.failure.failure_class, FailureClass.REFUSED)
