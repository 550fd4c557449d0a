"""Reading of a complete configuration: the file, included files, a state file, and command-line options."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from txsentinel.config.quoting import decoded, encoded, split_line, written
from txsentinel.config.recovery import describe, recovered
from txsentinel.config.secret_options import copy_requirepass, read_secrets
from txsentinel.config.secrets import SecretLoader, SecretReference, is_reference
from txsentinel.config.statements import CommentStatement, MasterRecord, Statement, execute
from txsentinel.core.durable_records import DurableRecord
from txsentinel.core.options import SentinelOptions

MAX_INCLUDE_DEPTH: Final = 32
"""Maximum depth of ``include``; files that include each other reach it."""

UserCheck: TypeAlias = Callable[[str, Sequence[str]], "str | None"]
"""``(name, rules)`` → the error text, or ``None`` if the rules are valid."""

TORN: Final = (
    "{path} has NUL bytes in it ({count}, the first in this line), which no text has. Most likely a crash or a power"
    " cut kept part of the file from reaching the disk, and the file system left zeros in its place. Lines may be"
    " missing: masters, epochs, our own ID. Put them back, or start from a copy of the file. (A file in UTF-16 looks"
    " the same: save it as UTF-8.)"
)

SAME_FILE: Final = "sentinel state-config-file must differ from the main config file"

_MISSPELLED_NOTE: Final = re.compile(rb"#\s*:\s*txsentinel\s+\S", re.IGNORECASE)
"""A comment that differs from ``NOTE`` in spaces or case only. It is reported as unknown."""

_MY_ID: Final = re.compile(rb"^[ \t\r]*sentinel[ \t]+[\"']?myid", re.IGNORECASE | re.MULTILINE)

_GLOB: Final = re.compile(r"[*?\[]")


@dataclass(slots=True)
class Configuration:
    """
    A valid configuration.

    ``path`` is absolute. ``sentinel`` includes the ports and the password from the generic directives. ``document`` is
    the file that will be rewritten; it includes lines for the generic options from the command line that differ from
    the defaults.
    """

    path: str
    generic: GenericOptions
    sentinel: SentinelOptions
    current_epoch: int
    masters: list[MasterRecord]
    document: ConfigDocument
    records: list[DurableRecord] = field(default_factory=list)
    """What operators ordered until a time that may have passed."""

    warnings: list[str] = field(default_factory=list)
    """Sentences for the log about comments that have no effect."""

    recovered: str | None = None
    """A sentence for the log about an interrupted write, if one was found."""

    state_path: str | None = None
    """The state file, absolute, if there is one."""

    secrets: dict[SecretReference, str] = field(default_factory=dict, repr=False)
    """Reference → the secret that was read."""

    @property
    def saved_path(self) -> str:
        """The path of the file that is written."""
        return self.path if self.state_path is None else self.state_path

    def users_elsewhere(self) -> set[str]:
        """Return the names of users that are declared in other files or on the command line only."""
        return {name for name, _ in self.generic.users} - self.document.subjects(Owner("generic", "user"))


class _Reader:
    """Reads lines: applies generic directives at once and queues ``sentinel`` lines."""

    def __init__(self, disk: Disk, known_commands: Collection[str] | None, check_user: UserCheck | None) -> None:
        self._disk = disk
        self._check_user = check_user
        self._known_commands = known_commands
        self._depth = 0
        self._ranked = False
        self._own_generic: set[str] = set()
        self.generic_elsewhere: set[str] = set()
        """Names of generic directives in included files."""

        self.notes: list[CommentStatement] = []
        """The ``#: txsentinel`` comments of all files."""

        self.file = ""
        """The path of the file that is being read."""

        self.in_state_file = False
        self.generic = GenericOptions(dir=disk.working_directory())
        self.statements: list[Statement] = []

    def read_own(self, contents: bytes) -> None:
        """
        Read the file that is written, with the options that follow it.

        :raises ConfigError: for the first invalid line.
        """
        self._ranked = _MY_ID.search(contents) is not None
        self.read(contents)

    def read_state(self, contents: bytes) -> None:
        """
        Read a state file, which is written instead of the file that was read so far.

        :raises ConfigError: for the first invalid line.
        """
        self.in_state_file = True
        self.statements = [replace(statement, included=True) for statement in self.statements]
        self.notes = [replace(note, included=True) for note in self.notes]
        self.read_own(contents)

    def state_file(self) -> tuple[str, Statement] | None:
        """Return the absolute path of the state file and the directive for it; ``None`` if there is none."""
        for statement in reversed(self.statements):
            if statement.words[0].lower() == STATE_FILE and len(statement.words) == 2 and statement.words[1]:
                return self.generic.located(statement.words[1]), statement
        return None

    def read(self, contents: bytes, first_line: int = 1) -> None:
        """
        Read all lines of ``contents``.

        :param first_line: the number of its first line, for error texts.
        :raises ConfigError: for the first invalid line.
        """
        for number, raw in enumerate(contents.split(b"\n"), first_line):
            line = raw.strip(b" \t\r\n")
            if not line or line.startswith(b"#"):
                if line.startswith(NOTE.encode()):
                    self._note(line, number)
                elif _MISSPELLED_NOTE.match(line):
                    self.notes.append(
                        CommentStatement((decoded(line),), number, decoded(line), self._depth > 0, self.file)
                    )
                continue
            words = split_line(line)
            if words is None:
                raise ConfigError("Unbalanced quotes in configuration line", number, decoded(line))
            if not words:
                continue
            try:
                self._directive([decoded(word) for word in words], number, decoded(line))
            except DirectiveError as problem:
                raise ConfigError(str(problem), number, decoded(line)) from None

    def _note(self, line: bytes, number: int) -> None:
        text = line[len(NOTE) :]
        split = split_line(text)
        # With unbalanced quotes, the comment is unknown as a whole.
        words = tuple(decoded(word) for word in (split if split is not None else [text]))
        if words:
            self.notes.append(CommentStatement(words, number, decoded(line), self._depth > 0, self.file))

    def _directive(self, words: list[str], number: int, line: str) -> None:
        name, values = words[0].lower(), words[1:]
        if name == "sentinel":
            if values:  # The word alone comes from the option --sentinel.
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
        """Whether our own file, which is newer than an included one, has a value for this single-valued directive."""
        if name not in SCALARS:
            return False
        if not self._depth:
            self._own_generic.add(name)
            return False
        self.generic_elsewhere.add(name)
        return self._ranked and name in self._own_generic

    def _include(self, pattern: str) -> None:
        """Read included files in place; a pattern without a match is ignored."""
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
            outer, self.file = self.file, found
            self._depth += 1
            self.read(contents)
            self._depth -= 1
            self.file = outer

    def _change_directory(self, values: Sequence[str]) -> None:
        """Set the directory for relative paths from here on. The working directory of the process does not change."""
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
        """Whether a script, relative to the configured directory, is executable."""
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
    guards: Sequence[CommentStatement] = (),
    environment: Mapping[str, str] | None = None,
) -> Configuration:
    """
    Read and validate a configuration.

    :param path: the path of ``text``, absolute or relative to the working directory.
    :param overrides: lines from the command line, which are read after the file.
    :param stdin: further lines, which are read between the file and ``overrides``.
    :param disk: provides included files, scripts and directories; by default the local file system.
    :param known_commands: the names of our commands in lower case, to validate ``rename-command``.
    :param check_user: validates the name and rules of a ``user`` line.
    :param claim: locks a state file against other processes and returns its contents; it may not exist yet.
    :param guards: settings of masters from a file of another kind, which those of all other files overrule.
    :param environment: the variables that references to secrets name; ``None`` to read no secrets.
    :raises ConfigError: if the configuration is invalid; ``str()`` is the text to print. Nothing was changed then,
        except that a missing log file may have been created.
    """
    disk = LocalDisk() if disk is None else disk
    located = os.path.join(disk.working_directory(), path)
    found = recovered(text)
    text = found.contents
    _check_untorn(located, text)
    _check_untorn("Standard input", stdin)
    reader = _Reader(disk, known_commands, check_user)
    reader.file = located
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
        reader.file = path
        reader.read_state(text)
    sentinel = SentinelOptions()
    separate = named is not None
    references = [note for note in reader.notes if is_reference(note.words[0])]
    others = [note for note in reader.notes if not is_reference(note.words[0])]
    state = execute(reader.statements, sentinel, reader.executable, [*guards, *others], separate)
    generic = reader.generic
    secrets = read_secrets(references, state, generic, None if environment is None else SecretLoader(disk, environment))
    _check_log_file(generic, disk)
    sentinel.port, sentinel.tls_port = generic.port, generic.tls_port
    sentinel.tls_replication = generic.tls_replication
    copy_requirepass(generic, sentinel)
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
        records=state.records,
        warnings=state.warnings,
        recovered=describe(located if named is None else named[0], found),
        state_path=None if named is None else named[0],
        secrets=secrets,
    )


