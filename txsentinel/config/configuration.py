"""Reading a whole configuration: the file, what it includes, and the options of the command line behind it."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from txsentinel.config.directives import classify
from txsentinel.config.disk import Disk, LocalDisk
from txsentinel.config.document import ConfigDocument, Line, Owner
from txsentinel.config.errors import CannotOpen, Complaint, ConfigError
from txsentinel.config.generic import (
    ATTRIBUTES,
    BAD_DIRECTIVE,
    SCALARS,
    WRONG_NUMBER,
    GenericOptions,
    apply_generic,
)
from txsentinel.config.quoting import decoded, encoded, split_words, written
from txsentinel.config.recovery import describe, recovered
from txsentinel.config.statements import MasterRecord, Statement, execute
from txsentinel.core.options import SentinelOptions

DEEPEST_INCLUDE: Final = 32
"""Files that include each other in a circle end here instead of exhausting memory."""

UserCheck: TypeAlias = Callable[[str, Sequence[str]], "str | None"]
"""Name and rules → the complaint, if there is one."""

TORN: Final = (
    "{path} has NUL bytes in it ({count}, the first in this line), which no text has. Most likely a crash or a power"
    " cut kept part of the file from reaching the disk, and the file system left zeros in its place. Lines may be"
    " missing: masters, epochs, our own ID. Put them back, or start from a copy of the file. (A file in UTF-16 looks"
    " the same: save it as UTF-8.)"
)

_GLOB: Final = re.compile(r"[*?\[]")


@dataclass(slots=True)
class Configuration:
    """
    A configuration that was read and found sound.

    ``path`` is absolute. ``sentinel`` already has the ports and the password that the generic
    directives gave. ``document`` is the file, ready to be rewritten; generic options that came from
    the command line and differ from the defaults have their lines in it.
    """

    path: str
    generic: GenericOptions
    sentinel: SentinelOptions
    current_epoch: int
    masters: list[MasterRecord]
    document: ConfigDocument
    recovered: str | None = None
    """What was found of an interrupted write, for the log."""

    def users_elsewhere(self) -> set[str]:
        """Names of the users that included files or the command line declare, not the file itself."""
        return {name for name, _ in self.generic.users} - self.document.subjects(Owner("generic", "user"))


class _Reader:
    """Reads lines: generic directives at once, ``sentinel`` lines into a queue."""

    def __init__(self, disk: Disk, known_commands: Collection[str] | None, check_user: UserCheck | None) -> None:
        self._disk = disk
        self._check_user = check_user
        self._known_commands = known_commands
        self._depth = 0
        self.generic = GenericOptions(dir=disk.working_directory())
        self.statements: list[Statement] = []

    def read(self, contents: bytes, first_line: int = 1) -> None:
        """
        Read all lines of ``contents``.

        :param first_line: the number of its first line, for complaints.
        :raises ConfigError: for the first line that is wrong.
        """
        for number, raw in enumerate(contents.split(b"\n"), first_line):
            line = raw.strip(b" \t\r\n")
            if not line or line.startswith(b"#"):
                continue
            words = split_words(line)
            if words is None:
                raise ConfigError("Unbalanced quotes in configuration line", number, decoded(line))
            if not words:
                continue
            try:
                self._directive([decoded(word) for word in words], number, decoded(line))
            except Complaint as complaint:
                raise ConfigError(str(complaint), number, decoded(line)) from None

    def _directive(self, words: list[str], number: int, line: str) -> None:
        name, values = words[0].lower(), words[1:]
        if name == "sentinel":
            if values:  # The bare word is what is left of the option that selects Sentinel mode.
                self.statements.append(Statement(tuple(values), number, line, included=self._depth > 0))
        elif name == "include":
            if len(values) != 1:
                raise Complaint(BAD_DIRECTIVE)
            self._include(values[0])
        elif name == "dir":
            self._change_directory(values)
        else:
            apply_generic(self.generic, name, values)
            if name == "rename-command" and self._known_commands is not None:
                self._check_rename(values[0])
            if name == "user" and self._check_user is not None:
                complaint = self._check_user(values[0], values[1:])
                if complaint is not None:
                    raise Complaint(complaint)

    def _include(self, pattern: str) -> None:
        """Read other files in place; a pattern that matches nothing is silently nothing."""
        path = os.path.join(self.generic.dir, pattern)
        paths = self._disk.matching(path) if _GLOB.search(pattern) else [path]
        for found in paths:
            if self._depth == DEEPEST_INCLUDE:
                raise CannotOpen(pattern, "Too many levels of included files")
            try:
                contents = self._disk.read(found)
            except OSError as error:
                raise CannotOpen(pattern if len(paths) == 1 else found, _reason(error)) from error
            _check_untorn(found, contents)
            self._depth += 1
            self.read(contents)
            self._depth -= 1

    def _change_directory(self, values: Sequence[str]) -> None:
        """``dir``: relative paths from here on start there. The process itself stays where it is."""
        if len(values) != 1:
            raise Complaint(WRONG_NUMBER)
        directory = os.path.normpath(os.path.join(self.generic.dir, values[0]))
        try:
            self._disk.check_directory(directory)
        except OSError as error:
            raise Complaint(_reason(error)) from error
        self.generic.dir = directory

    def _check_rename(self, command: str) -> None:
        assert self._known_commands is not None
        if command.lower() not in self._known_commands:
            raise Complaint("No such command in rename-command")

    def executable(self, path: str) -> bool:
        """Can this script be run from the configured directory?"""
        return self._disk.executable(self.generic.located(path))


def load(
    path: str,
    text: bytes,
    overrides: Sequence[str] = (),
    *,
    stdin: bytes = b"",
    disk: Disk | None = None,
    known_commands: Collection[str] | None = None,
    check_user: UserCheck | None = None,
) -> Configuration:
    """
    Read a configuration.

    :param path: where ``text`` came from, absolute or relative to the working directory.
    :param overrides: lines to be read after the file, as the command line has them.
    :param stdin: more lines, read between the file and ``overrides``.
    :param disk: asked about included files, scripts and directories; by default this machine.
    :param known_commands: our own commands in lower case, to check ``rename-command`` against.
    :param check_user: tells what is wrong with a ``user`` line, given its name and rules; ``None`` if nothing is.
    :raises ConfigError: ``str()`` is what to print; nothing was changed then, but a missing log file
        may have been created.
    """
    disk = LocalDisk() if disk is None else disk
    located = os.path.join(disk.working_directory(), path)
    found = recovered(text)
    text = found.contents
    _check_untorn(located, text)
    _check_untorn("Standard input", stdin)
    reader = _Reader(disk, known_commands, check_user)
    appended = stdin + (b"\n" + encoded("\n".join(overrides)) if overrides else b"")
    reader.read(text + appended)
    sentinel = SentinelOptions()
    state = execute(reader.statements, sentinel, reader.executable)
    generic = reader.generic
    _check_log_file(generic, disk)
    sentinel.port, sentinel.tls_port = generic.port, generic.tls_port
    sentinel.tls_replication = generic.tls_replication
    sentinel.requirepass = generic.requirepass or None
    document = ConfigDocument(text, classify)
    _keep_overrides(document, appended, generic)
    return Configuration(
        path=located,
        generic=generic,
        sentinel=sentinel,
        current_epoch=state.current_epoch,
        masters=list(state.masters.values()),
        document=document,
        recovered=describe(located, found),
    )


def _check_untorn(path: str, contents: bytes) -> None:
    """
    Refuse what has holes in it. To the C servers a NUL is the end of a line, and of its line end, too: they run a file
    of zeros as one that names no masters, and watch nothing.
    """
    before, nul, _ = contents.partition(b"\0")
    if nul:
        index = before.count(b"\n")
        line = decoded(contents.split(b"\n")[index].strip(b" \t\r\n"))
        raise ConfigError(TORN.format(path=path, count=contents.count(b"\0")), index + 1, line)


def _check_log_file(generic: GenericOptions, disk: Disk) -> None:
    """Find out now, while somebody is looking, that there will be no log."""
    if generic.logfile:
        try:
            disk.check_appendable(generic.located(generic.logfile))
        except OSError as error:
            raise ConfigError(f"Can't open the log file: {_reason(error)}") from error


def _keep_overrides(document: ConfigDocument, appended: bytes, generic: GenericOptions) -> None:
    """
    Put single-valued generic directives from outside the file into the file.

    They are written with the next change of state, so that a start without them comes to the same;
    values that are the default anyway are written only over a line that says otherwise.
    """
    defaults = GenericOptions()
    for raw in appended.split(b"\n"):
        words = [decoded(word) for word in split_words(raw.strip()) or []]
        if not words or words[0].startswith("#"):
            continue
        name = words[0].lower()
        if name not in SCALARS and name not in ("bind", "dir"):
            continue
        owner = Owner("generic", name)
        attribute = ATTRIBUTES.get(name, name)
        value = getattr(generic, attribute, None)
        if value is not None and value == getattr(defaults, attribute) and not document.has(owner, name):
            continue
        values = [generic.dir] if name == "dir" else generic.bind or [""] if name == "bind" else words[1:]
        document.put(owner, [Line(name, "", " ".join([name, *[written(word) for word in values]]))])


def _reason(error: OSError) -> str:
    """The operating system's own words."""
    return error.strerror or str(error)
