"""Parsing of command arguments, with the error texts of Redis."""

from __future__ import annotations

import re
from collections.abc import Container, Generator, Sequence
from typing import Final

from txsentinel.core.errors import CommandError
from txsentinel.server.steps import PORTION, run_all

NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
SYNTAX_ERROR: Final = "ERR syntax error"

_CANONICAL: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_NOT_PRINTABLE: Final = re.compile(rb"[^!-~]")


def canonical_integer(raw: bytes) -> int | None:
    """Return a signed 64-bit integer in canonical decimal form, ``None`` for any other word."""
    if _CANONICAL.fullmatch(raw) is None:
        return None
    number = int(raw)
    return number if -(1 << 63) <= number < 1 << 63 else None


def integer(raw: bytes, error_text: str = NOT_AN_INTEGER) -> int:
    """
    Return a signed 64-bit integer.

    :raises CommandError: with ``error_text`` for any other word.
    """
    number = canonical_integer(raw)
    if number is None:
        raise CommandError(error_text)
    return number


def syntax_error() -> CommandError:
    """Return the general syntax error."""
    return CommandError(SYNTAX_ERROR)


def printable(raw: bytes) -> bool:
    """Whether all bytes are printable ASCII characters other than the space."""
    return _NOT_PRINTABLE.search(raw) is None


def refuse_control_characters(request: Sequence[bytes], start: int, command: str) -> None:
    """Call :func:`check_control_characters` without steps, for commands with few words."""
    run_all(check_control_characters(request, start, command))


def check_control_characters(
    request: Sequence[bytes], start: int, command: str, secrets: Container[int] = ()
) -> Generator[bytes, None, None]:
    """
    Refuse words with control characters, which could end their line in the configuration file. Works in steps.

    :param start: index of the first word to check; the container's word has index 0.
    :param secrets: indices of passwords, in which they are permitted but for NUL, at which C Sentinels cut a word off.
    :raises CommandError: with the index of the first such word.
    """
    for index in range(start, len(request)):
        if not index % PORTION:
            yield b""
        if b"\0" in request[index] if index in secrets else _CONTROL.search(request[index]):
            raise CommandError(
                f"ERR Invalid argument at index {index} for {command}: control characters are not allowed"
            )
