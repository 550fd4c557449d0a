"""Why a master has no working master at the end of a what-if: what was seen, reachable and missing."""

from __future__ import annotations

from txsentinel.core.deadlines import next_attempt
from txsentinel.core.instances import Master
from txsentinel.core.quorum import is_reachable, reachable_sentinels, votes_needed
from txsentinel.sim.whatif.environment import Fixture, Installed, InstalledGroup, InstalledServer
from txsentinel.sim.whatif.ranking import rank


def why_not(fixture: Fixture, group: InstalledGroup, serving: InstalledServer | None) -> list[str]:
    """
    List the causes, then each Sentinel's own view; one sentence each. ``serving`` is the server that takes writes.
    """
    monitors = fixture.monitors(group.name)
    if serving is not None:
        master = fixture.master_of(group).name
        split = f"the client writes to {serving.name}, while most Sentinels have {master} as the master"
        return [split, *(f"{each.name} {_view(each, group)}" for each in monitors)]
    acting = [(each, view) for each in monitors if (view := _acting(each, group.name)) is not None]
    found = _causes(fixture, group, acting)
    writer = fixture.application.writers[group.name]
    if writer.refusals:
        found.append("the client received " + ", ".join(f"{word} {n} times" for word, n in writer.refusals.items()))
    return found + [f"{each.name} {_view(each, group)}" for each in monitors]


def _acting(sentinel: Installed, name: str) -> Master | None:
    """The Sentinels that know of the failure and could act."""
    if not sentinel.running or sentinel.host.reactor.stalled or sentinel.alive.core.tilt.active:
        return None
    return sentinel.view(name)


def _causes(fixture: Fixture, group: InstalledGroup, acting: list[tuple[Installed, Master]]) -> list[str]:
    down = [(each, view) for each, view in acting if view.sdown_since is not None]
    agreed = [(each, view) for each, view in acting if view.odown_since is not None]
    quorum = group.topology.options.quorum
    if not acting:
        return ["no Sentinel is able to act"]
    if not down:
        return ["no Sentinel that can act holds it down"]
    if not agreed:
        names = ", ".join(each.name for each, _ in down)
        total = len(fixture.monitors(group.name))
        many = f", and there are only {total} Sentinels" if quorum > total else ""
        return [f"no quorum: it takes {quorum} that hold it down and learn so from each other; {names} did{many}"]
    found: dict[str, list[str]] = {}
    for each, view in agreed:
        found.setdefault(_cause(fixture, each, view), []).append(each.name)
    return [f"{cause} ({', '.join(names)})" for cause, names in found.items()]


def _cause(fixture: Fixture, sentinel: Installed, master: Master) -> str:
    """What kept a Sentinel that knows of the agreement from a failover."""
    core = sentinel.alive.core
    if core.state.storage_failing:
        return "what is decided cannot be saved, so nothing is led"
    needed = votes_needed(master)
    reached = [fixture.called(name) for name, peer in master.peers.items() if is_reachable(peer)]
    if reachable_sentinels(master) < needed:
        return (
            f"no majority: of {master.voters} Sentinels {needed} must vote for a leader, and {sentinel.name} reaches "
            f"{', '.join(sorted(reached)) or 'nobody'} only"
        )
    ranking = rank(sentinel, master)
    if all(candidate.excluded is not None for candidate in ranking):
        each = "; ".join(f"{candidate.name}: {candidate.excluded}" for candidate in ranking)
        return f"no good replica: {each or 'there is none'}"
    if master.failover is not None:
        return f"a failover is under way: {master.failover.state.value}"
    wait = next_attempt(master) + 1 - sentinel.host.now()
    if wait > 0:
        return f"the next attempt may begin {wait / 1000:.0f} s later, two failover-timeouts after the last one"
    return "an attempt is about to begin"


def _view(sentinel: Installed, group: InstalledGroup) -> str:
    """The state of the master at one Sentinel."""
    if not sentinel.running:
        return "is not running"
    if sentinel.host.reactor.stalled:
        return "is frozen"
    master = sentinel.view(group.name)
    if master is None:
        return "is starting"
    now = sentinel.host.now()
    server = sentinel.fixture.server_of(master.published_address)
    name = str(master.published_address.joined()) if server is None else server.name
    if sentinel.alive.core.tilt.active:
        return "is in TILT and evaluates no instance"
    if master.odown_since is not None:
        return f"knows that the quorum holds {name} down, for {(now - master.odown_since) / 1000:.1f} s"
    if master.sdown_since is not None:
        return f"holds {name} down for {(now - master.sdown_since) / 1000:.1f} s"
    return f"holds {name} up, and received a reply from it {(now - master.link.available_at) / 1000:.1f} s ago"
