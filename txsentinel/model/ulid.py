"""Identifiers that are unique and sort by the time at which they were made."""

from __future__ import annotations

import os
import time
from typing import Final

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_ulid(unix_ms: int | None = None, noise: bytes | None = None) -> str:
    """Return a new ULID: 48 bits of time and 80 random ones, in the alphabet of Crockford."""
    moment = int(time.time() * 1000) if unix_ms is None else unix_ms
    number = moment << 80 | int.from_bytes(os.urandom(10) if noise is None else noise, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
