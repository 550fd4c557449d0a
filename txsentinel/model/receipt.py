"""The receipt of a switchover: whether every acknowledged write is on the new master, and the figures that prove it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from txsentinel.model.snapshots import Endpoint, Instant

REJECTED: Final = "min-replicas-to-write"
"""The kind of a fence that rejects all writes of clients. Expired keys are deleted meanwhile."""

REJECTED_WITH_GAPS: Final = "min-replicas-to-write-with-gaps"
"""The same if writes were possible: by scripts on servers before 7.0, or as another client changed the setting."""


class ReceiptVerdict(Enum):
    """What is known about acknowledged writes."""

    PROVEN = "proven"
    LOST = "lost"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class OldMaster:
    """The old master: its replication ID and offset when writes were held, and when it was demoted."""

    address: Endpoint
    replid: str
    offset_at_fence: int
    offset_final: int | None
    """``None`` if it could not be demoted."""


@dataclass(frozen=True, slots=True)
class NewMaster:
    """The new master: the history that it continues, and up to which offset; ``None`` if it was not read."""

    address: Endpoint
    replid2: str | None
    fork_offset: int | None


@dataclass(frozen=True, slots=True)
class Fence:
    """How writes were held, for how long they were, and when they would have been released by themselves."""

    kind: str
    armed_at: Instant
    held_ms: int | None
    expires_at: Instant


@dataclass(frozen=True, slots=True)
class AddressKnown:
    """A Sentinel that answers with the new address, since ``after_ms`` after the writes were held."""

    sentinel: Endpoint
    after_ms: int
    sentinel_id: str | None = None
    """Its ID, if the receipt was made by a Sentinel."""


@dataclass(frozen=True, slots=True)
class ResyncCount:
    """Replicas that continued from their offset at the new master, and those that copied everything."""

    partial: int
    full: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receipt of one switchover."""

    receipt_id: str
    """A ULID."""

    method: str
    master: str
    old: OldMaster
    new: NewMaster
    fence: Fence
    demoted_at: Instant | None
    verdict: ReceiptVerdict
    why: str
    lost_bytes: int | None
    resyncs: ResyncCount | None
    clients_closed: int | None
    sentinels: tuple[AddressKnown, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason; ``lost_bytes`` only if something was lost."""

    verdict: ReceiptVerdict
    why: str
    lost_bytes: int | None = None


PING_BYTES: Final = 14
"""Length of the PING that a master sends to its replicas every ten seconds, also while the writes of clients wait."""


def judge(old: OldMaster, new: NewMaster, fence: Fence, demoted_at: Instant | None) -> Judgement:
    """
    Return what the figures prove.

    The new master continues the history of the old one up to the fork. Whatever the old one had when it was demoted is
    on the new one if its last offset is not beyond the fork.
    """
    if old.offset_final is None or demoted_at is None:
        return Judgement(ReceiptVerdict.UNPROVEN, "the old master could not be demoted")
    if new.replid2 is None or new.fork_offset is None:
        return Judgement(ReceiptVerdict.UNPROVEN, "the new master did not report which history it continues")
    if new.replid2 != old.replid:
        return Judgement(ReceiptVerdict.UNPROVEN, "the new master does not continue the history of the old one")
    missing = max(old.offset_final, old.offset_at_fence) - new.fork_offset
    held = demoted_at < fence.expires_at
    if missing > 0:
        if held and missing == PING_BYTES and fence.kind != REJECTED and old.offset_at_fence <= new.fork_offset:
            return Judgement(
                ReceiptVerdict.UNPROVEN, f"{PING_BYTES} bytes are missing while writes were held, most likely a PING"
            )
        if held and fence.kind == REJECTED and old.offset_at_fence <= new.fork_offset:
            text = f"{missing:,} bytes are missing although writes were rejected, most likely deletions of expired keys"
            return Judgement(ReceiptVerdict.UNPROVEN, text)
        return Judgement(ReceiptVerdict.LOST, f"the old master had {missing:,} bytes that the new one lacks", missing)
    if not held:
        return Judgement(ReceiptVerdict.UNPROVEN, "the writes were released before the old master was demoted")
    return Judgement(
        ReceiptVerdict.PROVEN, f"all that the old master had, up to offset {old.offset_final:,}, is on the new one"
    )
