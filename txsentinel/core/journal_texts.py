"""Sentences for the records of the journal, made when they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from txsentinel.model.history import JournalKind

_SENTENCES: Final[dict[JournalKind, str]] = {
    JournalKind.SDOWN: "{what} is down here: {cause}",
    JournalKind.SDOWN_ENDED: "{what} is up here again",
    JournalKind.ODOWN: "{agreeing} Sentinels agree that {master} is down, {quorum} are needed",
    JournalKind.ODOWN_ENDED: "The Sentinels no longer agree that {master} is down",
    JournalKind.CAMPAIGN: "This Sentinel campaigns in epoch {epoch}: {code}",
    JournalKind.VOTE_REQUESTED: "Requested the vote of {subject} in epoch {epoch}",
    JournalKind.VOTE_RECEIVED: "{subject} voted for {leader} in epoch {epoch}",
    JournalKind.VOTE_GIVEN: "This Sentinel voted for {subject} in epoch {epoch}",
    JournalKind.VOTE_REFUSED: "No vote for {candidate} in epoch {epoch}: {reason}",
    JournalKind.ELECTED: "Elected in epoch {epoch} with {votes} votes of {needed} needed",
    JournalKind.SELECTED: "Selected {subject}",
    JournalKind.PROMOTION_ORDERED: "Ordered {subject} to become master",
    JournalKind.FOLLOW_ORDERED: "Ordered {subject} to follow {new}",
    JournalKind.PROMOTED: "{subject} reports to be a master",
    JournalKind.DURABLE: "The new address is durable",
    JournalKind.ANNOUNCED: "{subject} accepted a hello with the new address",
    JournalKind.SWITCHED: "Switched from {old} to {new}",
    JournalKind.REPLICAS_DONE: "The other replicas were reconfigured: {done} of {replicas}",
    JournalKind.ABORTED: "The failover was aborted ({code}): {reason}",
    JournalKind.CONFIG_ADOPTED: "Adopted {new} with config epoch {epoch} from {subject}, before {old}",
    JournalKind.ORDER_REFUSED: "{what} refused {code}: {error}",
    JournalKind.SAVE_FAILED: "Votes cannot be saved: {reason}",
    JournalKind.SAVE_RECOVERED: "Votes can be saved again",
    JournalKind.TILT: "TILT begins: {reason}",
    JournalKind.TILT_ENDED: "TILT has ended",
    JournalKind.VERDICT: "{text}",
    JournalKind.CONDITION: "{text}",
    JournalKind.CONDITION_ENDED: "No longer: {text}",
    JournalKind.OPERATOR: "{by} ordered {code}",
    JournalKind.DATA_COMPARED: "The old master {subject} is back: {text}",
    JournalKind.RESYNCS: "{subject} has synchronized replicas: {partial} partially, {full} fully",
    JournalKind.CLIENTS_CLOSED: "{subject} closed {clients} clients",
    JournalKind.WRITES_HELD: "Writes of {what} are held at offset {offset} of {replid} ({code})",
    JournalKind.RECEIPT: "Receipt of the switchover: {code}, {why}",
    JournalKind.PAUSED: "{by} paused automatic failovers ({code}) for {for_ms} ms: {reason}",
    JournalKind.RESUMED: "The pause of automatic failovers was ended ({code}) by {by}",
    JournalKind.FORGOTTEN: "{by} removed the {kind} {subject} at {address}",
    JournalKind.RETURNED: "{subject} was removed, but is alive, and is added again",
    JournalKind.PARKED: "{by} parked {subject} for {for_ms} ms",
    JournalKind.UNPARKED: "{subject} may be promoted again by {by}",
    JournalKind.BLOCKED: "Further automatic failovers are blocked for {for_ms} ms, unless {group} is acknowledged",
    JournalKind.ACKNOWLEDGED: "{by} acknowledged the failover in epoch {epoch}",
}


_UNKNOWN: Final = dict.fromkeys(re.findall(r"{(\w+)}", "".join(_SENTENCES.values())), "unknown")
"""The fields of all sentences, as they are shown if a record does not have them."""


def sentence(
    kind: JournalKind,
    master: str,
    subject: str | None,
    code: str | None,
    epoch: int | None,
    data: Mapping[str, str | int | None],
) -> str:
    """Return the sentence of a record, without a full stop."""
    fields: dict[str, object] = {**_UNKNOWN, **data}
    fields["master"], fields["subject"], fields["code"], fields["epoch"] = master, subject, code, epoch
    fields["what"] = subject or master
    if subject is not None:
        fields["candidate"] = subject
    if data.get("by") is None:
        fields["by"] = "An operator"
    return _SENTENCES[kind].format_map(fields)
