"""All fault types of a fleet: what each does, and how it ends."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import Final

from txsentinel.core.effects import Effect
from txsentinel.sim.c_sentinel import CSentinel
from txsentinel.sim.disk_faults import bind_mount, failing_disk, torn_write, unreadable_disk
from txsentinel.sim.disk_faults import restart as _restart
from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.group_faults import Done, Undo, isolate_with_minority, lost_handover, masterless, pause_group
from txsentinel.sim.harmless_faults import refuse_sentinels, starve_sentinel
from txsentinel.sim.host import SimHost
from txsentinel.sim.operator_orders import (
    change_setting,
    coordinated_failover,
    foreign_master,
    manual_failover,
    monitor_anew,
    nothing,
    redirect_replica,
    reset_master,
    rival_failovers,
    set_priority,
)
from txsentinel.sim.pause_faults import pause_failovers
from txsentinel.sim.redis.server import SimRedis


def _kill_server(fleet: Fleet, random: Random) -> Done:
    server = _pick_server(fleet, random)
    server.host.kill()
    return f"kill {server.host.name}", lambda: _restart(server)


def _crash_server(fleet: Fleet, random: Random) -> Done:
    server = _pick_server(fleet, random)
    server.host.crash(refuse=random.random() < 0.3)
    return f"cut the power of {server.host.name}", lambda: _restart(server)


def _pause_server(fleet: Fleet, random: Random) -> Done:
    server = _pick_server(fleet, random)
    server.host.pause()
    return f"pause {server.host.name}", server.host.resume


def _busy_server(fleet: Fleet, random: Random) -> Done:
    server = _pick_server(fleet, random)
    server.start_script()
    return f"let a script keep {server.host.name} busy", server.end_script


def _kill_sentinel(fleet: Fleet, random: Random) -> Done:
    sentinel = random.choice(_monitors(fleet))
    sentinel.host.kill()
    return f"kill {sentinel.name}", lambda: _restart(sentinel)


def _crash_sentinel(fleet: Fleet, random: Random) -> Done:
    sentinel = random.choice(fleet.sentinels)
    sentinel.host.crash()
    return f"cut the power of {sentinel.name}", lambda: _restart(sentinel)


def _pause_sentinel(fleet: Fleet, random: Random) -> Done:
    sentinel = random.choice(fleet.sentinels)
    sentinel.host.pause()
    return f"pause {sentinel.name}", sentinel.host.resume


def _slow_sentinel(fleet: Fleet, random: Random) -> Done:
    """A loaded processor: data is read later and later, while the clock proceeds."""
    slow = random.sample(fleet.sentinels, random.randint(1, len(fleet.sentinels)))
    milliseconds = random.choice((10, 50, 250))
    for sentinel in slow:
        sentinel.host.reactor.slow_down(1_000 * milliseconds)

    def end() -> None:
        for sentinel in slow:
            sentinel.host.reactor.slow_down(0)

    return f"let {sorted(each.name for each in slow)} take {milliseconds} ms to read anything", end


def _isolate_sentinel(fleet: Fleet, random: Random) -> Done:
    host = random.choice(_monitors(fleet)).host
    fleet.network.isolate(host)
    return f"isolate {host.name}", fleet.network.heal


def _isolate_server(fleet: Fleet, random: Random) -> Done:
    host = _pick_server(fleet, random).host
    fleet.network.isolate(host)
    return f"isolate {host.name}", fleet.network.heal


def _cut_pair(fleet: Fleet, random: Random) -> Done:
    hosts = _hosts(fleet)
    a, b = random.sample(hosts, 2)
    both = random.random() < 0.5
    fleet.network.cut(a, b, both=both)
    return f"cut {a.name} {'and' if both else 'to'} {b.name}", lambda: fleet.network.heal(a, b)


def _split(fleet: Fleet, random: Random) -> Done:
    hosts = _hosts(fleet)
    random.shuffle(hosts)
    at = random.randrange(1, len(hosts))
    fleet.network.partition(list(hosts[:at]), list(hosts[at:]))
    return f"partition {sorted(h.name for h in hosts[:at])} from the others", fleet.network.heal


def _reset_pair(fleet: Fleet, random: Random) -> Done:
    a = random.choice(fleet.sentinels).host
    b = random.choice([server.host for server in fleet.servers] + [s.host for s in fleet.sentinels if s.host is not a])
    count = fleet.network.reset(a, b)
    return f"reset {count} connections between {a.name} and {b.name}", nothing


def _half_open(fleet: Fleet, random: Random) -> Done:
    a = random.choice(fleet.sentinels).host
    b = random.choice([server.host for server in fleet.servers])
    count = fleet.network.half_open(a, b)
    return f"half-open {count} connections between {a.name} and {b.name}", nothing


def _reject_pair(fleet: Fleet, random: Random) -> Done:
    a = random.choice(fleet.sentinels).host
    b = _pick_server(fleet, random).host
    fleet.network.reject(a, b)
    return f"reject all connections of {a.name} to {b.name}", lambda: fleet.network.admit(a, b)


def _slow_network(fleet: Fleet, random: Random) -> Done:
    a = random.choice(fleet.sentinels).host
    latency = random.choice((0.02, 0.2, 1.5))
    others = [h for h in [*(s.host for s in fleet.sentinels), *(s.host for s in fleet.servers)] if h is not a]
    for b in others:
        fleet.network.slow(a, b, latency * 1000, latency * 500)
    return f"slow {a.name} down by {latency} s", fleet.network.clear_degradation


def _slow_disk(fleet: Fleet, random: Random) -> Done:
    sentinel = random.choice(fleet.sentinels)
    files = sentinel.host.files
    before = files.latency
    files.latency = random.choice((50.0, 500.0, 3_000.0))
    return f"slow the disk of {sentinel.name} to {files.latency} ms", lambda: setattr(files, "latency", before)


def _full_disk(fleet: Fleet, random: Random) -> Done:
    sentinel = random.choice(fleet.sentinels)
    sentinel.host.files.fail_with = OSError(errno.ENOSPC, "No space left on device")
    return f"fill the disk of {sentinel.name}", lambda: setattr(sentinel.host.files, "fail_with", None)


def _stuck_disk(fleet: Fleet, random: Random) -> Done:
    sentinel = random.choice(fleet.sentinels)
    sentinel.host.files.stick()
    return f"let the disk of {sentinel.name} hang", sentinel.host.files.unstick


def _wall_clock(fleet: Fleet, random: Random) -> Done:
    sentinel = random.choice(fleet.sentinels)
    jump = random.choice((-3600.0, -3.0, -0.5, 0.5, 3.0, 3600.0))
    sentinel.host.step_wall_clock(jump)
    return f"set the clock of {sentinel.name} by {jump} s", nothing


def _skewed_clock(fleet: Fleet, random: Random) -> Done:
    host = random.choice(fleet.sentinels).host
    host.drift = random.choice((-0.2, -0.01, 0.01, 0.2))
    return f"let the clock of {host.name} run {host.drift:+} fast", lambda: setattr(host, "drift", 0.0)


def _crash_at_effect(fleet: Fleet, random: Random) -> Done:
    """Crash between two effects of one decision, with or without flushing the effects before."""
    sentinel = random.choice(fleet.sentinels)
    number = random.choice((1, 2, 3, 5, 8, 13, 21, 34, 55))
    power, flushed = random.random() < 0.5, random.random() < 0.5
    die: Callable[[], None] = sentinel.host.crash if power else sentinel.host.kill
    if not sentinel.running:
        return f"leave {sentinel.name} down", lambda: _restart(sentinel)
    service = sentinel.alive
    barrier = service.executor.barrier
    perform = barrier._perform
    left = number
    aimed = True

    def over() -> None:
        # Not uninstalled: another fault may have wrapped it meanwhile.
        nonlocal aimed
        aimed = left <= 0
        _restart(sentinel)

    def counted(effect: Effect) -> None:
        nonlocal left
        if not aimed:
            perform(effect)
            return
        left -= 1
        if left < 0:
            return
        perform(effect)
        if left == 0:
            if flushed:
                service.links.flush()
                reactor = sentinel.host.reactor
                fleet.simulation.call_later(1e-6, lambda: None if reactor.dead else die())
            else:
                die()

    barrier._perform = counted
    how = "cut the power of" if power else "kill"
    return f"{how} {sentinel.name} {'after' if flushed else 'at'} its effect number {number} from now", over


def _one_way_block(fleet: Fleet, random: Random) -> Done:
    """Block one direction: a host receives everything and sends nothing, or the reverse."""
    host = random.choice([*(s.host for s in fleet.sentinels), *(s.host for s in fleet.servers)])
    inbound_blocked = random.random() < 0.5
    for other in _hosts(fleet):
        if other is not host:
            if inbound_blocked:
                fleet.network.cut(other, host, both=False)
            else:
                fleet.network.cut(host, other, both=False)
    return f"block {'inbound' if inbound_blocked else 'outbound'} traffic of {host.name}", lambda: fleet.network.heal(
        host
    )


def _uneven_network(fleet: Fleet, random: Random) -> Done:
    hosts = _hosts(fleet)
    for a in hosts:
        for b in hosts:
            if a is not b and random.random() < 0.3:
                fleet.network.slow(a, b, random.choice((1.0, 10.0, 100.0, 400.0)), 20.0, both=False)
    return "give every direction a latency of its own", fleet.network.clear_degradation


def _lossy_network(fleet: Fleet, random: Random) -> Done:
    hosts = _hosts(fleet)
    chance = random.choice((0.02, 0.2))
    for a in hosts:
        for b in hosts:
            if a.name < b.name:
                fleet.network.lose(a, b, chance)
    return f"lose {chance:.0%} of all segments", fleet.network.clear_degradation


def _bad_names(fleet: Fleet, random: Random) -> Done:
    host = random.choice(fleet.sentinels).host
    how = random.choice(("slow", "silent", "unknown"))
    names = dict(host.names)
    if how == "slow":
        host.resolve_delay = 3.0
    elif how == "silent":
        host.resolver_silent = True
    else:
        host.names.clear()

    def end() -> None:
        host.resolve_delay, host.resolver_silent = 0.005, False
        host.names.update(names)

    return f"let the resolver of {host.name} be {how}", end


def _load(fleet: Fleet, random: Random) -> Done:
    server = _pick_server(fleet, random)
    if server.host.running and not server.loading:
        if random.random() < 0.5:
            server.start_loading(random.choice((0.5, 3.0, 10.0)))
        else:
            server.load_seconds = random.choice((0.5, 3.0, 10.0))
            server.host.restart()
    return f"let {server.host.name} load", lambda: setattr(server, "load_seconds", 0.0)


def _false_hello(fleet: Fleet, random: Random) -> Done:
    server = _pick_server(fleet, random)
    server.claimed_role = random.choice(("master", "slave"))
    return f"let {server.host.name} claim to be a {server.claimed_role}", lambda: setattr(server, "claimed_role", None)


def _empty(fleet: Fleet, random: Random) -> Done:
    server = _pick_server(fleet, random)
    server.host.kill()
    server.storage.erase()
    fleet.simulation.call_later(random.choice((0.01, 0.1, 0.2, 0.5, 2.0)), _restart, server)
    return f"have {server.host.name} come back empty", nothing


def _supervised_restart(fleet: Fleet, random: Random) -> Done:
    """A server dies, and its supervisor starts it again, with whatever it has persisted."""
    server = _pick_server(fleet, random)
    if random.random() < 0.5 and server.host.running:
        server.save()
    fleet.simulation.call_later(0.5, server.host.kill)
    delay = random.uniform(0.1, 2.0)
    fleet.simulation.call_later(0.5 + delay, _restart, server)
    return f"kill {server.host.name}, which is restarted after {delay:.1f} s", nothing


def _flap(fleet: Fleet, random: Random) -> Done:
    server = _pick_server(fleet, random)

    def again() -> None:
        if server.host.running:
            server.host.restart()

    for number in range(6):
        fleet.simulation.call_later(0.7 * number, again)
    return f"restart {server.host.name} again and again", nothing


def _pause_writes(fleet: Fleet, random: Random) -> Done:
    server = _pick_server(fleet, random)
    if server.host.running:
        server.pause_clients(random.choice((500, 3_000, 10_000)), writes_only=True)
    return f"hold the writes of {server.host.name}", nothing


def _masters_die(fleet: Fleet, random: Random) -> Done:
    dying = [server for server in fleet.servers if server.host.running and server.is_master]
    for server in dying:
        server.host.kill()

    def end() -> None:
        for server in dying:
            _restart(server)

    return f"kill {', '.join(server.host.name for server in dying)} at once", end


FAULT_TYPES: Final[dict[str, Callable[[Fleet, Random], tuple[str, Undo]]]] = {
    "kill-server": _kill_server,
    "crash-server": _crash_server,
    "pause-server": _pause_server,
    "pause-group": pause_group,
    "pause-failovers": pause_failovers,
    "busy-server": _busy_server,
    "kill-sentinel": _kill_sentinel,
    "crash-sentinel": _crash_sentinel,
    "pause-sentinel": _pause_sentinel,
    "slow-sentinel": _slow_sentinel,
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
    "manual-failover": manual_failover,
    "misdirect": redirect_replica,
    "masterless": masterless,
    "lost-handover": lost_handover,
    "skewed-clock": _skewed_clock,
    "disk-failure": failing_disk,
    "torn-write": torn_write,
    "unreadable-disk": unreadable_disk,
    "bind-mount": bind_mount,
    "crash-at-effect": _crash_at_effect,
    "directional-block": _one_way_block,
    "uneven-network": _uneven_network,
    "lossy-network": _lossy_network,
    "bad-names": _bad_names,
    "load": _load,
    "lie": _false_hello,
    "empty": _empty,
    "supervised-restart": _supervised_restart,
    "set-priority": set_priority,
    "foreign-master": foreign_master,
    "flap": _flap,
    "pause-writes": _pause_writes,
    "masters-die": _masters_die,
    "rival-failovers": rival_failovers,
    "coordinated-failover": coordinated_failover,
    "set": change_setting,
    "reset-master": reset_master,
    "monitor-anew": monitor_anew,
    "reject-pair": _reject_pair,
    "isolate-with-minority": isolate_with_minority,
    "refuse-sentinels": refuse_sentinels,
    "starve-sentinel": starve_sentinel,
}
"""Fault type → function that injects it. It returns a description, and the function that ends the fault."""


def _pick_server(fleet: Fleet, random: Random) -> SimRedis:
    """Draw a server, with a preference for masters."""
    servers = fleet.servers
    masters = [server for server in servers if server.host.running and server.is_master]
    return random.choice(masters if masters and random.random() < 0.6 else servers)


def _hosts(fleet: Fleet) -> list[SimHost]:
    return [*(each.host for each in _monitors(fleet)), *(server.host for server in fleet.servers)]


def _monitors(fleet: Fleet) -> list[SimSentinel | CSentinel]:
    return [*fleet.sentinels, *fleet.c_peers]
