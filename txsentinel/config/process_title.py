"""Expansion of ``proc-title-template``: text with variable names between braces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_PIECE: Final = re.compile(r"[^{]+|\{(?:(?P<brace>\{)|(?P<name>[^}]*)\})", re.DOTALL)


def expanded(template: str, variables: Mapping[str, str]) -> str:
    """
    Expand a template and strip spaces; ``{{`` is a literal brace, and so is a closing brace without an opening one.

    :param variables: the values by name.
    :raises ValueError: if a brace is not closed, or a variable is unknown.
    """
    text, at = "", 0
    while at < len(template):
        piece = _PIECE.match(template, at)
        if piece is None:
            raise ValueError("a brace is not closed")
        if piece["brace"]:
            text += "{"
        elif piece["name"] is None:
            text += piece[0]
        elif piece["name"] in variables:
            text += variables[piece["name"]]
        else:
            raise ValueError(f"no such variable: {piece['name']}")
        at = piece.end()
    return text.strip(" ")
