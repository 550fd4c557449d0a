"""Tests of ``txsentinel.extensions.http.settings``."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.extensions.http.settings import (
    HttpSettings,
    add_settings,
    check_safe,
    parse_argument,
    parse_listener,
)
from txsentinel.model.extension_settings import ExtensionSetting, SettingError


class ListenerTests(SynchronousTestCase):
    """Endpoints and their defaults."""

    def test_defaults(self) -> None:
        """Without an interface only this machine can connect; a socket is for one user."""
        for text, complete in (
            ("tcp:8026", "tcp:8026:interface=127.0.0.1"),
            ("tcp:port=8026:backlog=5", "tcp:port=8026:backlog=5:interface=127.0.0.1"),
            ("tcp6:8026", "tcp6:8026:interface=\\:\\:1"),
            ("ssl:443:privateKey=/a\\:b.pem", "ssl:443:privateKey=/a\\:b.pem:interface=127.0.0.1"),
            ("unix:/run/http.sock", "unix:/run/http.sock:mode=600"),
            ("unix:/run/http.sock:mode=660", "unix:/run/http.sock:mode=660"),
            ("tcp:8026:interface=10.0.0.1", "tcp:8026:interface=10.0.0.1"),
            ("systemd:domain=INET:name=http", "systemd:domain=INET:name=http"),
        ):
            self.assertEqual(parse_listener(text).description, complete)

    def test_local(self) -> None:
        """Loopback addresses and Unix sockets are local."""
        for text, local in (
            ("tcp:1", True),
            ("tcp:1:interface=127.9.9.9", True),
            ("tcp:1:interface=localhost", True),
            ("tcp6:1:interface=\\:\\:1", True),
            ("unix:/x", True),
            ("tcp:1:interface=", False),
            ("tcp:1:interface=0.0.0.0", False),
            ("tcp:1:interface=\\:\\:", False),
            ("tcp:1:interface=sentinel.example", False),
            ("ssl:1:interface=10.0.0.1", False),
            ("systemd:name=x", False),
        ):
            self.assertEqual(parse_listener(text).local, local, text)

    def test_wrong(self) -> None:
        """What is no endpoint of a known type, or has no port, is refused."""
        for text in ("8026", "http:8026", "", "tcp", "tcp:", "tcp:x", "tcp:65536", "tcp:-1", "tcp:port=", "onion:80"):
            with self.assertRaises(ValueError, msg=text) as caught:
                parse_listener(text)
            self.assertIn(repr(text), str(caught.exception))

    def test_safe(self) -> None:
        """Public addresses need TLS and a password, or consent."""
        public, encrypted = parse_listener("tcp:1:interface=0.0.0.0"), parse_listener("ssl:1:interface=0.0.0.0")
        check_safe(parse_listener("tcp:1"), False, False)
        check_safe(encrypted, True, False)
        check_safe(public, False, True)
        check_safe(encrypted, False, True)
        for listener, has_passwords, words in (
            (public, True, "clear text"),
            (public, False, "clear text"),
            (encrypted, False, "requirepass"),
        ):
            with self.assertRaises(ValueError) as caught:
                check_safe(listener, has_passwords, False)
            self.assertIn(words, str(caught.exception))


class SettingsTests(SynchronousTestCase):
    """The argument and the lines of the file."""

    def test_argument(self) -> None:
        """Settings follow the endpoint after semicolons."""
        text = "tcp:8026;insecure=yes;server-names=a.example,B.example.;tokens=t.txt;redis-exporter-names=no"
        self.assertEqual(
            parse_argument(text),
            HttpSettings(
                ("tcp:8026:interface=127.0.0.1",),
                True,
                ("a.example", "b.example"),
                os.path.abspath("t.txt"),
                redis_exporter_names=False,
            ),
        )
        self.assertEqual(parse_argument(""), HttpSettings())
        proxies = parse_argument("tcp:8026;trusted-proxy=10.0.0.5,10.1.0.0/16").trusted_proxies
        self.assertEqual([str(each) for each in proxies], ["10.0.0.5/32", "10.1.0.0/16"])
        self.assertRaisesRegex(ValueError, "no address", parse_argument, "tcp:8026;trusted-proxy=proxy.example")
        self.assertEqual(parse_argument("tcp:8026;client-ca=ca.pem").client_ca, os.path.abspath("ca.pem"))
        self.assertTrue(parse_argument(";metrics-login=yes").metrics_login)

    def test_lines(self) -> None:
        """Lines of the file add to the argument; an endpoint and names may be repeated."""
        lines = [
            ExtensionSetting("listen", ("tcp:1",)),
            ExtensionSetting("listen", ("unix:/x",)),
            ExtensionSetting("server-names", ("a.example", "b.example")),
            ExtensionSetting("server-names", ("*.c.example",)),
            ExtensionSetting("insecure", ("no",)),
        ]
        settings = add_settings(parse_argument("tcp:2"), lines)
        self.assertEqual(len(settings.listen), 3)
        self.assertEqual(settings.server_names, ("a.example", "b.example", "*.c.example"))

    def test_wrong(self) -> None:
        """Errors name the setting, and the line if there is one."""
        for name, values, words in (
            ("lisen", ("tcp:1",), "unknown setting 'lisen'"),
            ("listen", ("x",), "'x'"),
            ("listen", (), "needs one value"),
            ("listen", ("tcp:1", "tcp:2"), "needs one value"),
            ("insecure", ("maybe",), "insecure must be yes or no"),
            ("server-names", ("a b/c",), "'b/c'"),
            ("server-names", ("*",), "'*'"),
            ("server-names", ("a.*.example",), "'a.*.example'"),
        ):
            with self.assertRaises(SettingError) as caught:
                add_settings(HttpSettings(), [ExtensionSetting(name, values, "/x.conf, line 3")])
            self.assertIn("/x.conf, line 3: ", str(caught.exception))
            self.assertIn(words, str(caught.exception))
        for text in ("tcp:1;insecure", "tcp:1;x=y", "tcp:1;", "unknown"):
            self.assertRaises(ValueError, parse_argument, text)
