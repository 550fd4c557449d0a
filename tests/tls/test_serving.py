"""Tests of client connections by TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import ServerHarness
from tests.tls.authority import Authority, Issued
from tests.tls.installation import client_context
from tests.tls.memory import BufferedTransport, TlsPeer, exchange
from txsentinel.config.generic import BufferLimit, GenericOptions
from txsentinel.model.events import Level
from txsentinel.tls.contexts import load_contexts
from txsentinel.tls.endpoints import Tls
from txsentinel.tls.handshakes import MAX_LOG_LINES, TIMEOUT
from txsentinel.wire.resp import pack

FROM = "(addr=127.0.0.1:40001 laddr=127.0.0.1:26380)"


class ServingCase(SynchronousTestCase):
    """The base of the tests: a server, and an authority that has signed its certificate and that of a client."""

    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()).absolute())
        self.server = self.authority.issue("server")
        self.client = self.authority.issue("client")
        self.notes: list[tuple[Level, str]] = []
        self.open()

    def open(self, **directives: object) -> None:
        """Open a port with these options."""
        self.options = GenericOptions(
            tls_port=26380,
            tls_cert_file=str(self.server.certificate),
            tls_key_file=str(self.server.key),
            tls_ca_cert_file=str(self.authority.certificate),
        )
        for name, value in directives.items():
            setattr(self.options, name, value)
        self.harness = ServerHarness(self.options)
        note = lambda level, line: self.notes.append((level, line))  # noqa: E731
        self.tls = Tls(self.harness.host, self.options, note)  # type: ignore[arg-type]
        self.factory = self.tls.listening(self.harness.factory)

    def accept(self) -> BufferedTransport:
        """Connect to the port."""
        line = BufferedTransport()
        line.protocol = self.factory.buildProtocol(line.getPeer())
        line.protocol.makeConnection(line)
        return line

    def connect(self, context: ssl.SSLContext) -> tuple[BufferedTransport, TlsPeer]:
        """Connect a client, and make the handshake if it is accepted."""
        line, far = self.accept(), TlsPeer(context)
        exchange(line, far)
        return line, far

    def trusted(self) -> tuple[BufferedTransport, TlsPeer]:
        """Connect a client with a certificate of the authority."""
        return self.connect(client_context(self.authority, self.client))

    def ask(self, line: BufferedTransport, far: TlsPeer, *words: str) -> bytes:
        """Return the reply to one command."""
        far.tls.write(pack(*words))
        exchange(line, far)
        return far.take()

    def lines(self, level: Level = Level.WARNING) -> list[str]:
        """Return the lines of a level since the last call."""
        found = [line for each, line in self.notes if each is level]
        self.notes.clear()
        return found


class CertificateTests(ServingCase):
    """Tests of accepting clients."""

    def test_trusted(self) -> None:
        """A client with a certificate of the authority is served, and nothing is logged."""
        self.assertEqual(self.ask(*self.trusted(), "PING"), b"+PONG\r\n")
        self.assertEqual(self.notes, [])

    def test_without_certificate(self) -> None:
        """By default a certificate is required: without one the connection is closed, and one line has the reason."""
        line, far = self.connect(client_context(self.authority, None))
        self.assertTrue(line.over)
        self.assertIn("CERTIFICATE_REQUIRED", far.problem or "")
        self.assertEqual(
            self.lines(),
            ["Error accepting a client connection: error:SSL routines::peer did not return a certificate " + FROM],
        )
        self.assertEqual(len(self.harness.context.clients), 0)

    def test_of_another_authority(self) -> None:
        """A certificate of another authority is refused, also if none is required."""
        other_client = Authority(Path(self.mktemp()).absolute(), "unknown").issue("client")
        for word in ("yes", "optional"):
            self.open(tls_auth_clients=word)
            line, _ = self.connect(client_context(self.authority, other_client))
            self.assertTrue(line.over, word)
            self.assertIn("certificate verify failed", "".join(self.lines()), word)

    def test_optional(self) -> None:
        """``optional`` accepts clients without a certificate, ``no`` does not request one."""
        for word in ("optional", "no"):
            self.open(tls_auth_clients=word)
            line, far = self.connect(client_context(self.authority, None))
            self.assertEqual(self.ask(line, far, "PING"), b"+PONG\r\n", word)

    def test_untrusted_server(self) -> None:
        """A client that does not trust the server disconnects, with one line."""
        other = Authority(Path(self.mktemp()).absolute(), "other")
        line, far = self.connect(client_context(other, self.client))
        self.assertEqual((line.over, far.problem), (True, "CERTIFICATE_VERIFY_FAILED"))
        self.assertEqual(len(self.lines()), 1)

    def test_protocol_versions(self) -> None:
        """``tls-protocols`` limits the protocol versions."""
        context = client_context(self.authority, self.client)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        line, far = self.connect(context)
        self.assertEqual((self.ask(line, far, "PING"), far.tls.version()), (b"+PONG\r\n", "TLSv1.2"))
        self.open(tls_protocols="TLSv1.3")
        line, far = self.connect(context)
        self.assertTrue(line.over)
        self.assertEqual(len(self.lines()), 1)

    def test_ciphers(self) -> None:
        """``tls-ciphers`` and ``tls-ciphersuites`` limit the ciphers."""
        self.open(tls_ciphers="ECDHE-ECDSA-AES256-GCM-SHA384", tls_ciphersuites="TLS_CHACHA20_POLY1305_SHA256")
        old = client_context(self.authority, self.client)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        for context, name in (
            (old, "ECDHE-ECDSA-AES256-GCM-SHA384"),
            (client_context(self.authority, self.client), "TLS_CHACHA20_POLY1305_SHA256"),
        ):
            _, far = self.connect(context)
            self.assertEqual((far.tls.cipher() or ("",))[0], name)

    def test_sessions(self) -> None:
        """A session is resumed by the same client, unless session caching is off."""
        for caching in (True, False):
            self.open(tls_session_caching=caching)
            context = client_context(self.authority, self.client)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            _, far = self.connect(context)
            line, again = self.accept(), TlsPeer(context)
            again.tls.session = far.tls.session
            exchange(line, again)
            self.assertEqual((self.ask(line, again, "PING"), again.tls.session_reused), (b"+PONG\r\n", caching))


class MappingTests(ServingCase):
    """Tests of ``tls-auth-clients-user``."""

    def whoami(self, *rules: str, name: str = "client", **directives: object) -> bytes:
        """Return the user of a client with a certificate."""
        self.open(**directives)
        access = self.harness.context.access
        list(access.set_user(None, name, ["nopass", "+acl|whoami", *rules]))  # type: ignore[arg-type]
        return self.ask(*self.trusted(), "ACL", "WHOAMI")

    def test_common_name(self) -> None:
        """An enabled user named as the certificate's subject is logged in without a password."""
        self.assertEqual(self.whoami("on", tls_auth_clients_user="CN"), b"$6\r\nclient\r\n")

    def test_off(self) -> None:
        """Without the directive a certificate does not log in."""
        self.assertEqual(self.whoami("on"), b"$7\r\ndefault\r\n")

    def test_disabled_or_unknown(self) -> None:
        """With a disabled or unknown user the client begins as ``default``."""
        self.assertEqual(self.whoami("off", tls_auth_clients_user="CN"), b"$7\r\ndefault\r\n")
        self.assertEqual(self.harness.context.statistics.denied_certificates, 1)
        self.assertEqual(self.whoami("on", name="other", tls_auth_clients_user="CN"), b"$7\r\ndefault\r\n")

    def test_uri(self) -> None:
        """A URI among the alternative names selects the user as well."""
        self.client = self.authority.issue("app", uri="spiffe://db/app")
        output = self.whoami("on", name="spiffe://db/app", tls_auth_clients_user="URI")
        self.assertEqual(output, b"$15\r\nspiffe://db/app\r\n")

    def test_without_certificate(self) -> None:
        """A client without a certificate begins as ``default``."""
        self.open(tls_auth_clients="optional", tls_auth_clients_user="CN")
        line, far = self.connect(client_context(self.authority, None))
        self.assertEqual(self.ask(line, far, "ACL", "WHOAMI"), b"$7\r\ndefault\r\n")


