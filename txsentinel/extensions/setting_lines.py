"""Reading the settings of extensions: words shared by all that have lines in the file of the extensions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_YES_OR_NO: Final = {"yes": True, "no": False}
_DURATION: Final = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)?", re.ASCII)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def shown(text: str) -> str:
    """Return a value as it is shown in an error: quoted, escaped, and at most 100 characters of it."""
    return ascii(text if len(text) <= 100 else text[:100] + "...")


def yes_or_no(name: str, value: str) -> bool:
    """
    Parse ``yes`` or ``no``.

    :raises ValueError: for another word; the text has the name of the setting.
    """
    if value not in _YES_OR_NO:
        raise ValueError(f"{name} must be yes or no, not {shown(value)}")
    return _YES_OR_NO[value]


def one_of(name: str, value: str, known: Iterable[str]) -> str:
    """
    Return the value if it is one of the known words.

    :raises ValueError: if it is not.
    """
    words = tuple(known)
    if value not in words:
        raise ValueError(f"{name} must be {', '.join(words[:-1])} or {words[-1]}, not {shown(value)}")
    return value


def seconds(name: str, value: str, lowest: float, highest: float) -> float:
    """
    Parse a duration: a number with the unit ms, s, m, h or d; seconds without one.

    :raises ValueError: if it is none, or outside of the range.
    """
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(f"{name} must be a duration such as 5s, not {shown(value)}")
    duration = int(match[1]) * _UNITS[match[2] or "s"]
    if not lowest <= duration <= highest:
        raise ValueError(f"{name} must be between {lowest:g} and {highest:g} seconds, not {shown(value)}")
    return duration


def argument_settings(argument: str, first: str) -> list[tuple[str, str]]:
    """
    Split the argument of an extension: the value of the setting ``first``, and ``;name=value`` after it.

    :raises ValueError: for a part without an equals sign.
    """
    value, *words = argument.split(";")
    found = [(first, value)] if value else []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"expected name=value after a semicolon, not {shown(word)}")
        found.append((name.strip(), text.strip()))
    return found
