"""
Escaping and limiting of log lines that contain text from outside.

Every line of the log passes through :func:`one_line` (see ``process.logs``), so that text from outside cannot end a
line, begin another one or fill the disk. Lines that clients and other Sentinels can provoke are logged through a
``LogThrottle`` or a :class:`DistinctLineThrottle`. Published events are not escaped: their payloads are those of the C
Sentinels, byte for byte, and contain only names, IDs and addresses that were validated when they were received.
"""

from __future__ import annotations

from typing import Final

MAX_EXCERPT: Final = 200
"""Maximum length in characters of text from outside that is quoted in a log line."""

MAX_LINE: Final = 4096
"""Maximum length in characters of one line of the log."""

_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
"""Characters that end a line for some reader, or that control a terminal."""


def one_line(text: str, longest: int = MAX_LINE) -> str:
    r"""
    Return ``text`` with control characters and line ends escaped, cut at ``longest`` characters.

    >>> one_line("evil\n+switch-master")
    'evil\\n+switch-master'
    """
    # Cut before escaping, as escaping ten megabytes would take long.
    cut = text[:longest]
    escaped = cut.translate(_ESCAPES)
    return escaped if len(cut) == len(text) and len(escaped) <= longest else f"{escaped[:longest]}..."


def excerpt(text: str) -> str:
    """Return the beginning of a text from outside, escaped, for quoting in a log line."""
    return one_line(text, MAX_EXCERPT)
