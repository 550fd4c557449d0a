"""
When probes are sent to healthy instances, so that they share wake-ups.

To wake up costs more than to send a probe, and periods that begin with the replies drift apart. Each link therefore has
a phase within a second, its *slot*, in which everything is sent to it that is due then or soon afterwards. A Sentinel
with a few links has a single slot, so that it wakes up once a second to send; with many links there are so many slots
that each has some dozens of links. The slots of Sentinels differ by a phase that follows from their IDs.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.instances import Instance, Peer
from txsentinel.core.state import SentinelState
from txsentinel.model.timings import Millis

CYCLE: Final[Millis] = 1_000
"""Distance of two slots of one link."""

INSTANCES_PER_SLOT: Final = 64
"""Number of instances up to which there is one slot less."""

SLOTS: Final = (1, 2, 4, 5, 8, 10, 20, 25, 50, 100)
"""The possible numbers of slots, with which their distance is a whole number of milliseconds."""

TOLERANCE: Final[Millis] = CYCLE // 8
"""How long after its beginning a slot is open, and how much later than it is due a probe may be sent."""


def slots_for(instances: int) -> int:
    """Return the number of slots of a Sentinel with so many instances."""
    wanted = instances // INSTANCES_PER_SLOT
    found = 1
    for number in SLOTS:
        if number <= wanted:
            found = number
    return found


def phase_of(my_id: str) -> Millis:
    """Return the phase of the slots of the Sentinel with that ID."""
    phase = 0
    for character in my_id:
        phase = (phase * 31 + ord(character)) % CYCLE
    return phase


def early_by(period: Millis) -> Millis:
    """
    Return by how much a probe with that period may be sent early in a slot.

    So a probe that was sent out of its slot is back in it after one shorter period, however long replies take.
    """
    return min(period, CYCLE) * 7 // 8


def is_in_slot(instance: Instance, now: Millis, state: SentinelState) -> bool:
    """Whether it is the time of the probes of ``instance``."""
    return (now - _slot(instance, state)) % CYCLE < TOLERANCE


def aligned(instance: Instance, due: Millis, now: Millis, state: SentinelState) -> Millis:
    """
    Return when a probe of a healthy instance is sent that is due at ``due``.

    That is in the last slot before, unless it has begun already; or in the next slot, unless that is too late.
    Otherwise it is sent at the next multiple of ``probe_grain``.
    """
    after = (due - _slot(instance, state)) % CYCLE
    if due - after - now >= TOLERANCE:
        return due - after
    tolerance = min(TOLERANCE, state.timings.ping_period // 8, instance.link.shortest_down_after // 8)
    if CYCLE - after <= tolerance:
        return due - after + CYCLE
    grain = state.timings.probe_grain
    return -(-due // grain) * grain


def _slot(instance: Instance, state: SentinelState) -> Millis:
    """Return the beginning of a slot of ``instance``; hellos to peers are sent in that of their master."""
    owner = instance.master if isinstance(instance, Peer) else instance
    slots = state.probe_slots
    return state.probe_phase + owner.link.link_id % slots * (CYCLE // slots)
