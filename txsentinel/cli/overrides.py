"""Directives after the configuration file on the command line, in the syntax of the C servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from txsentinel.config.quoting import in_quotes

NEVER_VALUES: Final = frozenset({"--sentinel", "--save"})
"""Words that begin an option even if the option before them has no value yet."""

STDIN: Final = "-"
"""As the first or last word: further directives come from standard input."""


class NotAnOption(ValueError):
    """A word that is no option in the place of one; ``str()`` is the word."""


def reads_stdin(words: Sequence[str]) -> bool:
    """Whether the words request directives from standard input."""
    return bool(words) and STDIN in (words[0], words[-1])


def override_lines(words: Sequence[str]) -> list[str]:
    """
    Convert words of the command line to configuration lines.

    ``--port 5000 --sentinel monitor m 10.0.0.1 6379 2`` makes ``port "5000"`` and ``sentinel "monitor" "m"
    "10.0.0.1" "6379" "2"``. A word that begins with ``--`` begins a line, unless the option before it
    has no value yet: then it is that value. An option with spaces in it is a whole line. The
    ``-`` for standard input is skipped.

    :raises NotAnOption: if the first word is no option.
    """
    words = list(words)
    for end in (0, -1):
        if words and words[end] == STDIN:
            del words[end]
    lines: list[list[str]] = []
    for word in words:
        waits = bool(lines) and len(lines[-1]) == 1 and " " not in lines[-1][0] and lines[-1][0] != "sentinel"
        if word.startswith("--") and (not waits or word in NEVER_VALUES):
            lines.append([word[2:]])
        elif lines:
            lines[-1].append(in_quotes(word))
        else:
            raise NotAnOption(word)
    return [" ".join(line) for line in lines]
