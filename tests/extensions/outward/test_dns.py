"""Tests of the extension ``dns`` without a server: settings, names, and the connection."""

from __future__ import annotations

import struct
from base64 import b64encode
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.log_events import observe_log
from txsentinel.extensions.dns.exchange import TIMEOUT, exchange
from txsentinel.extensions.dns.service import NamedMasters
from txsentinel.extensions.dns.settings import DnsSettings, parse_key, read_settings
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

SECRET = "c2VjcmV0IG9mIDMyIGJ5dGVzIGZvciB0aGUgdGVzdCE="
KEY = f"""
# written by tsig-keygen
key "sentinels." {{
    algorithm hmac-sha256; // the default
    secret "{SECRET}";
}};
"""


class SettingCase(SynchronousTestCase):
    """A file with a key."""

    def setUp(self) -> None:
        self.key = Path(self.mktemp())
        self.key.write_text(KEY)

    def settings(self, *lines: tuple[str, ...]) -> DnsSettings:
        """Return settings with additional lines."""
        settings = [
            ExtensionSetting(name, values, "/etc/ext, line 4") for name, *rest in lines for values in [tuple(rest)]
        ]
        return read_settings(f"10.0.0.53;zone=redis.example.;key-file={self.key}", settings)


class SettingTests(SettingCase):
    """What may be set."""

    def test_defaults(self) -> None:
        """Server, zone and key are needed; the rest has defaults."""
        settings = self.settings()
        self.assertEqual(
            (settings.server, settings.port, settings.zone, settings.ttl), ("10.0.0.53", 53, "redis.example", 5)
        )
        self.assertEqual(settings.key.value.algorithm, "hmac-sha256")
        self.assertNotIn(SECRET, repr(settings))
        self.assertNotIn("secret of", repr(settings.key.value))

    def test_lines(self) -> None:
        """The other settings."""
        settings = self.settings(
            ("server", "[2001:db8::53]:5353"), ("ttl", "1m"), ("masters", "my*", "c"), ("name", "m x", "mx")
        )
        self.assertEqual((settings.server, settings.port, settings.ttl), ("2001:db8::53", 5353, 60))
        self.assertEqual((settings.wants("mymaster"), settings.wants("cache")), (True, False))
        self.assertEqual((settings.relative_name("m x"), settings.relative_name("mymaster")), ("mx", "mymaster"))

    def test_refusals(self) -> None:
        """A wrong line is refused with its place and the reason."""
        for line, reason in (
            (("colour", "red"), "unknown setting"),
            (("server",), "needs a value"),
            (("server", "host:0"), "HOST:PORT"),
            (("server", "2001:db8::53"), "in brackets"),
            (("zone", "a..b"), "name of a zone"),
            (("ttl", "fast"), "duration"),
            (("ttl", "500ms"), "whole seconds"),
            (("name", "mymaster"), "and its name in the zone"),
            (("name", "mymaster", "-"), "cannot be a name"),
            (("key-file", "/nowhere"), "No such file"),
        ):
            error = self.assertRaises(SettingError, self.settings, line)
            self.assertTrue(str(error).startswith("/etc/ext, line 4: "), str(error))
            self.assertIn(reason, str(error))

    def test_incomplete(self) -> None:
        """What is missing is named."""
        for argument, reason in (
            ("", "a server"),
            ("10.0.0.53", "a zone"),
            ("10.0.0.53;zone=a", "key-file"),
        ):
            self.assertIn(reason, str(self.assertRaises(ValueError, read_settings, argument, [])))

    def test_keys(self) -> None:
        """A file that has no key, or an unsuitable one, is refused without showing any of it."""
        for old, new, reason in (
            ('"sentinels."', "", "it is not: key"),
            ("hmac-sha256", "hmac-md5", "the algorithm must be"),
            (SECRET, SECRET[:-2], "not Base64"),
            (SECRET, "c2hvcnQ=", "less than 16"),
        ):
            error = self.assertRaises(ValueError, parse_key, KEY.replace(old, new).encode())
            self.assertIn(reason, str(error))
            self.assertNotIn(SECRET[:-2], str(error))

    def test_slashes_in_a_key(self) -> None:
        """Two slashes in Base64 begin no comment, as one key in a hundred has them; those outside of quotes do."""
        secret = "//8v" + SECRET[4:-4] + "//8="
        key = parse_key((KEY.replace(SECRET, secret) + '// secret "no"; /* "\n').encode())
        self.assertEqual(b64encode(key.secret).decode(), secret)

    def test_masters_without_a_name(self) -> None:
        """A master whose name cannot be in a zone is left out, and logged once."""
        lines: list[str] = []

        def record(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        observe_log(self, record)
        masters = NamedMasters(self.settings(("masters", "my*", "m x")))
        self.assertEqual(
            [masters.wanted(name) for name in ("m x", "m x", "mymaster", "cache")], [False, False, True, False]
        )
        self.assertEqual(len(lines), 1)
        self.assertIn("'m x' cannot be a name in a zone", lines[0])


class ExchangeTests(SynchronousTestCase):
    """One message over TCP."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.answered = exchange(self.reactor, "127.0.0.1", 53, b"question")

    def connect(self) -> tuple[Any, StringTransport]:
        """Accept the connection."""
        protocol: Any = self.reactor.tcpClients[0][2].buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_answer(self) -> None:
        """The answer may arrive in parts; then the connection is closed."""
        protocol, transport = self.connect()
        self.assertEqual(transport.value(), struct.pack("!H", 8) + b"question")
        protocol.dataReceived(b"\0\6ans")
        self.assertNoResult(self.answered)
        protocol.dataReceived(b"wer")
        self.assertEqual(self.successResultOf(self.answered), b"answer")
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_lost(self) -> None:
        """A connection that ends without an answer is a failure."""
        protocol, _ = self.connect()
        protocol.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(self.answered, ConnectionDone)

    def test_timeout(self) -> None:
        """So is an answer that does not come, and a server that does not accept the connection."""
        self.connect()
        self.reactor.advance(TIMEOUT)
        self.failureResultOf(self.answered)
        self.answered = exchange(self.reactor, "127.0.0.1", 53, b"question")
        self.reactor.advance(TIMEOUT)
        self.failureResultOf(self.answered)
