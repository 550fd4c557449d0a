"""Tests of the request cache: cached requests have the same effect as requests that are parsed anew."""

from __future__ import annotations

import random
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import RawConnection, ServerHarness, ServerTestCase
from txsentinel.server.clients import Client
from txsentinel.server.handlers import BoundHandler
from txsentinel.server.replies import Reply
from txsentinel.server.request_cache import MAX_CACHED_REQUEST_BYTES, MAX_CACHED_REQUESTS, RequestCache
from txsentinel.wire.resp import encode, pack

ASK = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
ADDRESS = b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n"


class CachingTests(ServerTestCase):
    """Which requests are cached."""

    def is_cached(self, *words: str | bytes) -> bool:
        """Whether the request is in the cache after a client sent it."""
        self.client.ask(*words)
        return self.harness.context.request_cache.find(pack(*words)) is not None

    def test_cacheable_requests(self) -> None:
        """Queries are cached; requests that change state, contain a secret, are wrong or are refused are not."""
        cacheable: list[tuple[str, ...]] = [ASK, ("SENTINEL", "MASTERS"), ("sentinel", "Master", "mymaster"), ("PING",)]
        for words in cacheable:
            self.assertTrue(self.is_cached(*words), words)
        for words in (
            ("AUTH", "secret"),
            ("SENTINEL", "SET", "mymaster", "auth-pass", "secret"),
            ("SENTINEL", "CKQUORUM", "mymaster"),
            ("SENTINEL", "MASTERS", "what"),
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME"),
            ("NOPE",),
            ("PING", "x" * MAX_CACHED_REQUEST_BYTES),
        ):
            self.assertFalse(self.is_cached(*words), words)

    def test_only_whole_chunks(self) -> None:
        """A request that came in pieces or together with others does not use the cache."""
        request = pack(*ASK)
        self.client.protocol.dataReceived(request[:20])
        self.client.protocol.dataReceived(request[20:])
        self.client.protocol.dataReceived(request + b"PING\r\n")
        self.client.protocol.dataReceived(b"PING\r\n" + request)
        self.assertEqual(self.client.raw(), ADDRESS * 2 + b"+PONG\r\n+PONG\r\n" + ADDRESS)
        find = self.harness.context.request_cache.find
        for chunk in (request[:20], request[20:], request + b"PING\r\n", b"PING\r\n" + request):
            self.assertIsNone(find(chunk))

    def test_bound(self) -> None:
        """The number of cached requests is limited."""
        request_cache = RequestCache()
        command = self.harness.context.table.find([b"PING"])
        assert command is not None
        for number in range(MAX_CACHED_REQUESTS + 1):
            request_cache.keep(b"%d" % number, [b"PING"], command)
        is_cached = sum(request_cache.find(b"%d" % number) is not None for number in range(MAX_CACHED_REQUESTS + 1))
        self.assertEqual(is_cached, 1)


