"""
Execution of the ``sentinel`` lines of a configuration, which are queued until the whole file is read.

There are three passes, each in file order, so that the order of lines in the file does not matter: directives of the
Sentinel itself (:data:`PRE_MONITOR`), then the masters, then all directives of a master.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from txsentinel.config.directives import ALIASES, BY_WORD, PRE_MONITOR, UNRECOGNIZED, Executable
from txsentinel.config.elsewhere import NOTE, REMOVED, UNSET, Elsewhere
from txsentinel.config.errors import ConfigError, DirectiveError
from txsentinel.config.guards import GUARDS_BY_WORD, check_fence_after
from txsentinel.config.numbers import PORT, epoch, whole_number
from txsentinel.config.records import RECORD_KINDS, read_record
from txsentinel.core.durable_records import ALL_MASTERS, DurableRecord
from txsentinel.core.options import MasterOptions, SentinelOptions
from txsentinel.model.address import canonical_ip
from txsentinel.model.log_text import excerpt
from txsentinel.wire.words import yes_or_no


@dataclass(slots=True)
class MasterRecord:
    """
    A master in the file. Hosts are IP addresses or names, as written.

    ``replicas`` are ``(host, port)``, ``sentinels`` are ``(host, port, run ID)``; neither has duplicates.
    """

    name: str
    host: str
    port: int
    options: MasterOptions
    config_epoch: int = 0
    leader_epoch: int = 0
    replicas: list[tuple[str, int]] = field(default_factory=list)
    sentinels: list[tuple[str, int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Statement:
    """One queued line: its words after ``sentinel``, and its position."""

    words: tuple[str, ...]
    line_number: int
    line: str
    included: bool = False
    """Whether it is from a file that is not rewritten, over which the lines of our own file have precedence."""


@dataclass(frozen=True, slots=True)
class CommentStatement(Statement):
    """One ``#: txsentinel`` comment: its words after ``txsentinel``, and its position in ``file``."""

    file: str = ""


@dataclass(slots=True)
class ParsedState:
    """The result of the statements."""

    options: SentinelOptions
    current_epoch: int = 0
    masters: dict[str, MasterRecord] = field(default_factory=dict)
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    records: list[DurableRecord] = field(default_factory=list)
    """What operators ordered until a time that may have passed."""

    warnings: list[str] = field(default_factory=list)
    """Sentences about comments that have no effect."""


_ARGUMENTS: Final = {
    **PRE_MONITOR,
    "monitor": 4,
    "config-epoch": 2,
    "leader-epoch": 2,
    "known-replica": 3,
    "rename-command": 3,
    **dict.fromkeys(BY_WORD, 2),
}
"""Directive → number of words after it, except ``known-sentinel``, which has two forms."""


