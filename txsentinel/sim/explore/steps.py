"""The steps of an explored group, as small integers, and their names in traces and on the command line."""

from __future__ import annotations

from typing import Final

from txsentinel.sim.explore.topology import SENTINEL_NAMES, SERVER_NAMES, SERVERS, target_name

TICK: Final = 0
DELIVER: Final = 1
RETURN: Final = 2
SAVE: Final = 3
SAVED: Final = 4
FAIL: Final = 5
CRASH: Final = 6
START: Final = 7
RESET: Final = 8
KILL: Final = 9
REVIVE: Final = 10
HANG: Final = 11
CONTINUE: Final = 12
ISOLATE: Final = 13
REJOIN: Final = 14
STALL: Final = 15
ORDER: Final = 16

NAMES: Final = (
    *("tick", "deliver", "return", "save", "saved", "fail", "crash", "start", "reset"),
    *("kill", "revive", "hang", "continue", "isolate", "rejoin", "stall", "order"),
)
"""
The name of each kind.

``deliver:a>b`` delivers the oldest request of a to b, ``return:a<b`` the oldest reply of b to a, ``reset:a>b`` breaks
the connection of a to b; the others name one process.
"""

_PAIRS: Final = {DELIVER: ">", RETURN: "<", RESET: ">"}
_SERVERS: Final = frozenset((KILL, REVIVE, HANG, CONTINUE))


def step_code(kind: int, first: int, second: int = 0) -> int:
    """Return the number of a step of ``first``, with the target ``second``."""
    return kind << 6 | first << 3 | second


def step_name(code: int) -> str:
    """Return the name of a step, such as ``deliver:a>r1``."""
    kind, first, second = code >> 6, code >> 3 & 7, code & 7
    if kind in _PAIRS:
        return f"{NAMES[kind]}:{SENTINEL_NAMES[first]}{_PAIRS[kind]}{target_name(second)}"
    return f"{NAMES[kind]}:{SERVER_NAMES[first] if kind in _SERVERS else SENTINEL_NAMES[first]}"


def parse_step(text: str) -> int:
    """
    Return the number of the step of that name.

    :raises ValueError: if there is none.
    """
    name, _, rest = text.partition(":")
    if name not in NAMES:
        raise ValueError(f"there is no step {text!r}")
    kind = NAMES.index(name)
    if kind in _PAIRS:
        first, _, second = rest.partition(_PAIRS[kind])
        targets = (*SERVER_NAMES, *SENTINEL_NAMES)
        if len(first) == 1 and first in SENTINEL_NAMES and second in targets:
            return step_code(kind, SENTINEL_NAMES.index(first), targets.index(second))
    elif kind in _SERVERS and rest in SERVER_NAMES:
        return step_code(kind, SERVER_NAMES.index(rest))
    elif kind not in _SERVERS and len(rest) == 1 and rest in SENTINEL_NAMES:
        return step_code(kind, SENTINEL_NAMES.index(rest))
    raise ValueError(f"there is no step {text!r}")


def target_of_peer(sentinel: int) -> int:
    """Return the target number of a Sentinel."""
    return SERVERS + sentinel
