"""Tests of ``txsentinel.extensions.http.streams``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.http.harness import Connection, HttpHarness
from txsentinel.extensions.http.limits import MAX_STREAMS
from txsentinel.extensions.http.streams import MAX_EVENTS


@dataclass
class Block:
    """One block of an event stream."""

    event: str | None = None
    data: str | None = None
    id: str | None = None


def blocks(raw: bytes) -> list[Block]:
    """Return the blocks in chunked data, without comments and the interval of retries."""
    text, found = b"", []
    rest = raw.partition(b"\r\n\r\n")[2] if raw.startswith(b"HTTP/") else raw
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        text += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    for part in text.decode().split("\n\n"):
        block = Block()
        for line in part.split("\n"):
            name, _, value = line.partition(": ")
            if name in ("event", "data", "id"):
                setattr(block, name, value)
        if block != Block():
            found.append(block)
    return found


class StreamCase(SynchronousTestCase):
    """A server over the three masters of the fixture."""

    def setUp(self) -> None:
        self.server = HttpHarness()

    def publish(self, *numbers: int, master: str = "mymaster") -> None:
        """Publish events with numbers in their payloads."""
        for number in numbers:
            self.server.view.publish("+sdown", f"master {master} {number}", master)
        self.server.run_due_calls()

    def stream(self, query: str = "", **headers: str) -> Connection:
        """Open a stream."""
        connection = self.server.connect()
        connection.request("GET", f"/v1/events{query}", {each.replace("_", "-"): headers[each] for each in headers})
        return connection

    def numbers(self, connection: Connection) -> list[str]:
        """Return the names of events, or their numbers, that a client received."""
        return [
            each.event if each.event != "+sdown" else str(each.data).split('"payload": "')[1].split('"')[0].split()[-1]
            for each in blocks(connection.take())
            if each.event is not None
        ]


class StreamTests(StreamCase):
    """Event streams."""

    def test_events(self) -> None:
        """Events that are published from now on arrive with ID, name and JSON."""
        self.publish(1)
        connection = self.stream()
        self.publish(2)
        raw = connection.take()
        self.assertIn(b"Content-Type: text/event-stream\r\n", raw)
        self.assertIn(b"retry: 1000\n\n", raw)
        (block,) = blocks(raw)
        self.assertEqual((block.event, block.id), ("+sdown", "dddddddd-2"))
        self.assertEqual(
            block.data,
            '{"sequence": 2, "at": "2027-01-15T08:01:00.000Z", "channel": "+sdown", "payload": "master mymaster 2", '
            '"master": "mymaster"}',
        )

    def test_filter(self) -> None:
        """A stream can be limited to one master."""
        connection = self.stream("?master=queue")
        self.publish(1)
        self.publish(2, master="queue")
        self.assertEqual(self.numbers(connection), ["2"])

    def test_resume(self) -> None:
        """A client that comes back gets what it missed, by header or parameter."""
        self.publish(1, 2, 3)
        for connection in (
            self.stream(Last_Event_ID="dddddddd-1"),
            self.stream("?after=dddddddd-1"),
            self.stream("?after=1"),
            self.stream("?after=3", Last_Event_ID="dddddddd-1"),
        ):
            self.assertEqual(self.numbers(connection), ["2", "3"])
        self.assertEqual(self.numbers(self.stream("?after=0")), ["1", "2", "3"])
        self.assertEqual(self.numbers(self.stream("?after=3")), [])

    def test_gap(self) -> None:
        """A client learns that events are missing: too many since, or an ID of another process."""
        self.publish(1)
        self.assertEqual(self.numbers(self.stream(Last_Event_ID="00000000-1")), ["gap", "1"])
        self.assertEqual(self.numbers(self.stream("?after=5")), ["gap", "1"])
        self.publish(*range(2, MAX_EVENTS + 2))
        found = self.numbers(self.stream("?after=0"))
        self.assertEqual((found[:2], len(found)), (["gap", "2"], MAX_EVENTS + 1))
        self.assertEqual(len(self.numbers(self.stream("?after=1"))), MAX_EVENTS)

    def test_wrong_position(self) -> None:
        """What is no ID is refused."""
        for text in ("x", "-1", "1-1", "ddddddd-1", "9" * 16):
            reply = self.server.get("/v1/events", Last_Event_ID=text)
            self.assertEqual((reply.status, reply.code), (400, "bad_request"), text)

    def test_list(self) -> None:
        """A client that accepts only JSON gets the latest events as a list."""
        self.publish(1, 2)
        self.publish(3, master="queue")
        for query, found in (("", [1, 2, 3]), ("?after=1", [2, 3]), ("?master=queue", [3])):
            reply = self.server.get(f"/v1/events{query}", Accept="application/json")
            self.assertEqual([each["sequence"] for each in reply.document], found)

    def test_keepalive(self) -> None:
        """A comment is sent every 15 seconds; the idle timeout of requests does not end a stream."""
        connection = self.stream()
        connection.take()
        for _ in range(10):
            self.server.advance(15)
            self.assertEqual(connection.take(), b"3\r\n:\n\n\r\n")
        self.assertFalse(connection.is_closed)

    def test_slow_client(self) -> None:
        """A client that reads slowly gets the rest later, or a gap; its backlog is not kept in memory."""
        connection = self.stream()
        producer = connection.producer
        self.publish(1)
        producer.pauseProducing()
        self.publish(*range(2, 10))
        self.assertEqual(self.numbers(connection), ["1"])
        producer.resumeProducing()
        self.server.run_due_calls()
        self.assertEqual(self.numbers(connection), [str(each) for each in range(2, 10)])
        producer.pauseProducing()
        self.publish(*range(MAX_EVENTS + 5))
        producer.resumeProducing()
        self.server.run_due_calls()
        found = self.numbers(connection)
        self.assertEqual((found[0], len(found)), ("gap", MAX_EVENTS + 1))

    def test_client_that_does_not_read(self) -> None:
        """It is disconnected after 30 seconds."""
        connection = self.stream()
        connection.producer.pauseProducing()
        self.server.advance(29)
        self.assertFalse(connection.transport.aborted)
        self.server.advance(1)
        self.assertTrue(connection.transport.aborted)

    def test_limit(self) -> None:
        """One more stream than allowed is refused; the end of one makes room."""
        connections = [self.stream() for _ in range(MAX_STREAMS)]
        reply = self.server.get("/v1/events")
        self.assertEqual((reply.status, reply.code, reply.headers["retry-after"]), (503, "too_many_streams", "5"))
        self.assertEqual(self.server.get("/v1/events", Accept="application/json").status, 200)
        connections[0].close()
        self.stream()
        self.assertEqual(len(self.server.application.streams), MAX_STREAMS)
        for each in connections[1:]:
            each.close()
        self.assertEqual(len(self.server.application.streams), 1)

    def test_nothing_remains(self) -> None:
        """Neither a HEAD request nor a stream that ends leaves a timer or an observer."""
        self.assertEqual(self.server.ask("HEAD", "/v1/events").status, 200)
        connection = self.stream()
        connection.producer.pauseProducing()
        connection.close()
        self.publish(1)
        self.assertEqual(self.server.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.server.application.streams), 0)

    def test_right_is_lost(self) -> None:
        """A stream ends when its user may no longer read, or needs a password now."""
        first = self.stream()
        self.server.operator.passwords["default"] = "secret"
        self.server.advance(15)
        self.assertTrue(first.take().endswith(b"0\r\n\r\n"))
        del self.server.operator.passwords["default"]
        second = self.stream()
        self.server.operator.denied.add(("default", "sentinel|masters"))
        self.server.advance(15)
        self.assertTrue(second.take().endswith(b"0\r\n\r\n"))
        self.assertEqual(len(self.server.application.streams), 0)

    def test_stop(self) -> None:
        """When the Sentinel stops, streams end properly."""
        connection = self.stream()
        self.server.application.streams.close()
        self.server.application.factory.close_connections()
        self.assertTrue(connection.take().endswith(b"0\r\n\r\n"))
        # What was written is sent before the end.
        self.assertEqual((connection.is_closed, connection.transport.aborted), (True, False))
        self.server.application.events.stop()
        self.assertEqual(self.server.view.event_subscribers, [])

    def test_changes_without_event(self) -> None:
        """A change of a snapshot is no event."""
        connection = self.stream()
        self.server.view.put(replace(self.server.view.master("queue"), config_epoch=3))
        self.server.run_due_calls()
        self.assertEqual(self.numbers(connection), [])

    def test_hostile_payload(self) -> None:
        """A payload cannot begin another event."""
        connection = self.stream()
        self.server.view.publish("+sdown", "a\n\nevent: +switch-master\ndata: x\r\rid: 9\n\n\udcff", None)
        self.server.run_due_calls()
        found = blocks(connection.take())
        self.assertEqual([each.event for each in found], ["+sdown"])
