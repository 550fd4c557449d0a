"""Promises of requests that are kept read: nobody can tell them from those that are read anew."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import RawConnection, ServerHarness, ServerTestCase
from txsentinel.server.request_cache import MAX_CACHED_REQUEST_BYTES, MAX_CACHED_REQUESTS, RequestCache
from txsentinel.wire.resp import pack

ASK = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
ADDRESS = b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n"


class KeepingTests(ServerTestCase):
    """What is kept."""

    def kept(self, *words: str | bytes) -> bool:
        """Is the request found after a client has sent it?"""
        self.client.ask(*words)
        return self.harness.context.request_cache.find(pack(*words)) is not None

    def test_what_is_asked_often(self) -> None:
        """Questions are kept; what changes something, holds a secret, is wrong or refused is not."""
        for words in (ASK, ("SENTINEL", "MASTERS"), ("sentinel", "Master", "mymaster"), ("PING",)):
            self.assertTrue(self.kept(*words), words)
        for words in (
            ("AUTH", "secret"),
            ("SENTINEL", "SET", "mymaster", "auth-pass", "secret"),
            ("SENTINEL", "CKQUORUM", "mymaster"),
            ("SENTINEL", "MASTERS", "what"),
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME"),
            ("NOPE",),
            ("PING", "x" * MAX_CACHED_REQUEST_BYTES),
        ):
            self.assertFalse(self.kept(*words), words)

    def test_only_whole_chunks(self) -> None:
        """A request that came in pieces, or together with others, is not taken for what came with it."""
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
        """However many different requests come, there is room for so many and no more."""
        request_cache = RequestCache()
        command = self.harness.context.table.find([b"PING"])
        assert command is not None
        for number in range(MAX_CACHED_REQUESTS + 1):
            request_cache.keep(b"%d" % number, [b"PING"], command)
        kept = sum(request_cache.find(b"%d" % number) is not None for number in range(MAX_CACHED_REQUESTS + 1))
        self.assertEqual(kept, 1)


class MeaningTests(ServerTestCase):
    """A kept request means what it means for this client, now."""

    def setUp(self) -> None:
        """The request is kept."""
        super().setUp()
        self.assertEqual(self.client.ask(*ASK), ADDRESS)

    def test_strangers(self) -> None:
        """Who has not logged in is refused, kept or not."""
        self.client.ask("ACL", "SETUSER", "default", "resetpass", ">secret")
        stranger = self.harness.connect()
        self.assertEqual(stranger.ask(*ASK), b"-NOAUTH Authentication required.\r\n")
        self.assertEqual(stranger.ask("AUTH", "secret"), b"+OK\r\n")
        self.assertEqual(stranger.ask(*ASK), ADDRESS)

    def test_rights(self) -> None:
        """A user who may not is refused, which the log of refusals says; and so is one who may no more."""
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
        """A RESP2 subscriber may not ask, a RESP3 subscriber may; PING answers each in its way."""
        for protocol, refused in ((2, True), (3, False)):
            subscriber = self.harness.connect()
            subscriber.ask("HELLO", protocol)
            self.assertEqual(subscriber.ask("PING"), b"+PONG\r\n")
            subscriber.ask("SUBSCRIBE", "a")
            self.assertEqual(subscriber.ask(*ASK).startswith(b"-ERR Can't execute"), refused)
            self.assertEqual(subscriber.ask("PING") == b"+PONG\r\n", not refused)

    def test_silence(self) -> None:
        """CLIENT REPLY silences kept requests too, one or all."""
        self.client.ask("CLIENT", "REPLY", "SKIP")
        self.assertEqual((self.client.ask(*ASK), self.client.ask(*ASK)), (b"", ADDRESS))
        self.client.ask("CLIENT", "REPLY", "OFF")
        self.assertEqual(self.client.ask(*ASK), b"")
        self.client.ask("CLIENT", "REPLY", "ON")
        self.assertEqual(self.client.ask(*ASK), ADDRESS)

    def test_pause(self) -> None:
        """While clients are paused, kept requests wait."""
        other = self.harness.connect()
        self.client.ask("CLIENT", "PAUSE", 100)
        self.assertEqual(other.ask(*ASK), b"")
        self.harness.host.reactor.advance(0.1)
        self.assertEqual(other.raw(), ADDRESS)

    def test_order(self) -> None:
        """A kept request waits behind an answer that waits for the disk."""
        self.client.send("SENTINEL", "MONITOR", "other", "127.0.0.1", 6380, 1)
        self.assertEqual(self.client.ask(*ASK), b"")
        self.harness.save()
        self.assertEqual(self.client.raw(), b"+OK\r\n" + ADDRESS)

    def test_full_client(self) -> None:
        """Whoever does not read is not answered on and on."""
        self.client.wire.producer.pauseProducing()
        while self.client.wire.producerState == "producing":
            self.client.send(*ASK)
        self.assertLess(self.client.protocol.unsent, 2 * 1024 * 1024)

    def test_accounts(self) -> None:
        """A kept request is counted, timed and named as any other."""
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
            (client.last_active, client.last_command.name),
            (self.harness.host.now(), "sentinel|get-master-addr-by-name"),
        )

    def test_errors(self) -> None:
        """An error is answered and counted; a name that is not watched is answered with the null array."""
        for _ in range(2):
            self.assertEqual(self.client.ask("SENTINEL", "MASTER", "nope"), b"-ERR No such master with that name\r\n")
            self.assertEqual(self.client.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "nope"), b"*-1\r\n")
        self.assertEqual(self.harness.context.statistics.error_replies, 2)

    def test_closed(self) -> None:
        """Nothing is answered on a connection that is closing."""
        self.client.protocol.finish()
        self.assertEqual(self.client.ask(*ASK), b"")

    def test_another_master_of_that_name(self) -> None:
        """A removed master is unknown at once, and its successor is another."""
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
    """A server that keeps requests against one that keeps none."""

    def test_no_difference(self) -> None:
        """Over random conversations of several clients, every byte is the same, whether requests are kept or not."""
        kept = 0
        for seed in range(40):
            benches = [ServerHarness(), ServerHarness()]
            benches[1].context.request_cache.find = lambda chunk: None
            for harness in benches:
                harness.watch()
            clients: list[list[RawConnection]] = [[harness.connect() for _ in range(3)] for harness in benches]
            dice = random.Random(seed)
            for _ in range(80):
                who, words, chance = dice.randrange(3), dice.choice(STEPS), dice.random()
                heard = []
                for harness, talks in zip(benches, clients, strict=True):
                    request = pack(*words)
                    if chance < 0.1:
                        talks[who].protocol.dataReceived(request[:10])
                        request = request[10:]
                    elif chance < 0.2:
                        request += pack(*ASK)
                    talks[who].protocol.dataReceived(request)
                    if chance > 0.7:
                        harness.save()
                    harness.host.reactor.advance(0.003)
                    heard.append([talk.raw() for talk in talks])
                self.assertEqual(heard[0], heard[1], (seed, words))
            kept += benches[0].context.request_cache.find(pack(*ASK)) is not None
        self.assertGreater(kept, 20)
