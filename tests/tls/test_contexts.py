"""Tests of valid and invalid TLS configurations."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest.mock import patch

from OpenSSL import SSL
from twisted.internet.protocol import ClientFactory, ServerFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.authority import Authority, Issued
from txsentinel.config.configuration import load
from txsentinel.config.generic import GenericOptions
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.tls.activation import TlsSupport, wants_tls
from txsentinel.tls.contexts import explain, files, identities, load_contexts
from txsentinel.tls.errors import BadTls

NOWHERE = Address.literal("127.0.0.1", 1)


class ContextCase(SynchronousTestCase):
    """The base of the tests: a valid configuration."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.authority = Authority(self.directory)
        self.issued = self.authority.issue("server")
        self.options = self.configured(self.issued)

    def configured(self, issued: Issued, **directives: object) -> GenericOptions:
        """Options with a certificate and its key, and others."""
        options = GenericOptions(
            tls_port=1,
            tls_cert_file=str(issued.certificate),
            tls_key_file=str(issued.key),
            tls_ca_cert_file=str(self.authority.certificate),
        )
        for name, value in directives.items():
            setattr(options, name, value)
        return options

    def refused(self, **directives: object) -> str:
        """Return the error line of an invalid configuration."""
        options = self.configured(self.issued, **directives)
        return str(self.assertRaises(BadTls, load_contexts, options))


class RefusalTests(ContextCase):
    """Tests of the error lines, which are those of the C Sentinels."""

    def test_minimal_configuration(self) -> None:
        """A certificate, its key and an authority are enough; the authority is needed only for verification."""
        load_contexts(self.options)
        load_contexts(self.configured(self.issued, tls_ca_cert_file="", tls_auth_clients="no"))

    def test_missing_directives(self) -> None:
        """Certificate, key and authority are checked in this order."""
        self.assertEqual(self.refused(tls_cert_file=""), "No tls-cert-file configured!")
        self.assertEqual(self.refused(tls_key_file=""), "No tls-key-file configured!")
        authority = (
            "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication or "
            "tls-auth-clients are enabled!"
        )
        for directives in (
            {},
            {"tls_auth_clients": "optional"},
            {"tls_auth_clients": "no", "tls_replication": True},
            {"tls_auth_clients": "no", "tls_cluster": True},
        ):
            self.assertEqual(self.refused(tls_ca_cert_file="", **directives), authority)

    def test_files_that_might_never_end(self) -> None:
        """A FIFO in place of any file is refused with its name, because reading it would block."""
        fifo, directory = self.directory / "fifo", self.directory / "authorities"
        os.mkfifo(fifo)
        directory.mkdir()
        os.mkfifo(directory / "0123abcd.0")
        (directory / "no-certificate").symlink_to(fifo)
        for name, problem in (
            ("tls_cert_file", "Failed to load certificate"),
            ("tls_key_file", "Failed to load private key"),
            ("tls_ca_cert_file", "Failed to configure CA certificate(s) file/directory"),
            ("tls_dh_params_file", "Failed to load DH params file"),
        ):
            self.assertEqual(self.refused(**{name: str(fifo)}), f"{problem}: {fifo}: Not a regular file")
        self.assertEqual(
            self.refused(tls_ca_cert_dir=str(directory)),
            f"Failed to configure CA certificate(s) file/directory: {directory}/0123abcd.0: Not a regular file",
        )
        (directory / "0123abcd.0").unlink()
        load_contexts(self.configured(self.issued, tls_ca_cert_dir=str(directory)))

    def test_protocols(self) -> None:
        """Only four words name protocols, in any letter case."""
        self.assertEqual(
            self.refused(tls_protocols="TLSv1.2 SSLv3"),
            "Invalid tls-protocols specified. Use a combination of 'TLSv1', 'TLSv1.1', 'TLSv1.2' and 'TLSv1.3'.",
        )
        load_contexts(self.configured(self.issued, tls_protocols="tlsv1 TLSv1.1  TLSV1.2 TLSv1.3"))

    def test_unreadable(self) -> None:
        """A missing or invalid file is named, with the reason."""
        authority = "Failed to configure CA certificate(s) file/directory"
        nowhere = str(self.directory / "nowhere")
        for directives, beginning in (
            ({"tls_cert_file": nowhere}, f"Failed to load certificate: {nowhere}: No such file or directory"),
            ({"tls_cert_file": str(self.issued.key)}, f"Failed to load certificate: {self.issued.key}: error:"),
            ({"tls_key_file": nowhere}, f"Failed to load private key: {nowhere}: No such file or directory"),
            (
                {"tls_key_file": str(self.issued.certificate)},
                f"Failed to load private key: {self.issued.certificate}: ",
            ),
            ({"tls_ca_cert_file": nowhere}, f"{authority}: {nowhere}: No such file or directory"),
            ({"tls_dh_params_file": nowhere}, f"Failed to load DH params file: {nowhere}: No such file or directory"),
            (
                {"tls_dh_params_file": str(self.issued.key)},
                f"Failed to load DH params file: {self.issued.key}: error:PEM routines:",
            ),
        ):
            line = self.refused(**directives)
            self.assertTrue(line.startswith(beginning), line)

    def test_key_of_another(self) -> None:
        """A key that does not belong to the certificate is refused."""
        other = self.authority.issue("other")
        self.assertEqual(
            self.refused(tls_key_file=str(other.key)),
            f"Failed to load private key: {other.key}: error:x509 certificate routines::key values mismatch",
        )

    def test_ciphers(self) -> None:
        """Unknown names of ciphers are refused, whatever characters they contain."""
        for words in ("ROT13", "chiffré"):
            self.assertEqual(self.refused(tls_ciphers=words), f"Failed to configure ciphers: {words}")
            self.assertEqual(self.refused(tls_ciphersuites=words), f"Failed to configure ciphersuites: {words}")

    def test_every_word_of_openssl(self) -> None:
        """The explanation of an error is its first reason, and never empty."""
        queue = [("system library", "", ""), ("BIO routines", "f", "no such file"), ("x", "", "later")]
        for error, words in (
            (SSL.Error(queue), "error:BIO routines:f:no such file"),
            (SSL.Error([]), "Error"),
            (SSL.Error(), "Error"),
            (SSL.SysCallError(-1, "Unexpected EOF"), "-1, Unexpected EOF"),
        ):
            self.assertEqual(explain(error), words)