class ExecutionTests(ServerTestCase):
    """A cached request is executed for this client, in its present state."""

    def setUp(self) -> None:
        """Cache the request."""
        super().setUp()
        self.assertEqual(self.client.ask(*ASK), ADDRESS)

    def test_unauthenticated(self) -> None:
        """A client that is not authenticated is refused."""
        self.client.ask("ACL", "SETUSER", "default", "resetpass", ">secret")
        new_client = self.harness.connect()
        self.assertEqual(new_client.ask(*ASK), b"-NOAUTH Authentication required.\r\n")
        self.assertEqual(new_client.ask("AUTH", "secret"), b"+OK\r\n")
        self.assertEqual(new_client.ask(*ASK), ADDRESS)

    def test_rights(self) -> None:
        """A user without the right is refused and logged in ``ACL LOG``, also after losing the right."""
        self.client.ask("ACL", "SETUSER", "poor", "on", "nopass", "+ping", "+auth")
        other = self.harness.connect()
        other.ask("AUTH", "poor", "")
        refusal = b"-NOPERM User poor has no permissions to run the 'sentinel|get-master-addr-by-name' command\r\n"
        self.assertEqual(other.ask(*ASK), refusal)
        self.assertIn(b"sentinel|get-master-addr-by-name", self.client.ask("ACL", "LOG"))
        self.client.ask("ACL", "SETUSER", "poor", "allcommands")
        self.assertEqual(other.ask(*ASK), ADDRESS)
        self.client.ask("ACL", "SETUSER", "poor", "-sentinel")
        self.assertEqual(other.ask(*ASK), refusal)

    def test_subscribers(self) -> None:
        """A RESP2 subscriber is refused, a RESP3 subscriber is not; ``PING`` answers each in its form."""
        for protocol, refused in ((2, True), (3, False)):
            subscriber = self.harness.connect()
            subscriber.ask("HELLO", protocol)
            self.assertEqual(subscriber.ask("PING"), b"+PONG\r\n")
            subscriber.ask("SUBSCRIBE", "a")
            self.assertEqual(subscriber.ask(*ASK).startswith(b"-ERR Can't execute"), refused)
            self.assertEqual(subscriber.ask("PING") == b"+PONG\r\n", not refused)

    def test_reply_off(self) -> None:
        """``CLIENT REPLY`` suppresses the replies of cached requests too, one or all."""
        self.client.ask("CLIENT", "REPLY", "SKIP")
        self.assertEqual((self.client.ask(*ASK), self.client.ask(*ASK)), (b"", ADDRESS))
        self.client.ask("CLIENT", "REPLY", "OFF")
        self.assertEqual(self.client.ask(*ASK), b"")
        self.client.ask("CLIENT", "REPLY", "ON")
        self.assertEqual(self.client.ask(*ASK), ADDRESS)

    def test_pause(self) -> None:
        """Cached requests wait while clients are paused."""
        other = self.harness.connect()
        self.client.ask("CLIENT", "PAUSE", 100)
        self.assertEqual(other.ask(*ASK), b"")
        self.harness.host.reactor.advance(0.1)
        self.assertEqual(other.raw(), ADDRESS)

    def test_order(self) -> None:
        """A cached request waits behind a deferred reply."""
        self.client.send("SENTINEL", "MONITOR", "other", "127.0.0.1", 6380, 1)
        self.assertEqual(self.client.ask(*ASK), b"")
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n" + ADDRESS)

    def test_full_client(self) -> None:
        """A client that does not read its replies is not read."""
        self.client.block_output()
        while self.client.wire.producerState == "producing":
            self.client.send(*ASK)
        self.assertLess(self.client.protocol.unsent, 2 * 1024 * 1024)

    def test_statistics(self) -> None:
        """A cached request is counted, timed and recorded like any other."""
        statistics = self.harness.context.statistics
        client = self.client.protocol.client
        before = (statistics.commands_processed, statistics.reads, statistics.writes)
        sizes = (statistics.input_bytes, statistics.output_bytes)
        self.client.ask("CLIENT", "ID")
        self.harness.host.reactor.advance(5)
        self.client.ask(*ASK)
        client_id = b":1\r\n"
        self.assertEqual(
            (statistics.commands_processed, statistics.reads, statistics.writes), tuple(count + 2 for count in before)
        )
        self.assertEqual(statistics.input_bytes - sizes[0], len(pack("CLIENT", "ID")) + len(pack(*ASK)))
        self.assertEqual(statistics.output_bytes - sizes[1], len(client_id) + len(ADDRESS))
        self.assertEqual(
            (client.last_active, client.last_command and client.last_command.name),
            (self.harness.host.now(), "sentinel|get-master-addr-by-name"),
        )

    def test_errors(self) -> None:
        """An error is sent and counted; a name that is not monitored gets the null array."""
        for _ in range(2):
            self.assertEqual(self.client.ask("SENTINEL", "MASTER", "nope"), b"-ERR No such master with that name\r\n")
            self.assertEqual(self.client.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "nope"), b"*-1\r\n")
        self.assertEqual(self.harness.context.statistics.error_replies, 2)

    def test_closed(self) -> None:
        """A closing connection gets no replies."""
        self.client.protocol.finish()
        self.assertEqual(self.client.ask(*ASK), b"")

    def test_another_master_of_that_name(self) -> None:
        """A removed master is unknown at once; a new one of its name is used instead."""
        self.client.ask("SENTINEL", "REMOVE", "mymaster")
        self.harness.save()
        self.client.raw()
        self.assertEqual(self.client.ask(*ASK), b"*-1\r\n")
        self.client.ask("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", 7000, 2)
        self.harness.save()
        self.client.raw()
        self.assertEqual(self.client.ask(*ASK), ADDRESS.replace(b"6379", b"7000"))


