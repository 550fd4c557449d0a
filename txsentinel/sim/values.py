"""What comes over a wire, as the witness reads it; apart, as a compiler takes no heirs of built-in types."""

from __future__ import annotations

from typing import TypeAlias

Word: TypeAlias = "bytes | int | Failed | list[Word] | None"
"""A word of a request, or a reply."""


class Failed(bytes):
    """An error reply."""
