"""The verbs that remove members of a group and drain hosts: forget and drain."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import click

from txsentinel.cli.operator.agreed import known_master
from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.output import show
from txsentinel.cli.operator.screen import Block, Grid, Result, Styled, Words, line, records_of
from txsentinel.cli.operator.statuses import ABORTED, DISAGREEMENT, OK, UNKNOWN, USAGE, VerbFailed
from txsentinel.cli.operator.text_options import milliseconds
from txsentinel.cli.operator.visible import plural, visible
from txsentinel.model.plain import Plain, plain
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.addresses import BadAddress, parse_endpoint
from txsentinel.remote.agreement import AddressAgreement, agreement_on
from txsentinel.remote.connection import ConnectionFailed, ErrorAnswer
from txsentinel.remote.decoding import UnknownForm
from txsentinel.remote.fleet import FleetReport
from txsentinel.remote.membership import (
    DrainReport,
    GroupSize,
    NodeOutcome,
    Removal,
    ResetInTurn,
    drain_of,
    find_member,
    lists_member,
    order,
    removal_of,
)
from txsentinel.remote.reports import SentinelReport
from txsentinel.remote.switchover import Switchover, limits_for
from txsentinel.remote.switchover_checks import plan_switchover
from txsentinel.remote.write_stops import SwitchoverAborted

ORDER_SECONDS: Final = 10.0
"""Timeout of an order that all Sentinels execute."""

SWITCH_SECONDS: Final = 200.0
"""Added to the time that a drain may wait for clients: the default ``failover-timeout`` and a margin."""

MAX_LAG: Final = 1 << 20
MAX_PAUSE: Final = 2_000

MIN_ID_PREFIX: Final = 6
"""Shortest beginning of an ID that names a Sentinel."""

RESET_HINT: Final = (
    "--reset-c-peers has C Sentinels forget it by SENTINEL RESET, one after the other, at least 30 s apart; each one"
    " forgets all others for some seconds"
)


def is_ours(sentinel: SentinelReport) -> bool:
    """Return whether a Sentinel answers and is a txsentinel."""
    return sentinel.identity is not None and not sentinel.identity.is_c


def is_c(sentinel: SentinelReport) -> bool:
    """Return whether a Sentinel answers and is a C Sentinel."""
    return sentinel.identity is not None and sentinel.identity.is_c


@click.command("forget")
@click.argument("master")
@click.argument("node", metavar="HOST:PORT|ID")
@click.option("--for", "period", type=milliseconds, default="24h", show_default=True, help="How long it is kept away.")
@click.option("--force", is_flag=True, help="Although a minority is asked, or the replica follows another server.")
@click.option("--reset-c-peers", is_flag=True, help="Have C Sentinels forget it by SENTINEL RESET, one after another.")
@common
def forget_verb(access: FleetAccess, master: str, node: str, period: int, force: bool, reset_c_peers: bool) -> int:
    """
    Remove a Sentinel or replica of MASTER that does not exist any more.

    A Sentinel is named by its address or the beginning of its ID. It is refused if any Sentinel sees it alive. Status 0
    removed everywhere, 2 some Sentinels keep it, 5 refused.
    """
    agreement = known_master(access.read([master]), master)
    member = find_member(agreement, node, _endpoint(node))
    if member is None:
        raise VerbFailed(f"not exactly one Sentinel or replica of {master} is {node}", UNKNOWN)
    ours = [each for each in agreement.members if is_ours(each)]
    theirs = [each for each in agreement.members if is_c(each) and lists_member(each, master, member) is not None]
    if not ours and not reset_c_peers:
        raise VerbFailed(f"all Sentinels of {master} are C Sentinels, so nothing was done", ABORTED, [RESET_HINT])
    removal = None
    rows: list[NodeOutcome] = []
    if ours:
        removal = _forget(access, ours, master, member, period, force=force)
        listed = {each.sentinel_id for each in theirs}
        rows = [each for each in removal.sentinels if each.id not in listed]
    else:
        _check_dead(agreement, member, force=force)
    if reset_c_peers:
        turn = ResetInTurn(agreement, member, access.settings, _progress(access))
        rows += turn.run(theirs)
    else:
        rows += [NodeOutcome(each.sentinel_id, str(each.endpoint), each.kind, "keeps it") for each in theirs]
    show(removal_result(master, member, () if removal is None else removal.masters, rows), access.form)
    return DISAGREEMENT if _keeping(rows) else OK


def _endpoint(node: str) -> Endpoint | None:
    """
    Return an address; ``None`` if it is the beginning of an ID.

    :raises VerbFailed: if it is neither.
    """
    if ":" not in node:
        if len(node) < MIN_ID_PREFIX:
            raise VerbFailed(f"{node!r} is no address, and too short for the beginning of an ID", USAGE)
        return None
    try:
        return parse_endpoint(node, 0)
    except BadAddress as error:
        raise VerbFailed(str(error), USAGE) from None


def _forget(
    access: FleetAccess,
    ours: Sequence[SentinelReport],
    master: str,
    member: tuple[str | None, Endpoint],
    period: int,
    *,
    force: bool,
) -> Removal:
    """
    Order the removal at the first Sentinel of ours that knows the member.

    :raises VerbFailed: if it is refused.
    """
    sentinel_id, endpoint = member
    words = ("ID", sentinel_id) if sentinel_id is not None else ("NODE", endpoint.host, str(endpoint.port))
    more = ("FOR", str(period), *(["FORCE"] if force else []))
    problems = []
    for sentinel in ours:
        try:
            answer = order(sentinel, access.settings, ORDER_SECONDS, "FORGET", master, *words, *more)
            return removal_of(answer)
        except ErrorAnswer as refusal:
            code, _, reason = str(refusal).partition(" ")
            if code != "UNKNOWNNODE":
                details = ["--force overrides this"] if code == "WOULDBREAKMAJORITY" else []
                raise VerbFailed(f"refused by {sentinel.endpoint}: {reason}", ABORTED, details) from None
            problems.append(f"{sentinel.endpoint}: {reason}")
        except (ConnectionFailed, UnknownForm) as problem:
            problems.append(f"{sentinel.endpoint}: {problem}")
    raise VerbFailed("no Sentinel of txsentinel has removed it", UNKNOWN, problems)


def _check_dead(agreement: AddressAgreement, member: tuple[str | None, Endpoint], *, force: bool) -> None:
    """
    Check that no C Sentinel sees a member alive, and that a majority of them can be asked.

    :raises VerbFailed: otherwise.
    """
    name = agreement.name
    for each in agreement.members:
        listed = lists_member(each, name, member)
        if listed is not None and listed.usable:
            raise VerbFailed(f"refused: {each.endpoint} sees {member[1]} alive", ABORTED)
        if each.reachable and each.endpoint == member[1]:
            raise VerbFailed(f"refused: the Sentinel at {member[1]} answers", ABORTED)
    asked = sum(1 for each in agreement.members if each.reachable and name in each.masters)
    if member[0] is not None and asked < agreement.majority and not force:
        text = f"only {asked} of {agreement.known} Sentinels answer, {agreement.majority} are a majority"
        raise VerbFailed(
            f"refused: {text}; if the others are only cut off, each side can elect a leader afterwards",
            ABORTED,
            ["--force overrides this"],
        )


def _progress(access: FleetAccess) -> _Progress:
    return _Progress(access.form)


class _Progress:
    """Writes the steps of what takes long: to standard output with the table, else to standard error."""

    def __init__(self, form: str) -> None:
        self._stream = sys.stdout if form == "table" else sys.stderr

    def __call__(self, text: str) -> None:
        self._stream.write(f"{visible(text)}\n")
        self._stream.flush()


def _keeping(rows: Sequence[NodeOutcome]) -> int:
    return sum(1 for each in rows if not each.result.startswith(("removed", "did not know")))


def _outcomes(rows: Sequence[NodeOutcome], good: tuple[str, ...]) -> Grid:
    shown: list[tuple[Words, ...]] = []
    for each in rows:
        outcome = Styled(each.result, "good" if each.result.startswith(good) else "warning")
        shown.append(((each.id or "-")[:8], each.address or "the one asked", each.kind, outcome))
    return Grid(("ID", "SENTINEL", "KIND", "RESULT"), tuple(shown), (2, 0))


def removal_result(
    master: str, member: tuple[str | None, Endpoint], groups: Sequence[GroupSize], rows: Sequence[NodeOutcome]
) -> Result:
    """Return what each Sentinel did about a removal."""
    kind = "replica" if member[0] is None else f"Sentinel {member[0][:8]}"
    keeping = _keeping(rows)
    blocks: list[Block] = [line(Styled(master, "strong"), f": {kind} at {member[1]}", indent=2)]
    blocks.append(_outcomes(rows, ("removed", "did not know")))
    for group in groups:
        text = f"{plural(group.sentinels, 'Sentinel')} left, majority {group.majority}, {group.reachable} reachable"
        blocks.append(line(text, indent=2))
        if group.warning is not None:
            blocks.append(line(Styled(f"! {group.warning}", "warning"), indent=2))
    if keeping:
        blocks.append(line(Styled(f"! {plural(keeping, 'Sentinel')} kept it", "warning"), f"; {RESET_HINT}", indent=2))
    columns = ("id", "sentinel", "kind", "result")
    records = [(each.id, each.address, each.kind, each.result) for each in rows]
    data: Plain = {
        "master": master,
        "node": member[0] or str(member[1]),
        "address": plain(member[1]),
        "groups": plain(tuple(groups)),
        "sentinels": plain(tuple(rows)),
    }
    return Result(data, tuple(blocks), records_of(columns, records), DISAGREEMENT if keeping else OK)


@click.command("drain")
@click.argument("host", metavar="HOST[:PORT]")
@click.option("--wait", type=milliseconds, default=None, help="Wait so long for the clients of its servers to leave.")
@click.option("--park", type=milliseconds, default="10m", show_default=True, help="How long it is not promoted.")
@click.option("--undo", is_flag=True, help="Permit the promotion of its servers again.")
@click.option("--dry-run", is_flag=True, help="Only evaluate the conditions.")
@click.option("--parallel", is_flag=True, help="Although another host of the same group is being drained.")
@common
def drain_verb(
    access: FleetAccess, host: str, wait: int | None, park: int, undo: bool, dry_run: bool, parallel: bool
) -> int:
    """
    Prepare HOST for its stop: move its masters away, and do not promote its servers meanwhile.

    Status 0 means that it may be stopped; 1 that it may not, nothing was done if a condition is not met. C Sentinels
    may promote its servers all the same; if there are only such ones, masters are moved as by switchover, with the
    password of the servers.
    """
    name, port = _host_of(host)
    period = wait or 0
    if undo and (dry_run or parallel):
        raise VerbFailed("--undo excludes --dry-run and --parallel", USAGE)
    fleet = access.read()
    ours = sorted((each for each in fleet.reachable if is_ours(each)), key=lambda each: each.endpoint.host == name)
    if not ours:
        if undo:
            raise VerbFailed("C Sentinels park nothing, so there is nothing to undo", UNKNOWN)
        return _drain_c_fleet(access, fleet, name, port, dry_run=dry_run)
    flags = [word for word, given in (("UNDO", undo), ("DRYRUN", dry_run), ("PARALLEL", parallel)) if given]
    words = ["DRAIN", name, *([str(port)] if port else []), *flags]
    if not undo:
        words += ["PARK", str(park), *(["WAIT", str(period)] if period else [])]
    try:
        answer = order(ours[0], access.settings, period / 1000 + SWITCH_SECONDS, *words)
        if undo:
            return _show_undone(access, name, answer)
        report = drain_of(answer)
    except ErrorAnswer as refusal:
        reason = str(refusal).partition(" ")[2]
        raise VerbFailed(f"refused by {ours[0].endpoint}: {reason}", UNKNOWN) from None
    except (ConnectionFailed, UnknownForm) as problem:
        raise VerbFailed(f"{ours[0].endpoint}: {problem}", UNKNOWN) from None
    result = drain_result(report)
    show(result, access.form)
    return result.status


def _host_of(words: str) -> tuple[str, int]:
    """
    Return host and port; 0 without a port.

    :raises VerbFailed: if it is malformed.
    """
    try:
        endpoint = parse_endpoint(words, 1) if ":" in words else Endpoint(words, 0)
    except BadAddress as error:
        raise VerbFailed(str(error), USAGE) from None
    return endpoint.host, endpoint.port


def _show_undone(access: FleetAccess, host: str, answer: object) -> int:
    """Show the answer to an undo."""
    found = answer.get("unparked") if isinstance(answer, dict) else None
    unparked = [str(each) for each in found] if isinstance(found, list) else []
    text = f"{host}: {', '.join(unparked) or 'no server was parked'}"
    blocks = (line(text, " may be promoted again" if unparked else ""),)
    data: Plain = {"host": host, "unparked": [*unparked]}
    show(Result(data, blocks, records_of(("server",), [(each,) for each in unparked])), access.form)
    return OK


def drain_result(report: DrainReport) -> Result:
    """Return the result of a drain, or the plan of one."""
    possible = not report.problems
    safe = report.safe or (not report.executed and possible)
    state = "SAFE to stop" if report.safe else "NOT SAFE to stop"
    if not report.executed:
        state = "can be drained" if possible else "cannot be drained"
    blocks: list[Block] = [
        line(
            Styled(f"{report.host}: {state}", "good" if safe else "bad"),
            f"; {plural(len(report.servers), 'server')}, {plural(len(report.masters), 'master')},"
            f" {plural(len(report.sentinels_there), 'Sentinel')} there",
            indent=2,
        )
    ]
    blocks += [line(Styled(f"! {each.text}", "bad"), indent=2) for each in report.problems]
    rows: list[tuple[Words, ...]] = []
    for each in report.moved:
        to: Words = each.to or Styled(each.problem or "not moved", "bad")
        verdict = Styled(each.verdict or "-", "good" if each.verdict == "proven" else "warning")
        rows.append((each.master, each.old, to, verdict))
    if rows:
        blocks.append(Grid(("MASTER", "FROM", "TO", "RECEIPT"), tuple(rows)))
    for server in report.still:
        count = "an unknown number of clients" if server.clients is None else plural(server.clients, "client")
        blocks.append(line(f"{server.address} still has {count}", indent=2))
    if report.sentinels:
        blocks.append(_outcomes(report.sentinels, ("parked",)))
    columns = ("master", "from", "to", "problem", "receipt", "verdict")
    records = [(each.master, each.old, each.to, each.problem, each.receipt, each.verdict) for each in report.moved]
    return Result(plain(report), tuple(blocks), records_of(columns, records), OK if safe else UNKNOWN)


def _drain_c_fleet(access: FleetAccess, fleet: FleetReport, host: str, port: int, *, dry_run: bool) -> int:
    """
    Move the masters at a host away where all Sentinels are C ones.

    :raises VerbFailed: if nothing is there, or a condition is not met.
    """
    progress = _Progress(access.form)
    agreements = [agreement_on(fleet, name) for name in fleet.names]
    here = [each for each in agreements if each.endpoint is not None and _is_at(each.endpoint, host, port)]
    problems = [text for each in agreements for text in _sentinels_left(each, host, port)]
    known = any(_has_member(each, host, port) for each in agreements)
    if not known:
        raise VerbFailed(f"no server or Sentinel of a monitored group is at {host}", UNKNOWN)
    plans = []
    for agreement in here:
        wanted = _candidate(agreement, host, port)
        if wanted is None:
            problems.append(f"{agreement.name}: no usable replica is at another host")
            continue
        plan = plan_switchover(agreement, wanted, access.server_settings, MAX_LAG)
        found = plan if isinstance(plan, tuple) else plan.problems
        problems += [f"{agreement.name}: {text}" for text in found]
        if not isinstance(plan, tuple):
            plans.append(plan)
    if problems:
        raise VerbFailed(f"{host} cannot be drained now, nothing was done", UNKNOWN, problems)
    moved: list[tuple[str, Endpoint, Endpoint, str]] = []
    for plan in [] if dry_run else plans:
        fields = [each.masters[plan.name].master for each in plan.agreement.naming]
        limits = limits_for(min(each.number("down-after-milliseconds") for each in fields), MAX_PAUSE)
        switchover = Switchover(plan, access.settings, access.server_settings, limits, lambda _, text: progress(text))
        try:
            receipt = switchover.run()
        except SwitchoverAborted as aborted:
            raise VerbFailed(f"{plan.name}: aborted: {aborted}", UNKNOWN) from None
        moved.append((plan.name, plan.old, plan.candidate, receipt.verdict.value))
    state = "can be drained" if dry_run else "SAFE to stop"
    text = f"; {plural(len(here), 'master')} there. C Sentinels know no parking: they may promote its servers meanwhile"
    blocks: list[Block] = [line(Styled(f"{host}: {state}", "good"), text, indent=2)]
    if moved:
        rows = tuple((name, str(old), str(new), verdict) for name, old, new, verdict in moved)
        blocks.append(Grid(("MASTER", "FROM", "TO", "RECEIPT"), rows))
    columns = ("master", "from", "to", "receipt")
    data: Plain = {
        "host": host,
        "safe": not dry_run,
        "executed": not dry_run,
        "masters": [each.name for each in here],
        "moved": [dict(zip(columns, (str(value) for value in row), strict=True)) for row in moved],
    }
    show(Result(data, tuple(blocks), records_of(columns, moved)), access.form)
    return OK


def _is_at(endpoint: Endpoint, host: str, port: int) -> bool:
    return endpoint.host.casefold() == host.casefold() and port in (0, endpoint.port)


def _has_member(agreement: AddressAgreement, host: str, port: int) -> bool:
    """Return whether the master, a replica or a Sentinel of a group is at the host."""
    for each in agreement.members:
        report = each.masters.get(agreement.name)
        instances = [] if report is None else [report.master, *report.replicas, *report.peers]
        if _is_at(each.endpoint, host, port) or any(_is_at(one.endpoint, host, port) for one in instances):
            return True
    return False


def _candidate(agreement: AddressAgreement, host: str, port: int) -> Endpoint | None:
    """Return the replica with the best priority that is not at the host and that all Sentinels consider usable."""
    found: dict[Endpoint, int] = {}
    for each in agreement.naming:
        for replica in each.masters[agreement.name].replicas:
            priority = replica.number("slave-priority")
            if replica.usable and priority and not _is_at(replica.endpoint, host, port):
                found[replica.endpoint] = priority
            else:
                found.pop(replica.endpoint, None)
    return min(found, key=lambda endpoint: found[endpoint], default=None)


def _sentinels_left(agreement: AddressAgreement, host: str, port: int) -> list[str]:
    """Return that too few Sentinels are left without those at the host."""
    members = [each for each in agreement.members if each.reachable and agreement.name in each.masters]
    left = [each for each in members if not _is_at(each.endpoint, host, port)]
    needed = max(agreement.majority, agreement.quorum)
    if len(left) == len(members) or len(left) >= needed:
        return []
    text = f"{len(left)} of {agreement.known} Sentinels would be left, {needed} are needed for a failover"
    return [f"{agreement.name}: {text}"]
