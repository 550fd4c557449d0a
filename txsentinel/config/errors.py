"""What can be wrong with a configuration, and how the operator is told."""

from __future__ import annotations

import re

from txsentinel import __version__
from txsentinel.core.errors import CommandError
from txsentinel.model.log_text import excerpt


class ConfigError(Exception):
    """
    The configuration cannot be used. ``str(error)`` is the block for standard error.

    ``message`` is the complaint; ``line_number`` (counted from 1 in the file it stands in) and ``line``
    (trimmed) are ``None`` for complaints that belong to no line.
    """

    def __init__(self, message: str, line_number: int | None = None, line: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line_number = line_number
        self.line = line

    def __str__(self) -> str:
        """The block as it is shown; it starts with an empty line."""
        block = f"\n*** FATAL CONFIG FILE ERROR (txsentinel {__version__}) ***\n"
        if self.line_number is not None:
            shown = excerpt(re.sub("\0+", r"\\0", self.line or ""))  # however long the hole
            block += f"Reading the configuration file, at line {self.line_number}\n>>> '{shown}'\n"
        return block + self.message


class CannotOpen(ConfigError):
    """A configuration file cannot be read; this is a plain log line, not a block."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"Fatal error, can't open config file '{path}': {reason}")

    def __str__(self) -> str:
        """The line itself."""
        return self.message


class DirectiveError(ValueError):
    """One directive is wrong; whoever knows its line turns this into a :class:`ConfigError`."""


class SettingRefused(CommandError, ValueError):
    """``SENTINEL SET`` asks for something impossible. ``str(error)`` is the RESP error line without ``-``."""


class WriteStuck(OSError):
    """A write of the configuration has not ended for so long that no other can be begun; see ``config/store.py``."""