class IdentityTests(ContextCase):
    """Tests of certificates and keys."""

    def test_passwords(self) -> None:
        """An encrypted key needs its password; a password for another key is ignored."""
        secret = self.authority.issue("secret", password="pässword")
        load_contexts(self.configured(secret, tls_key_file_pass="pässword"))
        load_contexts(self.configured(self.issued, tls_key_file_pass="unneeded"))
        for wrong in ("", "wrong"):
            options = self.configured(secret, tls_key_file_pass=wrong)
            line = str(self.assertRaises(BadTls, load_contexts, options))
            self.assertTrue(line.startswith(f"Failed to load private key: {secret.key}: "), line)
            self.assertNotIn("pässword", line)

    def test_key_beside_its_certificate(self) -> None:
        """Certificate and key may be in one file."""
        both = self.directory / "both.pem"
        both.write_bytes(self.issued.certificate.read_bytes() + self.issued.key.read_bytes())
        load_contexts(self.configured(self.issued, tls_cert_file=str(both), tls_key_file=str(both)))

    def test_client_certificate(self) -> None:
        """Links use the client certificate if it and its key are set, otherwise the server's certificate."""
        client = self.authority.issue("client", password="pw")
        directives = {
            "tls_client_cert_file": str(client.certificate),
            "tls_client_key_file": str(client.key),
            "tls_client_key_file_pass": "pw",
        }
        options = self.configured(self.issued, **directives)
        load_contexts(options)
        serving, connecting = identities(options)
        self.assertEqual((serving.key, connecting.key), (str(self.issued.key), str(client.key)))
        self.assertEqual(connecting.password, "pw")
        options.tls_client_key_file = ""
        self.assertEqual(*identities(options))

    def test_client_key_of_another(self) -> None:
        """The client certificate is checked as the server's is."""
        client = self.authority.issue("client")
        line = self.refused(tls_client_cert_file=str(client.certificate), tls_client_key_file=str(self.issued.key))
        self.assertTrue(line.startswith(f"Failed to load private key: {self.issued.key}: error:"), line)

    def test_relative_paths(self) -> None:
        """Paths are relative to ``dir``."""
        options = self.configured(
            Issued(Path("server.crt"), Path("server.key")), dir=str(self.directory), tls_ca_cert_file="authority.pem"
        )
        load_contexts(options)
        self.assertEqual(
            files(options), [str(self.directory / name) for name in ("server.crt", "server.key", "authority.pem")]
        )

    def test_directory_of_authorities(self) -> None:
        """Authorities may be in a directory; all files are checked for changes."""
        options = self.configured(
            self.issued, tls_ca_cert_file="", tls_ca_cert_dir=str(self.directory), tls_dh_params_file="/x"
        )
        self.assertEqual(files(options)[2:], [str(self.directory), "/x"])
        options.tls_dh_params_file = ""
        load_contexts(options)


