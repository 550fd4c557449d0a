"""The end of a command that cannot do what it was asked for."""

from __future__ import annotations

from typing import NoReturn


def refuse(text: str) -> NoReturn:
    """End the start with ``text`` on standard error and exit status 1."""
    raise SystemExit(text)
