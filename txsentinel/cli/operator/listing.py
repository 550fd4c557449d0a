"""``txsentinel list``: what each Sentinel answers about a master, or all masters in brief."""

from __future__ import annotations

from collections.abc import Iterator

from txsentinel.cli.operator.pause_column import NONE, PausesRead
from txsentinel.cli.operator.screen import Block, Grid, Result, Styled, Words, line, records_of
from txsentinel.cli.operator.statuses import DISAGREEMENT, OK
from txsentinel.cli.operator.visible import duration, plural
from txsentinel.model.plain import Plain, plain
from txsentinel.remote.agreement import AddressAgreement, Drift, agreement_on
from txsentinel.remote.fleet import FleetReport
from txsentinel.remote.reports import SentinelReport

SHORT_NAMES = {"down-after-milliseconds": "down-after"}
"""How settings are called in the columns and the lines."""


def list_masters(fleet: FleetReport, pauses: PausesRead) -> Result:
    """Return one row for each master."""
    agreements = [agreement_on(fleet, name) for name in fleet.names]
    columns = ("master", "address", "epoch", "quorum", "sentinels", "agreed", "replicas", "state", "paused")
    rows: list[tuple[Words, ...]] = []
    records: list[tuple[object, ...]] = []
    for each in agreements:
        report = each.report()
        replicas = report.master.number("num-slaves") if report is not None else 0
        state = state_of(each)
        agreed = f"{len(each.naming)} of {each.known}"
        rows.append(
            (
                each.name,
                str(each.endpoint),
                str(each.epoch),
                str(each.quorum),
                str(each.known),
                agreed if each.complete else Styled(agreed, "warning"),
                str(replicas),
                Styled(state, "good" if state == "ok" else "bad"),
                pauses.of_master(each.name),
            )
        )
        paused = _text(pauses.of_master(each.name))
        records.append(
            (each.name, each.endpoint, each.epoch, each.quorum, each.known, len(each.naming), replicas, state, paused)
        )
    blocks: list[Block] = [Grid(tuple(each.upper() for each in columns), tuple(rows), (6, 4, 2))] if rows else []
    if not rows:
        blocks.append(line(f"{plural(len(fleet.reachable), 'Sentinel')} monitors no master"))
    blocks += [line(f"! {each.endpoint}: {each.problem}") for each in fleet.sentinels if each.problem is not None]
    for each in agreements:
        blocks += [line(f"! {each.name}: {words}") for words in differences(each)]
    sound = all(each.complete and not each.drifts for each in agreements)
    data: Plain = {"masters": [agreement_data(each) for each in agreements], "sentinels": sentinels_data(fleet)}
    return Result(data, tuple(blocks), records_of(columns, records), OK if sound else DISAGREEMENT)


def list_sentinels(fleet: FleetReport, name: str, pauses: PausesRead) -> Result:
    """Return one row for each Sentinel of a master, and its differences below."""
    agreement = agreement_on(fleet, name)
    columns = ("sentinel", "kind", "sees", "state", "epoch", "quorum", "down-after", "last hello", "paused")
    odd = {drift.setting: set(drift.different) for drift in agreement.drifts}
    rows: list[tuple[Words, ...]] = []
    records: list[tuple[object, ...]] = []
    for each in agreement.members:
        report = each.masters.get(name)
        hello = last_hello(agreement, each)
        shown_hello = "-" if hello is None else duration(hello)
        paused = pauses.of_sentinel(each, name)
        if report is None:
            problem = each.problem or "does not monitor it"
            rows.append(
                (
                    str(each.endpoint),
                    each.kind,
                    Styled("-", "weak"),
                    Styled(problem, "bad"),
                    *"---",
                    shown_hello,
                    paused,
                )
            )
            records.append((each.endpoint, each.kind, None, problem, None, None, None, hello, _text(paused)))
            continue
        down_after = report.master.fields.get("down-after-milliseconds", "")
        other = report.endpoint != agreement.endpoint
        rows.append(
            (
                str(each.endpoint),
                each.kind,
                Styled(f"{report.endpoint} !", "bad") if other else str(report.endpoint),
                Styled(report.master.state, "good" if report.master.usable else "bad"),
                _marked(str(report.epoch), report.epoch != agreement.epoch),
                _marked(str(report.quorum), each.endpoint in odd.get("quorum", ())),
                _marked(down_after, each.endpoint in odd.get("down-after-milliseconds", ())),
                shown_hello,
                paused,
            )
        )
        records.append(
            (
                each.endpoint,
                each.kind,
                report.endpoint,
                report.master.state,
                report.epoch,
                report.quorum,
                down_after,
                hello,
                _text(paused),
            )
        )
    paused_any = any(row[-1] != NONE for row in rows)
    blocks = (
        heading(agreement),
        Grid(tuple(each.upper() for each in columns), tuple(rows), (7, 6, 4, 5, 1) if paused_any else (8, 7, 6, 4)),
        *(line(Styled(f"! {words}", "warning"), indent=2) for words in differences(agreement)),
    )
    sound = agreement.complete and not agreement.drifts
    data: Plain = {"master": agreement_data(agreement), "sentinels": sentinels_data(fleet, name)}
    return Result(data, blocks, records_of(columns, records), OK if sound else DISAGREEMENT)


