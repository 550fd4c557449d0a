"""
Parsing of the replies of servers and peers, in RESP2 and (after ``HELLO 3``) RESP3.

The parser of a client library is not used for two reasons. A status must be distinguishable from a bulk string of the
same bytes, which the validation of answers needs. And a peer may be faulty or malicious: depth, number of elements and
size are bounded, and each byte is examined a bounded number of times, however the stream is cut into chunks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from txsentinel.model.timings import Limits
from txsentinel.wire.values import ErrorLine, PushFrame, Reply, Status


class ReplyViolation(Exception):
    """The received bytes are not RESP or exceed a limit; the connection must be closed. The text has the reason."""


class NeedMore:
    """The reply is incomplete. Use the instance `NEED_MORE`; ``None`` is a reply."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NEED_MORE"


NEED_MORE: Final = NeedMore()

MAX_DEPTH: Final = 32
"""Maximum depth of nested aggregates."""

MAX_ELEMENTS: Final = 1 << 20
"""Maximum number of elements in the header of one aggregate."""

ELEMENT_OVERHEAD: Final = 64
"""Bytes that each value is charged in addition to its length, so that arrays of empty values are limited, too."""

_MAX_NUMBER: Final = 512
"""Maximum length in bytes of a line that contains a length, a number or a boolean."""

_INTEGER: Final = re.compile(rb"[+-]?[0-9]{1,19}")
_BIG_NUMBER: Final = re.compile(rb"[+-]?[0-9]+")
_DOUBLE: Final = re.compile(rb"[+-]?(?:inf|nan|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)")
_FAR: Final = 1 << 63

_PLUS, _MINUS, _COLON, _DOLLAR, _ASTERISK = b"+-:$*"
_UNDERSCORE, _HASH, _COMMA, _PAREN, _BANG, _EQUALS, _PERCENT, _TILDE, _ANGLE, _BAR = b"_#,(!=%~>|"
_BULKS: Final = frozenset((_DOLLAR, _BANG, _EQUALS))
_AGGREGATES: Final = frozenset((_ASTERISK, _PERCENT, _TILDE, _ANGLE, _BAR))
_RESP2_SIGNS: Final = frozenset((_PLUS, _MINUS, _COLON, _DOLLAR, _ASTERISK))
_SIGNS: Final = _BULKS | _AGGREGATES | {_PLUS, _MINUS, _COLON, _UNDERSCORE, _HASH, _COMMA, _PAREN}


@dataclass(slots=True)
class _Aggregate:
    """An incomplete aggregate; ``missing`` is the number of values still to come, with keys counted."""

    sign: int
    missing: int
    items: list[Any] = field(default_factory=list)

    def finished(self) -> Any:
        """Return the aggregate as a value. Not called for attributes, which are dropped."""
        if self.sign == _PERCENT:
            keys = self.items[::2]
            # Integers and floats are hashed without a secret: keys that all collide take quadratic time.
            if not all(isinstance(key, bytes) for key in keys):
                raise ReplyViolation("a key of a map is no string")
            return dict(zip(keys, self.items[1::2], strict=True))
        return PushFrame(self.items) if self.sign == _ANGLE else self.items


