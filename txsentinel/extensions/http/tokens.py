"""The file of tokens: who may use the HTTP interface without a password."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

_HASH: Final = re.compile("[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """One line of the file. ``expires_at`` is in seconds since 1970; ``None`` for never."""

    name: str
    user: str
    expires_at: float | None


def parse_tokens(text: str) -> dict[str, Token]:
    """
    Parse a file of tokens: ``name hash user expiry`` in each line, where the hash is the SHA-256 of the token.

    The expiry is a date and time with its offset from UTC, such as ``2027-01-31T00:00:00Z``, or ``never``. Empty lines
    and lines that begin with ``#`` are ignored.

    :returns: the tokens by their hashes.
    :raises ValueError: with the number of the first line that is wrong. The text has nothing of the line.
    """
    tokens: dict[str, Token] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 4:
            raise ValueError(f"line {number}: expected a name, a hash, a user and an expiry, found {len(words)} words")
        name, digest, user, expiry = words
        if not _HASH.fullmatch(digest):
            raise ValueError(f"line {number}: the hash must be 64 hexadecimal digits in lower case")
        if digest in tokens:
            raise ValueError(f"line {number}: the hash is that of an earlier line")
        tokens[digest] = Token(name, user, _expiry(number, expiry))
    return tokens


def _expiry(number: int, text: str) -> float | None:
    if text == "never":
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"line {number}: the expiry must be a time with its offset, such as 2027-01-31T00:00:00Z")
    return moment.astimezone(timezone.utc).timestamp()


class TokenTable:
    """
    The tokens that are valid now.

    :param wall_clock: returns the seconds since 1970.
    """

    def __init__(self, wall_clock: Callable[[], float], tokens: Mapping[str, Token] | None = None) -> None:
        self._wall_clock = wall_clock
        self._tokens = dict(tokens or {})

    def replace(self, tokens: Mapping[str, Token]) -> None:
        """Take the contents of a changed file."""
        self._tokens = dict(tokens)

    def user(self, digest: str) -> str | None:
        """Return the user of the token with this hash; ``None`` if it is unknown or has expired."""
        token = self._tokens.get(digest)
        if token is None or (token.expires_at is not None and token.expires_at <= self._wall_clock()):
            return None
        return token.user
