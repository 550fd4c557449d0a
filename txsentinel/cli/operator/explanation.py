"""``txsentinel explain``: asks a Sentinel of ours, or computes the answer from what C Sentinels report."""

from __future__ import annotations

import time
from collections.abc import Iterator

from txsentinel.cli.operator.options import FleetAccess
from txsentinel.cli.operator.screen import Block, Result, Styled, Words, line, records_of
from txsentinel.cli.operator.statuses import DISAGREEMENT, OK
from txsentinel.cli.operator.visible import duration, plural
from txsentinel.model.explanation import Agreement, Election, Explanation, Phase, VerdictCode
from txsentinel.model.plain import plain
from txsentinel.model.snapshots import Instant
from txsentinel.remote.agreement import AddressAgreement
from txsentinel.remote.connection import ConnectionFailed, ErrorAnswer, RemoteConnection
from txsentinel.remote.decoding import UnknownForm, decoded, plain_reply
from txsentinel.remote.explaining import explain_fleet

SOUND = frozenset((VerdictCode.HEALTHY, VerdictCode.SWITCHED, VerdictCode.RESTING))
"""Verdicts with which nothing needs to be done."""

LABEL_WIDTH = 12


def now() -> Instant:
    """Return the time on the wall clock."""
    return Instant(int(time.time() * 1000))


def explain_master(access: FleetAccess, agreement: AddressAgreement) -> tuple[Explanation, str]:
    """
    Explain a master that a Sentinel monitors.

    :returns: the explanation, and a sentence on where it comes from.
    """
    reasons = []
    for each in agreement.naming:
        if each.identity is None or each.identity.is_c:
            continue
        try:
            with RemoteConnection(each.endpoint, access.settings) as connection:
                connection.use_resp3()
                reply = plain_reply(connection.call("TXSENTINEL", "EXPLAIN", agreement.name))
            return decoded(Explanation, reply), f"by {each.endpoint} ({each.kind})"
        except (ConnectionFailed, ErrorAnswer, UnknownForm) as problem:
            reasons.append(f"{each.endpoint}: {problem}")
    reports = plural(sum(agreement.name in each.masters for each in agreement.members), "Sentinel")
    why = f"; {'; '.join(reasons)}" if reasons else ""
    return explain_fleet(agreement, now()), f"computed from the reports of {reports}{why}"


def show_explanation(
    explanation: Explanation, source: str, only_blocks: bool = False, since: Instant | None = None
) -> Result:
    """
    Return an explanation as a result; the status is 0 if nothing needs to be done.

    :param only_blocks: leave out the evidence.
    :param since: leave out older records of the journal.
    """
    blocks: list[Block] = [_verdict(explanation)]
    if not only_blocks:
        blocks += _evidence_lines(explanation)
    blocks += _action_lines(explanation)
    if not only_blocks:
        blocks += [_labelled("warning", Styled(each, "warning")) for each in explanation.warnings]
        records = [each for each in explanation.journal if since is None or each.at >= since]
        for place, record in enumerate(records):
            blocks.append(_labelled("journal" if place == 0 else "", f"{record.at.rfc3339()}  {record.text}"))
    blocks.append(_labelled("source", Styled(source, "weak")))
    rows = [(each.code.value, each.text) for each in explanation.blocked_by]
    data = plain(explanation)
    if isinstance(data, dict):
        data["source"] = source
    return Result(
        data,
        tuple(blocks),
        records_of(("code", "text"), rows or [(explanation.verdict.code.value, explanation.verdict.text)]),
        OK if explanation.verdict.code in SOUND else DISAGREEMENT,
    )


def _labelled(label: str, *parts: Words) -> Block:
    return line(f" {label:<{LABEL_WIDTH}}", *parts, indent=LABEL_WIDTH + 1)


def _verdict(explanation: Explanation) -> Block:
    sound = explanation.verdict.code in SOUND
    return line(Styled(explanation.verdict.text, "good" if sound else "bad"), indent=1)


def _evidence_lines(explanation: Explanation) -> Iterator[Block]:
    names = _names(explanation)
    sdown = explanation.sdown
    if sdown.since is not None:
        yield _labelled("down", f"since {sdown.since.rfc3339()}: {sdown.why or 'no reason is known'}")
    if sdown.since is not None or explanation.agreement.have:
        yield _labelled("agreed", _agreed(explanation.agreement))
    if explanation.election is not None:
        yield _labelled("election", _election(explanation.election, names))
    for place, each in enumerate(explanation.replicas):
        judged: Words
        if each.unfit is not None:
            judged = Styled(f"unfit: {each.unfit.text}", "bad")
        elif each.name == explanation.would_promote:
            because = f", {explanation.would_promote_because}" if explanation.would_promote_because else ""
            judged = Styled(f"fit, would be promoted{because}", "good")
        else:
            judged = "fit"
        yield _labelled("replicas" if place == 0 else "", f"{each.name}  ", judged)
    for place, timer in enumerate(explanation.timers):
        yield _labelled("timers" if place == 0 else "", f"{timer.what} in {duration(max(timer.in_ms, 0))}")
    for opinion in explanation.fleet:
        if opinion.contradiction is not None:
            yield _labelled("differs", Styled(f"{names.get(opinion.sentinel_id)}: {opinion.contradiction}", "bad"))


def _action_lines(explanation: Explanation) -> Iterator[Block]:
    label = "would block" if explanation.phase is Phase.WATCHING else "blocked by"
    for place, block in enumerate(explanation.blocked_by):
        until = "" if block.until is None else f" until {block.until.rfc3339()}"
        yield _labelled(label if place == 0 else "", Styled(f"{block.text}{until}", "bad"))
    if explanation.blocked_by and not explanation.unblock:
        yield _labelled("any one of", "(no single change suffices)")
    for place, each in enumerate(explanation.unblock):
        command = f"   ({each.command})" if each.command else ""
        yield _labelled("any one of" if place == 0 else "", f"{each.do}{command}")


def _names(explanation: Explanation) -> dict[str, str]:
    """Return the address of each Sentinel by its ID; its short ID if the address is not known."""
    return {
        each.sentinel_id: str(each.address) if each.address is not None else each.sentinel_id[:8]
        for each in explanation.agreement.voters
    }


def _agreed(agreement: Agreement) -> str:
    parts = []
    for each in agreement.voters:
        name = str(each.address) if each.address is not None else f"{each.kind} {each.sentinel_id[:8]}"
        opinion = "down" if each.reports_down else "up" if each.reachable else "no answer"
        parts.append(f"{name} {opinion}")
    return f"{agreement.have} of quorum {agreement.needed} consider it down: {', '.join(parts)}"


def _election(election: Election, names: dict[str, str]) -> str:
    parts = []
    for each in election.voters:
        name = names.get(each.sentinel_id, each.sentinel_id[:8])
        if each.vote is not None:
            parts.append(f"{name} for {names.get(each.vote, each.vote[:8])} in epoch {each.vote_epoch}")
        elif each.reason is not None:
            parts.append(f"{name}: {each.reason}")
    return f"epoch {election.epoch} {election.outcome}, {election.mine} votes, {election.needed} needed: " + ", ".join(
        parts
    )
