"""
Crashes of a master with ``crash-failover``, beside Sentinels that wait for ``down-after-milliseconds``.

The master is killed (SIGKILL), so that its kernel closes its connections and refuses new ones. The groups take turns: C
Sentinels, Sentinels of ours, and two of ours beside a C Sentinel, which agrees only after ``down-after-milliseconds``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.failover import Results
from benchmarks.failover import measure as measure_failovers

SETTINGS: Final = ("#: txsentinel crash-failover mymaster on",)
"""A comment for C Sentinels."""

WATCH_SECONDS: Final = 2.0
"""How long to watch for further switches."""


def groups(kinds: Sequence[str]) -> list[str]:
    """Return the groups to measure: each kind alone, and two of each other kind beside one of the first, C."""
    first, *others = kinds
    return [first, *(group for kind in others for group in (kind, f"{kind}+{kind}+{first}"))]


def measure(
    kinds: Sequence[str], server_kind: str, down_after: int, rounds: int, report_progress: Callable[[str], None]
) -> dict[str, Results]:
    """Kill the master of each group ``rounds`` times; return the results by group. ``down_after``: milliseconds."""
    return measure_failovers(
        groups(kinds), server_kind, down_after, rounds, WATCH_SECONDS, report_progress, settings=SETTINGS
    )