class PipelineTests(ServerTestCase):
    """Cached requests that arrive together."""

    def setUp(self) -> None:
        """Cache a request, and count the executions of its command."""
        super().setUp()
        self.client.ask(*ASK)
        self.client.ask("PING")
        self.executed = 0
        # How often a handler is called is visible only here.
        handlers = self.client.protocol.executor._handlers
        command = self.harness.context.table.find([word.encode() for word in ASK])
        assert command is not None and isinstance(handlers, dict)
        execute: BoundHandler = handlers[command]

        def counting(client: Client, request: Sequence[bytes]) -> Reply:
            self.executed += 1
            return execute(client, request)

        handlers[command] = counting
        self.addCleanup(handlers.__setitem__, command, execute)

    def send(self, data: bytes) -> bytes:
        """Send a chunk; return the replies."""
        self.client.protocol.dataReceived(data)
        return self.client.raw()

    def test_equal_requests(self) -> None:
        """Equal requests that follow each other are executed once; each is answered and counted."""
        statistics, client = self.harness.context.statistics, self.client.protocol.client
        before = (statistics.commands_processed, client.commands_processed, statistics.writes)
        self.assertEqual(self.send(pack(*ASK) * 16), ADDRESS * 16)
        self.assertEqual(self.executed, 1)
        after = (statistics.commands_processed, client.commands_processed, statistics.writes)
        self.assertEqual([late - early for early, late in zip(before, after, strict=True)], [16, 16, 1])
        self.assertEqual(self.send(pack(*ASK) * 3 + pack("PING") * 2), ADDRESS * 3 + b"+PONG\r\n" * 2)
        self.assertEqual(self.executed, 2)

    def test_incomplete(self) -> None:
        """The rest of a chunk is executed when it is complete, after the replies to the requests before it."""
        request = pack(*ASK)
        for cut in range(1, len(request)):
            self.assertEqual(self.send(request * 2 + request[:cut]), ADDRESS * 2)
            self.assertEqual(self.send(request[cut:] + request), ADDRESS * 2)

    def test_other_requests(self) -> None:
        """Requests that are not cached are executed in their place."""
        request = pack(*ASK)
        self.assertEqual(self.send(request * 2 + pack("CLIENT", "REPLY", "OFF") + request * 2), ADDRESS * 2)
        self.assertEqual(self.send(pack("CLIENT", "REPLY", "ON") + request * 2), b"+OK\r\n" + ADDRESS * 2)
        self.send(pack("SENTINEL", "REMOVE", "mymaster") + request)
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n*-1\r\n")

    def test_separators_in_words(self) -> None:
        """A word may contain what separates two requests."""
        word = b"a\r\n*1\r\n$4\r\nPING\r\n*"
        name = pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", word)
        self.assertEqual(self.send(pack("PING", word) * 2), encode(word) * 2)
        for _ in range(2):
            self.assertEqual(self.send(name * 2 + pack("PING") + name), b"*-1\r\n" * 2 + b"+PONG\r\n*-1\r\n")

    def test_first_of_a_pipeline_is_cached(self) -> None:
        """Clients that only send pipelines get the benefit, too."""
        request = pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "other")
        for _ in range(2):
            self.assertEqual(self.send(request * 2), b"*-1\r\n" * 2)
        self.assertEqual(self.executed, 3)

    def test_errors(self) -> None:
        """Each error is counted."""
        wrong = pack("PING", "a", "b")
        self.client.protocol.dataReceived(wrong)
        error = self.client.raw()
        self.assertEqual(self.send(wrong * 4), error * 4)
        self.assertEqual(self.harness.context.statistics.error_replies, 5)

    def test_full_output(self) -> None:
        """A client that does not read its replies is not read, however many requests it sends at a time."""
        self.client.block_output()
        for _ in range(300):
            self.client.protocol.dataReceived(pack(*ASK) * 200)
        self.assertEqual(self.client.wire.producerState, "paused")
        self.assertLess(self.client.protocol.unsent, 2 * 1024 * 1024)


