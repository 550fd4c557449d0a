"""Reads the replies to the two questions whether a server rejects writes."""

from __future__ import annotations

from collections.abc import Sequence

from txsentinel.core.switchover_state import WriteLimits
from txsentinel.model.log_text import excerpt
from txsentinel.wire.numbers import canonical_integer
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine


def write_limits_of(replies: Sequence[object]) -> tuple[WriteLimits | None, str]:
    """Return the settings in the replies to CONFIG GET, and the error if there are none."""
    found: list[int] = []
    for reply in replies:
        if isinstance(reply, ErrorLine):
            return None, excerpt(text(reply))
        value = reply[1] if isinstance(reply, list) and len(reply) == 2 else None
        number = canonical_integer(value) if isinstance(value, bytes) else None
        if number is None or number < 0:
            return None, "an answer without a number"
        found.append(number)
    return WriteLimits(found[0], found[1]), ""
