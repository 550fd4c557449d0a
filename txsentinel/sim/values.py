"""
Values on the wire as the checker reads them; in a module of their own, as mypyc compiles no subclass of built-in types.
"""

from __future__ import annotations

from typing import TypeAlias

Word: TypeAlias = "bytes | int | Failed | list[Word] | None"
"""A word of a request, or a reply."""


class Failed(bytes):
    """An error reply."""
