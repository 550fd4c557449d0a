"""Addresses as operators write them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.addresses import BadAddress, parse_endpoint, parse_endpoints


class EndpointTests(SynchronousTestCase):
    """One address, or several."""

    def test_forms(self) -> None:
        """The port may be missing; IPv6 addresses need brackets before a port."""
        forms = {
            "redis.example:7000": Endpoint("redis.example", 7000),
            "10.0.0.1": Endpoint("10.0.0.1", 26379),
            "[::1]:5": Endpoint("::1", 5),
            "[::1]": Endpoint("::1", 26379),
            "::1": Endpoint("::1", 26379),
        }
        self.assertEqual({words: parse_endpoint(words) for words in forms}, forms)

    def test_refused(self) -> None:
        """The error names the text and what is wrong with it."""
        for words, reason in [
            ("host:0", "the port must be"),
            ("host:65536", "the port must be"),
            ("host:x", "the port must be"),
            ("host:²", "the port must be"),
            ("host:", "the port must be"),
            (":5", "the host is missing"),
            ("a b:5", "has spaces"),
            ("[::1", "expected [IPv6]:port"),
            ("[::1]5", "expected [IPv6]:port"),
        ]:
            error = self.assertRaises(BadAddress, parse_endpoint, words)
            self.assertIn(reason, str(error), words)
            self.assertIn(repr(words), str(error))

    def test_lists(self) -> None:
        """Addresses are separated by commas; repeated ones and empty words are dropped."""
        self.assertEqual(parse_endpoints("a:1, b:2,,a:1"), (Endpoint("a", 1), Endpoint("b", 2)))
        self.assertRaises(BadAddress, parse_endpoints, " , ")
