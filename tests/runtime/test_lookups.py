"""Tests of name resolution: one lookup per name, a limited number at a time, and limited log lines."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.runtime.doubles import RecordingLinks, RecordingScripts, RecordingStore, StepHost
from txsentinel.core.options import SentinelOptions
from txsentinel.core.sentinel import SentinelCore
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.model.timings import Limits, Timings
from txsentinel.runtime.executor import MAX_LOGGED_NAMES, MAX_LOOKUPS, RESOLVE_PERIOD, Executor


class LookupTests(SynchronousTestCase):
    """Tests with a Sentinel that resolves names."""

    def setUp(self) -> None:
        self.host = StepHost()
        self.lines: list[str] = []
        options = SentinelOptions(my_id="a" * 40, resolve_hostnames=True)
        self.core = SentinelCore(options, Timings(), Limits(), lambda sides: 0)
        self.executor = Executor(
            self.host,  # type: ignore[arg-type]
            self.core,
            lambda event: None,
            self.note,
            RecordingScripts(),
        )
        self.executor.connect(RecordingLinks(), RecordingStore(), lambda: None)
        master = self.core.administration.monitor("m", "10.0.0.1", 6379, 2, 0)
        self.core.registry.add_peer(master, "b" * 40, Address.literal("10.0.1.1", 26379), 0)
        self.executor.drain()

    def note(self, level: Level, line: str) -> None:
        """Record a warning."""
        if level is Level.WARNING:
            self.lines.append(line)

    def hello(self, master_host: str) -> None:
        """Receive a hello with that name as the master's address, and a higher epoch."""
        payload = f"10.0.1.1,26379,{'b' * 40},5,m,{master_host},6379,5"
        self.core.hello_received(payload.encode(), self.host.now(), None)
        self.executor.drain()
        self.executor.committed(self.core.outbox.generation)
        self.lines = [line for line in self.lines if "resolve" in line]

    def test_once_at_a_time(self) -> None:
        """A name in many hellos is resolved once, and again after the answer."""
        for _ in range(10):
            self.hello("Redis.example")
            self.hello("redis.EXAMPLE")
        self.assertEqual(self.host.answer_lookups(None), 1)
        self.hello("redis.example")
        self.assertEqual(self.host.answer_lookups("10.0.0.2"), 1)
        self.hello("redis.example")
        self.assertEqual(self.core.master("m").address.ip, "10.0.0.2")

    def test_flood(self) -> None:
        """Of thousands of names a hundred are resolved at a time, and a few are logged."""
        for number in range(3_000):
            self.hello(f"host-{number}.example")
        self.assertEqual(self.host.answer_lookups(None), MAX_LOOKUPS)
        self.assertEqual(len(self.lines), MAX_LOGGED_NAMES)
        self.host.reactor.advance(RESOLVE_PERIOD)
        self.assertEqual(self.host.lookups, [])
        self.hello("x" * 1_000_000)
        self.host.reactor.advance(60)
        self.host.answer_lookups(None)
        self.assertLess(max(map(len, self.lines)), 1_000)

    def test_names_above_the_limit(self) -> None:
        """A master whose name exceeded the limit is resolved later."""
        for number in range(3_000):
            self.hello(f"host-{number}.example")
        self.core.administration.monitor("late", "late.example", 6379, 2, self.host.now())
        self.executor.drain()
        self.assertNotIn("late.example", [name for name, _ in self.host.lookups])
        self.host.answer_lookups(None)
        self.host.reactor.advance(RESOLVE_PERIOD)
        self.assertEqual([name for name, _ in self.host.lookups], ["late.example"])
        self.host.answer_lookups("10.0.0.7")
        self.assertEqual(self.core.master("late").address.ip, "10.0.0.7")
