"""Tests of ``tls-auth-clients-user`` on a running Sentinel."""

from __future__ import annotations

import shutil
import subprocess
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.servers import Harness, ReplyError, SentinelProcess, free_port, missing, pairs
from tests.tls.authority import Authority, Issued
from tests.tls.installation import TlsConnection, client_context, tls_lines

URI = "spiffe://example/sentinel/reader"
USERS = (
    "user reader on nopass -@all +acl|whoami +sentinel|masters +ping",
    "user retired off nopass +@all",
    "user writer on >secret +@all",
    f"user {URI} on nopass -@all +acl|whoami",
)


class CertificateUsersTests(SynchronousTestCase):
    """Tests with a real process, and clients with certificates of one authority."""

    if missing("txsentinel"):
        skip = missing("txsentinel")

    def setUp(self) -> None:
        self.harness = Harness()
        self.addCleanup(self.harness.close)
        self.authority = Authority(self.harness.directory / "certificates")
        self.port = free_port()

    def start(self, *lines: str, password: str | None = None) -> SentinelProcess:
        """Start a Sentinel with a plain port, a TLS port, and some users."""
        server = self.authority.issue("server")
        extra = [f"tls-port {self.port}", *tls_lines(self.authority, server), *USERS, *lines]
        sentinel = self.harness.sentinel("txsentinel", password=password, extra=extra)
        sentinel.start()
        return sentinel

    def connect(self, client: Issued | None) -> TlsConnection:
        """Return a TLS connection."""
        connection = TlsConnection(self.port, client_context(self.authority, client))
        self.addCleanup(connection.close)
        return connection

    def whoami(self, client: Issued | None) -> object:
        """Return the user of a client with this certificate."""
        return self.connect(client).call("ACL", "WHOAMI")

    def test_common_name(self) -> None:
        """The subject's name is that of the user, who has that user's rights and needs no password."""
        sentinel = self.start("tls-auth-clients-user CN")
        connection = self.connect(self.authority.issue("reader"))
        self.assertEqual(connection.call("ACL", "WHOAMI"), "reader")
        self.assertEqual(connection.call("SENTINEL", "MASTERS"), [])
        with self.assertRaisesRegex(ReplyError, "NOPERM User reader has no permissions to run the 'info' command"):
            connection.call("INFO")
        self.assertEqual(self.whoami(self.authority.issue("nobody", file="other", uri="reader")), "default")
        self.assertEqual(sentinel.call("ACL", "WHOAMI"), "default", "the plain port knows no certificates")

    def test_another_login(self) -> None:
        """A client that was logged in by its certificate can log in as another user."""
        self.start("tls-auth-clients-user CN")
        connection = self.connect(self.authority.issue("reader"))
        with self.assertRaisesRegex(ReplyError, "WRONGPASS"):
            connection.call("AUTH", "writer", "wrong")
        self.assertEqual(connection.call("ACL", "WHOAMI"), "reader")
        self.assertEqual(connection.call("AUTH", "writer", "secret"), "OK")
        self.assertEqual(connection.call("ACL", "WHOAMI"), "writer")

    def test_uri(self) -> None:
        """The first URI that is an enabled user's name counts; the common name does not."""
        self.start("tls-auth-clients-user URI")
        uris = ["https://nobody.example", "retired", URI]
        self.assertEqual(self.whoami(self.authority.issue("reader", uris=uris)), URI)
        self.assertEqual(self.whoami(self.authority.issue("reader", file="without")), "default")

    def test_unknown_or_disabled_user(self) -> None:
        """A name of no user, or of a disabled one, does not log in, and ACL LOG and INFO record it."""
        sentinel = self.start("tls-auth-clients-user CN")
        for name in ("unknown", "retired"):
            self.assertEqual(self.whoami(self.authority.issue(name)), "default")
        log = sentinel.call("ACL", "LOG")
        assert isinstance(log, list)
        entries = [pairs(each) for each in log]
        self.assertEqual(
            [(each["reason"], each["username"], each["count"]) for each in entries],
            [("tls-cert", "retired", "1"), ("tls-cert", "unknown", "1")],
        )
        self.assertIn("acl_access_denied_tls_cert:2\r\n", str(sentinel.call("INFO", "stats")))

    def test_closed_default(self) -> None:
        """If ``default`` needs a password, a valid certificate replaces it, and an invalid one does not."""
        self.start("tls-auth-clients-user CN", "tls-auth-clients optional", password="sesame")
        self.assertEqual(self.whoami(self.authority.issue("reader")), "reader")
        for client in (self.authority.issue("unknown"), self.authority.issue("retired"), None):
            connection = self.connect(client)
            with self.assertRaisesRegex(ReplyError, "NOAUTH"):
                connection.call("ACL", "WHOAMI")
            self.assertEqual(connection.call("AUTH", "sesame"), "OK")
            self.assertEqual(connection.call("ACL", "WHOAMI"), "default")

    def test_off(self) -> None:
        """Without the directive, certificates select no user."""
        sentinel = self.start("tls-auth-clients-user off")
        self.assertEqual(self.whoami(self.authority.issue("reader")), "default")
        self.assertEqual(sentinel.call("ACL", "LOG"), [])

    def test_rights_that_change(self) -> None:
        """A disabled user keeps its connections and cannot log in; those of a deleted user are closed."""
        sentinel = self.start("tls-auth-clients-user CN")
        client = self.authority.issue("reader")
        connection = self.connect(client)
        self.assertEqual(connection.call("ACL", "WHOAMI"), "reader")
        sentinel.call("ACL", "SETUSER", "reader", "off")
        self.assertEqual(connection.call("ACL", "WHOAMI"), "reader")
        self.assertEqual(self.whoami(client), "default")
        sentinel.call("ACL", "DELUSER", "reader")
        with self.assertRaises((OSError, EOFError)):
            connection.call("PING")

    def test_redis_cli(self) -> None:
        """redis-cli with ``--tls --cert`` is logged in by its certificate."""
        program = shutil.which("redis-cli")
        if program is None or "--tls" not in subprocess.run([program, "--help"], capture_output=True, text=True).stdout:
            raise SkipTest("no redis-cli with TLS on this machine")
        self.start("tls-auth-clients-user CN")
        for name, user in (("reader", "reader"), ("unknown", "default")):
            issued = self.authority.issue(name)
            words = [program, "-p", str(self.port), "--tls", "--cacert", str(self.authority.certificate)]
            words += ["--cert", str(issued.certificate), "--key", str(issued.key), "ACL", "WHOAMI"]
            self.assertEqual(subprocess.run(words, capture_output=True, text=True, timeout=10).stdout.strip(), user)
