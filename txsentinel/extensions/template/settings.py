"""The settings: which templates become which files, and what is executed then."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from txsentinel.extensions.setting_lines import argument_settings, seconds, shown
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

SETTINGS: Final = ("source", "dest", "mode", "check", "reload", "dampen", "masters")

ARGUMENT_FILE: Final = "default"
"""The name of the file in the argument of the extension."""

PLACEHOLDER: Final = "{{src}}"
"""Replaced in the words of ``check`` by the path of the new file; blanks in it are permitted in settings."""

_SPACED: Final = re.compile(r"\{\{[\s\0]*src[\s\0]*\}\}")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_MODE: Final = re.compile("0?[0-7]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TemplateSettings:
    """One file. Paths are absolute; a command is its words, empty for none."""

    name: str
    source: str
    dest: str
    mode: int | None = None
    """The access mode of a new file; ``None`` for that of the file that it replaces, or 0644."""

    check: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    quiet: float = 0.2
    """Seconds without a further change after which changes that follow each other are rendered."""

    longest: float = 2.0
    """Seconds after which they are rendered in any case."""

    masters: tuple[str, ...] = ()
    """Patterns of names; empty for all."""

    def wants(self, master: str) -> bool:
        """Whether the template is given a master."""
        return not self.masters or any(fnmatchcase(master, pattern) for pattern in self.masters)


@dataclass(slots=True)
class _Draft:
    first: ExtensionSetting
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lines: dict[str, ExtensionSetting] = field(default_factory=dict)


def read_files(argument: str, lines: Iterable[ExtensionSetting]) -> tuple[TemplateSettings, ...]:
    """
    Return the files of the argument, ``source;dest=…``, and of the lines ``<setting> <file> <value> …``.

    :raises ValueError: for a wrong argument; :class:`SettingError` for a wrong line.
    """
    drafts: dict[str, _Draft] = {}
    for name, value in argument_settings(argument, "source"):
        _add(drafts, ExtensionSetting(name, (ARGUMENT_FILE, *_words(name, value))))
    for line in lines:
        _add(drafts, line)
    if not drafts:
        raise ValueError("a template is needed: source FILE, and dest FILE")
    found = tuple(_checked(name, draft) for name, draft in drafts.items())
    for each in found:
        if sum(each.dest == other.dest for other in found) > 1:
            raise ValueError(f"two templates have the dest {shown(each.dest)}")
    return found


def _words(name: str, value: str) -> list[str]:
    """Split a value of the argument as a shell would, or at blanks and commas."""
    if name in ("check", "reload"):
        try:
            return shlex.split(_SPACED.sub(PLACEHOLDER, value))
        except ValueError as error:
            raise ValueError(f"{name} cannot be split into words: {error}") from None
    return re.split("[ ,]+", value) if name in ("dampen", "masters") else [value]


def _add(drafts: dict[str, _Draft], line: ExtensionSetting) -> None:
    try:
        if line.name not in SETTINGS:
            raise ValueError(f"no such setting: {shown(line.name)} (known: {', '.join(SETTINGS)})")
        if len(line.values) < 2 or "" in line.values:
            raise ValueError(f"{line.name} needs the name of a file, and a value")
        name, *values = line.values
        if not _NAME.fullmatch(name):
            raise ValueError(f"{shown(name)} is no name of a file: letters, digits, '_', '.' and '-' are allowed")
        draft = drafts.setdefault(name, _Draft(line))
        if line.name in draft.values and line.name != "masters":
            raise ValueError(f"{line.name} of {name} is set twice")
        if line.name in ("source", "dest", "mode") and len(values) != 1:
            raise ValueError(f"{line.name} needs one value, not {len(values)}")
        if line.name == "check":
            # Unquoted, the placeholder is three words.
            values = [
                _SPACED.sub(PLACEHOLDER, word) for word in _SPACED.sub(PLACEHOLDER, "\0".join(values)).split("\0")
            ]
            if not any(PLACEHOLDER in word for word in values):
                raise ValueError("check must have {{ src }}, the path of the new file")
        draft.values[line.name] = draft.values.get(line.name, ()) + tuple(values)
        draft.lines[line.name] = line
    except ValueError as error:
        raise SettingError(line, str(error)) from None


def _checked(name: str, draft: _Draft) -> TemplateSettings:
    line = draft.first
    try:
        for needed in ("source", "dest"):
            if needed not in draft.values:
                raise ValueError(f"the template {name} has no {needed}")
        values = draft.values
        mode = None
        if "mode" in values:
            line = draft.lines["mode"]
            if not _MODE.fullmatch(values["mode"][0]):
                raise ValueError(f"mode must be three octal digits such as 640, not {shown(values['mode'][0])}")
            mode = int(values["mode"][0], 8)
        quiet, longest = 0.2, 2.0
        if "dampen" in values:
            line = draft.lines["dampen"]
            quiet, longest = _dampening(values["dampen"])
        return TemplateSettings(
            name,
            os.path.abspath(values["source"][0]),
            os.path.abspath(values["dest"][0]),
            mode,
            values.get("check", ()),
            values.get("reload", ()),
            quiet,
            longest,
            values.get("masters", ()),
        )
    except ValueError as error:
        raise SettingError(line, str(error)) from None


def _dampening(values: tuple[str, ...]) -> tuple[float, float]:
    if len(values) != 2:
        raise ValueError("dampen needs two durations, such as 200ms 2s")
    quiet, longest = (seconds("dampen", value, 0.01, 3600) for value in values)
    if quiet > longest:
        raise ValueError("dampen needs the shorter duration first")
    return quiet, longest
