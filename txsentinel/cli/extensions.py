"""
The options for extensions, the file with their settings, and the services made of them.

A line of the file is ``<extension> [<name> <value> …]`` in the quoting of ``sentinel.conf``. It enables the extension.
The lines ``guards <setting> <master> <value>`` are the settings of masters that C Sentinels do not have; those in
``sentinel.conf`` take precedence.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from twisted.plugin import getPlugins
from twisted.python import usage

from txsentinel.config.disk import read_file
from txsentinel.config.errors import DirectiveError
from txsentinel.config.guards import GUARDS_BY_WORD
from txsentinel.config.quoting import decoded, split_line
from txsentinel.config.statements import CommentStatement
from txsentinel.interfaces import ISentinelExtension
from txsentinel.model.extension_settings import ExtensionSetting

if TYPE_CHECKING:
    from twisted.application.service import IService

    from txsentinel.interfaces import IOperator, ISentinelView
    from txsentinel.process.state_directory import StateDirectory

GUARDS: Final = "guards"
"""The first word of lines that are no setting of an extension."""

GUARD_WORDS: Final = 4

STATE_SUFFIX: Final = ".d"
"""What follows the path of the configuration file in that of the state directory."""


class UnusableExtension(Exception):
    """An extension cannot run, or its settings are invalid; the text is for the operator."""


def installed_extensions(package: ModuleType | None = None) -> dict[str, ISentinelExtension]:
    """
    Return all plug-ins that provide :class:`ISentinelExtension`, by name.

    :param package: the package of plug-in modules; ``None`` for ``twisted.plugins``.
    """
    found: list[ISentinelExtension] = list(getPlugins(ISentinelExtension, package))
    return {extension.name: extension for extension in sorted(found, key=lambda each: str(each.name))}


@dataclass(frozen=True, slots=True)
class ExtensionUse:
    """An extension that is to run, with its argument and settings."""

    extension: ISentinelExtension
    argument: str = ""
    settings: tuple[ExtensionSetting, ...] = ()

    def describe(self) -> str:
        """Return a line for ``txsentinel check``."""
        text = f"extension {self.extension.name}: {self.extension.description}"
        if self.argument:
            text += f"; argument {self.argument}"
        if self.settings:
            count = len(self.settings)
            text += f"; {count} setting{'s' if count > 1 else ''} ({', '.join(each.name for each in self.settings)})"
        return text


@dataclass(slots=True)
class ExtensionsFile:
    """The contents of the file: settings by the name of the extension, and settings of masters."""

    settings: dict[str, list[ExtensionSetting]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Name of the extension → the place of its first line."""

    guards: list[CommentStatement] = field(default_factory=list)


def parse_extensions(path: str, contents: bytes) -> ExtensionsFile:
    """
    Parse the file of the extensions.

    :param path: its path, for error texts.
    :raises UnusableExtension: for the first line that is invalid, with its number.
    """
    parsed = ExtensionsFile()
    for number, raw in enumerate(contents.split(b"\n"), 1):
        line, place = raw.strip(b" \t\r"), f"{path}, line {number}"
        if not line or line.startswith(b"#"):
            continue
        if b"\0" in line:
            raise UnusableExtension(f"{place}: NUL byte")
        split = split_line(line)
        if split is None:
            raise UnusableExtension(f"{place}: unbalanced quotes")
        name, *words = [decoded(word) for word in split]
        if name == GUARDS:
            parsed.guards.append(_guard(words, number, decoded(line), path))
            continue
        parsed.places.setdefault(name, place)
        settings = parsed.settings.setdefault(name, [])
        if words:
            settings.append(ExtensionSetting(words[0], tuple(words[1:]), place))
    return parsed


def _guard(words: Sequence[str], number: int, line: str, path: str) -> CommentStatement:
    """Return a setting of a master as the comment of an included file would have it."""
    place = f"{path}, line {number}"
    if len(words) != GUARD_WORDS - 1:
        raise UnusableExtension(f"{place}: '{GUARDS}' must be followed by a setting, a master and a value")
    setting = GUARDS_BY_WORD.get(words[0].lower())
    if setting is None:
        raise UnusableExtension(f"{place}: no such setting: {words[0]} (known: {', '.join(GUARDS_BY_WORD)})")
    try:
        setting.read(words[2])
    except DirectiveError as problem:
        raise UnusableExtension(f"{place}: {problem}") from None
    return CommentStatement((words[0].lower(), *words[1:]), number, line, True, path)


