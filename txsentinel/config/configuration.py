"""Reading a whole configuration: the file, what it includes, and the options of the command line behind it."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from txsentinel.config.directives import STATE_FILE, classify
from txsentinel.config.disk import Disk, LocalDisk
from txsentinel.config.document import ConfigDocument, Line, Owner
from txsentinel.config.elsewhere import NOTE
from txsentinel.config.errors import CannotOpen, ConfigError, DirectiveError
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

MAX_INCLUDE_DEPTH: Final = 32
"""Files that include each other in a circle end here instead of exhausting memory."""

UserCheck: TypeAlias = Callable[[str, Sequence[str]], "str | None"]
"""Name and rules → the complaint, if there is one."""

TORN: Final = (
    "{path} has NUL bytes in it ({count}, the first in this line), which no text has. Most likely a crash or a power"
    " cut kept part of the file from reaching the disk, and the file system left zeros in its place. Lines may be"
    " missing: masters, epochs, our own ID. Put them back, or start from a copy of the file. (A file in UTF-16 looks"
    " the same: save it as UTF-8.)"
)

SAME_FILE: Final = "sentinel state-config-file must differ from the main config file"

_MY_ID: Final = re.compile(rb"^[ \t\r]*sentinel[ \t]+[\"']?myid", re.IGNORECASE | re.MULTILINE)

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

    state_path: str | None = None
    """The state file, absolute, if there is one."""

    @property
    def saved_path(self) -> str:
        """The file that is written."""
        return self.path if self.state_path is None else self.state_path

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
        self._ranked = False
        self._own_generic: set[str] = set()
        self.generic_elsewhere: set[str] = set()
        """Generic directives that included files state."""

        self.notes: list[list[str]] = []
        """The words of each comment in our own file that means something to us, from the kind on."""

        self.in_state_file = False
        self.generic = GenericOptions(dir=disk.working_directory())
        self.statements: list[Statement] = []

    def read_own(self, contents: bytes) -> None:
        """
        Read the file that is written, and all that belongs behind it.

        :raises ConfigError: for the first line that is wrong.
        """
        self._ranked = _MY_ID.search(contents) is not None
        self.read(contents)

    def read_state(self, contents: bytes) -> None:
        """
        Read a state file, which is written in place of what was read so far.

        :raises ConfigError: for the first line that is wrong.
        """
        self.in_state_file = True
        self.statements = [replace(statement, included=True) for statement in self.statements]
        self.notes = []
        self.read_own(contents)

    def state_file(self) -> tuple[str, Statement] | None:
        """The absolute path of the state file, and the line that names it; ``None`` if there is none."""
        for statement in reversed(self.statements):
            if statement.words[0].lower() == STATE_FILE and len(statement.words) == 2 and statement.words[1]:
                return self.generic.located(statement.words[1]), statement
        return None

    def read(self, contents: bytes, first_line: int = 1) -> None:
        """
        Read all lines of ``contents``.

        :param first_line: the number of its first line, for complaints.
        :raises ConfigError: for the first line that is wrong.
        """
        for number, raw in enumerate(contents.split(b"\n"), first_line):
            line = raw.strip(b" \t\r\n")
            if not line or line.startswith(b"#"):
                if line.startswith(NOTE.encode()) and not self._depth:
                    self._note(line[len(NOTE) :])
                continue
            words = split_words(line)
            if words is None:
                raise ConfigError("Unbalanced quotes in configuration line", number, decoded(line))
            if not words:
                continue
            try:
                self._directive([decoded(word) for word in words], number, decoded(line))
            except DirectiveError as problem:
                raise ConfigError(str(problem), number, decoded(line)) from None

    def _note(self, text: bytes) -> None:
        words = split_words(text)
        if words:
            self.notes.append([decoded(word) for word in words])

    def _directive(self, words: list[str], number: int, line: str) -> None:
        name, values = words[0].lower(), words[1:]
        if name == "sentinel":
            if values:  # The bare word is what is left of the option that selects Sentinel mode.
                self.statements.append(Statement(tuple(values), number, line, included=self._depth > 0))
        elif name == "include":
            if len(values) != 1:
                raise DirectiveError(BAD_DIRECTIVE)
            self._include(values[0])
        elif name == "dir":
            self._change_directory(values)
        elif self._is_outranked(name):
            apply_generic(GenericOptions(dir=self.generic.dir), name, values)
        else:
            if name == "user" and self.in_state_file:
                self.generic.users = [user for user in self.generic.users if user[0] != (values or [""])[0]]
            apply_generic(self.generic, name, values)
            if name == "rename-command" and self._known_commands is not None:
                self._check_rename(values[0])
            if name == "user" and self._check_user is not None:
                problem = self._check_user(values[0], values[1:])
                if problem is not None:
                    raise DirectiveError(problem)

    def _is_outranked(self, name: str) -> bool:
        """Whether our own file, which is newer, has said something else about a directive with one value."""
        if name not in SCALARS:
            return False
        if not self._depth:
            self._own_generic.add(name)
            return False
        self.generic_elsewhere.add(name)
        return self._ranked and name in self._own_generic

    def _include(self, pattern: str) -> None:
        """Read other files in place; a pattern that matches nothing is silently nothing."""
        path = os.path.join(self.generic.dir, pattern)
        paths = self._disk.matching(path) if _GLOB.search(pattern) else [path]
        for found in paths:
            if self._depth == MAX_INCLUDE_DEPTH:
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
            raise DirectiveError(WRONG_NUMBER)
        directory = os.path.normpath(os.path.join(self.generic.dir, values[0]))
        try:
            self._disk.check_directory(directory)
        except OSError as error:
            raise DirectiveError(_reason(error)) from error
        self.generic.dir = directory

    def _check_rename(self, command: str) -> None:
        assert self._known_commands is not None
        if command.lower() not in self._known_commands:
            raise DirectiveError("No such command in rename-command")

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
    claim: Callable[[str], bytes] | None = None,
) -> Configuration:
    """
    Read a configuration.

    :param path: where ``text`` came from, absolute or relative to the working directory.
    :param overrides: lines to be read after the file, as the command line has them.
    :param stdin: more lines, read between the file and ``overrides``.
    :param disk: asked about included files, scripts and directories; by default this machine.
    :param known_commands: our own commands in lower case, to check ``rename-command`` against.
    :param check_user: tells what is wrong with a ``user`` line, given its name and rules; ``None`` if nothing is.
    :param claim: reads a state file, which may not exist yet, after seeing to it that nobody else saves to it.
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
    reader.read_own(text + appended)
    named = reader.state_file()
    if named is not None:
        path, statement = named
        if os.path.realpath(path) == os.path.realpath(located):
            raise ConfigError(SAME_FILE, statement.line_number, statement.line)
        try:
            found = recovered(_read_state(disk, path) if claim is None else claim(path))
        except OSError as error:
            raise CannotOpen(path, _reason(error)) from error
        text = found.contents
        _check_untorn(path, text)
        reader.read_state(text)
    sentinel = SentinelOptions()
    separate = named is not None
    state = execute(reader.statements, sentinel, reader.executable, reader.notes, separate)
    generic = reader.generic
    _check_log_file(generic, disk)
    sentinel.port, sentinel.tls_port = generic.port, generic.tls_port
    sentinel.tls_replication = generic.tls_replication
    sentinel.requirepass = generic.requirepass or None
    document = ConfigDocument(text, classify)
    document.elsewhere = state.elsewhere
    document.elsewhere.generic = reader.generic_elsewhere
    if not separate:
        _keep_overrides(document, appended, generic)
    return Configuration(
        path=located,
        generic=generic,
        sentinel=sentinel,
        current_epoch=state.current_epoch,
        masters=list(state.masters.values()),
        document=document,
        recovered=describe(located if named is None else named[0], found),
        state_path=None if named is None else named[0],
    )


def _read_state(disk: Disk, path: str) -> bytes:
    """A state file; before the first save there is none."""
    try:
        return disk.read(path)
    except FileNotFoundError:
        return b""


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
    values that are the default anyway are written only over a line, here or in an included file, that may say
    otherwise.
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
        stated = document.has(owner, name) or name in document.elsewhere.generic
        if value is not None and value == getattr(defaults, attribute) and not stated:
            continue
        values = [generic.dir] if name == "dir" else generic.bind or [""] if name == "bind" else words[1:]
        document.put(owner, [Line(name, "", " ".join([name, *[written(word) for word in values]]))])


def _reason(error: OSError) -> str:
    """The operating system's own words."""
    return error.strerror or str(error)