class TlsConnectionTests(ServingCase):
    """Tests of TLS connections."""

    def test_plain_bytes(self) -> None:
        """A plain connection to the TLS port is closed without a reply, and with one line."""
        line = self.accept()
        line.protocol.dataReceived(b"PING\r\n")
        self.assertTrue(line.disconnecting)
        self.assertNotIn(b"PONG", line.take_output())
        line.end()
        self.assertEqual(
            self.lines(), [f"Error accepting a client connection: error:SSL routines::wrong version number {FROM}"]
        )

    def test_plain_bytes_by_the_thousand(self) -> None:
        """A thousand of them make a few lines a minute."""
        for _ in range(1_000):
            line = self.accept()
            line.protocol.dataReceived(b"PING\r\n")
            line.end()
        self.assertLessEqual(len(self.lines()), MAX_LOG_LINES)

    def test_handshake_timeout(self) -> None:
        """A handshake that exceeds its timeout is closed, with one line."""
        line = self.accept()
        self.assertEqual(len(self.harness.context.clients), 1)
        self.harness.host.reactor.advance(TIMEOUT)
        self.assertTrue(line.aborted)
        line.end()
        self.assertEqual(self.lines(), [f"Error accepting a client connection: the handshake took too long {FROM}"])
        self.assertEqual(len(self.harness.context.clients), 0)
        self.assertEqual(self.harness.host.reactor.getDelayedCalls(), [])

    def test_probe(self) -> None:
        """Port checks, as load balancers make them each second, do not fill the log."""
        self.accept().end()
        self.assertEqual((self.lines(Level.WARNING), len(self.notes)), ([], 0))
        self.accept().end()
        self.assertEqual(
            self.lines(Level.VERBOSE),
            [f"Error accepting a client connection: the connection was closed during the handshake {FROM}"],
        )

    def test_too_many(self) -> None:
        """A client beyond the limit is closed before the handshake, without a byte."""
        self.open(maxclients=1)
        line, far = self.trusted()
        late = self.accept()
        self.assertEqual((late.aborted, late.take_output()), (True, b""))
        late.end()
        self.assertEqual(self.ask(line, far, "PING"), b"+PONG\r\n")
        self.assertEqual(self.notes, [])

    def test_pipeline(self) -> None:
        """A long pipeline is answered completely and in order."""
        line, far = self.trusted()
        far.tls.write(b"".join(pack("PING", str(number)) for number in range(5_000)))
        exchange(line, far, 100)
        self.assertEqual(far.take(), b"".join(b"$%d\r\n%d\r\n" % (len(str(n)), n) for n in range(5_000)))

    def test_closing(self) -> None:
        """QUIT is answered, close_notify is sent, and the connection is closed without waiting for the client's."""
        line, far = self.trusted()
        far.tls.write(pack("QUIT"))
        line.protocol.dataReceived(far.next_output())
        self.assertTrue(line.disconnecting)
        far.receive(line.take_output())
        far.next_output()
        self.assertEqual((far.take(), far.close_notify), (b"+OK\r\n", True))

    def test_close_notify_of_the_client(self) -> None:
        """A close_notify of the client ends its connection."""
        line, far = self.trusted()
        try:
            far.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        line.protocol.dataReceived(far.next_output())
        self.assertTrue(line.disconnecting)
        line.end()
        self.assertEqual(len(self.harness.context.clients), 0)


