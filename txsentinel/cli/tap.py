"""
``twistd sentinel``: its command line, and the service made from it.

All errors of the configuration are found while the options are parsed, because standard error is still the terminal
then. Afterwards ``twistd`` may fork.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn, cast

from twisted.python import usage

from txsentinel.cli.extensions import ExtensionOptions, UnusableExtension
from txsentinel.cli.imports import DEFERRED, absent, deferred
from txsentinel.cli.overrides import NotAnOption, override_lines, reads_stdin
from txsentinel.cli.refusing import refuse
from txsentinel.config.configuration import Configuration, load
from txsentinel.config.disk import Disk, read_file
from txsentinel.config.document import Owner
from txsentinel.config.errors import CannotOpen, ConfigError
from txsentinel.config.generic import GenericOptions
from txsentinel.config.statements import CommentStatement
from txsentinel.model.events import LOG_LEVELS, Level
from txsentinel.process.files import NEW_FILE_MODE, FileInUse, FileLock, remove_leftovers
from txsentinel.process.log_queue import PipeSink, QueuedDestination, is_regular
from txsentinel.process.logs import (
    Destination,
    FileSink,
    LineWriter,
    SentinelLog,
    Sink,
    StreamSink,
    SystemLog,
)
from txsentinel.process.termination import exit_on_signals
from txsentinel.runtime.host import ISystemReactor, check_writable
from txsentinel.server.acl.users import check_declaration
from txsentinel.server.all_commands import TABLE
from txsentinel.server.process_info import version_and_build
from txsentinel.tls.activation import wants_tls

if TYPE_CHECKING:
    from twisted.application.service import IService

NO_CONFIG_FILE: Final = "Sentinel needs config file on disk to save state. Exiting..."

TWISTD_PIDFILE: Final = "twistd.pid"
"""The pid file of ``twistd`` without ``--pidfile``."""

TWISTD_LOG: Final = "twistd.log"
"""The log file of a daemon of ``twistd`` without ``--logfile``."""

FOREGROUND: Final = "the process stays in the foreground; 'twistd sentinel' without -n runs it as a daemon"


class Options(ExtensionOptions):
    """
    The command line after ``twistd sentinel``.

    After parsing, ``configuration`` is the configuration of the file and the directives after ``--``, and
    ``extensions`` has the selected extensions with their arguments and settings.
    """

    synopsis = "[options] [sentinel.conf] [-- --directive value ...]"
    optParameters = [
        ["config", "c", None, "The sentinel.conf to start from and to keep the state in; required."],
    ]
    optFlags = [
        [
            "tls-verify-hostnames",
            None,
            "With tls-replication: require certificates to name the host or IP connected to.",
        ],
    ]
    configuration: Configuration

    def __init__(self) -> None:
        super().__init__()
        self.lock: FileLock | None = None
        """The lock that prevents other Sentinels from saving to the same file."""

        self._overrides: Sequence[str] = ()

    @property
    def verify_hostnames(self) -> bool:
        """Whether certificates must name the host that was connected to."""
        return bool(self["tls-verify-hostnames"])

    @property
    def longdesc(self) -> str:
        """The end of the help text, with the installed extensions."""
        words = (
            "Monitors Redis and Valkey masters and fails over to their replicas, in place of redis-sentinel "
            "and along with it. Directives after -- override those of the file. "
        )
        return words + self.extensions_help()

    def opt_version(self) -> NoReturn:
        """Print the version, and whether the build is compiled or pure, and exit."""
        sys.stdout.write(f"{version_and_build()}\n")
        raise SystemExit(0)

    def parseArgs(self, *words: str) -> None:
        """Take the first word for the configuration file unless it is an option; directives follow it."""
        rest = list(words)
        if self["config"] is None and rest and not rest[0].startswith("-"):
            self["config"] = rest.pop(0)
            if rest and rest[0] == "--":  # the parser removes it only if no word precedes it
                del rest[0]
        self._overrides = rest

    def postOptions(self) -> None:
        """Read the configuration, and reconcile it with the options of ``twistd``."""
        if self._twistd is not None:
            exit_on_signals()
        guards = read_guards(self)
        locks = FileClaims()
        if self["config"]:
            # Locked before it is read: a process that has it may be saving it for the last time.
            locks.claim_main(os.path.abspath(self["config"]))
        try:
            self.configuration = read_configuration(self["config"], self._overrides, locks.claim_state, guards=guards)
            self.lock = locks.chosen(self.configuration.generic)
        except BaseException:
            locks.release()
            raise
        remove_leftovers(self.configuration.saved_path)
        for reference in self.configuration.secrets:
            if reference.variable is not None:
                os.environ.pop(reference.variable, None)  # The scripts are not to inherit it.
        if self._twistd is not None:
            self._reconcile(self._twistd)

    @property
    def _twistd(self) -> usage.Options | None:
        """The options of ``twistd`` itself; ``None`` in a ``.tac`` file and with other launchers."""
        parent: usage.Options | None = self.parent
        return parent if parent is not None and "nodaemon" in parent else None

    @property
    def detaches(self) -> bool:
        """Whether ``twistd`` will fork and detach from the terminal."""
        return self._twistd is not None and not (self._twistd["nodaemon"] or self._twistd["debug"])

    def _reconcile(self, twistd: usage.Options) -> None:
        """
        Warn where the file contradicts the options of ``twistd``, which alone determine its process.

        Its ``twistd.pid`` in the current directory would prevent a second Sentinel from starting there. So it is
        written only for daemons without a ``pidfile`` directive, or if ``--pidfile`` is given.
        """
        generic = self.configuration.generic
        stated = self.configuration.document.has(Owner("generic", "daemonize"), "daemonize")
        if self.detaches and generic.supervised != "no":
            self._warn(f"supervised {generic.supervised}", "twistd detaches from its supervisor unless given -n")
        elif self.detaches and stated and not generic.daemonize:
            self._warn("daemonize no", "twistd detaches unless given -n")
        elif not self.detaches and generic.daemonize and generic.supervised == "no":
            self._warn("daemonize yes", FOREGROUND)
        if self.detaches and twistd["logfile"] == "-":
            raise usage.UsageError("a daemon cannot log to standard output")
        if self.detaches:
            # Imported here because other launchers do not need it.
            from txsentinel.cli.detaching import report_failed_start

            report_failed_start("the system log" if twistd["syslog"] else self._log_path(generic))
        if twistd["pidfile"] == TWISTD_PIDFILE and (generic.pidfile or not self.detaches):
            twistd["pidfile"] = ""

    def _warn(self, directive: str, effect: str) -> None:
        sys.stderr.write(f"{os.path.basename(self.configuration.path)} has '{directive}', but {effect}.\n")

    def log(self) -> SentinelLog:
        """
        Return the log observer.

        The options ``--logfile`` and ``--syslog`` of ``twistd`` override the directives of the file.
        """
        generic = self.configuration.generic
        destinations: list[Destination] = []
        if self._twistd is not None and self._twistd["syslog"]:
            destinations.append(QueuedDestination(SystemLog(self._twistd["prefix"], "user")))
        else:
            destinations.append(LineWriter(self._sink(), generic.log_format, generic.log_timestamp_format))
            if generic.syslog_enabled:
                destinations.append(QueuedDestination(SystemLog(generic.syslog_ident, generic.syslog_facility)))
        return SentinelLog(*destinations, threshold=lambda: LOG_LEVELS[generic.loglevel])

    @property
    def log_file(self) -> str:
        """The absolute path of the log file; empty if the log goes to standard output or to the system log only."""
        generic, chosen = self.configuration.generic, self._chosen_log
        if chosen == "-" or not (chosen or generic.logfile or self.detaches):
            return ""
        return self._log_path(generic)

    def _sink(self) -> Sink:
        path = self.log_file
        return file_sink(path) if path else stream_sink(sys.stdout.buffer)

    @property
    def _chosen_log(self) -> str:
        """The option ``--logfile`` of ``twistd``; empty without it."""
        return (self._twistd["logfile"] if self._twistd is not None else None) or ""

    def _log_path(self, generic: GenericOptions) -> str:
        """Return the absolute path of the log file, if the log goes to a file."""
        return os.path.abspath(self._chosen_log or generic.located(generic.logfile) or TWISTD_LOG)


def stream_sink(stream: BinaryIO) -> Sink:
    """Return a sink for standard output, which may be a file or may block."""
    try:
        descriptor = stream.fileno()
    except OSError:
        return StreamSink(stream)
    return StreamSink(stream) if stat.S_ISREG(os.fstat(descriptor).st_mode) else PipeSink(descriptor)


def file_sink(path: str) -> Sink:
    """
    Return a sink for the file at ``path``, which may be a FIFO or a device.

    :raises SystemExit: if it is a FIFO without a reader, or a device that cannot be opened.
    """
    if is_regular(path):
        return FileSink(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    except OSError as error:
        refuse(f"Can't open the log file {path}: {error.strerror}")
    os.set_blocking(descriptor, True)  # A thread writes and may wait; only opening must not block.
    return PipeSink(descriptor)


def read_guards(options: ExtensionOptions) -> Sequence[CommentStatement]:
    """
    Read the file of the extensions, and return the settings of masters in it.

    :raises SystemExit: if it is invalid.
    """
    try:
        options.read_extensions()
    except UnusableExtension as error:
        refuse(str(error))
    return options.extensions_file.guards


def read_configuration(
    path: str | None,
    words: Sequence[str],
    claim: Callable[[str], bytes] | None = None,
    disk: Disk | None = None,
    guards: Sequence[CommentStatement] = (),
) -> Configuration:
    """
    Read the configuration in the file at ``path``, followed by the directives of ``words``.

    :param claim: see :func:`~txsentinel.config.configuration.load`.
    :param disk: see there.
    :param guards: see there.
    :raises SystemExit: for any error, with the text for standard error.
    :raises usage.UsageError: if ``words`` do not begin with an option.
    """
    if not path:
        refuse(NO_CONFIG_FILE)
    path = os.path.abspath(path)
    try:
        contents = read_file(path)
    except OSError as error:
        refuse(str(CannotOpen(path, error.strerror or str(error))))
    try:
        overrides = override_lines(words)
        stdin = sys.stdin.buffer.read() if reads_stdin(words) else b""
        known_commands = [word.decode("ascii") for word in TABLE.by_word]
        configuration = load(
            path,
            contents,
            overrides,
            stdin=stdin,
            disk=disk,
            known_commands=known_commands,
            check_user=partial(check_declaration, TABLE),
            claim=claim,
            guards=guards,
            environment=os.environ,
        )
    except NotAnOption as word:
        raise usage.UsageError(f"expected a directive, such as --port, in place of: {word}") from None
    except ConfigError as error:
        refuse(str(error))
    saved = configuration.saved_path
    try:
        if os.path.exists(saved) or configuration.state_path is None:
            check_writable(saved)
    except OSError as error:
        refuse(f"Sentinel config file {saved} is not writable: {error.strerror}. Exiting...")
    return configuration


def refuse_in_log(text: str, generic: GenericOptions) -> NoReturn:
    """
    End the start as :func:`refuse` does, with ``text`` also in the log file if one is configured.

    A C Sentinel reports only in the log that another process has its port; here standard error has the text, too.
    """
    if not generic.logfile:
        refuse(text)
    sink = FileSink(os.path.abspath(generic.located(generic.logfile)))
    try:
        sink.check()
    except OSError:
        refuse(text)
    LineWriter(sink, generic.log_format, generic.log_timestamp_format).emit(time.time(), Level.WARNING, text)
    refuse(text)


class FileClaims:
    """
    Locks the file in which the state is saved, the main file or a state file.

    Which of them it is becomes known only by reading the main file. Sentinels with state files may share one main file.
    """

    def __init__(self) -> None:
        self._main: FileLock | None = None
        self._refusal = ""
        self._state: FileLock | None = None
        self._has_state_file = False

    def claim_main(self, path: str) -> None:
        """Lock the main file until it is read. The reader reports if it cannot be opened."""
        try:
            self._main = FileLock(path)
        except FileInUse as error:
            self._refusal = str(error)
        except OSError:
            return

    def claim_state(self, path: str) -> bytes:
        """
        Lock the state file, creating it if it does not exist, and read it.

        :raises SystemExit: if another process has the lock, or the file cannot be created.
        """
        self._has_state_file = True
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK, NEW_FILE_MODE))
            self._state = FileLock(path)
            return read_file(path)
        except FileInUse as error:
            refuse(str(error))
        except OSError as error:
            refuse(f"Sentinel config file {path} is not writable: {error.strerror}. Exiting...")

    def release(self) -> None:
        """Release all locks, because the start has failed."""
        for lock in (self._main, self._state):
            if lock is not None:
                lock.release()

    def chosen(self, generic: GenericOptions) -> FileLock | None:
        """
        Return the lock to keep, ``None`` without locks, and release the other one.

        :param generic: the options, for the log file in which to report.
        :raises SystemExit: if the state is saved in the main file and another process has its lock.
        """
        if not self._has_state_file:
            if self._refusal:
                refuse_in_log(self._refusal, generic)
            return self._main
        if self._main is not None:
            self._main.release()
        return self._state


def makeService(options: Options) -> IService:
    """
    Build the service without starting anything, because ``twistd`` forks afterwards.

    The modules of the service are loaded here, when it is known whether it needs OpenSSL, which takes 12 MB.
    """
    needs_openssl = wants_tls(options.configuration.generic) or bool(options.extensions)
    with nullcontext() if needs_openssl else absent("OpenSSL"), deferred(DEFERRED):
        from twisted.internet import reactor

        from txsentinel.cli.building import build_process
    return build_process(options, cast(ISystemReactor, reactor))
