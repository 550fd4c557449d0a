"""The settings of the extension ``etcd``: what they mean, and which are refused."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.extensions.etcd.settings import EtcdSettings, parse
from txsentinel.model.extension_settings import ExtensionSetting, SettingError


class SettingTests(SynchronousTestCase):
    """Arguments and lines."""

    def test_argument(self) -> None:
        """An endpoint suffices; several are separated by commas, other settings by semicolons."""
        self.assertEqual(parse("http://127.0.0.1:2379", ()), EtcdSettings(("http://127.0.0.1:2379",)))
        found = parse("https://a:2379/,https://b:2379;prefix=/x/y;layout=confd;masters=m,n;lease=off;verify=5m", ())
        self.assertEqual(found.endpoints, ("https://a:2379", "https://b:2379"))
        self.assertEqual((found.prefix, found.confd, found.masters), ("/x/y/", True, ("m", "n")))
        self.assertEqual((found.lease, found.verify), (0.0, 300.0))

    def test_lines(self) -> None:
        """Lines of the file add endpoints and masters; paths become absolute."""
        lines = [
            ExtensionSetting("endpoint", ("https://b:2379",)),
            ExtensionSetting("masters", ("m", "n")),
            ExtensionSetting("masters", ("o?",)),
            ExtensionSetting("user", ("txsentinel",)),
            ExtensionSetting("password-file", ("password",)),
            ExtensionSetting("gateway", ("v3beta",)),
            ExtensionSetting("confd-prefix", ("/services/valkey",)),
        ]
        found = parse("https://a:2379", lines)
        self.assertEqual(found.endpoints, ("https://a:2379", "https://b:2379"))
        self.assertEqual([found.wants(each) for each in ("m", "o", "o1", "x")], [True, False, True, False])
        self.assertEqual(found.password_file, os.path.abspath("password"))
        self.assertEqual((found.gateway, found.confd_prefix), ("/v3beta", "/services/valkey/"))

    def test_refused(self) -> None:
        """What is wrong is named with its setting."""
        for argument, problem in {
            "": "an endpoint is needed, such as http://127.0.0.1:2379",
            "127.0.0.1:2379": "endpoint must be a URL such as http://127.0.0.1:2379, not '127.0.0.1:2379'",
            "http://a:x": "endpoint must be a URL",
            "ftp://a": "endpoint must be a URL",
            "http://u:p@a:2379": "endpoint must have neither a login nor parameters",
            "http://a;user=u": "user and password-file must be set together",
            "http://a;user=u;password-file=p": "a password is sent to https: endpoints only, or to this machine",
            "http://a;ca-file=x": "ca-file and cert-file need https: endpoints",
            "http://a;layout=x": "layout must be plain or confd, not 'x'",
            "http://a;lease=1s": "lease must be between 10 and 86400 seconds, not '1s'",
            "http://a;verify=x": "verify must be a duration such as 5s, not 'x'",
            "http://a;prefix=/": "prefix must have a name besides slashes, not '/'",
            "http://a;user=": "user needs one value, not 0",
            "http://a;x=1": "no such setting: 'x' (known: endpoint, prefix,",
            "http://a;x": "expected name=value after a semicolon, not 'x'",
        }.items():
            with self.subTest(argument=argument):
                error = self.assertRaises(ValueError, parse, argument, ())
                self.assertTrue(str(error).startswith(problem), error)
        self.assertEqual(parse("http://localhost:1;user=u;password-file=p", ()).user, "u")

    def test_place(self) -> None:
        """The error for a line begins with its place."""
        line = ExtensionSetting("prefix", ("a", "b"), "x.conf, line 3")
        error = self.assertRaises(SettingError, parse, "http://a", [line])
        self.assertEqual(str(error), "x.conf, line 3: prefix needs one value, not 2")
