"""What the replies of servers and peers are made of, where Python has no type of its own to tell them apart."""

from __future__ import annotations

from typing import Any, TypeAlias


class Status(bytes):
    """A status line, without its sign: ``+OK`` is ``Status(b"OK")``. Equal to plain bytes of the same content."""

    __slots__ = ()


class ErrorLine(bytes):
    """An error, without its sign: ``-ERR no`` is ``ErrorLine(b"ERR no")``."""

    __slots__ = ()


class PushFrame(list[Any]):
    """Something that answers no command, which RESP3 marks as such. In RESP2 it is an ordinary list."""

    __slots__ = ()


Reply: TypeAlias = bytes | int | float | list[Any] | dict[Any, Any] | None
"""
What a reply can be: `Status`, `ErrorLine` or a bulk as bytes, numbers, booleans, nulls, lists (also
for sets), `PushFrame`, dicts. Verbatim texts come without their format, attributes not at all.
"""
