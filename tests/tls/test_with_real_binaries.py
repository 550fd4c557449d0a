"""TLS with real programs: ``redis-cli``, ``redis-server`` and ``redis-sentinel``."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
from unittest import SkipTest

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tests.servers import Fleet, Harness, ReplyError, SentinelProcess, free_port, missing, wait_for
from tests.tls.authority import Authority, Issued
from tests.tls.installation import TlsConnection, TlsHarness, client_context, tls_lines

SECONDS = 30.0
"""Timeout for all that real processes do in much less time."""


def needs_tls(program: str, *words: str) -> str:
    """Return the path of a Redis program; skip if there is none, or one that was built without TLS."""
    path = shutil.which(program)
    if path is None:
        raise SkipTest(f"not on this machine: {program}")
    if "tls" not in subprocess.run([path, *words], capture_output=True, text=True, timeout=10).stdout.lower():
        raise SkipTest(f"built without TLS: {program}")
    return path


def subject(port: int, context: ssl.SSLContext) -> str:
    """Return the subject of the certificate on a port."""
    with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain) as secured:
        shown = secured.getpeercert(True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).subject.rfc4514_string()


class PortTests(SynchronousTestCase):
    """One Sentinel with a plain port and a TLS port."""

    def setUp(self) -> None:
        self.harness = Harness()
        self.addCleanup(self.harness.close)
        self.authority = Authority(self.harness.directory / "certificates")
        self.server = self.authority.issue("server")
        self.client = self.authority.issue("client")
        self.port = free_port()

    def sentinel(self, *lines: str) -> SentinelProcess:
        """Return a Sentinel, not yet started."""
        return self.harness.sentinel(
            "txsentinel",
            monitor=[("mymaster", "127.0.0.1", 1, 1)],
            extra=[f"tls-port {self.port}", *tls_lines(self.authority, self.server), *lines],
        )

    def redis_cli(self, *words: str, client: Issued | None = None, authority: Authority | None = None) -> str:
        """Return the output of redis-cli, of both streams."""
        program = needs_tls("redis-cli", "--help")
        line = [program, "-p", str(self.port), "--tls", "--cacert", str((authority or self.authority).certificate)]
        if client is not None:
            line += ["--cert", str(client.certificate), "--key", str(client.key)]
        done = subprocess.run([*line, *words], capture_output=True, text=True, timeout=10)
        return done.stdout + done.stderr

    def test_redis_cli(self) -> None:
        """redis-cli is served over TLS exactly if both sides trust each other."""
        sentinel = self.sentinel()
        sentinel.start()
        other_authority = Authority(self.harness.directory / "other", "other")
        self.assertEqual(self.redis_cli("PING", client=self.client), "PONG\n")
        self.assertIn("mymaster", self.redis_cli("SENTINEL", "MASTERS", client=self.client))
        self.assertNotIn("PONG", self.redis_cli("PING"))
        self.assertNotIn("PONG", self.redis_cli("PING", client=other_authority.issue("other")))
        self.assertIn(
            "certificate verify failed", self.redis_cli("PING", client=self.client, authority=other_authority)
        )
        with socket.create_connection(("127.0.0.1", self.port), 5) as plain:
            plain.sendall(b"PING\r\n")
            self.assertEqual(plain.recv(100), b"")
        wait_for(lambda: "wrong version number" in sentinel.log_text(), SECONDS, "the last refusal in the log")
        self.assertEqual(sentinel.call("PING"), "PONG")
        log = sentinel.log_text()
        for reason in ("peer did not return a certificate", "wrong version number"):
            self.assertEqual(log.count(f"Error accepting a client connection: error:SSL routines::{reason} (addr="), 1)
        self.assertNotIn("Traceback", log)

    def test_new_certificate_by_signal(self) -> None:
        """SIGHUP loads new files; connections continue; unusable files change nothing."""
        sentinel = self.sentinel("tls-auto-reload-interval 0")
        sentinel.start()
        context = client_context(self.authority, self.client)
        with TlsConnection(self.port, context) as old:
            self.assertEqual(old.call("PING"), "PONG")
            renewed = self.authority.issue("renewed")
            shutil.copy(renewed.key, self.server.key)
            os.kill(sentinel.pid, signal.SIGHUP)
            wait_for(lambda: "key values mismatch" in sentinel.log_text(), SECONDS, "the refusal of half a change")
            self.assertEqual(subject(self.port, context), "CN=server")
            shutil.copy(renewed.certificate, self.server.certificate)
            os.kill(sentinel.pid, signal.SIGHUP)
            wait_for(lambda: subject(self.port, context) == "CN=renewed", SECONDS, "the new certificate")
            self.assertEqual(old.call("PING"), "PONG")

    def test_new_certificate_by_itself(self) -> None:
        """Changed files are loaded without a request."""
        self.sentinel("tls-auto-reload-interval 1").start()
        context = client_context(self.authority, self.client)
        renewed = self.authority.issue("renewed")
        for new, old in zip(
            (renewed.certificate, renewed.key), (self.server.certificate, self.server.key), strict=True
        ):
            os.replace(new, old)
        wait_for(lambda: subject(self.port, context) == "CN=renewed", SECONDS, "the new certificate")

    def test_refused_start(self) -> None:
        """The error is in the log, and the exit status is 1."""
        self.server = Issued(self.server.certificate, self.client.key)
        sentinel = self.sentinel()
        sentinel.start(ready=False)
        self.assertEqual(sentinel.wait_ended(SECONDS), 1)
        lines = [line.partition(" # ")[2] for line in sentinel.log_text().splitlines() if " # " in line]
        self.assertEqual(
            lines[-2:],
            [
                f"Failed to load private key: {self.client.key}: error:x509 certificate routines::key values mismatch",
                "Failed to configure TLS. Check logs for more info.",
            ],
        )

    def test_taken_port(self) -> None:
        """A TLS port that is in use ends the start with its own error line."""
        with socket.socket() as squatter:
            squatter.bind(("127.0.0.1", self.port))
            squatter.listen()
            sentinel = self.sentinel()
            sentinel.start(ready=False)
            self.assertEqual(sentinel.wait_ended(SECONDS), 1)
        self.assertIn(f"Failed listening on port {self.port} (TLS), aborting.", sentinel.log_text())


class InstallationTests(SynchronousTestCase):
    """TLS on all connections."""

    def test_failover(self) -> None:
        """Three Sentinels of ours and a redis-sentinel lose a master and agree on the next one, all by TLS."""
        if missing("redis"):
            raise SkipTest(missing("redis"))
        needs_tls("redis-cli", "--help")
        with TlsHarness() as harness:
            fleet = Fleet(harness, ["txsentinel"] * 3 + ["redis"], quorum=2, down_after=1500)
            fleet.start(SECONDS)
            old = fleet.master()
            old.kill()

            def moved() -> bool:
                problems = fleet.agreement_problems([each for each in fleet.servers.values() if each is not old])
                if problems or fleet.master_port() == old.port:
                    raise ReplyError("; ".join(problems) or "the master is still the old one")
                return True

            wait_for(moved, SECONDS, "agreement on another master")
            fleet.revive(old)
            fleet.wait_quiet(SECONDS)
            for sentinel in fleet.sentinels:
                self.assertIn("+switch-master mymaster", sentinel.log_text(), sentinel.name)
                self.assertNotIn("Traceback", sentinel.log_text(), sentinel.name)

    def test_unauthenticated_servers(self) -> None:
        """A server that cannot authenticate as the expected one is never up, and the log has the reason."""
        if missing("redis"):
            raise SkipTest(missing("redis"))
        needs_tls("redis-cli", "--help")
        harness = TlsHarness()
        with harness:
            other = Authority(harness.directory / "other", "other")
            untrusted = harness.redis(extra=[*tls_lines(harness.authority, other.issue("x")), "tls-auth-clients no"])
            untrusted.context = client_context(other, None)  # type: ignore[attr-defined]
            other_name = harness.redis(extra=tls_lines(harness.authority, harness.authority.issue("y", ip="127.0.0.9")))
            valid = harness.redis()
            servers = {"other-authority": untrusted, "other-name": other_name, "valid": valid}
            for server in servers.values():
                server.start()
            sentinel = harness.sentinel(
                "txsentinel",
                monitor=[(name, "127.0.0.1", server.port, 1) for name, server in servers.items()],
                down_after=1500,
            )
            sentinel.arguments.append("--tls-verify-hostnames")
            sentinel.start()
            for name, reason in (
                ("other-authority", "error:SSL routines::certificate verify failed"),
                ("other-name", "its certificate is not for 127.0.0.1"),
            ):
                down = f"+sdown master {name} "
                wait_for(lambda down=down: down in sentinel.log_text(), SECONDS, down)  # type: ignore[misc]
                line = f"No TLS connection to 127.0.0.1:{servers[name].port}: {reason}\n"
                self.assertIn(sentinel.log_text().count(line), (1, 2), "one per connection, not per attempt")
            fields = sentinel.call("SENTINEL", "MASTER", "valid")
            assert isinstance(fields, list)
            self.assertEqual(fields[fields.index("flags") + 1], "master")