def _read_state(disk: Disk, path: str) -> bytes:
    """Read a state file; return no contents if it does not exist, as before the first save."""
    try:
        return disk.read(path)
    except FileNotFoundError:
        return b""


def _check_untorn(path: str, contents: bytes) -> None:
    """
    Refuse contents with NUL bytes.

    To C servers a NUL ends the line and hides its line end, so they start with a file of zeros and monitor no master.

    :raises ConfigError: with the number of the first such line.
    """
    before, nul, _ = contents.partition(b"\0")
    if nul:
        index = before.count(b"\n")
        line = decoded(contents.split(b"\n")[index].strip(b" \t\r\n"))
        raise ConfigError(TORN.format(path=path, count=contents.count(b"\0")), index + 1, line)


def _check_log_file(generic: GenericOptions, disk: Disk) -> None:
    """Check at start, when the operator sees the error, that the log file can be opened."""
    if generic.logfile:
        try:
            disk.check_appendable(generic.located(generic.logfile))
        except OSError as error:
            raise ConfigError(f"Can't open the log file: {_reason(error)}") from error


def _keep_overrides(document: ConfigDocument, appended: bytes, generic: GenericOptions) -> None:
    """
    Put single-valued generic directives from outside the file into the document.

    They are written with the next change of state, so that a start without these options has the same result. Default
    values are written only if a line in this file or in an included one may have another value.
    """
    defaults = GenericOptions()
    for raw in appended.split(b"\n"):
        words = [decoded(word) for word in split_line(raw.strip()) or []]
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
    """Return the error text of the operating system."""
    return error.strerror or str(error)
