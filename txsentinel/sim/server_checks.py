"""
Invariants of servers after orders of Sentinels, checked on the servers themselves.

======= ==============================================================================================
pauses  no pause that a Sentinel ordered can last longer than ``MAX_PAUSE``, and none outlives its FAILOVER by more
        than a second
clients the normal and subscriber clients of a master that is demoted are disconnected
files   the configuration file of a server names the role that it was given
follows when a failover has ended, every server follows the master that its leader names
======= ==============================================================================================

What one transaction orders must hold when it has run, whatever else fails. Operations of several steps (a coordinated
failover, a whole failover) are checked only if there was no fault for a while.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txsentinel.model.events import SentinelEvent
from txsentinel.sim.fleet import REDIS_PORT, SimSentinel
from txsentinel.sim.records import NEVER, Records
from txsentinel.sim.redis.instance import RedisInstance, RoleChange
from txsentinel.sim.redis.pauses import PauseReason
from txsentinel.sim.redis.replication import NO_FAILOVER

CHECK_INTERVAL: Final = 0.25
"""Seconds between two checks of the servers."""

MAX_PAUSE: Final = 10.0
"""Seconds that writes may be paused if no Sentinel ends the pause: three after a hand-over, ten by a fence."""

LIMIT: Final = 1.0
"""Seconds within which an operation of several steps is cleaned up."""

STABLE_SECONDS: Final = 3.0
"""Seconds without a fault before an operation after which it is checked."""

CORRECTION: Final = 15.0
"""
Seconds that Sentinels may take to correct a server whose role they did not order: they first wait for a newer hello.
"""

ROUNDING: Final = 0.01


class ServerChecker:
    """Check the servers of one fleet."""

    def __init__(self, records: Records) -> None:
        self._fleet = records.fleet
        self._records = records
        self._expect = records.expect
        self._sentinel_ips = {sentinel.host.ip for sentinel in self._fleet.sentinels}
        self._stable_since: float | None = None
        self._failover_over_at: dict[RedisInstance, float] = {}
        self._ended_for_timeout: dict[tuple[str, str], float] = {}
        self._attempted_at: dict[tuple[str, str], float] = {}
        self._redirected_at: dict[RedisInstance, float] = {}
        for server in self._fleet.servers:
            server.role_changed = self._role_changed
        self._fleet.simulation.call_later(CHECK_INTERVAL, self._check_servers)

    def event(self, sentinel: SimSentinel, event: SentinelEvent) -> None:
        """A Sentinel published an event."""
        name = event.master
        if name is None:
            return
        if event.channel == "+try-failover":
            self._attempted_at[name, sentinel.name] = self._now
        elif event.channel == "+failover-end-for-timeout":
            self._ended_for_timeout[sentinel.name, name] = self._now
        elif event.channel == "+failover-end" and self._ended_for_timeout.get((sentinel.name, name)) != self._now:
            master = sentinel.alive.core.registry.masters.get(name)
            if master is not None:
                self._later(LIMIT, self._check_followers, sentinel, name, master.config_epoch, self._now)

    # Pauses

    def _check_servers(self) -> None:
        self._fleet.simulation.call_later(CHECK_INTERVAL, self._check_servers)
        if self._disturbed():
            self._stable_since = None
        elif self._stable_since is None:
            self._stable_since = self._now
        for server in self._fleet.servers:
            self._check_pause(server)

    def _check_pause(self, server: RedisInstance) -> None:
        now, name = self._now, server.host.name
        if not self._works(server) or server.replication.failover_state != NO_FAILOVER:
            self._failover_over_at.pop(server, None)
            return
        over_at = self._failover_over_at.setdefault(server, now)
        pause = server.pause(PauseReason.CLIENT_PAUSE)
        if pause is None or pause.ordered_by not in self._sentinel_ips:
            return
        left = None if pause.ends_at is None else pause.ends_at - server.host.reactor.seconds()
        fine = left is not None and left <= MAX_PAUSE + ROUNDING
        self._expect(fine, "pauses", f"{pause.ordered_by} has the writes of {name} held for {left} s more")
        over_at = max(over_at, now - (server.host.reactor.seconds() - pause.began_at))
        fine = now - over_at <= LIMIT + CHECK_INTERVAL or not self.is_stable(over_at)
        self._expect(fine, "pauses", f"the writes of {name} are held {now - over_at:.2f} s after its FAILOVER")

    # Roles

    def _role_changed(self, server: RedisInstance, change: RoleChange) -> None:
        ordered = change.ordered_by in self._sentinel_ips and change.excluded is not None
        leader = change.ordered_by if change.ordered_by in self._sentinel_ips else None
        born, now = server.started_at, self._now
        if leader is None:
            self._redirected_at[server] = now
        if ordered:
            self._later(ROUNDING, self._check_file, server, born, None)
        else:
            self._later(LIMIT, self._check_file, server, born, now)
        if not change.was_master or leader is None:
            return
        victims = [
            client
            for client in server.clients.values()
            if not client.is_replica and client is not change.excluded and (ordered or not _is_excluded(client, leader))
        ]

        def check(about: RedisInstance, since: float, stable_at: float | None) -> None:
            if self._same_process(about, since) and self._may_check(stable_at):
                left = [client for client in victims if about.clients.get(client.number) is client]
                what = f"{len(left)} clients of {about.host.name}, demoted at {now:.3f}, are connected still: {left}"
                self._expect(not left, "clients", what)

        self._later(ROUNDING if ordered else LIMIT, check, server, born, None if ordered else now)

    def _check_file(self, server: RedisInstance, born: float, stable_at: float | None) -> None:
        if not self._same_process(server, born) or not self._may_check(stable_at):
            return
        named, real = server.configured_master(), server.master_address
        self._expect(named == real, "files", f"the file of {server.host.name} names {named}, it follows {real}")

    def _check_followers(self, sentinel: SimSentinel, name: str, epoch: int, ended_at: float) -> None:
        if not self._may_check(ended_at) or not sentinel.running or self._fleet.c_peers:
            # C Sentinels that have not switched yet redirect replicas to the old master.
            return
        views = [each.alive.core.registry.masters.get(name) for each in self._fleet.sentinels if each.running]
        master = sentinel.alive.core.registry.masters.get(name)
        if master is None or any(view is None or view.failover or view.config_epoch != epoch for view in views):
            # A newer failover has happened, or is in progress.
            return
        if any(
            of == name and who != sentinel.name and at >= ended_at - CORRECTION
            for (of, who), at in self._attempted_at.items()
        ):
            # A server that a rival promoted meanwhile stays a master until Sentinels may convert it.
            return
        place = (master.published_address.ip, REDIS_PORT)
        for group in self._fleet.masters:
            for server in group.servers if group.name == name else ():
                if self._now - self._redirected_at.get(server, NEVER) < CORRECTION:
                    continue
                if self._works(server) and server.host.reactor.seconds() - server.started_at > STABLE_SECONDS + LIMIT:
                    fine = server.is_master if server.address == place else server.master_address == place
                    what = f"{server.host.name} does not follow {place}, which {sentinel.name} failed {name} over to"
                    self._expect(fine, "follows", what)

    # Conditions for checking

    def _later(self, seconds: float, check: Callable[..., None], *arguments: object) -> None:
        self._fleet.simulation.call_later(seconds, check, *arguments)

    def _may_check(self, since: float | None) -> bool:
        """Whether there was no fault before ``since`` and after it. Without a time this does not matter."""
        return since is None or self.is_stable(since)

    def is_stable(self, moment: float) -> bool:
        stable_since = NEVER if self._stable_since is None else self._stable_since
        return self._stable_since is not None and stable_since <= moment - STABLE_SECONDS and not self._disturbed()

    def _disturbed(self) -> bool:
        """Whether the network, a Sentinel, or (apart from being killed) a server has a fault."""
        fleet = self._fleet
        if self._now < fleet.disturbed_until or fleet.network.disturbed:
            return True
        if any(server.host.running and not self._works(server) for server in fleet.servers):
            return True
        return not all(self._is_well(sentinel) for sentinel in fleet.sentinels)

    def _is_well(self, sentinel: SimSentinel) -> bool:
        if not sentinel.running or sentinel.host.reactor.stalled or sentinel.host.drift:
            return False
        files = sentinel.host.files
        slow = files.failing or files.fail_with is not None or files.max_wait > CHECK_INTERVAL
        return not slow and not sentinel.alive.core.tilt.active

    @staticmethod
    def _works(server: RedisInstance) -> bool:
        return server.host.running and not (server.host.reactor.stalled or server.busy or server.loading)

    def _same_process(self, server: RedisInstance, born: float) -> bool:
        return self._works(server) and server.started_at == born

    @property
    def _now(self) -> float:
        return self._fleet.simulation.seconds()


def _is_excluded(client: object, leader: str) -> bool:
    """Whether this is the connection on which the leader sends its orders."""
    return getattr(client, "ip", "") == leader and getattr(client, "kind", "") == "normal"
