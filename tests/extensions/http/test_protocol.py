"""Tests of ``txsentinel.extensions.http.protocol``: limits, and requests that are malformed or slow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import FakeView, healthy_master
from tests.extensions.http.harness import Connection, HttpHarness, parse_reply
from tests.log_events import observe_log
from txsentinel.extensions.http.limits import MAX_BODY_BYTES, MAX_CONNECTIONS
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import SECURITY_HEADERS, ApiResponse
from txsentinel.extensions.http.router import Answer, Route, RouteAccess

HEAD = b"GET /live HTTP/1.1\r\nHost: localhost\r\n"


class ProtocolCase(SynchronousTestCase):
    """A server with a route that returns the length of the body."""

    def setUp(self) -> None:
        self.server = HttpHarness()

        def length(request: ApiRequest) -> ApiResponse:
            return ApiResponse(b"%d" % len(request.body))

        self.server.application.router.add(Route("POST", "/length", length, RouteAccess.OPEN))

    def serve(self, parts: Iterator[bytes]) -> Connection:
        """Request a body of many parts."""
        self.server.application.router.add(Route("GET", "/parts", lambda _: ApiResponse(parts), RouteAccess.OPEN))
        connection = self.server.connect()
        connection.request("GET", "/parts")
        return connection


class SlowClientTests(ProtocolCase):
    """Clients that keep connections open."""

    def test_idle(self) -> None:
        """A connection is closed after 30 seconds without a request, and after its last one; the log has nothing."""
        events: list[LogEvent] = []
        observe_log(self, events.append)
        connection = self.server.connect()
        self.server.advance(29)
        connection.request("GET", "/live")
        self.assertEqual(connection.reply().status, 503)
        self.server.advance(29)
        self.assertFalse(connection.is_closed)
        self.server.advance(1)
        self.assertEqual((connection.is_closed, connection.transport.aborted), (True, False))
        self.assertEqual(events, [])
        # The end must come.
        self.server.advance(15)
        self.assertTrue(connection.transport.aborted)
        connection.close()
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_slow_head(self) -> None:
        """The head must be complete 10 seconds after its first byte, however often a byte comes."""
        connection = self.server.connect()
        for place in range(10):
            connection.send(HEAD[place : place + 1])
            self.assertFalse(connection.transport.aborted)
            self.server.advance(1)
        self.assertTrue(connection.transport.aborted)

    def test_slow_second_head(self) -> None:
        """That limits each request of a connection."""
        connection = self.server.connect()
        connection.request("GET", "/live")
        connection.reply()
        connection.send(b"GET")
        self.server.advance(9)
        connection.send(b" /")
        self.assertFalse(connection.transport.aborted)
        self.server.advance(1)
        self.assertTrue(connection.transport.aborted)

    def test_slow_body(self) -> None:
        """The body must be complete 30 seconds after the head."""
        connection = self.server.connect()
        connection.send(b"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
        for _ in range(30):
            self.assertFalse(connection.transport.aborted)
            connection.send(b"x")
            self.server.advance(1)
        self.assertTrue(connection.transport.aborted)

    def test_in_time(self) -> None:
        """No timer remains after a request that was in time."""
        connection = self.server.connect()
        for byte in HEAD + b"\r\n":
            connection.send(bytes([byte]))
        self.assertEqual(connection.reply().status, 200)
        connection.close()
        self.assertEqual(self.server.clock.getDelayedCalls(), [])

    def test_client_that_does_not_read(self) -> None:
        """A long response is paused with its client, and given up after 30 seconds without progress."""
        connection = self.server.connect()

        def parts() -> Iterator[bytes]:
            yield b"x" * 65_536
            while True:
                connection.producer.pauseProducing()  # The buffer of the transport is full.
                yield b"x" * 65_536

        self.server.application.router.add(Route("GET", "/parts", lambda _: ApiResponse(parts()), RouteAccess.OPEN))
        connection.request("GET", "/parts")
        before = len(connection.transport.value())
        self.server.advance(29)
        self.assertEqual(len(connection.transport.value()), before)
        connection.producer.resumeProducing()
        self.server.run_due_calls()
        self.server.advance(29)
        self.assertGreater(len(connection.transport.value()), before)
        self.assertFalse(connection.transport.aborted)
        self.server.advance(1)
        self.assertTrue(connection.transport.aborted)


class ConnectionLimitTests(ProtocolCase):
    """Too many connections."""

    def test_idle_ones_are_closed(self) -> None:
        """One more connection than allowed closes the one that was idle for the longest time."""
        connections = [self.server.connect() for _ in range(MAX_CONNECTIONS)]
        connections[0].request("GET", "/live")
        connections[0].reply()
        connections[1].send(b"GET")
        extra = self.server.connect()
        extra.request("GET", "/live")
        self.assertEqual(extra.reply().status, 200)
        self.assertEqual([place for place, each in enumerate(connections) if each.transport.aborted], [2])

    def test_slow_ones_are_closed(self) -> None:
        """Without an idle one, the oldest of those is closed whose request is not complete."""
        connections = [self.server.connect() for _ in range(MAX_CONNECTIONS)]
        for each in connections:
            each.send(b"GET")
        extra = self.server.connect()
        extra.request("GET", "/live")
        self.assertEqual(extra.reply().status, 200)
        self.assertEqual([place for place, each in enumerate(connections) if each.transport.aborted], [0])

    def test_busy_ones_are_kept(self) -> None:
        """If all requests are being answered, the new connection is refused."""
        never: Deferred[Answer] = Deferred()
        self.server.application.router.add(Route("GET", "/never", lambda _: never, RouteAccess.OPEN))
        for _ in range(MAX_CONNECTIONS):
            self.server.connect().request("GET", "/never")
        extra = self.server.connect()
        reply, _ = parse_reply(extra.take())
        self.assertEqual((reply.status, reply.headers["x-txsentinel-reason"]), (503, "too_many_connections"))
        self.assertTrue(extra.is_closed)

    def test_closed_ones_do_not_count(self) -> None:
        """Connections that clients have closed are forgotten."""
        for _ in range(3 * MAX_CONNECTIONS):
            connection = self.server.connect()
            connection.send(b"GET")
            connection.close()
        self.assertEqual(self.server.get("/live").status, 200)
        self.assertEqual(self.server.application.factory.connections, [])


class BodyTests(ProtocolCase):
    """Bodies of requests."""

    def test_longest(self) -> None:
        """A body of the longest allowed length is accepted, one byte more is not."""
        for chunked in (False, True):
            for length, status in ((MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)):
                connection = self.server.connect()
                head = b"POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                if chunked:
                    connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
                    connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (length, b"x" * length))
                else:
                    connection.send(head + b"Content-Length: %d\r\n\r\n" % length + b"x" * length)
                reply = connection.reply()
                self.assertEqual(reply.status, status, (chunked, length))
                self.assertEqual(connection.is_closed, status == 413)
                if status == 413:
                    self.assertEqual(reply.code, "body_too_large")
                    self.assertEqual(reply.headers["x-frame-options"], "DENY")

    def test_refused_before_it_is_sent(self) -> None:
        """A body that is announced as too long is refused at once, without 100 Continue."""
        connection = self.server.connect()
        head = b"POST /length HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        connection.send(head + b"Content-Length: 99999999999999\r\n\r\n")
        self.assertEqual(connection.reply().status, 413)

    def test_endless_chunks(self) -> None:
        """A chunked body that never ends is refused once it is too long, and what follows is ignored."""
        connection = self.server.connect()
        connection.send(b"POST /length HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            connection.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        self.assertEqual(connection.reply().status, 413)


class MalformedTests(ProtocolCase):
    """What is no HTTP."""

    def test_malformed(self) -> None:
        """Each is answered by 400 and the end of the connection, without a traceback."""
        for data in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"GET\r\n\r\n",
            b"GET /live\r\n\r\n",
            b"GET /live HTTP/2.0\r\n\r\n",
            b"GET  /live HTTP/1.1\r\n\r\n",
            b"G(T /live HTTP/1.1\r\n\r\n",
            HEAD + b"no colon\r\n\r\n",
            HEAD + b"bad name : x\r\n\r\n",
            HEAD + b"Content-Length: x\r\n\r\n",
            HEAD + b"Content-Length: -1\r\n\r\n",
            HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            HEAD + b"X: y\r\n" * 600 + b"\r\n",
            HEAD + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        ):
            connection = self.server.connect()
            connection.send(data)
            answer = connection.take()
            self.assertTrue(connection.is_closed, data)
            reply, rest = parse_reply(answer)
            expected = (431, "head_too_large") if b"yyyy" in data else (400, "malformed_request")
            self.assertEqual((reply.status, reply.code, rest), (*expected, b""), data)
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_headers_once(self) -> None:
        """Headers that decide about access must not be there twice."""
        for name in ("Host", "Authorization", "Origin", "Content-Type"):
            connection = self.server.connect()
            value = "localhost" if name == "Host" else "x"
            host = "" if name == "Host" else "Host: localhost\r\n"
            connection.send(f"GET /live HTTP/1.1\r\n{host}{name}: {value}\r\n{name}: {value}\r\n\r\n".encode())
            reply = connection.reply()
            self.assertEqual((reply.status, reply.code), (400, "bad_request"), name)

    def test_nul(self) -> None:
        """A NUL byte in a header is refused, by Twisted or by us."""
        connection = self.server.connect()
        connection.send(HEAD + b"X: a\x00b\r\n\r\n")
        self.assertEqual(connection.reply().status, 400)

    def test_missing_host(self) -> None:
        """HTTP/1.1 requires a Host header, HTTP/1.0 does not."""
        self.assertEqual(self.server.ask("GET", "/live", {"Host": "-"}).status, 400)
        self.assertEqual(self.server.ask("GET", "/live", {"Host": "-"}, version="1.0").status, 200)

    def test_targets(self) -> None:
        """A whole URL is a valid target, whose host counts; other paths are not found."""
        self.assertEqual(self.server.get("http://127.0.0.1:8026/live").status, 200)
        self.assertEqual(self.server.get("http://evil.example/live").status, 421)
        for target in ("//live", "/live/", "live", "/%2e%2e/live", "/v1/", "/v1/masters//explain", "?"):
            reply = self.server.get(target)
            self.assertEqual((reply.status, reply.code), (404, "not_found"), target)

    def test_methods(self) -> None:
        """A method that a path does not have is 405 with those that it has."""
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "CONNECT"):
            reply = self.server.ask(method, "/v1/history")
            self.assertEqual((reply.status, reply.code), (405, "method_not_allowed"))
            self.assertEqual(reply.headers["allow"], "GET, HEAD, OPTIONS")
        self.assertEqual(self.server.ask("OPTIONS", "/v1/session").headers["allow"], "DELETE, GET, HEAD, OPTIONS, POST")
        self.assertEqual(self.server.ask("OPTIONS", "*").status, 204)
        self.assertEqual(self.server.ask("HEAD", "/v1/masters").body, b"")

    def test_pipelining(self) -> None:
        """Requests that come together are answered in order."""
        connection = self.server.connect()
        connection.send((HEAD + b"\r\n") + b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n" + HEAD + b"\r\n")
        statuses, data = [], connection.take()
        while data:
            reply, data = parse_reply(data)
            statuses.append(reply.status)
        self.assertEqual(statuses, [200, 404, 200])


class ResponseTests(ProtocolCase):
    """What is sent."""

    def test_security_headers(self) -> None:
        """They are part of every response, also of errors."""
        for target in ("/live", "/nope", "/v1/masters", "/live?x"):
            headers = self.server.get(target).headers
            for name, value in SECURITY_HEADERS:
                if name != "Cache-Control":
                    self.assertEqual(headers[name.lower()], value, target)
            self.assertIn("cache-control", headers)
            self.assertFalse([name for name in headers if name.startswith("access-control")])
            self.assertNotIn("set-cookie", headers)

    def test_portions(self) -> None:
        """A response that takes longer than a time slice is sent over several turns, whole."""
        turns = []

        def parts() -> Iterator[bytes]:
            for number in range(10):
                self.server.clock.rightNow += 0.001  # Each part takes a millisecond.
                turns.append(len(connection.transport.value()) if number > 3 else 0)
                yield b"%d," % number

        connection = self.server.connect()
        self.server.application.router.add(Route("GET", "/parts", lambda _: ApiResponse(parts()), RouteAccess.OPEN))
        connection.request("GET", "/parts")
        self.assertEqual(connection.reply().body, b"0,1,2,3,4,5,6,7,8,9,")
        self.assertGreater(len(set(turns)), 2)

    def test_small_answers(self) -> None:
        """Health checks and errors have a length, however busy the machine is."""
        steps = itertools.count()
        self.patch(self.server.clock, "seconds", lambda: float(next(steps)))
        for target in ("/live", "/master/mymaster", "/master/nobody"):
            connection = self.server.connect()
            connection.request("GET", target)
            self.assertIn(b"\r\nContent-Length: ", connection.take(), target)

    def test_large_parts(self) -> None:
        """So is one that is large; HEAD has no body."""
        connection = self.serve(b"x" * 1000 for _ in range(1000))
        reply = connection.reply()
        self.assertEqual((len(reply.body), reply.headers["transfer-encoding"]), (1_000_000, "chunked"))
        connection.request("HEAD", "/parts")
        self.assertEqual(connection.reply(head_only=True).status, 200)

    def test_failing_handler(self) -> None:
        """An error of ours is logged; the client learns nothing of it."""

        def fail(request: ApiRequest) -> ApiResponse:
            raise RuntimeError("secret")

        self.server.application.router.add(Route("GET", "/fail", fail, RouteAccess.OPEN))
        reply = self.server.get("/fail")
        self.assertEqual((reply.status, reply.code), (500, "internal_error"))
        self.assertNotIn(b"secret", reply.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_failing_body(self) -> None:
        """If a body fails at its beginning the answer is 500; later the connection is cut."""

        def parts(length: int) -> Iterator[bytes]:
            yield b"x" * length
            raise RuntimeError

        for length, status in ((10, 500), (70_000, 200)):
            self.server.application.router.add(
                Route("GET", f"/{length}", lambda _, length=length: ApiResponse(parts(length)), RouteAccess.OPEN)  # type: ignore[misc]
            )
            connection = self.server.connect()
            connection.request("GET", f"/{length}")
            self.assertTrue(connection.transport.value().startswith(b"HTTP/1.1 %d " % status))
            self.assertEqual(connection.transport.aborted, status == 200)
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_client_leaves(self) -> None:
        """A client that disconnects ends the production of its response."""
        produced = []

        def parts() -> Iterator[bytes]:
            while True:
                produced.append(1)
                yield b"x" * 70_000
                if len(produced) == 3:
                    connection.close()

        connection = self.server.connect()
        self.server.application.router.add(Route("GET", "/parts", lambda _: ApiResponse(parts()), RouteAccess.OPEN))
        connection.request("GET", "/parts")
        self.assertEqual(len(produced), 4)
        self.assertEqual(self.server.clock.getDelayedCalls(), [])


METHODS = st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "X"])
WORDS = ["v1", "live", "ready", "master", "masters", "mymaster", "is", "any", "replica", "explain", "events", "session"]
PARTS = st.sampled_from(
    [*WORDS, "history", "config", "10.0.0.1:6379", "%00", "%ff", "..", "", "*", "é", "[", "%5B::%5D"]
)
NAMES = st.sampled_from(
    ["lag", "max_age", "strict", "limit", "after", "status", "name", "journal", "since", "merge", "x"]
)
VALUES = st.one_of(st.text(max_size=8), st.sampled_from(["1", "0", "1MB", "10s", "ok,odown", "-1", "9" * 30]))
HEADER_NAMES = ["Host", "Origin", "Authorization", "If-None-Match", "Last-Event-ID", "Accept", "Content-Type", "Expect"]


class RandomRequestTests(SynchronousTestCase):
    """Random requests."""

    @settings(max_examples=300, deadline=None)
    @given(
        METHODS,
        st.lists(PARTS, max_size=6),
        st.lists(st.tuples(NAMES, VALUES), max_size=4),
        st.lists(st.tuples(st.sampled_from(HEADER_NAMES), st.text(max_size=12)), max_size=4),
        st.binary(max_size=40),
    )
    def test_requests(
        self,
        method: str,
        parts: list[str],
        query: list[tuple[str, str]],
        headers: list[tuple[str, str]],
        body: bytes,
    ) -> None:
        """None is answered by 500, and none causes a traceback."""
        server = HttpHarness(FakeView(healthy_master()))
        target = "/" + "/".join(parts) + ("?" + "&".join(f"{name}={value}" for name, value in query) if query else "")
        raw = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "replace")
        raw += b"".join(f"{name}: {value}\r\n".encode("utf-8", "replace") for name, value in headers)
        connection = server.connect()
        connection.send(raw + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        server.advance(1)
        data = connection.take()
        if data:
            self.assertNotIn(data.split(b" ", 2)[1], (b"500", b"501"), raw)
        self.assertEqual(self.flushLoggedErrors(), [])
        connection.close()

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([HEAD, b"\r\n", b"\r\n\r\n", b"Host: x\r\n"]))))
    def test_bytes(self, chunks: list[bytes]) -> None:
        """Random bytes cause no traceback either."""
        server = HttpHarness(FakeView(healthy_master()))
        connection = server.connect()
        for chunk in chunks:
            if not connection.is_closed:
                connection.send(chunk)
        server.advance(1)
        self.assertNotIn(b"HTTP/1.1 500", connection.take())
        self.assertEqual(self.flushLoggedErrors(), [])
        connection.close()
        self.assertEqual(server.clock.getDelayedCalls(), [])