class _Execution:
    """Executes statements one by one. :func:`execute` adds the line to the errors raised here."""

    def __init__(self, state: ParsedState, executable: Executable) -> None:
        self._state = state
        self._executable = executable
        self._included: dict[str, bool] = {}
        self._scratch: dict[str, MasterRecord] = {}
        self._renames: set[tuple[str, str, bool]] = set()
        self.removed: set[str] = set()
        """Names of masters in other files that are not monitored according to our own file."""

    def own(self, word: str, values: Sequence[str], included: bool) -> None:
        """Execute a directive of the Sentinel itself."""
        self._set_own(word, values[0])
        if included:
            value = getattr(self._state.options, word.replace("-", "_"), None)
            self._state.elsewhere.own[word] = "" if value is None else value

    def _set_own(self, word: str, value: str) -> None:
        options = self._state.options
        if word == "announce-ip":
            options.announce_ip = value or None
        elif word == "announce-port":
            port = whole_number(value, PORT)
            _check_port(port)
            options.announce_port = port
        elif word == "sentinel-user":
            options.sentinel_user = value or None
        elif word == "sentinel-pass":
            options.sentinel_pass = value or None
        elif word == "current-epoch":
            self._state.current_epoch = max(self._state.current_epoch, epoch(value))
        elif word == "myid":
            if len(value) != 40:
                raise DirectiveError("Malformed Sentinel id in myid option.")
            options.my_id = value
        elif word == "deny-scripts-reconfig":
            options.deny_scripts_reconfig = _yes_no(
                value, "Please specify yes or no for the deny-scripts-reconfig options."
            )
        elif word == "resolve-hostnames":
            options.resolve_hostnames = _yes_no(value, "Please specify yes or no for the resolve-hostnames option.")
        elif word == "announce-hostnames":
            options.announce_hostnames = _yes_no(value, "Please specify yes or no for the announce-hostnames option.")

    def monitor(self, values: Sequence[str], included: bool) -> None:
        """Execute ``monitor <name> <host> <port> <quorum>``."""
        name, host = values[:2]
        port, quorum = whole_number(values[2], PORT), whole_number(values[3], "a whole number of Sentinels")
        if quorum <= 0:
            raise DirectiveError("Quorum must be 1 or greater.")
        self._check_address(host, port)
        if included:
            self._state.elsewhere.masters.setdefault(name, {})
            if name in self.removed:
                return
        origin = self._included.get(name)
        if origin is included:
            raise DirectiveError("Duplicate master name.")
        if origin is False:
            return  # The line in our own file is newer.
        self._included[name] = included
        self._state.masters[name] = MasterRecord(name, host, port, MasterOptions(quorum=quorum))

    def _check_address(self, host: str, port: int) -> None:
        """Check host and port; a name is valid with ``resolve-hostnames yes``, whether or not it resolves now."""
        _check_port(port)
        if canonical_ip(host) is None and not (host and self._state.options.resolve_hostnames):
            raise DirectiveError("Can't resolve instance hostname.")

    def per_master(self, word: str, values: Sequence[str], included: bool, ranked: bool) -> None:
        """
        Execute a directive of a master.

        :param ranked: whether a Sentinel has written our own file, so that its replicas and Sentinels are complete.
        """
        if word == "known-sentinel" and len(values) == 3:
            return  # An old form without the ID, which is ignored even if the master is unknown.
        master = self._state.masters.get(values[0])
        if master is None and included and values[0] in self.removed:
            if word not in BY_WORD and word != "rename-command":
                return
            # Not monitored now; the settings would apply if it were monitored again.
            master = self._scratch.setdefault(values[0], MasterRecord(values[0], "", 0, MasterOptions(quorum=1)))
        if master is None:
            raise DirectiveError("No such master with specified name.")
        elsewhere = self._state.elsewhere
        if word in BY_WORD:
            row = BY_WORD[word]
            row.read(master.options, values[1], self._executable)
            if included:
                stated = elsewhere.masters.setdefault(values[0], {})
                stated[word] = getattr(master.options, row.attribute)
        elif word == "config-epoch":
            # The greater one, not the last one: an included file may have an old copy of our own line.
            master.config_epoch = max(master.config_epoch, epoch(values[1]))
            self._state.current_epoch = max(self._state.current_epoch, master.config_epoch)
        elif word == "leader-epoch":
            master.leader_epoch = max(master.leader_epoch, epoch(values[1]))
        elif word in ("known-replica", "known-sentinel") and included and ranked and not self._included[values[0]]:
            return
        elif word == "known-replica":
            self._known_replica(master, values[1], whole_number(values[2], PORT))
        elif word == "known-sentinel":
            self._known_sentinel(master, values[1], whole_number(values[2], PORT), values[3])
        else:
            key = values[1].upper()
            if (values[0], key, included) in self._renames:
                raise DirectiveError("Same command renamed multiple times with rename-command.")
            self._renames.add((values[0], key, included))
            if included:
                elsewhere.renamed.setdefault(values[0], {})[key] = values[2]
            master.options.renamed_commands[key] = values[2]
            master.options.rename_spellings[key] = values[1]

    def guard(self, note: CommentStatement) -> None:
        """Execute ``<setting> <master> <value>``, a setting that C Sentinels do not have."""
        where = f"{note.file}, line {note.line_number}"
        setting = GUARDS_BY_WORD.get(note.words[0].lower())
        if setting is None:
            self._state.warnings.append(f"{where}: '{excerpt(note.line)}' is unknown here. It is kept, without effect.")
            return
        if len(note.words) != 3:
            raise DirectiveError(f"In {note.file}: '{setting.word}' must be followed by a master and a value.")
        name = note.words[1]
        try:
            value = setting.read(note.words[2])
        except DirectiveError as problem:
            raise DirectiveError(f"In {note.file}: {problem}.") from None
        if note.included:
            self._state.elsewhere.masters.setdefault(name, {})[setting.word] = value
        master = self._state.masters.get(name)
        if master is None:
            # A C Sentinel that stops to monitor a master keeps the comments about it.
            if name not in self.removed:
                self._state.warnings.append(
                    f"{where}: '{excerpt(name)}' is not monitored, '{setting.word}' has no effect."
                )
            return
        master.options.guards = setting.changed(master.options.guards, value)

    def record(self, note: CommentStatement) -> None:
        """Read a record with an end, see ``config.records``."""
        if len(note.words) == 1 and " " in note.words[0]:
            raise DirectiveError(f"In {note.file}: unbalanced quotes.")
        try:
            record = read_record(note.words)
        except DirectiveError as problem:
            raise DirectiveError(f"In {note.file}: {problem}.") from None
        name = record.key.master
        if name == ALL_MASTERS or name in self._state.masters:
            self._state.records.append(record)
        elif name not in self.removed:
            where = f"{note.file}, line {note.line_number}"
            text = f"'{excerpt(name)}' is not monitored, '{record.key.kind.value}' has no effect."
            self._state.warnings.append(f"{where}: {text}")

    def check_guards(self) -> None:
        """Warn of settings that do not fit together, which a C Sentinel may have caused by ``SENTINEL SET``."""
        for master in self._state.masters.values():
            try:
                check_fence_after(master.options.guards.fence_after, master.options.down_after)
            except DirectiveError as problem:
                used = master.options.guards.fence_delay(master.options.down_after)
                self._state.warnings.append(f"Master {excerpt(master.name)}: {problem}. {used} is used.")

    def unset(self, values: Sequence[str]) -> None:
        """Execute ``unset <master> <directive> [<command>]``: a setting in another file is not in force."""
        master = self._state.masters.get(values[0])
        if master is None or len(values) < 2:
            return
        if values[1] in BY_WORD:
            setattr(master.options, BY_WORD[values[1]].attribute, BY_WORD[values[1]].default)
        elif values[1] == "rename-command" and len(values) > 2:
            master.options.renamed_commands.pop(values[2].upper(), None)
            master.options.rename_spellings.pop(values[2].upper(), None)

    def _known_replica(self, master: MasterRecord, host: str, port: int) -> None:
        """Add a replica. Duplicates, which C Sentinels refuse but may write beside ``known-slave``, are ignored."""
        self._check_address(host, port)
        if (host, port) not in master.replicas and (host, port) != (master.host, master.port):
            master.replicas.append((host, port))

    def _known_sentinel(self, master: MasterRecord, host: str, port: int, run_id: str) -> None:
        """Add a peer; of two lines with one run ID the later one counts."""
        self._check_address(host, port)
        master.sentinels = [known for known in master.sentinels if known[2] != run_id]
        master.sentinels.append((host, port, run_id))


