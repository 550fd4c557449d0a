"""``txsentinel topology``: the master and its replicas as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from txsentinel.cli.operator.screen import Block, Grid, Result, Styled, Words, line, records_of
from txsentinel.cli.operator.statuses import DISAGREEMENT, NO_AGREEMENT, OK, VerbFailed
from txsentinel.cli.operator.visible import size
from txsentinel.model.explanation import ReplicaFitness
from txsentinel.model.plain import plain
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.fitness import fitness_of
from txsentinel.remote.fleet import FleetReport
from txsentinel.remote.reports import CachedInfo, InstanceReport, MasterReport

MAX_DEPTH = 16
"""Levels of replicas of replicas that are shown below each other."""


@dataclass(frozen=True)
class Node:
    """A replica in the tree; ``lag`` in bytes, ``None`` if unknown."""

    depth: int
    replica: InstanceReport
    fitness: ReplicaFitness
    lag: int | None
    follows: Endpoint


def show_topology(fleet: FleetReport, name: str) -> Result:
    """
    Return the tree as the Sentinels with the newest address report it.

    :raises VerbFailed: if there is no agreement.
    """
    agreement = agreement_on(fleet, name)
    report = agreement.report()
    if report is None:
        raise VerbFailed(f"no Sentinel monitors {name}", NO_AGREEMENT)
    nodes = tree_of(report)
    offset = _offset(report.info_of(report.master))
    shown = "" if offset is None else f"offset {offset:,}"
    state = report.master.state
    rows: list[tuple[Words, ...]] = [
        (Styled(str(report.endpoint), "strong"), "master", shown, "", Styled(*_master_state(state)))
    ]
    records: list[tuple[object, ...]] = [(0, report.endpoint, "master", None, offset, 0, None, state, "")]
    for node in nodes:
        rows.append(_row(node))
        unfit = node.fitness.unfit
        records.append(
            (
                node.depth,
                node.replica.endpoint,
                "replica",
                node.follows,
                node.fitness.offset,
                node.lag,
                node.fitness.priority,
                node.replica.state,
                unfit.text if unfit else "",
            )
        )
    columns = ("depth", "address", "role", "follows", "offset", "lag_bytes", "priority", "state", "unfit")
    data = plain(
        {
            "name": name,
            "master": report.endpoint,
            "offset": offset,
            "state": state,
            "replicas": [
                {"follows": node.follows, "depth": node.depth, "lag_bytes": node.lag, "state": node.replica.state}
                | {"fitness": node.fitness}
                for node in nodes
            ],
        }
    )
    blocks: list[Block] = [Grid((), tuple(rows))]
    if not agreement.agreed:
        blocks.append(line(f"! only {len(agreement.naming)} of {agreement.known} Sentinels have this address"))
    sound = agreement.agreed and report.master.usable and any(node.fitness.fit for node in nodes)
    return Result(data, tuple(blocks), records_of(columns, records), OK if sound else DISAGREEMENT)


def _master_state(state: str) -> tuple[str, str]:
    return ("", "good") if state == "ok" else (state, "bad")


def _row(node: Node) -> tuple[Words, ...]:
    fitness = node.fitness
    if fitness.rank == 1:
        remark = Styled("next to be promoted", "good")
    elif fitness.unfit is not None:
        remark = Styled(f"unfit: {fitness.unfit.text}", "bad")
    else:
        remark = Styled("", "weak")
    behind: Words = "lag unknown" if node.lag is None else f"{size(node.lag)} behind"
    if node.replica.fields.get("master-link-status") != "ok" and node.replica.usable:
        behind = Styled("link to the master is down", "bad")
    return (
        f"{'+ ' * node.depth}{node.replica.endpoint}",
        "replica",
        behind,
        f"priority {fitness.priority}",
        remark,
    )


def tree_of(report: MasterReport) -> tuple[Node, ...]:
    """Return all replicas, each below the one that it follows; those that follow something else are on top."""
    fitness = {each.name: each for each in fitness_of(report)}
    order = list(fitness)
    replicas = {str(each.endpoint): each for each in report.replicas}
    below: dict[str, list[str]] = {}
    for name in order:
        target = str(_follows(replicas[name]))
        below.setdefault(target if target in replicas and target != name else "", []).append(name)
    offset = _offset(report.info_of(report.master))

    def below_of(above: str, depth: int) -> Iterator[Node]:
        for name in below.pop(above, ()):
            replica = replicas[name]
            yield Node(depth, replica, fitness[name], _lag(report, replica, offset), _follows(replica))
            if depth < MAX_DEPTH:
                yield from below_of(name, depth + 1)

    nodes = [*below_of("", 1)]
    # Replicas that follow each other in a circle are below nothing.
    while below:
        nodes += below_of(next(iter(below)), 1)
    return tuple(nodes)


def _follows(replica: InstanceReport) -> Endpoint:
    return Endpoint(replica.fields.get("master-host", "?"), replica.number("master-port"))


def _offset(info: CachedInfo | None) -> int | None:
    return None if info is None else info.offset


def _lag(report: MasterReport, replica: InstanceReport, master_offset: int | None) -> int | None:
    """Return the bytes that a replica is behind its master, if both have one replication ID."""
    info, own = report.info_of(report.master), report.info_of(replica)
    if info is None or own is None or master_offset is None or info.replid != own.replid:
        return None
    return max(master_offset - (own.offset or 0), 0)
