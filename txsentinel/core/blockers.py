"""
The conditions that would prevent a failover of a master now, for ``SENTINEL CKQUORUM`` and ``INFO``.

C Sentinels report the first two kinds only. The others prevent a failover just the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from txsentinel.core.instances import Master, Server
from txsentinel.core.quorum import usable_sentinels
from txsentinel.core.selection import choose
from txsentinel.core.state import SentinelState
from txsentinel.core.tilt import TiltGuard
from txsentinel.model.explanation import Unfit
from txsentinel.model.failure import CONFIGURATION_FAULTS
from txsentinel.model.timings import Millis

MAX_DISCOVERY: Final[Millis] = 10_000
"""How long, at most, the first INFO of a server is awaited before its absence counts; down-after if that is less."""

MAX_NAMED_REPLICAS: Final = 3


class BlockerKind(Enum):
    """Why a failover is impossible; the value is the word in ``INFO``."""

    QUORUM = "quorum"
    """Fewer Sentinels are usable than the quorum."""

    MAJORITY = "majority"
    """Fewer Sentinels are usable than a majority."""

    QUORUM_TOO_HIGH = "quorum-too-high"
    """The quorum is above the number of known Sentinels, so it cannot be reached even if all are up."""

    STORAGE = "storage"
    """Votes cannot be saved."""

    TILT = "tilt"
    """This Sentinel is in TILT and decides nothing."""

    NO_REPLICA = "no-replica"
    """No replica can be promoted."""

    ACCESS = "access"
    """The master refuses this Sentinel, which therefore cannot judge it."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """One reason; ``text`` is a sentence without a full stop, upstream's for the first two kinds."""

    kind: BlockerKind
    text: str


def blockers(master: Master, state: SentinelState, tilt: TiltGuard, now: Millis) -> Iterator[Blocker]:
    """Yield all reasons that would prevent a failover of ``master`` at ``now``, in the order of the kinds."""
    usable = usable_sentinels(master)
    quorum = master.options.quorum
    if usable < quorum:
        text = "Not enough available Sentinels to reach the specified quorum for this master"
        yield Blocker(BlockerKind.QUORUM, text)
    if usable < master.majority:
        text = "Not enough available Sentinels to reach the majority and authorize a failover"
        yield Blocker(BlockerKind.MAJORITY, text)
    if quorum > master.voters:
        known = f"{master.voters} Sentinel{'s are' if master.voters > 1 else ' is'} known"
        yield Blocker(BlockerKind.QUORUM_TOO_HIGH, f"The quorum is {quorum} and only {known}")
    if state.storage_error is not None:
        yield Blocker(BlockerKind.STORAGE, state.storage_error.sentence)
    if tilt.active:
        left = tilt.left(now) / 1000
        yield Blocker(BlockerKind.TILT, f"This Sentinel is in TILT and decides nothing for {left:.1f} s")
    if master.failover is None:
        chosen, refused = choose(master, state.timings, now)
        if chosen is None and not is_discovering(master, now):
            yield Blocker(BlockerKind.NO_REPLICA, unfit_text(master, refused))
    refusal = master.link.refusals.get("PING", master.link.refusals.get("INFO"))
    if refusal is not None and refusal.failure_class in CONFIGURATION_FAULTS:
        yield Blocker(
            BlockerKind.ACCESS, f"The master cannot be judged by this Sentinel, as it answers {refusal.error}"
        )


def is_discovering(master: Master, now: Millis) -> bool:
    """
    Whether it is too soon to report that no replica can be promoted: the first INFO of a server is still awaited.

    At its start, and right after a switch, a Sentinel would otherwise deny for some milliseconds what it cannot know.
    """
    grace_period = min(master.options.down_after, MAX_DISCOVERY)
    servers: list[Server] = [master, *master.replicas.values()]
    return any(
        server.info_refreshed_at is None and not server.is_down and now - server.created_at < grace_period
        for server in servers
    )


def unfit_text(master: Master, refused: list[tuple[str, Unfit]]) -> str:
    """Return a sentence without a full stop with the reasons why no replica can be promoted."""
    if not refused:
        refusal = master.link.refusals.get("INFO")
        return "No replica is known" + ("" if refusal is None else f", as the master answered {refusal.error}")
    named = [f"{name}: {reason.text}" for name, reason in refused[:MAX_NAMED_REPLICAS]]
    if len(refused) > MAX_NAMED_REPLICAS:
        named.append(f"{len(refused) - MAX_NAMED_REPLICAS} more")
    return f"No replica can be promoted ({'; '.join(named)})"
