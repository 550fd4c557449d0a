"""Why a replica won: the leader's state of each candidate at that moment, evaluated by the rules of production."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from txsentinel.core.instances import Master, Replica
from txsentinel.core.selection import PREFERENCES, order_of_promotion, unfit_because
from txsentinel.sim.whatif.environment import Installed


@dataclass(frozen=True, slots=True)
class Candidate:
    """One replica, as the leader knows it."""

    name: str
    without_master_ms: int
    """Milliseconds for which it reports no link to its master; −1000 if it never had one."""
    priority: int
    offset: int
    run_id: str
    excluded: str | None
    """Why it may not be promoted; ``None`` if it may."""
    behind: str | None = None
    """The first rule by which another one was better; ``None`` for the best."""


def rank(sentinel: Installed, master: Master) -> list[Candidate]:
    """Rank all replicas that ``sentinel`` knows: first the one that it would promote, last the excluded ones."""
    timings, now = sentinel.alive.core.timings, sentinel.host.now()
    reasons = [(replica, unfit_because(replica, master, timings, now)) for replica in master.replicas.values()]
    fit = sorted((replica for replica, reason in reasons if reason is None), key=order_of_promotion)
    found = [_candidate(sentinel, replica, None, _behind(fit[0], replica)) for replica in fit]
    return found + [
        _candidate(sentinel, replica, reason.text, None) for replica, reason in reasons if reason is not None
    ]


def _candidate(sentinel: Installed, replica: Replica, excluded: str | None, behind: str | None) -> Candidate:
    server = sentinel.fixture.server_of(replica.address)
    return Candidate(
        name=replica.name if server is None else server.name,
        without_master_ms=replica.master_link_down_for,
        priority=replica.priority,
        offset=replica.repl_offset,
        run_id=replica.run_id or "",
        excluded=excluded,
        behind=behind,
    )


def _behind(best: Replica, other: Replica) -> str | None:
    """The first criterion in which the two differ."""
    keys = zip(PREFERENCES, order_of_promotion(best), order_of_promotion(other), strict=True)
    return next((preference for preference, ours, theirs in keys if ours != theirs), None)


def explain(candidates: Sequence[Candidate]) -> list[str]:
    """Format the ranking, the winner first."""
    lines = []
    for place, each in enumerate(candidates, 1):
        if each.excluded is not None:
            lines.append(f"-  {each.name}: excluded: {each.excluded}")
            continue
        link = "" if each.without_master_ms <= 0 else f", {each.without_master_ms / 1000:g} s without its master"
        values = f"priority {each.priority}, offset {each.offset}, run ID {each.run_id[:8] or 'unknown'}{link}"
        verdict = _why_first(candidates) if each.behind is None else f"the first has {each.behind}"
        lines.append(f"{place}. {each.name}: {values}: {verdict}")
    return lines


def _why_first(candidates: Sequence[Candidate]) -> str:
    rivals = [each.behind for each in candidates if each.behind is not None]
    if not rivals:
        return "the only one that may be promoted"
    return f"promoted for: {', '.join(dict.fromkeys(rivals))}"
