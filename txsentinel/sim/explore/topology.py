"""The explored group: three Sentinels, a master and two replicas; their addresses, settings and periods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from txsentinel.core.options import GuardOptions, MasterOptions, SentinelOptions
from txsentinel.model.address import Address
from txsentinel.model.timings import Limits, Millis, Timings

MASTER_NAME: Final = "mymaster"

SENTINELS: Final = 3
SERVERS: Final = 3
TARGETS: Final = SERVERS + SENTINELS
"""What a Sentinel connects to: the servers by number, then the Sentinels."""

SENTINEL_NAMES: Final = "abc"
SERVER_NAMES: Final = ("m", "r1", "r2")
SENTINEL_IDS: Final = tuple(name * 40 for name in SENTINEL_NAMES)
SERVER_ADDRESSES: Final = tuple(Address.literal(f"10.0.0.{n + 1}", 6379) for n in range(SERVERS))
SENTINEL_ADDRESSES: Final = tuple(Address.literal(f"10.0.1.{n + 1}", 26379) for n in range(SENTINELS))
TARGET_OF: Final = {address: n for n, address in enumerate(SERVER_ADDRESSES + SENTINEL_ADDRESSES)}
PEERS: Final = tuple(tuple(other for other in range(SENTINELS) if other != sentinel) for sentinel in range(SENTINELS))
"""The other Sentinels of each."""

TICK: Final[Millis] = 1_000
"""
How far one step advances the clock of a Sentinel.

It is longer than a round trip and shorter than every timeout: all periods below are such that they expire after one to
three of these steps. Delays of less than a step (the order of candidates, back-off, random parts) then end at the next
one, and as the clocks of the Sentinels are independent, in every order.
"""

DOWN_AFTER: Final[Millis] = 900
FAILOVER_TIMEOUT: Final[Millis] = 1_500
STALL: Final[Millis] = 3_000
"""How long a Sentinel stands still in the step that causes TILT."""


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What differs between explored groups."""

    quorum: int = 2
    down_after: Millis = DOWN_AFTER
    crash_failover: bool = False
    """Whether evidence of a crash begins S_DOWN before ``down_after``; the other guards have their defaults."""

    priorities: tuple[int, int, int] = (100, 100, 100)
    offsets: tuple[int, int, int] = (100, 100, 100)


def timings() -> Timings:
    """Return periods that are multiples of ``TICK`` or end within one."""
    return Timings(
        info_period=1_000,
        ping_period=1_000,
        ask_period=1_000,
        publish_period=500,
        tilt_trigger=2_000,
        tilt_period=1_500,
        replica_reconf_timeout=2_000,
        election_timeout=1_500,
        fast_info_period=1_000,
        sweep_period=1_000,
    )


def master_options(settings: GroupSettings) -> MasterOptions:
    """Return the settings of the master."""
    guards = GuardOptions(crash_failover=settings.crash_failover)
    return MasterOptions(
        settings.quorum, down_after=settings.down_after, failover_timeout=FAILOVER_TIMEOUT, guards=guards
    )


def sentinel_options(sentinel: int) -> SentinelOptions:
    """Return the settings of a Sentinel."""
    return SentinelOptions(my_id=SENTINEL_IDS[sentinel], port=SENTINEL_ADDRESSES[sentinel].port)


def limits() -> Limits:
    """Return the usual limits."""
    return Limits()


def target_name(target: int) -> str:
    """Return the name of a server or Sentinel for traces."""
    return SERVER_NAMES[target] if target < SERVERS else SENTINEL_NAMES[target - SERVERS]


def candidate_name(candidate: int) -> str:
    """Return the name of a Sentinel, ``*`` for none."""
    return "*" if candidate < 0 else SENTINEL_NAMES[candidate]
