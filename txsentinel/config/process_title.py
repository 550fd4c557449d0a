"""The template of ``proc-title-template``: text with the names of facts between braces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_PIECE: Final = re.compile(r"[^{]+|\{(?:(?P<brace>\{)|(?P<name>[^}]*)\})", re.DOTALL)


def expanded(template: str, facts: Mapping[str, str]) -> str:
    """
    The text, without blanks at its ends; ``{{`` stands for one brace, and a closing brace alone for itself.

    :param facts: by the names that may stand between braces.
    :raises ValueError: if a brace is not closed, or a name not among the facts.
    """
    text, at = "", 0
    while at < len(template):
        piece = _PIECE.match(template, at)
        if piece is None:
            raise ValueError("a brace is opened and not closed")
        if piece["brace"]:
            text += "{"
        elif piece["name"] is None:
            text += piece[0]
        elif piece["name"] in facts:
            text += facts[piece["name"]]
        else:
            raise ValueError(f"no such variable: {piece['name']}")
        at = piece.end()
    return text.strip(" ")