STEPS = (
    ASK,
    ASK,
    ASK,
    ("PING",),
    ("sentinel", "masters"),
    ("SENTINEL", "MASTER", "mymaster"),
    ("SENTINEL", "MASTER", "nope"),
    ("SENTINEL", "REPLICAS", "mymaster"),
    ("ROLE",),
    ("HELLO", "3"),
    ("HELLO", "2"),
    ("SUBSCRIBE", "+monitor"),
    ("UNSUBSCRIBE",),
    ("CLIENT", "REPLY", "SKIP"),
    ("CLIENT", "REPLY", "OFF"),
    ("CLIENT", "REPLY", "ON"),
    ("CLIENT", "LIST"),
    ("CLIENT", "PAUSE", "1"),
    ("INFO", "stats"),
    ("ACL", "SETUSER", "default", "-sentinel"),
    ("ACL", "SETUSER", "default", "allcommands"),
    ("SENTINEL", "MONITOR", "m2", "127.0.0.1", "6400", "1"),
    ("SENTINEL", "REMOVE", "m2"),
    ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m2"),
    ("RESET",),
)


class EquivalenceTests(SynchronousTestCase):
    """A server with the cache compared to one without."""

    def test_no_difference(self) -> None:
        """Over random requests of several clients, every byte is the same with and without the cache."""
        is_cached = 0
        for seed in range(40):
            harnesses = [ServerHarness(), ServerHarness()]
            harnesses[1].context.request_cache.find = lambda chunk: None
            for harness in harnesses:
                harness.watch()
            clients: list[list[RawConnection]] = [[harness.connect() for _ in range(3)] for harness in harnesses]
            rng = random.Random(seed)
            for _ in range(80):
                index, words, draw = rng.randrange(3), rng.choice(STEPS), rng.random()
                received = []
                for harness, connections in zip(harnesses, clients, strict=True):
                    request = pack(*words)
                    if draw < 0.1:
                        connections[index].protocol.dataReceived(request[:10])
                        request = request[10:]
                    elif draw < 0.2:
                        request += pack(*ASK)
                    elif draw < 0.5:
                        more = random.Random(draw)
                        request *= more.choice((1, 2, 16))
                        request += b"".join(pack(*more.choice(STEPS)) for _ in range(more.randrange(6)))
                        cut = more.randrange(len(request))
                        connections[index].protocol.dataReceived(request[:cut])
                        request = request[cut:]
                    connections[index].protocol.dataReceived(request)
                    if draw > 0.7:
                        harness.save()
                    harness.host.reactor.advance(0.003)
                    received.append([connection.raw() for connection in connections])
                self.assertEqual(received[0], received[1], (seed, words))
            is_cached += harnesses[0].context.request_cache.find(pack(*ASK)) is not None
        self.assertGreater(is_cached, 20)
