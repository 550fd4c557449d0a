"""The content of a configuration file, independent of its layout."""

from __future__ import annotations

from tests.differential.tablefile import words_of


def state_lines(text: str) -> list[str]:
    """Return the lines of a file as words, sorted; comments first, in their order."""
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
