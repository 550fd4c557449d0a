"""The settings of the extension ``consul``: what they mean, and which are refused."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.extensions.consul.settings import ConsulSettings, parse
from txsentinel.model.extension_settings import ExtensionSetting, SettingError


class SettingTests(SynchronousTestCase):
    """Arguments and lines."""

    def test_accepted(self) -> None:
        """Without an endpoint, the agent on this machine is used."""
        self.assertEqual(parse("", ()), ConsulSettings(("http://127.0.0.1:8500",)))
        found = parse(
            "https://a:8501/,https://b:8501;prefix=/x/y/;service=yes;node=n;dc=dc1;verify=5m;masters=m,s-*", ()
        )
        self.assertEqual((found.endpoints, found.prefix), (("https://a:8501", "https://b:8501"), "x/y/"))
        self.assertEqual((found.service, found.node, found.dc, found.verify), (True, "n", "dc1", 300.0))
        self.assertEqual([found.wants(name) for name in ("m", "s-1", "x")], [True, True, False])
        lines = [ExtensionSetting("token-file", ("token",)), ExtensionSetting("masters", ("m", "n"))]
        found = parse("", lines)
        self.assertEqual((found.token_file, found.masters), (os.path.abspath("token"), ("m", "n")))

    def test_refused(self) -> None:
        """What is wrong is named."""
        for argument, problem in {
            "127.0.0.1:8500": "endpoint must be a URL such as http://127.0.0.1:8500, not '127.0.0.1:8500'",
            "http://a/v1": "endpoint must have neither a login nor a path nor parameters",
            "http://a;token-file=t": "a token is sent to https: endpoints only, or to this machine",
            "http://a;ca-file=t": "ca-file and cert-file need https: endpoints",
            ";service=1": "service must be yes or no, not '1'",
            ";node=a b": "node must have letters, digits, '_', '.' and '-' only, not 'a b'",
            ";prefix=/": "prefix must have a name besides slashes, not '/'",
            ";x=1": "no such setting: 'x' (known: endpoint, prefix, masters,",
            ";dc=": "dc needs one value, not 0",
        }.items():
            with self.subTest(argument=argument):
                error = self.assertRaises(ValueError, parse, argument, ())
                self.assertTrue(str(error).startswith(problem), error)
        line = ExtensionSetting("node", ("a", "b"), "x.conf, line 3")
        self.assertEqual(
            str(self.assertRaises(SettingError, parse, "", [line])), "x.conf, line 3: node needs one value, not 2"
        )
