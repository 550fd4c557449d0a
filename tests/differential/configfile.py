"""What a configuration file says, apart from how it is laid out."""

from __future__ import annotations

from tests.differential.tablefile import words_of


def state_lines(text: str) -> list[str]:
    """The lines of a file as words, in an order of their own; comments first, in theirs."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    comments = [line for line in lines if line.startswith("#")]
    rest = [line for line in lines if not line.startswith("#")]
    return comments + sorted(_words(line) for line in rest)


def _words(line: str) -> str:
    try:
        words = [word.decode("utf-8", "backslashreplace") for word in words_of(line)]
    except (IndexError, ValueError):
        return line
    return " ".join([words[0].lower(), *(word if word and " " not in word else repr(word) for word in words[1:])])
