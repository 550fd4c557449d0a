"""Reports of what-ifs: the timeline, a summary of one run, and the spread of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Final

from txsentinel.sim.whatif.narrative import Change, TimelineEntry
from txsentinel.sim.whatif.ranking import explain
from txsentinel.sim.whatif.run import MasterResult, SeedResult
from txsentinel.sim.whatif.topology import Topology

ONE_MOMENT: Final = 0.005
"""Seconds within which like events are merged."""


def describe(topology: Topology) -> list[str]:
    """Describe the installation and the assumptions."""
    lines = [f"{topology.title}:"]
    for group in topology.groups:
        options = group.options
        lines.append(
            f"  {group.name}: quorum {options.quorum}, down after {options.down_after} ms, failover timeout "
            f"{options.failover_timeout} ms, parallel syncs {options.parallel_syncs}"
        )
        lines += [
            f"    {group.name}/{n:<4}{place}{'' if n > 1 else ', the master'}"
            for n, place in enumerate(group.servers, 1)
        ]
    everything = {group.name for group in topology.groups}
    for sentinel in topology.sentinels:
        some = "" if set(sentinel.masters) == everything else f", for {', '.join(sentinel.masters)} only"
        own = ", whose file this is" if sentinel.number == 1 else ""
        lines.append(f"  {sentinel.name}  {sentinel.place}{own}{some}")
    lines += [f"  assumed: {what}" for what in topology.assumed]
    return lines


def merged(entries: Sequence[TimelineEntry]) -> list[TimelineEntry]:
    """Merge like events of one Sentinel at one time into one entry."""
    groups: list[list[TimelineEntry]] = []
    latest: dict[tuple[str, str], int] = {}
    for entry in entries:
        key = (entry.who, entry.channel)
        place = latest.get(key)
        if entry.about and place is not None and entry.at - groups[place][0].at < ONE_MOMENT:
            groups[place].append(entry)
        else:
            latest[key] = len(groups)
            groups.append([entry])
    return [_as_one(group) for group in groups]


def _as_one(entries: Sequence[TimelineEntry]) -> TimelineEntry:
    first = entries[0]
    names = ", ".join(dict.fromkeys(entry.about for entry in entries))
    return replace(first, text=first.text.replace(first.about, names, 1)) if first.about else first


def timeline(entries: Sequence[TimelineEntry]) -> list[str]:
    """One line for each entry, and its details below."""
    who = max((len(entry.who) for entry in entries), default=0)
    channel = max((len(entry.channel) for entry in entries), default=0)
    lines = []
    for entry in merged(entries):
        start = f"{entry.at:10.3f}  {entry.who:<{who}}  {entry.channel:<{channel}}  "
        lines.append(start + entry.text)
        lines += [" " * len(start) + detail for detail in entry.details]
    return lines


def summary(result: SeedResult) -> list[str]:
    """Summarise one run."""
    lines = [f"before the first fault: {what}" for what in result.unstable_reasons]
    for master in result.masters:
        lines += _master(master)
    lines += [f"{path} was run {count} times" for path, count in result.scripts.items()]
    lines += [f"a bug of txsentinel: {failure}" for failure in result.failures]
    return lines


def _master(master: MasterResult) -> list[str]:
    if master.works:
        moved = f"{master.after} is the master" + ("" if master.after != master.before else " as before")
    else:
        moved = "NO WORKING MASTER" if master.after is None else "NO MASTER THAT CLIENTS AND SENTINELS AGREE ON"
    lines = [f"{master.name}: {moved}"]
    for change in master.changes:
        if change.agreed_at is None and not change.votes:
            lines.append(f"  {', '.join(change.detected_by)} held {change.old} down, without the quorum")
            continue
        title = "failover" if change.promoted_at is not None else "no failover"
        if change.after_repair:
            title = f"after the return: {title}"
        lines.append(f"  {title} from {change.old}; seconds after the fault at {change.fault_at:.3f}:")
        lines += [f"    {line}" for line in _change(change)]
    if master.why_not:
        lines.append("  why:")
        lines += [f"    {reason}" for reason in master.why_not]
    total = sum(outage.seconds for outage in master.outages)
    if not master.outages and master.acknowledged:
        lines.append("  writes always had a master")
    else:
        count = (
            ""
            if len(master.outages) == 1
            else f" in {len(master.outages)} spells, the longest {master.max_outage:.3f} s"
        )
        end = "" if master.outages[-1].until is not None else " and more: that is where we stopped to wait"
        lines.append(f"  writes had no master for {total:.3f} s{count}{end}")
    of = ", ".join(f"{count} of {name}" for name, count in master.lost_of.items())
    lines.append(f"  acknowledged writes lost: {master.lost} of {master.acknowledged}{f' ({of})' if of else ''}")
    lines += [f"  {what}" for what in master.returned]
    return lines


def _change(change: Change) -> list[str]:
    def after(at: float | None) -> str:
        return "    never" if at is None else f"{at - change.fault_at:9.3f}"

    lines = []
    if change.detected_at is not None or change.elected_at is None:
        lines.append(f"detection  {after(change.detected_at)}  held down by {', '.join(change.detected_by) or 'none'}")
        lines.append(f"agreement  {after(change.agreed_at)}  {change.agreed}".rstrip())
    elif change.agreed_at is not None:
        lines.append(f"agreement  {after(change.agreed_at)}  {change.agreed}".rstrip())
    elif change.after_repair:
        lines.append("held down since before the return")
    else:
        lines.append("ordered, with no Sentinel holding it down")
    votes = Counter(change.votes.values())
    counts = ", ".join(f"{count} for {name}" for name, count in votes.items())
    election = "" if change.epoch is None else f"{change.leader or 'none'}, in epoch {change.epoch} by {counts}"
    lines.append(f"election   {after(change.elected_at)}  {election}".rstrip())
    lines.append(f"promotion  {after(change.promoted_at)}  {change.chosen or ''}".rstrip())
    if change.published:
        first, last = min(change.published.values()), max(change.published.values())
        lines.append(
            f"published  {after(first)}  by {min(change.published, key=lambda name: change.published[name])}, the first"
        )
        lines.append(f"everywhere {after(last)}  by {', '.join(change.published)}")
        lines.append(f"finished   {after(change.finished_at)}")
    if change.candidates:
        lines.append("why this replica:")
        lines += [f"  {line}" for line in explain(change.candidates)]
    lines += change.aborted
    return lines


Figure = Callable[[Change], "float | None"]

FIGURES: tuple[tuple[str, Figure], ...] = (
    ("detection", lambda change: change.detected_at),
    ("agreement", lambda change: change.agreed_at),
    ("election", lambda change: change.elected_at),
    ("promotion", lambda change: change.promoted_at),
    ("everywhere", lambda change: max(change.published.values(), default=None)),
)


def spread(results: Sequence[SeedResult]) -> list[str]:
    """Median and worst of many seeds, master by master, and the replicas that won."""
    lines = []
    for number, first in enumerate(results[0].masters):
        masters = [result.masters[number] for result in results]
        working = sum(master.works for master in masters)
        lines.append(f"{first.name}: a working master in {working} of {len(results)} seeds")
        rounds = max(len(master.changes) for master in masters)
        for each in range(rounds):
            changes = [master.changes[each] for master in masters if len(master.changes) > each]
            title = f"failover {each + 1} " if rounds > 1 else "failover "
            lines.append(f"  {title:<24}{'median':>10}{'worst':>10}  in seconds after its fault")
            for name, figure in FIGURES:
                values = [at - change.fault_at for change in changes if (at := figure(change)) is not None]
                lines.append(_row(name, values, len(changes)))
            winners = Counter(change.chosen for change in changes if change.chosen is not None)
            lines.append(
                "    winners: "
                + (", ".join(f"{name} {count} times" for name, count in winners.most_common()) or "none")
            )
        outages = [sum(outage.seconds for outage in master.outages) for master in masters]
        lines.append(_row("without a master", outages, len(masters)))
        lost = [master.lost for master in masters]
        lines.append(f"    {'acknowledged writes lost':<24}{median(lost):>6g}{max(lost):>10}")
        reasons = Counter(reason for master in masters for reason in master.why_not[:1])
        lines += [f"    {count} times: {reason}" for reason, count in reasons.most_common()]
    return lines


def _row(name: str, values: Sequence[float], total: int) -> str:
    if not values:
        return f"    {name:<20}{'never':>10}"
    never = "" if len(values) == total else f"  ({total - len(values)} times never)"
    return f"    {name:<20}{median(values):>10.3f}{max(values):>10.3f}{never}"


def as_json(topology: Topology, results: Sequence[SeedResult]) -> dict[str, object]:
    """The results as values that JSON can represent."""
    return {
        "file": topology.title,
        "assumed": topology.assumed,
        "sentinels": {sentinel.name: str(sentinel.place) for sentinel in topology.sentinels},
        "masters": {
            group.name: {
                "servers": {f"{group.name}/{n}": str(place) for n, place in enumerate(group.servers, 1)},
                "quorum": group.options.quorum,
                "down_after_ms": group.options.down_after,
                "failover_timeout_ms": group.options.failover_timeout,
                "parallel_syncs": group.options.parallel_syncs,
            }
            for group in topology.groups
        },
        "works": all(result.works for result in results),
        "runs": [asdict(result) for result in results],
    }
