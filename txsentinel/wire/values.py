"""Types for parsed reply values that no built-in Python type distinguishes."""

from __future__ import annotations

from typing import Any, TypeAlias


class Status(bytes):
    """A status line without its type byte: ``+OK`` is ``Status(b"OK")``. Equal to plain bytes of the same content."""

    __slots__ = ()


class ErrorLine(bytes):
    """An error without its type byte: ``-ERR no`` is ``ErrorLine(b"ERR no")``."""

    __slots__ = ()


class PushFrame(list[Any]):
    """Out-of-band data, RESP3 type ``>``. RESP2 has no such type; there it arrives as an ordinary list."""

    __slots__ = ()


Reply: TypeAlias = bytes | int | float | list[Any] | dict[Any, Any] | None
"""
A parsed reply: `Status`, `ErrorLine`, bytes for a bulk string, number, boolean, ``None`` for null, list (also for a
set), `PushFrame` or dict. Verbatim strings lose their format prefix; attributes are dropped.
"""