class SlowReaderTests(ServingCase):
    """Tests of the output limits with TLS."""

    def stalled(self) -> tuple[BufferedTransport, TlsPeer]:
        """Return a subscriber whose network accepts no more output."""
        line, far = self.trusted()
        self.assertIn(b"subscribe", self.ask(line, far, "SUBSCRIBE", "news"))
        return line, far

    def test_everything_arrives_in_the_end(self) -> None:
        """Unsent output is kept in order and sent later."""
        line, far = self.stalled()
        payloads = [f"{number:07d}" * 1000 for number in range(100)]
        for payload in payloads:
            self.harness.context.hub.publish("news", payload)
        self.harness.host.reactor.advance(0)
        client = next(iter(self.harness.context.clients))
        self.assertGreater(client.connection.unsent, 400_000)
        self.assertLess(len(line.value()), 3 * line.buffer_size)
        for _ in range(100):
            far.receive(line.take_output())
            far.next_output()
        received = far.take()
        self.assertEqual([received.count(payload.encode()) for payload in payloads], [1] * 100)
        self.assertEqual(client.connection.unsent, 0)

    def test_hard_limit(self) -> None:
        """A client that exceeds the output limits is disconnected, as without TLS."""
        self.open(
            client_output_buffer_limit={
                "normal": BufferLimit(0, 0, 0),
                "replica": BufferLimit(0, 0, 0),
                "pubsub": BufferLimit(200_000, 0, 0),
            }
        )
        line, _ = self.stalled()
        for _ in range(50):
            self.harness.context.hub.publish("news", "x" * 10_000)
        self.harness.host.reactor.advance(0)
        self.assertTrue(line.aborted)
        line.end()
        self.assertEqual(len(self.harness.context.clients), 0)

    def test_commands_wait(self) -> None:
        """A client that does not read its replies is read no further, and is resumed later."""
        self.harness.watch()
        line, far = self.trusted()
        question = pack("SENTINEL", "MASTERS")
        size = len(self.ask(line, far, "SENTINEL", "MASTERS"))
        count = 4 * 1024 * 1024 // size
        far.tls.write(question * count)
        line.protocol.dataReceived(far.next_output())
        self.assertEqual(line.producerState, "paused")
        received = 0
        for _ in range(4 * count):
            far.receive(line.take_output())
            far.next_output()
            received += len(far.take())
            if received == size * count:
                break
        self.assertEqual((received, line.producerState), (size * count, "producing"))


class NewCertificateTests(ServingCase):
    """Tests of certificates that are replaced at run time."""

    def subject(self, far: TlsPeer) -> str:
        """Return the name in the server's certificate."""
        shown = far.tls.getpeercert(True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).subject.rfc4514_string()

    def replace(self, issued: Issued) -> None:
        """Replace the files of the server."""
        self.server.certificate.write_bytes(issued.certificate.read_bytes())
        self.server.key.write_bytes(issued.key.read_bytes())

    def test_new_connections_see_the_new_one(self) -> None:
        """Existing connections keep the old certificate, later ones get the new one."""
        line, far = self.trusted()
        self.replace(self.authority.issue("renewed"))
        self.tls.credentials.replace(load_contexts(self.options))
        _, later = self.trusted()
        self.assertEqual((self.subject(far), self.subject(later)), ("CN=server", "CN=renewed"))
        self.assertEqual(self.ask(line, far, "PING"), b"+PONG\r\n")
