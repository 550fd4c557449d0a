"""Clients that are disconnected because all clients together use too much memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.log_throttle import LogThrottle
from txsentinel.server import eviction
from txsentinel.server.statistics import Statistics

KEPT = True


class EvictionTests(SynchronousTestCase):
    """The choice of clients; their connections are closed only in a later turn of the reactor."""

    def setUp(self) -> None:
        self.patch(eviction, "client_line", lambda client, now: f"client {client.memory}")
        self.aborted: list[int] = []
        self.statistics = Statistics()

    def evict(self, configured: int, fixed: int, *clients: tuple[int, bool]) -> list[int]:
        """Evict clients, each given by its memory and whether it has NO-EVICT; return the memory of those evicted."""
        services: Any = SimpleNamespace(
            clients=[self.client(memory, no_evict) for memory, no_evict in clients],
            limits=SimpleNamespace(clients_memory=fixed),
            log_throttle=LogThrottle(),
            options=SimpleNamespace(clients_memory_limit=configured),
            statistics=self.statistics,
        )
        eviction.evict_clients(services, 0)
        self.assertEqual(self.statistics.evicted_clients, len(self.aborted))
        return self.aborted

    def client(self, memory: int, no_evict: bool) -> SimpleNamespace:
        """Return a client that records that its connection is aborted."""
        connection = SimpleNamespace(abort=lambda: self.aborted.append(memory))
        return SimpleNamespace(memory=memory, no_evict=no_evict, connection=connection)

    def test_within_the_limits(self) -> None:
        """Nobody is disconnected at a limit, or without a configured one."""
        self.assertEqual(self.evict(30, 100, (10, not KEPT), (20, not KEPT)), [])
        self.assertEqual(self.evict(0, 100, (10, not KEPT), (90, not KEPT)), [])

    def test_largest_first(self) -> None:
        """The largest clients are disconnected until the others are within the configured limit."""
        self.assertEqual(self.evict(35, 100, (10, not KEPT), (30, not KEPT), (20, not KEPT)), [30])

    def test_kept_clients(self) -> None:
        """Clients with NO-EVICT count, and are kept whatever ``maxmemory-clients`` is."""
        self.assertEqual(self.evict(35, 100, (40, KEPT), (20, not KEPT), (10, not KEPT)), [20, 10])

    def test_fixed_limit(self) -> None:
        """The fixed limit disconnects clients with NO-EVICT, too, but last."""
        self.assertEqual(self.evict(0, 50, (60, KEPT), (20, not KEPT)), [20, 60])

    def test_both_limits(self) -> None:
        """With both limits exceeded each client is disconnected and counted once."""
        self.assertEqual(self.evict(30, 50, (60, KEPT), (45, KEPT), (20, not KEPT), (40, not KEPT)), [40, 20, 60])