class PortTests(SynchronousTestCase):
    """Tests of the announced port."""

    def test_hello_port(self) -> None:
        """It is the TLS port if links use TLS and there is one, otherwise the plain port, even if it is 0."""
        for port, tls_port, replication, expected in (
            (10, 0, "no", 10),
            (10, 20, "no", 10),
            (0, 20, "no", 0),
            (10, 20, "yes", 20),
            (10, 0, "yes", 10),
            (0, 20, "yes", 20),
        ):
            text = f"port {port}\ntls-port {tls_port}\ntls-replication {replication}\n"
            loaded = load("/sentinel.conf", text.encode())
            self.assertEqual(loaded.sentinel.hello_port, expected, text)
            loaded = load("/sentinel.conf", f"{text}sentinel announce-port 30\n".encode())
            self.assertEqual(loaded.sentinel.hello_port, 30, text)

    def test_reload_interval(self) -> None:
        """The interval of checks is a whole number of seconds; 0 differs from no directive."""
        for text, interval in (("", None), ("tls-auto-reload-interval 0\n", 0), ("tls-auto-reload-interval 60\n", 60)):
            loaded = load("/sentinel.conf", text.encode())
            self.assertEqual(loaded.generic.tls_auto_reload_interval, interval)


class FakeHost:
    """The part of a host that the start of TLS uses."""

    def __init__(self) -> None:
        self.reactor = Clock()

    def fail_stop(self, failure: object, what: str) -> None:
        """Record the failure."""
        raise AssertionError(what)


class ActivationTests(ContextCase):
    """Tests of the activation."""

    def support(self, options: GenericOptions) -> TlsSupport:
        """Return a support that is not active yet."""
        self.notes: list[tuple[Level, str]] = []
        self.machine = FakeHost()
        note = lambda level, line: self.notes.append((level, line))  # noqa: E731
        return TlsSupport(self.machine, options, note)  # type: ignore[arg-type]

    def test_directives_that_activate_tls(self) -> None:
        """A TLS port, TLS links and ``tls-cluster`` all activate TLS."""
        self.assertFalse(wants_tls(GenericOptions()))
        for directive in ({"tls_port": 1}, {"tls_replication": True}, {"tls_cluster": True}):
            self.assertTrue(wants_tls(GenericOptions(**directive)))

    def test_without(self) -> None:
        """Without these directives no certificate is needed, and links are plain."""
        support = self.support(GenericOptions(tls_cert_file="/nowhere"))
        support.activate()
        support.renew()
        support.stop()
        self.assertEqual((support.secures_links, self.notes, self.machine.reactor.getDelayedCalls()), (False, [], []))
        self.assertRaises(RuntimeError, support.connecting, ClientFactory(), lambda: NOWHERE, 1.0)
        self.assertRaises(RuntimeError, support.listening, ServerFactory())

    def test_refused(self) -> None:
        """The reason is logged before the error that ends the start."""
        support = self.support(GenericOptions(tls_port=1))
        refusal = self.assertRaises(BadTls, support.activate)
        self.assertEqual(self.notes, [(Level.WARNING, "No tls-cert-file configured!")])
        self.assertEqual(str(refusal), "Failed to configure TLS. Check logs for more info.")

    def test_not_installed(self) -> None:
        """Without OpenSSL the start ends as that of a C Sentinel that was built without."""
        support = self.support(self.options)
        with patch.dict(sys.modules, {"txsentinel.tls.endpoints": None}):
            refusal = self.assertRaises(BadTls, support.activate)
        self.assertEqual(self.notes, [(Level.WARNING, "Missing implement of connection type tls")])
        self.assertEqual(str(refusal), "Failed finding TLS support.")

    def test_links_stay_plain(self) -> None:
        """Only ``tls-replication`` enables TLS for links, a TLS port does not."""
        for replication in (False, True):
            support = self.support(self.configured(self.issued, tls_replication=replication))
            support.activate()
            self.assertEqual(support.secures_links, replication)
            support.stop()
            self.assertEqual(self.machine.reactor.getDelayedCalls(), [])

    def test_the_terminal_is_not_asked(self) -> None:
        """A missing password ends the start instead of prompting for it."""
        secret = self.authority.issue("secret", password="pw")
        end, other = os.pipe()
        self.addCleanup(os.close, other)
        with os.fdopen(end) as terminal:
            self.patch(sys, "stdin", terminal)
            self.assertRaises(BadTls, load_contexts, self.configured(secret))
