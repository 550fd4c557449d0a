"""Exit statuses of the verbs; ``docs/command-line.rst`` lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

OK: Final = 0
UNKNOWN: Final = 1
"""No Sentinel monitors a master of that name; for other verbs: it failed."""

DISAGREEMENT: Final = 2
"""Sentinels disagree, or something is down."""

NO_AGREEMENT: Final = 3
"""There is no address on which a majority of the Sentinels agrees."""

UNPROVEN: Final = 4
"""The master was switched, but it is not proven that no acknowledged write was lost."""

ABORTED: Final = 5
"""The master was not switched."""

LOST: Final = 6
"""The master was switched, and acknowledged writes were lost."""

NOT_GUARANTEED: Final = 7
"""Failovers were held up, but one is possible nevertheless."""

USAGE: Final = 64
"""The command line or the profile is wrong (``EX_USAGE``)."""

UNAVAILABLE: Final = 69
"""No Sentinel answers (``EX_UNAVAILABLE``)."""


class VerbFailed(Exception):
    """
    A verb cannot do its work; the text is for standard error.

    :param details: further lines.
    """

    def __init__(self, words: str, status: int, details: Sequence[str] = ()) -> None:
        super().__init__(words)
        self.status = status
        self.details = tuple(details)
