"""The route of the metrics."""

from __future__ import annotations

import gzip

from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import FakeView, healthy_master
from tests.extensions.http.harness import HttpHarness
from txsentinel.extensions.http.settings import HttpSettings, parse_argument
from txsentinel.extensions.metrics.format import Format
from txsentinel.extensions.metrics.page import MAX_AGE


class MetricsTests(SynchronousTestCase):
    """Pages over HTTP."""

    def test_formats(self) -> None:
        """The format is the one that the client asks for; nobody has to log in."""
        server = HttpHarness()
        for accept, expected in (("*/*", Format.TEXT), (Format.OPEN_METRICS.value, Format.OPEN_METRICS)):
            reply = server.get("/metrics", Accept=accept)
            self.assertEqual((reply.status, reply.headers["content-type"]), (200, expected.value))
            self.assertIn(b'txsentinel_master_odown{master="sessions"} 1\n', reply.body)
            self.assertEqual(reply.body.endswith(b"# EOF\n"), expected is Format.OPEN_METRICS)

    def test_unchanged(self) -> None:
        """Within a second the page has the same tag; a client that has it gets nothing."""
        server = HttpHarness()
        first = server.get("/metrics")
        tag = first.headers["etag"]
        again = server.get("/metrics", If_None_Match=tag)
        self.assertEqual((again.status, again.body, again.headers["etag"]), (304, b"", tag))
        self.assertEqual(server.get("/metrics", If_None_Match=tag, Accept=Format.OPEN_METRICS.value).status, 200)
        server.clock.advance(MAX_AGE + 0.1)
        later = server.get("/metrics", If_None_Match=tag)
        self.assertEqual(later.status, 200)
        self.assertNotEqual(later.headers["etag"], tag)

    def test_compressed(self) -> None:
        """A client that accepts gzip gets it; the others do not."""
        server = HttpHarness()
        reply = server.get("/metrics", Accept_Encoding="gzip")
        self.assertEqual(reply.headers["content-encoding"], "gzip")
        plain = server.get("/metrics")
        self.assertNotIn("content-encoding", plain.headers)
        self.assertEqual(gzip.decompress(reply.body)[:2_000], plain.body[:2_000])

    def test_many_masters(self) -> None:
        """A long page is sent in chunks, and is complete."""
        server = HttpHarness(FakeView(*(healthy_master(f"m{number:04}") for number in range(500))))
        reply = server.get("/metrics")
        self.assertEqual(reply.headers["transfer-encoding"], "chunked")
        self.assertEqual(reply.body.count(b"\ntxsentinel_master_up{"), 500)
        self.assertGreater(len(reply.body), 500_000)

    def test_settings(self) -> None:
        """What is shown, and whether a login is needed, is set after the endpoint."""
        page = HttpHarness(settings=parse_argument("tcp:8026;redis-exporter-names=no")).get("/metrics").body
        self.assertNotIn(b"redis_", page)
        self.assertIn(b"txsentinel_", page)
        words = "metrics-peer-info=yes;metrics-replica-lag=yes;metrics-login=yes"
        settings = parse_argument(f"tcp:8026;{words}")
        self.assertEqual((settings.metrics_peer_info, settings.metrics_replica_lag), (True, True))
        server = HttpHarness(settings=HttpSettings(metrics_peer_info=True))
        self.assertIn(b"redis_sentinel_peer_info{", server.get("/metrics").body)
        self.assertRaises(ValueError, parse_argument, "tcp:8026;metrics-peer-info=1")
