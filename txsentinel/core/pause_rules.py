"""
Whether failovers of a master are paused by an operator, and what a paused Sentinel still does.

In a pause a Sentinel monitors, agrees that masters are down, and answers clients as ever. It starts no failover by
itself, and votes only for a candidate and an epoch that was admitted (:class:`~txsentinel.core.state.Admission`), as
for a failover that an operator ordered. With the scope ``hands-off`` it orders no server to change its role, and no
failover can be ordered.

The rules for a crashed or emptied master, and the fence of an isolated one, are not concerned: they judge a master or
hold its writes, and change no role. Only the pause of the writes of an emptied master is left out, as no failover
follows it.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.durable_records import ALL_MASTERS, HeldRecord, RecordKey, RecordKind
from txsentinel.core.state import SentinelState
from txsentinel.model.timings import Millis

HANDS_OFF: Final = "hands-off"
FAILOVER_SCOPE: Final = "failover"
SCOPES: Final = (FAILOVER_SCOPE, HANDS_OFF)

GUARANTEED: Final = "guaranteed"
BEST_EFFORT: Final = "best-effort"
REQUIREMENTS: Final = (GUARANTEED, BEST_EFFORT)


def pauses_of(state: SentinelState, name: str, now: Millis) -> list[HeldRecord]:
    """Return the pauses in force for a master: its own, and that of all masters."""
    if not len(state.records):
        return []
    both = (state.records.get(RecordKey(RecordKind.PAUSE, key)) for key in (name, ALL_MASTERS))
    return [held for held in both if held is not None and held.in_force(now)]


def pause_of(state: SentinelState, name: str, now: Millis) -> HeldRecord | None:
    """Return the pause of a master that is in force, of two the one that ends later; ``None`` if there is none."""
    found: HeldRecord | None = None
    for held in pauses_of(state, name, now):
        if found is None or held.until > found.until:
            found = held
    return found


def is_hands_off(state: SentinelState, name: str, now: Millis) -> bool:
    """Whether no server of a master may be ordered to change its role."""
    return any(scope_of(held) == HANDS_OFF for held in pauses_of(state, name, now))


def scope_of(held: HeldRecord) -> str:
    """Return the scope of a pause."""
    return held.record.setting("scope", FAILOVER_SCOPE)


def withholds_vote(state: SentinelState, name: str, candidate: str, epoch: int, now: Millis) -> HeldRecord | None:
    """Return the pause because of which a candidate gets no vote in an epoch; ``None`` if it may get one."""
    held = pause_of(state, name, now)
    if held is None:
        return None
    admission = state.admissions.get(name)
    if admission is not None and (admission.candidate, admission.epoch) == (candidate, epoch) and now < admission.until:
        return None
    return held


def described_pause(held: HeldRecord, now: Millis) -> str:
    """Return a clause about a pause, with what is left of it."""
    record, left = held.record, max(0, held.until - now) // 1000
    scope = "" if scope_of(held) == FAILOVER_SCOPE else ", and servers are not reconfigured"
    reason = f": {record.reason}" if record.reason else ""
    return f"automatic failovers are paused{scope} for another {left} s by {record.by or 'an operator'}{reason}"
