"""An application keeps writing while real Sentinels replace the master."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.interop.fixtures import SECONDS
from tests.servers import Fleet, Harness, RedisProcess, call, missing
from txsentinel.client import MasterFollower

PASSWORD, SENTINEL_PASSWORD = "data-secret", "sentinel-secret"

Steps = Generator[Deferred[Any], Any, None]


class WriterCase(TestCase):
    """One master, two replicas and three Sentinels of one kind, and one application that writes."""

    kind = ""
    servers = "redis"
    timeout = 400

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        harness = Harness()
        self.addCleanup(harness.close)
        self.fleet = Fleet(harness, [self.kind] * 3, self.servers, down_after=1000, failover_timeout=5_000)
        self.counter = 0
        self.lost: list[Exception] = []

    def set_passwords(self) -> None:
        """Set passwords for servers and other ones for Sentinels, before the start."""
        for server in self.fleet.servers.values():
            server.password = PASSWORD
        for sentinel in self.fleet.sentinels:
            sentinel.extra += [f"requirepass {SENTINEL_PASSWORD}", f"sentinel auth-pass mymaster {PASSWORD}"]
            sentinel.call = partial(call, sentinel.port, password=SENTINEL_PASSWORD)  # type: ignore[method-assign]

    def follow(self, **options: Any) -> Deferred[MasterFollower]:
        """Start the servers, then the follower."""
        self.fleet.start()
        sentinels = [("127.0.0.1", sentinel.port) for sentinel in self.fleet.sentinels]
        self.follower = MasterFollower(self.reactor, sentinels, "mymaster", pool_size=2, timeout=SECONDS, **options)
        self.addCleanup(self.follower.stop)
        return self.follower.start()

    @inlineCallbacks
    def write(self, times: int) -> Steps:
        """Increment a key, one command after the other; a failed one is counted, not repeated."""
        for _ in range(times):
            self.counter += 1
            try:
                yield self.follower.execute("SET", "counter", self.counter)
            except (txredisapi.ConnectionError, txredisapi.ResponseError) as problem:
                self.lost.append(problem)

    @inlineCallbacks
    def write_until_moved(self, old: RedisProcess, seconds: float) -> Steps:
        """Write until another server accepts it."""
        deadline = self.reactor.seconds() + seconds
        while self.follower.address is None or self.follower.address.port == old.port:
            self.assertLess(self.reactor.seconds(), deadline, self.follower.last_error)
            yield self.write(1)
            yield deferLater(self.reactor, 0.02)

    def assert_written(self) -> RedisProcess:
        """Assert that the last value is on the follower's server, which all Sentinels have as the master."""
        assert self.follower.address is not None
        server = self.fleet.servers[self.follower.address.port]
        self.assertEqual(server.call("GET", "counter"), str(self.counter))
        self.assertEqual(server.replication()["role"], "master")
        return server


class FailoverTests:
    """Tests for Sentinels of every kind."""

    @inlineCallbacks
    def test_writes_go_on_after_the_master_is_killed(self: Any) -> Steps:
        """SIGKILL loses the commands in flight at most; once the Sentinels have agreed, writing continues."""
        yield self.follow()
        yield self.write(50)
        old = self.assert_written()
        old.kill()
        yield self.write_until_moved(old, SECONDS)
        yield self.write(50)
        self.assertNotEqual(self.assert_written().port, old.port)
        self.assertLessEqual(len(self.lost), 2)

        # The old master returns in its former role until a Sentinel converts it: the follower stays.
        old.start(keep_config=True)
        for _ in range(20):
            yield self.write(10)
            yield deferLater(self.reactor, 0.05)
        self.assertNotEqual(self.assert_written().port, old.port)

    @inlineCallbacks
    def test_writes_go_on_where_everything_has_a_password(self: Any) -> Steps:
        """The same, with one password for the data and another for the Sentinels."""
        self.set_passwords()
        yield self.follow(password=PASSWORD, sentinel_password=SENTINEL_PASSWORD)
        yield self.write(50)
        old = self.assert_written()
        old.kill()
        yield self.write_until_moved(old, SECONDS)
        yield self.write(50)
        self.assertNotEqual(self.assert_written().port, old.port)

    @inlineCallbacks
    def test_writes_move_in_a_manual_failover(self: Any) -> Steps:
        """The old master is alive and writable; the application leaves it when the switch is published."""
        yield self.follow()
        yield self.write(10)
        old = self.assert_written()
        self.fleet.sentinels[0].call("SENTINEL", "FAILOVER", "mymaster")
        yield self.write_until_moved(old, SECONDS)
        yield self.write(50)
        self.assertNotEqual(self.assert_written().port, old.port)

    @inlineCallbacks
    def test_writes_go_on_after_the_master_hangs(self: Any) -> Steps:
        """A stopped master keeps its connections; the command in flight fails when the switch is published."""
        yield self.follow()
        yield self.write(10)
        old = self.assert_written()
        old.freeze()
        yield self.write_until_moved(old, SECONDS)
        self.assertGreaterEqual(len(self.lost), 1)
        yield self.write(10)
        self.assertNotEqual(self.assert_written().port, old.port)


class RedisSentinelTests(FailoverTests, WriterCase):
    """With ``redis-sentinel``."""

    kind = "redis"
    if missing("redis"):
        skip = missing("redis")


class ValkeySentinelTests(FailoverTests, WriterCase):
    """With ``valkey-server --sentinel``."""

    kind = servers = "valkey"
    if missing("valkey"):
        skip = missing("valkey")


class OwnSentinelTests(FailoverTests, WriterCase):
    """With Sentinels of ours."""

    kind = "txsentinel"
    if missing("redis", "txsentinel"):
        skip = missing("redis", "txsentinel")
