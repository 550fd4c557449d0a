"""
Encoding of commands for servers and peers, and of replies to clients, in RESP2 and RESP3.

A reply is built from plain Python values; RESP types without a Python counterpart have a class here. Text is decoded
and encoded without loss, whatever bytes it contains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias


def text(raw: bytes) -> str:
    """Decode wire bytes; bytes that are not UTF-8 become surrogates, so that `data` restores them exactly."""
    return raw.decode("utf-8", "surrogateescape")


def data(words: str) -> bytes:
    """
    Encode text as wire bytes, the inverse of `text`.

    A surrogate that represents no byte cannot come from the wire; it is encoded as a question mark.
    """
    try:
        return words.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return _without_lone_surrogates(words).encode("utf-8", "surrogateescape")


def _without_lone_surrogates(words: str) -> str:
    return "".join(
        "?" if 0xD800 <= ord(letter) <= 0xDFFF and not 0xDC80 <= ord(letter) <= 0xDCFF else letter for letter in words
    )


def pack(*words: bytes | str | int) -> bytes:
    """Encode a command as a multibulk request; integers are written in decimal."""
    pieces = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else data(word) if isinstance(word, str) else b"%d" % word
        pieces.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(pieces)


def one_line(words: str) -> bytes:
    """Encode text for a single-line reply. Line ends become spaces, as they would begin another reply."""
    return data(words).translate(_LINE_ENDS_TO_SPACES)


_LINE_ENDS_TO_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


@dataclass(frozen=True, slots=True)
class Simple:
    """A status line, ``+text``."""

    text: str


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error line, ``-text``; the text begins with its code, such as ``ERR``."""

    text: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Human-readable text: a verbatim string with the format ``txt`` in RESP3, a bulk string in RESP2."""

    text: bytes | str


@dataclass(frozen=True, slots=True)
class Raw:
    """A reply that is already encoded; empty for no reply."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SetReply:
    """An unordered collection: ``~`` in RESP3, an array in RESP2; written in the order given."""

    items: Sequence[Value]


@dataclass(frozen=True, slots=True)
class Push:
    """Out-of-band data: ``>`` in RESP3, an array in RESP2."""

    items: Sequence[Value]


class NullArray:
    """The null array: ``*-1`` in RESP2, null in RESP3. Use the instance `NULL_ARRAY`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NULL_ARRAY"


NULL_ARRAY: Final = NullArray()

Value: TypeAlias = (
    bytes
    | str
    | int
    | float
    | Sequence["Value"]
    | Mapping[str, "Value"]
    | Mapping[bytes, "Value"]
    | Simple
    | ErrorReply
    | Verbatim
    | Raw
    | SetReply
    | Push
    | NullArray
    | None
)
"""The values that `encode` accepts. Sequences must be lists or tuples, mappings dicts."""

OK: Final = Simple("OK")
PONG: Final = Simple("PONG")


def encode(value: Value, protocol: int = 2) -> bytes:
    """
    Encode a reply.

    :param protocol: 2 or 3, as negotiated with ``HELLO``.
    :raises TypeError: for a value that has no RESP type; that is a bug of the caller.
    """
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    pieces: list[bytes] = []
    _put(value, protocol >= 3, pieces)
    return b"".join(pieces)


def _put(value: Value, resp3: bool, pieces: list[bytes]) -> None:
    """Append the encoding of ``value``; the most common types are tested first."""
    if isinstance(value, str):
        _put_bulk(data(value), pieces)
    elif isinstance(value, bytes):
        _put_bulk(value, pieces)
    elif isinstance(value, bool):
        pieces.append((b"#t\r\n" if value else b"#f\r\n") if resp3 else b":%d\r\n" % value)
    elif isinstance(value, int):
        pieces.append(b":%d\r\n" % value)
    elif isinstance(value, (list, tuple)):
        _put_items(b"*", value, resp3, pieces)
    elif isinstance(value, dict):
        pieces.append(b"%%%d\r\n" % len(value) if resp3 else b"*%d\r\n" % (2 * len(value)))
        for key, item in value.items():
            _put(key, resp3, pieces)
            _put(item, resp3, pieces)
    elif value is None:
        pieces.append(b"_\r\n" if resp3 else b"$-1\r\n")
    elif isinstance(value, Simple):
        pieces.append(b"+%b\r\n" % one_line(value.text))
    elif isinstance(value, ErrorReply):
        pieces.append(b"-%b\r\n" % one_line(value.text))
    elif isinstance(value, NullArray):
        pieces.append(b"_\r\n" if resp3 else b"*-1\r\n")
    elif isinstance(value, Push):
        _put_items(b">" if resp3 else b"*", value.items, resp3, pieces)
    elif isinstance(value, SetReply):
        _put_items(b"~" if resp3 else b"*", value.items, resp3, pieces)
    elif isinstance(value, Raw):
        pieces.append(value.data)
    elif isinstance(value, Verbatim):
        raw = data(value.text) if isinstance(value.text, str) else value.text
        if resp3:
            pieces.append(b"=%d\r\ntxt:%b\r\n" % (len(raw) + 4, raw))
        else:
            _put_bulk(raw, pieces)
    elif isinstance(value, float):
        number = _float_text(value)
        if resp3:
            pieces.append(b",%b\r\n" % number)
        else:
            _put_bulk(number, pieces)
    else:
        raise TypeError(f"no reply can hold a {type(value).__name__}")


def _put_bulk(raw: bytes, pieces: list[bytes]) -> None:
    pieces.append(b"$%d\r\n%b\r\n" % (len(raw), raw))


def _put_items(sign: bytes, items: Iterable[Value], resp3: bool, pieces: list[bytes]) -> None:
    items = list(items)
    pieces.append(b"%b%d\r\n" % (sign, len(items)))
    for item in items:
        _put(item, resp3, pieces)


def _float_text(value: float) -> bytes:
    """Return the shortest decimal that parses as ``value``; whole numbers without a fraction."""
    return repr(value).removesuffix(".0").encode("ascii")
