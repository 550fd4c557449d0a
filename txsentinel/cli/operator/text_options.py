"""Options that are texts of a form of their own: durations."""

from __future__ import annotations

import re
from typing import Final

import click

_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")


def milliseconds(words: str) -> int:
    """
    Parse a duration such as ``500ms``, ``30s``, ``10m``, ``2h`` or ``7d``.

    :raises click.BadParameter: if it is none.
    """
    found = _DURATION.fullmatch(words)
    if found is None:
        raise click.BadParameter(f"{words!r} is no duration; expected a number with ms, s, m, h or d, such as 30s")
    return int(found[1]) * _UNITS[found[2]]
