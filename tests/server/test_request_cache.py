"""Tests of the request cache: cached requests have the same effect as requests that are parsed anew."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import RawConnection, ServerHarness, ServerTestCase
from txsentinel.server.request_cache import MAX_CACHED_REQUEST_BYTES, MAX_CACHED_REQUESTS, RequestCache
from txsentinel.wire.resp import pack

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
                    connections[index].protocol.dataReceived(request)
                    if draw > 0.7:
                        harness.save()
                    harness.host.reactor.advance(0.003)
                    received.append([connection.raw() for connection in connections])
                self.assertEqual(received[0], received[1], (seed, words))
            is_cached += harnesses[0].context.request_cache.find(pack(*ASK)) is not None
        self.assertGreater(is_cached, 20)
