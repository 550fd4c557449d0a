"""Errors of a configuration, with the texts for the operator."""

from __future__ import annotations

import re

from txsentinel import __version__
from txsentinel.model.log_text import excerpt


class ConfigError(Exception):
    """
    The configuration is invalid. ``str(error)`` is the block for standard error.

    ``message`` is the error text. ``line_number`` (from 1, in the file that contains the line) and ``line`` (trimmed)
    are ``None`` for errors that belong to no line.
    """

    def __init__(self, message: str, line_number: int | None = None, line: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line_number = line_number
        self.line = line

    def __str__(self) -> str:
        """Return the block, which starts with an empty line."""
        block = f"\n*** FATAL CONFIG FILE ERROR (txsentinel {__version__}) ***\n"
        if self.line_number is not None:
            shown = excerpt(re.sub("\0+", r"\\0", self.line or ""))  # One for any number of NULs.
            block += f"Reading the configuration file, at line {self.line_number}\n>>> '{shown}'\n"
        return block + self.message


class CannotOpen(ConfigError):
    """A configuration file cannot be read; ``str(error)`` is a log line, not a block."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"Fatal error, can't open config file '{path}': {reason}")

    def __str__(self) -> str:
        """Return the log line."""
        return self.message


class DirectiveError(ValueError):
    """One directive is invalid; the caller that knows its line converts this to a :class:`ConfigError`."""


class WriteStuck(OSError):
    """A write of the configuration has not ended within ``HANG_LIMIT``; it blocks further writes."""
