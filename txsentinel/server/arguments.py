"""Reading the arguments of a request, with the complaints of Redis."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Final

from txsentinel.core.errors import CommandError
from txsentinel.server.steps import PORTION, finished

NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
SYNTAX_ERROR: Final = "ERR syntax error"

_CANONICAL: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_NOT_PRINTABLE: Final = re.compile(rb"[^!-~]")


def canonical_integer(raw: bytes) -> int | None:
    """A whole number in its one canonical spelling, within 64 bits with sign; else ``None``."""
    if _CANONICAL.fullmatch(raw) is None:
        return None
    number = int(raw)
    return number if -(1 << 63) <= number < 1 << 63 else None


def integer(raw: bytes, error_text: str = NOT_AN_INTEGER) -> int:
    """
    A whole number.

    :raises CommandError: with ``complaint`` if it is none.
    """
    number = canonical_integer(raw)
    if number is None:
        raise CommandError(error_text)
    return number


def yes_or_no(raw: bytes) -> bool | None:
    """``yes`` or ``no`` in any letter case; ``None`` for anything else."""
    return {b"yes": True, b"no": False}.get(raw.lower())


def syntax_error() -> CommandError:
    """The complaint that says no more than that."""
    return CommandError(SYNTAX_ERROR)


def printable(raw: bytes) -> bool:
    """Is it free of blanks, control characters and whatever is not ASCII?"""
    return _NOT_PRINTABLE.search(raw) is None


def refuse_control_characters(request: Sequence[bytes], start: int, command: str) -> None:
    """Check all words at once, see :func:`check_control_characters`; for commands that take only few."""
    finished(check_control_characters(request, start, command))


def check_control_characters(request: Sequence[bytes], start: int, command: str) -> Generator[bytes, None, None]:
    """
    Let nothing pass that could break out of its line in the file. Done in steps.

    :param start: index of the first word to look at; words are counted from the container's, which is 0.
    :raises CommandError: naming the first offender.
    """
    for index in range(start, len(request)):
        if not index % PORTION:
            yield b""
        if _CONTROL.search(request[index]):
            raise CommandError(
                f"ERR Invalid argument at index {index} for {command}: control characters are not allowed"
            )
