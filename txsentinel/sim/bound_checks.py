"""The invariant ``bounded``: queues and connections of Sentinels do not grow without limit."""

from __future__ import annotations

from typing import Final

from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.records import Records

MAX_WAITING: Final = 2_000
"""Largest number of effects and replies held back until the disk has written."""

MAX_QUESTIONS: Final = 8
"""Largest number of requests for an opinion or a vote that one peer has not answered."""


class BoundChecker:
    """Measures what must not grow, and has the records contain what has."""

    def __init__(self, fleet: Fleet, records: Records) -> None:
        self._fleet = fleet
        self._records = records

    def measure(self) -> None:
        """Measure every queue."""
        connections: dict[str, int] = {}
        for end in self._fleet.network.connections.values():
            connections[end.reactor.name] = connections.get(end.reactor.name, 0) + 1
        for sentinel in self._fleet.sentinels:
            if sentinel.running:
                self._measure(sentinel, connections.get(sentinel.name, 0))

    def _measure(self, sentinel: SimSentinel, connections: int) -> None:
        core, who = sentinel.alive.core, sentinel.name
        waiting = sentinel.alive.executor.barrier.waiting
        self._records.expect(waiting <= MAX_WAITING, "bounded", f"{who} holds back {waiting} effects and replies")
        instances = list(core.registry.instances())
        links = {instance.link.link_id: instance.link for instance in instances}
        # Two to a server, one to and from a peer, one for each that is closing, and those of clients.
        maximum = 4 * len(links) + 2 * len(self._fleet.sentinels) + 20
        self._records.expect(
            connections <= maximum, "bounded", f"{who} has {connections} connections for {len(links)} links"
        )
        limit = core.state.limits.pending_commands
        for link in links.values():
            pending = link.pending_commands
            fine = pending <= 4 * limit * max(1, len(link.instances))
            self._records.expect(fine, "bounded", f"{who}: {pending} commands on one link")
        for master in core.registry.masters.values():
            for peer in master.peers.values():
                fine = len(peer.asked) <= MAX_QUESTIONS
                self._records.expect(fine, "bounded", f"{who}: {len(peer.asked)} questions open at {peer.name[:8]}")
        jobs = len(sentinel.alive.scripts.jobs)
        self._records.expect(jobs <= core.state.limits.script_queue, "bounded", f"{who}: {jobs} scripts")
