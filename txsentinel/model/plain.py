"""Converts frozen records to plain values: dictionaries, lists, texts, numbers, booleans and ``None``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import TypeAlias

from txsentinel.model.snapshots import Endpoint, Instant

Plain: TypeAlias = "dict[str, Plain] | list[Plain] | str | int | float | bool | None"
"""What JSON can represent."""


def json_instant(instant: Instant) -> Plain:
    """Render an instant for JSON."""
    return instant.rfc3339()


def unix_instant(instant: Instant) -> Plain:
    """Render an instant as milliseconds since 1970, for RESP."""
    return instant.unix_ms


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def plain(value: object, instant: Callable[[Instant], Plain] = json_instant) -> Plain:
    """
    Convert a record, or a collection of records, to plain values.

    An endpoint becomes a map of ``host``, ``port`` and ``address``, the last being ``host:port``. A tuple of pairs
    stays a list of lists.

    :param instant: renders points in time.
    :raises TypeError: for a value of another type, such as an object of the core.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Instant):
        return instant(value)
    if isinstance(value, Endpoint):
        return {"host": value.host, "port": value.port, "address": str(value)}
    if isinstance(value, Enum):
        return plain(value.value, instant)
    if isinstance(value, (tuple, list)):
        return [plain(each, instant) for each in value]
    if isinstance(value, Mapping):
        return {str(key): plain(each, instant) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name), instant) for name in _names(type(value))}
    raise TypeError(f"not a plain record: {type(value).__name__}")
