"""What goes wrong, when, and for how long: drawn from the seed, so that a seed is a plan."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from txsentinel.core.errors import CommandError
from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.redis import SimRedis

Undo = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One thing that goes wrong.

    ``at`` and ``lasts`` are in seconds of world time; ``kind`` is a key of :data:`KINDS`; ``dice``
    seeds whatever else the fault has to choose, such as its victim.
    """

    at: float
    kind: str
    lasts: float
    dice: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.at:.3f}:{self.lasts:.3f}:{self.dice}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """
        The fault that prints as ``text``.

        :raises ValueError: if none does.
        """
        kind, at, lasts, dice = text.split(":")
        if kind not in KINDS:
            raise ValueError(f"no such fault: {kind}")
        return cls(float(at), kind, float(lasts), int(dice))


def _kill_server(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    server = _pick_server(fleet, random)
    server.host.kill()
    return f"kill {server.host.name}", lambda: _restart(server)


def _crash_server(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    server = _pick_server(fleet, random)
    server.host.crash(refuse=random.random() < 0.3)
    return f"cut the power of {server.host.name}", lambda: _restart(server)


def _pause_server(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    server = _pick_server(fleet, random)
    server.host.pause()
    return f"pause {server.host.name}", server.host.resume


def _busy_server(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    server = _pick_server(fleet, random)
    server.start_script()
    return f"let a script keep {server.host.name} busy", server.end_script


def _kill_sentinel(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    sentinel = random.choice(fleet.sentinels)
    sentinel.host.kill()
    return f"kill {sentinel.name}", lambda: _restart(sentinel)


def _crash_sentinel(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    sentinel = random.choice(fleet.sentinels)
    sentinel.host.crash()
    return f"cut the power of {sentinel.name}", lambda: _restart(sentinel)


def _pause_sentinel(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    sentinel = random.choice(fleet.sentinels)
    sentinel.host.pause()
    return f"pause {sentinel.name}", sentinel.host.resume


def _isolate_sentinel(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    host = random.choice(fleet.sentinels).host
    fleet.network.isolate(host)
    return f"isolate {host.name}", fleet.network.heal


def _isolate_server(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    host = _pick_server(fleet, random).host
    fleet.network.isolate(host)
    return f"isolate {host.name}", fleet.network.heal


def _cut_pair(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    hosts = [sentinel.host for sentinel in fleet.sentinels] + [server.host for server in fleet.servers]
    a, b = random.sample(hosts, 2)
    both = random.random() < 0.5
    fleet.network.cut(a, b, both=both)
    return f"cut {a.name} {'and' if both else 'to'} {b.name}", lambda: fleet.network.heal(a, b)


def _split(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    hosts = [sentinel.host for sentinel in fleet.sentinels] + [server.host for server in fleet.servers]
    random.shuffle(hosts)
    at = random.randrange(1, len(hosts))
    fleet.network.partition(list(hosts[:at]), list(hosts[at:]))
    return f"partition {sorted(h.name for h in hosts[:at])} from the others", fleet.network.heal


def _reset_pair(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    a = random.choice(fleet.sentinels).host
    b = random.choice([server.host for server in fleet.servers] + [s.host for s in fleet.sentinels if s.host is not a])
    count = fleet.network.reset(a, b)
    return f"reset {count} connections between {a.name} and {b.name}", _nothing


def _half_open(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    a = random.choice(fleet.sentinels).host
    b = random.choice([server.host for server in fleet.servers])
    count = fleet.network.half_open(a, b)
    return f"half-open {count} connections between {a.name} and {b.name}", _nothing


def _slow_network(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    a = random.choice(fleet.sentinels).host
    latency = random.choice((0.02, 0.2, 1.5))
    others = [h for h in [*(s.host for s in fleet.sentinels), *(s.host for s in fleet.servers)] if h is not a]
    for b in others:
        fleet.network.slow(a, b, latency * 1000, latency * 500)
    return f"slow {a.name} down by {latency} s", fleet.network.calm


def _slow_disk(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    sentinel = random.choice(fleet.sentinels)
    files = sentinel.host.files
    before = files.latency
    files.latency = random.choice((50.0, 500.0, 3_000.0))
    return f"slow the disk of {sentinel.name} to {files.latency} ms", lambda: setattr(files, "latency", before)


def _full_disk(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    sentinel = random.choice(fleet.sentinels)
    sentinel.host.files.fail_with = OSError(errno.ENOSPC, "No space left on device")
    return f"fill the disk of {sentinel.name}", lambda: setattr(sentinel.host.files, "fail_with", None)


def _stuck_disk(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    sentinel = random.choice(fleet.sentinels)
    sentinel.host.files.stick()
    return f"let the disk of {sentinel.name} hang", sentinel.host.files.unstick


def _wall_clock(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    sentinel = random.choice(fleet.sentinels)
    jump = random.choice((-3600.0, -3.0, -0.5, 0.5, 3.0, 3600.0))
    sentinel.host.step_wall_clock(jump)
    return f"set the clock of {sentinel.name} by {jump} s", _nothing


def _manual_failover(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    sentinel = random.choice(fleet.sentinels)
    name = random.choice(fleet.masters).name
    if not sentinel.running:
        return f"order nothing, {sentinel.name} being down", _nothing
    core = sentinel.alive.core
    try:
        core.failover(name, sentinel.host.now())
    except CommandError as refusal:
        return f"order {sentinel.name} to fail {name} over: {refusal}", _nothing
    sentinel.alive.executor.drain()
    return f"order {sentinel.name} to fail {name} over", _nothing


def _misdirect(fleet: Fleet, random: Random) -> tuple[str, Undo]:
    server, other = random.sample(random.choice(fleet.masters).servers, 2)
    if server.host.running:
        server.replication.follow(other.address)
    return f"point {server.host.name} to {other.host.name}", _nothing


KINDS: Final[dict[str, Callable[[Fleet, Random], tuple[str, Undo]]]] = {
    "kill-server": _kill_server,
    "crash-server": _crash_server,
    "pause-server": _pause_server,
    "busy-server": _busy_server,
    "kill-sentinel": _kill_sentinel,
    "crash-sentinel": _crash_sentinel,
    "pause-sentinel": _pause_sentinel,
    "isolate-sentinel": _isolate_sentinel,
    "isolate-server": _isolate_server,
    "cut-pair": _cut_pair,
    "split": _split,
    "reset": _reset_pair,
    "half-open": _half_open,
    "slow-network": _slow_network,
    "slow-disk": _slow_disk,
    "full-disk": _full_disk,
    "stuck-disk": _stuck_disk,
    "wall-clock": _wall_clock,
    "manual-failover": _manual_failover,
    "misdirect": _misdirect,
}
"""Kind → what it does; it returns what happened in words, and how to end it."""


def draw_plan(seed: int, seconds: float) -> list[Fault]:
    """
    The faults of a run: a mixture that differs from seed to seed in kinds, number and length.

    Drawing a few kinds per run, instead of all of them thinly, lets them meet.
    """
    random = Random(f"plan/{seed}")
    kinds = random.sample(sorted(KINDS), random.randint(1, 6))
    gap = random.choice((2.0, 6.0, 15.0))
    longest = random.choice((1.0, 5.0, 30.0))
    plan = []
    at = random.uniform(0.0, 2 * gap)
    while at < seconds:
        lasts = random.uniform(0.05, longest)
        plan.append(Fault(round(at, 3), random.choice(kinds), round(lasts, 3), random.getrandbits(32)))
        at += random.expovariate(1 / gap)
    return plan


class FaultInjector:
    """Carries a plan out in a fleet; ``log`` tells what was done."""

    def __init__(self, fleet: Fleet, plan: list[Fault]) -> None:
        self._fleet = fleet
        self.log: list[tuple[float, str]] = []
        for fault in plan:
            fleet.world.call_later(fault.at, self._inject, fault)

    def _inject(self, fault: Fault) -> None:
        what, undo = KINDS[fault.kind](self._fleet, Random(fault.dice))
        self.log.append((self._fleet.world.seconds(), what))
        self._fleet.world.call_later(fault.lasts, undo)


def heal(fleet: Fleet) -> None:
    """End every fault: everybody runs, everything connects, every disk works."""
    fleet.network.heal()
    fleet.network.calm()
    for server in fleet.servers:
        server.end_script()
        server.host.resume()
        if not server.host.running:
            server.host.restart()
    for sentinel in fleet.sentinels:
        files = sentinel.host.files
        files.fail_with = None
        files.latency = 2.0
        files.unstick()
        sentinel.host.resume()
        if not sentinel.host.running:
            sentinel.host.restart()


def _nothing() -> None:
    """Some faults need no end."""


def _pick_server(fleet: Fleet, random: Random) -> SimRedis:
    """Any server, masters more often than chance has it: they matter more."""
    servers = fleet.servers
    masters = [server for server in servers if server.host.running and server.is_master]
    return random.choice(masters if masters and random.random() < 0.6 else servers)


def _restart(victim: SimRedis | SimSentinel) -> None:
    if not victim.host.running:
        victim.host.restart()