class ReplyReader:
    """
    Incremental parser of a stream of replies.

    After a violation the reader is unusable: it has released its buffer, ignores input and returns no replies.

    :param resp3: whether ``HELLO 3`` was sent on the connection. Without it every type that RESP2 lacks is a
        violation. The keys of a map must always be strings.
    """

    __slots__ = (
        "_buffer",
        "_charge",
        "_length",
        "_maximum",
        "_open",
        "_position",
        "_scanned",
        "_sign",
        "_signs",
        "_spent",
    )

    def __init__(self, limits: Limits, *, resp3: bool = False) -> None:
        self._maximum = limits.reply_buffer
        self._signs = _SIGNS if resp3 else _RESP2_SIGNS
        self._buffer: bytes | bytearray = b""
        self._position = 0
        self._scanned = 0
        self._open: list[_Aggregate] = []
        self._sign = 0
        self._length = -1
        self._charge = 0
        self._spent = False

    @property
    def idle(self) -> bool:
        """Whether no reply is incomplete, so that the next chunk begins with a reply."""
        return not self._open and self._length < 0 and self._position == len(self._buffer) and not self._spent

    @property
    def held(self) -> int:
        """Bytes that the reply which is incomplete occupies, about; 0 between two replies."""
        announced = self._length if self._length >= 0 else 0
        return self._charge - announced + len(self._buffer) - self._position

    def feed(self, data: bytes) -> None:
        """Add a chunk. Call `next_reply` until it returns `NEED_MORE` before adding another one."""
        if self._spent:
            return
        if self._position == len(self._buffer):
            self._buffer = bytes(data)
            self._position = self._scanned = 0
            return
        if isinstance(self._buffer, bytearray):
            del self._buffer[: self._position]
        else:
            self._buffer = bytearray(memoryview(self._buffer)[self._position :])
        self._buffer += data
        self._scanned = max(self._scanned - self._position, 0)
        self._position = 0

    def next_reply(self) -> Reply | NeedMore:
        """
        Return the next reply, or `NEED_MORE` if more bytes are required.

        :raises ReplyViolation: if the bytes are not a reply, or if it is too large, too long or too deep.
        """
        try:
            value: Reply | NeedMore = self._value()
            while self._open:
                if value is NEED_MORE:
                    return NEED_MORE
                value = self._add_to_aggregate(value)
        except ReplyViolation:
            self._spent = True
            self._buffer = b""
            self._position = 0
            self._open = []
            self._length = -1
            self._charge = 0
            raise
        if value is not NEED_MORE:
            self._charge = 0
        return value

    def _add_to_aggregate(self, value: Any) -> Any:
        """Add a value to the innermost open aggregate, close complete ones, and parse the next value if one is open."""
        innermost = self._open[-1]
        if value is not _OPENED:
            innermost.items.append(value)
            innermost.missing -= 1
        while not innermost.missing:
            self._open.pop()
            if innermost.sign == _BAR:
                break
            closed = innermost.finished()
            if not self._open:
                return closed
            innermost = self._open[-1]
            innermost.items.append(closed)
            innermost.missing -= 1
        return self._value()

    def _value(self) -> Any:
        """Parse one scalar; return `_OPENED` for the header of an aggregate, `NEED_MORE` for an incomplete value."""
        buffer = self._buffer
        start = self._position
        if self._length >= 0:
            return self._bulk()
        if start == len(buffer):
            return self._release_buffer()
        sign = buffer[start]
        if sign not in self._signs:
            without = " without HELLO 3" if sign in _SIGNS else ""
            raise ReplyViolation(f"a reply starts with {bytes((sign,))!r}{without}")
        end = buffer.find(b"\r\n", self._scanned)
        longest = self._maximum if sign in (_PLUS, _MINUS) else _MAX_NUMBER
        if (len(buffer) - 1 if end < 0 else end) - start > longest:
            raise ReplyViolation(f"a line that starts with {bytes((sign,))!r} is too long")
        if end < 0:
            # The LF of a CR at the end of this chunk may be in the next one.
            self._scanned = max(start, len(buffer) - 1)
            return NEED_MORE
        line = bytes(buffer[start + 1 : end])
        self._position = self._scanned = end + 2
        self._spend(ELEMENT_OVERHEAD + len(line))
        if sign == _PLUS:
            return Status(line)
        if sign == _COLON:
            return _integer(line)
        if sign in _BULKS:
            length = _length(sign, line)
            if length < 0:
                return None
            self._spend(length)
            self._sign, self._length = sign, length
            return self._bulk()
        if sign in _AGGREGATES:
            return self._aggregate(sign, line)
        return _scalar(sign, line)

    def _bulk(self) -> Any:
        """Return the payload of the bulk whose header was parsed, once it is complete with its line end."""
        start = self._position
        end = start + self._length
        buffer = self._buffer
        if len(buffer) < end + 2:
            return NEED_MORE
        if buffer[end : end + 2] != b"\r\n":
            raise ReplyViolation(f"a bulk is followed by {bytes(buffer[end : end + 2])!r}")
        raw = bytes(buffer[start:end])
        self._length = -1
        self._position = self._scanned = end + 2
        if self._sign == _DOLLAR:
            return raw
        if self._sign == _BANG:
            return ErrorLine(raw)
        if raw[3:4] != b":":
            raise ReplyViolation(f"a verbatim text starts with {raw[:4]!r}")
        return raw[4:]

    def _aggregate(self, sign: int, line: bytes) -> Any:
        """Open an aggregate; a null aggregate is a value at once."""
        count = _length(sign, line)
        if count < 0:
            return None
        if count > MAX_ELEMENTS:
            raise ReplyViolation(f"{count} elements in one aggregate")
        if sign == _ANGLE and self._open:
            raise ReplyViolation("b'>' inside an aggregate")
        if len(self._open) >= MAX_DEPTH:
            raise ReplyViolation(f"aggregates are nested deeper than {MAX_DEPTH}")
        self._open.append(_Aggregate(sign, 2 * count if sign in (_PERCENT, _BAR) else count))
        return _OPENED

    def _release_buffer(self) -> NeedMore:
        """Release the last chunk, so that an idle link occupies no memory."""
        self._buffer = b""
        self._position = self._scanned = 0
        return NEED_MORE

    def _spend(self, size: int) -> None:
        self._charge += size
        if self._charge > self._maximum:
            raise ReplyViolation(f"a reply of more than {self._maximum} bytes")