def _unrecognized(word: str, values: Sequence[str]) -> str:
    """Return the error text for a directive that no Sentinel has; settings of txsentinel only are comments."""
    if word not in GUARDS_BY_WORD:
        return UNRECOGNIZED
    comment = f"{NOTE}{word} {' '.join(values)}"
    return f"{UNRECOGNIZED} It must be a comment, because C Sentinels do not have it: {excerpt(comment)}"


def execute(
    statements: Sequence[Statement],
    options: SentinelOptions,
    executable: Executable,
    notes: Sequence[CommentStatement] = (),
    separate: bool = False,
) -> ParsedState:
    """
    Execute the queued lines in three passes.

    The last line counts, as in C. Once a Sentinel has written our own file, which then has a ``myid``, its lines count
    after those of other files, regardless of the position of ``include``, as they are newer.

    :param notes: the ``#: txsentinel`` comments of all files, see ``config.elsewhere``, ``config.guards`` and
        ``config.records``.
    :param separate: whether our own file is a state file.
    :raises ConfigError: for the first invalid line, in the order of execution.
    """
    state = ParsedState(options, elsewhere=Elsewhere(separate))
    execution = _Execution(state, executable)
    about_others = [note.words for note in notes if not note.included and note.words[0] in (REMOVED, UNSET)]
    execution.removed = {words[1] for words in about_others if words[0] == REMOVED and len(words) > 1}
    ranked = any(not each.included and each.words[0].lower() == "myid" for each in statements)
    if ranked:
        statements = sorted(statements, key=lambda each: not each.included)
    passes: tuple[list[tuple[str, Statement]], ...] = ([], [], [])
    for statement in statements:
        word = ALIASES.get(statement.words[0].lower(), statement.words[0].lower())
        passes[0 if word in PRE_MONITOR else 1 if word == "monitor" else 2].append((word, statement))
    for word, statement in (item for one_pass in passes for item in one_pass):
        values = statement.words[1:]
        try:
            if len(values) not in ((3, 4) if word == "known-sentinel" else (_ARGUMENTS.get(word),)):
                raise DirectiveError(_unrecognized(word, values))
            if word in PRE_MONITOR:
                execution.own(word, values, statement.included)
            elif word == "monitor":
                execution.monitor(values, statement.included)
            else:
                execution.per_master(word, values, statement.included, ranked)
        except DirectiveError as problem:
            raise ConfigError(str(problem), statement.line_number, statement.line) from None
    for words in about_others:
        if words[0] == UNSET and len(words) > 1:
            execution.unset(words[1:])
    guards = [note for note in notes if note.words[0] not in (REMOVED, UNSET)]
    for note in sorted(guards, key=lambda each: not each.included) if ranked else guards:
        try:
            if note.words[0].partition(" ")[0].lower() in RECORD_KINDS:
                execution.record(note)
            else:
                execution.guard(note)
        except DirectiveError as problem:
            raise ConfigError(str(problem), note.line_number, note.line) from None
    execution.check_guards()
    return state


def _check_port(port: int) -> None:
    if not 0 <= port <= 65_535:
        raise DirectiveError("Invalid port number.")


def _yes_no(word: str, problem: str) -> bool:
    value = yes_or_no(word)
    if value is None:
        raise DirectiveError(problem)
    return value