class ExtensionOptions(usage.Options):
    """The options of the command line that concern extensions."""

    optParameters = [
        ["extensions", None, None, "A file with the settings of extensions, one a line."],
        ["state-dir", None, None, "Where extensions keep their files; by default FILE.d beside the configuration."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.named: list[tuple[str, str]] = []
        """Name and argument of each ``--extension``."""

        self.extensions_file = ExtensionsFile()

    def opt_extension(self, chosen: str) -> None:
        """Run an extension beside the Sentinel: name or name:argument. May be repeated."""
        name, _, argument = chosen.partition(":")
        self._find(name, "")
        self.named.append((name, argument))

    @property
    def extensions(self) -> list[ExtensionUse]:
        """The extensions that are to run, those of the command line first."""
        settings = self.extensions_file.settings
        uses = [
            ExtensionUse(self._find(name, ""), argument, tuple(settings.get(name, ()))) for name, argument in self.named
        ]
        named = {name for name, _ in self.named}
        for name, place in self.extensions_file.places.items():
            if name not in named:
                uses.append(ExtensionUse(self._find(name, f"{place}: "), "", tuple(settings[name])))
        return uses

    def read_extensions(self) -> None:
        """
        Read the file of the extensions, if one is named, and make its path absolute.

        :raises UnusableExtension: if it cannot be read, or a line is invalid.
        """
        path = self["extensions"]
        if path is None:
            return
        self["extensions"] = path = os.path.abspath(path)
        try:
            contents = read_file(path)
        except OSError as error:
            raise UnusableExtension(f"Can't open the file of the extensions {path}: {error.strerror}") from None
        self.extensions_file = parse_extensions(path, contents)
        _ = self.extensions  # Reports extensions that are not installed.

    def state_directory(self, saved_path: str) -> str:
        """Return the absolute path of the state directory; ``saved_path`` is that of the file with the state."""
        chosen = self["state-dir"]
        return os.path.abspath(chosen) if chosen else saved_path + STATE_SUFFIX

    def extensions_help(self) -> str:
        """Return a sentence with the installed extensions."""
        known = ", ".join(f"{name} ({each.description})" for name, each in self.installed().items())
        return f"Extensions: {known}." if known else "No extensions are installed."

    @staticmethod
    def installed() -> dict[str, ISentinelExtension]:
        """Return the extensions that can be chosen."""
        return installed_extensions()

    def _find(self, name: str, place: str) -> ISentinelExtension:
        known = self.installed()
        extension = known.get(name)
        if extension is None:
            raise usage.UsageError(f"{place}no such extension: {name} (installed: {', '.join(known) or 'none'})")
        return extension


def extension_services(
    uses: Sequence[ExtensionUse], view: ISentinelView, operator: IOperator, state: StateDirectory, reactor: object
) -> Iterator[IService]:
    """
    Yield the services of extensions.

    :param reactor: the reactor that runs the Sentinel.
    :raises UnusableExtension: if one of them refuses its argument or a setting, or lacks a package.
    """
    for use in uses:
        extension = use.extension
        try:
            yield _make(use, view, operator, state, reactor)
        except ImportError as error:
            _lacking(extension, error)
        except ValueError as error:
            given = f" with '{use.argument}'" if use.argument else ""
            raise UnusableExtension(f"Extension {extension.name} cannot run{given}: {error}") from error


def _lacking(extension: ISentinelExtension, error: ImportError) -> NoReturn:
    """Refuse an extension that lacks a package, with the extra that installs it."""
    extra = getattr(extension, "extra", None)
    advice = f": pip install 'txsentinel[{extra}]'" if extra else ""
    raise UnusableExtension(f"Extension {extension.name} cannot be imported ({error}){advice}") from error


def _make(
    use: ExtensionUse, view: ISentinelView, operator: IOperator, state: StateDirectory, reactor: object
) -> IService:
    extension: Any = use.extension
    directory = state.subdirectory(extension.name)
    accepted = _accepted(extension.makeService)
    if accepted > 5:
        made = extension.makeService(view, operator, use.argument, directory, use.settings, reactor)
    elif accepted > 4:
        made = extension.makeService(view, operator, use.argument, directory, use.settings)
    else:
        if use.settings:
            raise UnusableExtension(f"{use.settings[0].place}: extension {extension.name} has no settings")
        if accepted > 2:
            made = extension.makeService(view, operator, use.argument, directory)
        else:
            warnings.warn(
                f"Extension {extension.name}: makeService(sentinel, argument) is deprecated,"
                " its parameters are (view, operator, argument, state_dir, settings, reactor)",
                DeprecationWarning,
                stacklevel=1,
            )
            made = extension.makeService(view, use.argument)
    service: IService = made
    return service


def _accepted(function: Any) -> int:
    """Return how many positional arguments a function accepts."""
    kinds = [each.kind for each in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 6
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)
