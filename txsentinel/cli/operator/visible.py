"""Makes text of servers harmless for terminals, and formats numbers and times."""

from __future__ import annotations


def visible(words: str) -> str:
    r"""
    Escape what is not visible: control characters and undecodable bytes as ``\xNN``, others as ``\uNNNN``.

    Spaces other than the usual one are escaped as well, as they look like it.

    >>> visible("my\x1b[2Jmaster")
    'my\\x1b[2Jmaster'
    """
    if words.isprintable():
        return words
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in words)


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def duration(milliseconds: float) -> str:
    """Return a duration in its two greatest units: ``0.3s``, ``41s``, ``3h12m``, ``6d04h``."""
    if milliseconds < 9950:
        return f"{milliseconds / 1000:.1f}s"
    seconds = int(milliseconds / 1000)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds // 60 % 60:02}m"
    return f"{seconds // 86_400}d{seconds // 3600 % 24:02}h"


def size(count: int) -> str:
    """Return a number of bytes: ``0 B``, ``1.2 MB``."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


def plural(count: int, noun: str) -> str:
    """Return ``1 replica`` or ``2 replicas``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