def heading(agreement: AddressAgreement) -> Block:
    """Return the first line: the master, its address, epoch and quorum, and how many Sentinels agree."""
    held = agreement.held_for_ms()
    since = f" for at least {duration(held)}" if held else ""
    agreed = f"agreed by {len(agreement.naming)} of {agreement.known}"
    return line(
        Styled(agreement.name, "strong"),
        f"  {agreement.endpoint}{since}, epoch {agreement.epoch}, quorum {agreement.quorum} of {agreement.known}   ",
        Styled(agreed, "good" if len(agreement.naming) == agreement.known else "bad"),
        indent=2,
    )


def _text(words: Words) -> str:
    return words if isinstance(words, str) else words.text


def _marked(words: str, different: bool) -> Words:
    return Styled(f"{words} !", "warning") if different else words


def state_of(agreement: AddressAgreement) -> str:
    """Return the worst state that a Sentinel reports of a master, or ``no agreement``."""
    if not agreement.agreed:
        return "no agreement"
    states = {each.masters[agreement.name].master.state for each in agreement.naming}
    return next((each for each in ("o_down", "o_down,s_down", "s_down") if each in states), min(states))


def last_hello(agreement: AddressAgreement, sentinel: SentinelReport) -> int | None:
    """Return the age of the latest hello of a Sentinel that another one received, in milliseconds."""
    ages = [
        peer.number("last-hello-message")
        for each in agreement.members
        if agreement.name in each.masters
        for peer in each.masters[agreement.name].peers
        if peer.run_id == sentinel.sentinel_id or peer.endpoint == sentinel.endpoint
    ]
    return min(ages, default=None)


def differences(agreement: AddressAgreement) -> Iterator[str]:
    """Return a sentence for each difference between the Sentinels of a master."""
    missing = agreement.known - len(agreement.members)
    if missing > 0:
        yield f"{plural(missing, 'Sentinel')} more are known to some, but without a usable address"
    for each in agreement.members:
        report = each.masters.get(agreement.name)
        if report is not None and report.endpoint != agreement.endpoint:
            yield f"{each.endpoint} has the address {report.endpoint} of epoch {report.epoch}"
    for drift in agreement.drifts:
        yield drift_words(agreement.name, drift)


def drift_words(name: str, drift: Drift) -> str:
    """Return one sentence about a setting that differs, with the command that makes it equal."""
    found = ", ".join(f"{endpoint} has {drift.values[endpoint] or 'none'}" for endpoint in drift.different)
    others = "" if drift.usual is None else f", the others {drift.usual or 'none'}"
    value = "VALUE" if drift.usual is None else drift.usual or '""'
    short = SHORT_NAMES.get(drift.setting, drift.setting)
    return f"{short} differs: {found}{others}      fix: txsentinel set {name} {drift.setting} {value} --fleet"


def agreement_data(agreement: AddressAgreement) -> Plain:
    """Return an agreement for JSON."""
    return {
        "name": agreement.name,
        "address": plain(agreement.endpoint),
        "config_epoch": agreement.epoch,
        "quorum": agreement.quorum,
        "known_sentinels": agreement.known,
        "agreeing": [str(each.endpoint) for each in agreement.naming],
        "agreed": agreement.agreed,
        "complete": agreement.complete,
        "state": state_of(agreement),
        "differences": list(differences(agreement)),
    }


def sentinels_data(fleet: FleetReport, name: str | None = None) -> Plain:
    """Return all Sentinels, or those of one master, for JSON."""
    members = fleet.sentinels if name is None else fleet.of_master(name)
    return [
        {
            "address": plain(each.endpoint),
            "id": each.sentinel_id,
            "kind": None if each.identity is None else each.identity.kind,
            "version": None if each.identity is None else each.identity.version,
            "problem": each.problem,
            "clock_offset_ms": None if each.clock_offset_ms is None else round(each.clock_offset_ms),
            "masters": {
                key: {"address": plain(report.endpoint), "fields": dict(report.master.fields)}
                for key, report in each.masters.items()
                if name in (None, key)
            },
        }
        for each in members
    ]