SHORT: Final = 64
"""Length in bytes of the longest chunk that may be passed to `short_replies`."""


@lru_cache(maxsize=1024)
def short_replies(chunk: bytes) -> tuple[Reply, ...] | None:
    """
    Return the replies that a short chunk consists of. Only valid while no reply is incomplete.

    A Sentinel receives the same few replies thousands of times per second, so the results are cached.

    :returns: ``None`` unless the chunk consists of complete scalars: use :class:`ReplyReader` then.
    """
    reader = ReplyReader(Limits())
    reader.feed(chunk)
    replies: list[Reply] = []
    try:
        while not isinstance(reply := reader.next_reply(), NeedMore):
            if isinstance(reply, list | dict):
                return None
            replies.append(reply)
    except ReplyViolation:
        return None
    return tuple(replies) if reader.idle else None


_OPENED: Final = NeedMore()
"""An aggregate was opened; its first element, if it has one, is parsed next."""


def _integer(line: bytes) -> int:
    if _INTEGER.fullmatch(line) is not None:
        number = int(line)
        if -_FAR <= number < _FAR:
            return number
    raise ReplyViolation(f"{_excerpt(line)} is not an integer")


def _length(sign: int, line: bytes) -> int:
    """Parse a length or a count; −1 is the null of RESP2."""
    if line.isdigit() and len(line) < 19:
        return int(line)
    if line == b"-1" and sign in (_DOLLAR, _ASTERISK):
        return -1
    raise ReplyViolation(f"{_excerpt(line)} is not a length")


def _scalar(sign: int, line: bytes) -> Any:
    """Parse the less common single-line values."""
    if sign == _MINUS:
        return ErrorLine(line)
    if sign == _UNDERSCORE and not line:
        return None
    if sign == _HASH and line in (b"t", b"f"):
        return line == b"t"
    if sign == _COMMA and _DOUBLE.fullmatch(line) is not None:
        return float(line)
    if sign == _PAREN and _BIG_NUMBER.fullmatch(line) is not None:
        return int(line)
    raise ReplyViolation(f"{_excerpt(line)} after {bytes((sign,))!r}")


def _excerpt(line: bytes) -> str:
    """Return the beginning of a line, for an error text."""
    return repr(line[:20])
