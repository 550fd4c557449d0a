"""The encoding of replies."""

from __future__ import annotations


def bulk(text: bytes | None) -> bytes:
    """A bulk string, or none."""
    return b"$-1\r\n" if text is None else b"$%d\r\n%b\r\n" % (len(text), text)


def array(*items: bytes, sign: bytes = b"*") -> bytes:
    """An array of encoded items."""
    return b"%b%d\r\n%b" % (sign, len(items), b"".join(items))


def number(value: int) -> bytes:
    """An integer."""
    return b":%d\r\n" % value


def error(text: str) -> bytes:
    """An error line."""
    return b"-%b\r\n" % text.encode()
