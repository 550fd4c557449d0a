"""The arguments of a command as COMMAND DOCS describes them, and short ways to write them down."""

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
    """How people are shown it, if not by its name."""

    parts: tuple[Argument, ...] = ()

    @property
    def is_group(self) -> bool:
        """Does it consist of other arguments?"""
        return self.kind in ("oneof", "block")

    @property
    def flags(self) -> list[str]:
        """The flag words, in the order in which they are shown."""
        named = (
            (self.optional, "optional"),
            (self.multiple, "multiple"),
            (self.multiple_token, "multiple_token"),
        )
        return [word for holds, word in named if holds]


def text_argument(name: str, *, token: str = "", since: str = "", display: str = "") -> Argument:
    """A word of free text."""
    return Argument(name, token=token, since=since, display=display)


def integer(name: str, *, token: str = "", since: str = "") -> Argument:
    """A whole number."""
    return Argument(name, "integer", token, since)


def word(token: str, *, since: str = "") -> Argument:
    """A fixed word, to be given as it stands; letter case does not matter."""
    return Argument(token.lower(), "pure-token", token, since)


def oneof(name: str, *parts: Argument, token: str = "", since: str = "") -> Argument:
    """Exactly one of ``parts``."""
    return Argument(name, "oneof", token, since, parts=parts)


def block(name: str, *parts: Argument, token: str = "", since: str = "") -> Argument:
    """All of ``parts``, one after the other."""
    return Argument(name, "block", token, since, parts=parts)


def optional(argument: Argument) -> Argument:
    """The same argument, but it may be left out."""
    return replace(argument, optional=True)


def multiple(argument: Argument) -> Argument:
    """The same argument, but it may come several times."""
    return replace(argument, multiple=True)
