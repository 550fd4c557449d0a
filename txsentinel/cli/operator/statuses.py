"""Exit statuses of the verbs; ``docs/command-line.rst`` lists them."""

from __future__ import annotations

from typing import Final

OK: Final = 0
UNKNOWN: Final = 1
"""No Sentinel monitors a master of that name; for other verbs: it failed."""

DISAGREEMENT: Final = 2
"""Sentinels disagree, or something is down."""

NO_AGREEMENT: Final = 3
"""There is no address on which a majority of the Sentinels agrees."""

USAGE: Final = 64
"""The command line or the profile is wrong (``EX_USAGE``)."""

UNAVAILABLE: Final = 69
"""No Sentinel answers (``EX_UNAVAILABLE``)."""


class VerbFailed(Exception):
    """A verb cannot do its work; the text is for standard error."""

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status
