"""When groups are examined, and with which addresses, logins and files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import Fixture
from txsentinel.config.generic import GenericOptions
from txsentinel.interfaces import Busy, IHost
from txsentinel.model.doctor import GroupHealth
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.remote.connection import ConnectionSettings, TlsFiles
from txsentinel.runtime.examining import (
    CONNECTION_TIMEOUT,
    KEPT_SECONDS,
    MAX_WAITING,
    GroupExaminer,
    own_endpoint,
    server_login,
    tls_files,
)


class ExaminerTests(SynchronousTestCase):
    """An examiner whose examinations end when the test wants."""

    def setUp(self) -> None:
        """Monitor one master with a password."""
        self.fixture = Fixture()
        self.fixture.master.options.auth_pass = "secret"
        self.clock = Clock()
        host = cast(IHost, SimpleNamespace(reactor=self.clock, wall_clock=lambda: 1_800_000_000.0))
        self.running: list[tuple[tuple[Any, ...], Deferred[GroupHealth]]] = []
        options = GenericOptions()
        self.examiner = GroupExaminer(host, self.fixture.core, options, lambda: ["0.0.0.0:26379"], self.run_apart)

    def run_apart(self, *call: Any) -> Deferred[GroupHealth]:
        """Record a call."""
        done: Deferred[GroupHealth] = Deferred()
        self.running.append((call[1:], done))
        return done

    def end(self, number: int = 0) -> GroupHealth:
        """End an examination that runs."""
        call, done = self.running[number]
        health = GroupHealth(call[0], call[5], call[4], (), 20, 1, 1, 1, 1)
        done.callback(health)
        return health

    def test_arguments(self) -> None:
        """The Sentinel begins at its own port, and logs in to the servers as its links do."""
        self.examiner.examine("mymaster", False)
        (call, _), *_ = self.running
        self.assertEqual(call[:2], ("mymaster", Endpoint("127.0.0.1", 26379)))
        self.assertEqual(call[2], ConnectionSettings(None, None, None, CONNECTION_TIMEOUT))
        self.assertEqual(call[3], ConnectionSettings(None, "secret", None, CONNECTION_TIMEOUT))
        self.assertEqual(call[4:], (False, Instant(1_800_000_000_000)))

    def test_shared(self) -> None:
        """Who asks meanwhile gets the same result, and who asks soon after, too."""
        asked = [self.examiner.examine("mymaster", False) for _ in range(2)]
        health = self.end()
        self.assertEqual([self.successResultOf(each) for each in asked], [health] * 2)
        self.assertIs(self.successResultOf(self.examiner.examine("mymaster", False)), health)
        self.assertEqual(len(self.running), 1)
        self.clock.advance(KEPT_SECONDS)
        self.assertNoResult(self.examiner.examine("mymaster", False))
        self.assertEqual(len(self.running), 2)

    def test_one_at_a_time(self) -> None:
        """Another examination begins when the first has ended, whatever its result is; too many are refused."""
        first = self.examiner.examine("mymaster", False)
        second = self.examiner.examine("mymaster", True)
        gone = self.examiner.examine("gone", False)
        for number in range(MAX_WAITING - 2):
            self.examiner.examine(f"m{number}", False).addErrback(lambda failure: failure.trap(LookupError) and None)
        self.failureResultOf(self.examiner.examine("more", False), Busy)
        self.assertEqual(len(self.running), 1)
        self.running[0][1].errback(LookupError("refused"))
        self.failureResultOf(first, LookupError)
        self.assertEqual(len(self.running), 2)
        self.end(1)
        self.assertTrue(self.successResultOf(second).active)
        self.failureResultOf(gone, LookupError)
        self.assertEqual(len(self.running), 2)

    def test_without_port(self) -> None:
        """A Sentinel without a port of the wanted kind cannot be examined."""
        # The constructor was given the ports of the other tests.
        self.patch(self.examiner, "_listens", lambda: ["/run/sentinel.sock"])
        self.failureResultOf(self.examiner.examine("mymaster", False), LookupError)


class ConnectionTests(SynchronousTestCase):
    """Where and how to connect."""

    def test_own_endpoint(self) -> None:
        """The first port with or without TLS; addresses that stand for all become those of this machine."""
        places = ["/run/s.sock", "tls://[::]:26380", "10.0.0.5:26379", "tls://0.0.0.0:1"]
        self.assertEqual(own_endpoint(places, encrypted=False), Endpoint("10.0.0.5", 26379))
        self.assertEqual(own_endpoint(places, encrypted=True), Endpoint("::1", 26380))
        self.assertIsNone(own_endpoint(["/run/s.sock"], encrypted=False))

    def test_tls(self) -> None:
        """The files are those of the links: a certificate for clients is preferred."""
        options = GenericOptions(dir="/etc/sentinel", tls_cert_file="cert.pem", tls_key_file="key.pem")
        self.assertIsNone(tls_files(options))
        options.tls_replication, options.tls_ca_cert_file, options.tls_key_file_pass = True, "/ca.pem", "hidden"
        expected = TlsFiles("/ca.pem", "/etc/sentinel/cert.pem", "/etc/sentinel/key.pem", key_password="hidden")
        self.assertEqual(tls_files(options), expected)
        options.tls_client_cert_file, options.tls_client_key_file = "client.pem", "client.key"
        found = tls_files(options)
        assert found is not None
        self.assertEqual((found.certificate, found.key_password), ("/etc/sentinel/client.pem", None))
        self.assertNotIn("hidden", repr(expected))

    def test_login(self) -> None:
        """The user of the master, too."""
        fixture = Fixture()
        fixture.master.options.auth_user = "watcher"
        self.assertEqual(server_login(fixture.master.options, None).user, "watcher")
