"""The arguments of a command as COMMAND DOCS describes them, with functions that construct them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Argument:
    """
    One argument, or a group of them.

    ``kind`` is the word of COMMAND DOCS: string, integer, pattern, pure-token, oneof or block.
    """

    name: str
    kind: str = "string"
    token: str = ""
    since: str = ""
    deprecated_since: str = ""
    optional: bool = False
    multiple: bool = False
    multiple_token: bool = False
    display: str = ""
    """The name to display, if it is not ``name``."""

    parts: tuple[Argument, ...] = ()

    @property
    def is_group(self) -> bool:
        """Whether it consists of other arguments."""
        return self.kind in ("oneof", "block")

    @property
    def flags(self) -> list[str]:
        """The flags in wire order."""
        named = (
            (self.optional, "optional"),
            (self.multiple, "multiple"),
            (self.multiple_token, "multiple_token"),
        )
        return [word for holds, word in named if holds]


def text_argument(name: str, *, token: str = "", since: str = "", display: str = "") -> Argument:
    """Return an argument with any text."""
    return Argument(name, token=token, since=since, display=display)


def integer(name: str, *, token: str = "", since: str = "") -> Argument:
    """Return an integer argument."""
    return Argument(name, "integer", token, since)


def word(token: str, *, since: str = "") -> Argument:
    """Return a fixed word, in any letter case."""
    return Argument(token.lower(), "pure-token", token, since)


def oneof(name: str, *parts: Argument, token: str = "", since: str = "") -> Argument:
    """Return a group of which exactly one part is given."""
    return Argument(name, "oneof", token, since, parts=parts)


def block(name: str, *parts: Argument, token: str = "", since: str = "") -> Argument:
    """Return a group of which all parts are given, in order."""
    return Argument(name, "block", token, since, parts=parts)


def optional(argument: Argument) -> Argument:
    """Return a copy of the argument that may be omitted."""
    return replace(argument, optional=True)


def multiple(argument: Argument) -> Argument:
    """Return a copy of the argument that may be repeated."""
    return replace(argument, multiple=True)
