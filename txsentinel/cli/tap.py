"""
``twistd sentinel``: its command line, and the service made from it.

Everything that an operator can get wrong is found while the options are parsed, when standard error
is still theirs: afterwards ``twistd`` may fork away from the terminal.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn, cast

from twisted.plugin import getPlugins
from twisted.python import usage

from txsentinel import __version__
from txsentinel.cli.overrides import NotAnOption, override_lines, reads_stdin
from txsentinel.config.configuration import Configuration, load
from txsentinel.config.disk import Disk, read_file
from txsentinel.config.document import Owner
from txsentinel.config.errors import CannotOpen, ConfigError
from txsentinel.config.generic import GenericOptions
from txsentinel.interfaces import ISentinelExtension
from txsentinel.model.events import Level
from txsentinel.process.collector import frozen_collector
from txsentinel.process.descriptors import (
    Capacity,
    demand_of,
    descriptor_limit,
    descriptors_for_clients,
    raise_descriptor_limit,
)
from txsentinel.process.files import NEW_FILE_MODE, FileInUse, FileLock, remove_leftovers
from txsentinel.process.log_queue import PipeSink, QueuedDestination, is_regular
from txsentinel.process.logs import Destination, FileSink, LineWriter, SentinelLog, Sink, StreamSink, SystemLog, note
from txsentinel.process.resolver import DaemonThreadResolver
from txsentinel.process.supervision import PidFile, SentinelProcess
from txsentinel.process.termination import TerminationSignals, exit_on_signals
from txsentinel.reactor.priority import PriorityReactor
from txsentinel.runtime.event_plugins import EventPlugins, installed_event_plugins
from txsentinel.runtime.host import PROGRAM, ISystemReactor, RealHost, check_writable
from txsentinel.runtime.service import SentinelService
from txsentinel.server.acl.users import check_declaration
from txsentinel.server.command_modules import TABLE
from txsentinel.tls.activation import wants_tls

if TYPE_CHECKING:
    from twisted.application.service import IService

NO_CONFIG_FILE: Final = "Sentinel needs config file on disk to save state. Exiting..."

TWISTD_PIDFILE: Final = "twistd.pid"
"""What ``twistd`` writes where ``--pidfile`` is not given."""

TWISTD_LOG: Final = "twistd.log"
"""Where a daemon of ``twistd`` logs unless told otherwise."""

FOREGROUND: Final = "the process stays in the foreground; 'twistd sentinel' without -n runs it as a daemon"

LOG_LEVELS: Final = {level.name.lower(): level for level in Level}
"""The words of ``loglevel``."""


def refuse(text: str) -> NoReturn:
    """End the start: ``text`` goes to standard error as it is, and the exit status is 1."""
    raise SystemExit(text)


def installed_extensions(package: ModuleType | None = None) -> dict[str, ISentinelExtension]:
    """
    Every plug-in that provides :class:`ISentinelExtension`, by the word that chooses it.

    :param package: where plug-in modules live; ``None`` for ``twisted.plugins``.
    """
    found: list[ISentinelExtension] = list(getPlugins(ISentinelExtension, package))
    return {extension.name: extension for extension in sorted(found, key=lambda each: str(each.name))}


class Options(usage.Options):
    """
    The command line after ``twistd sentinel``.

    Once parsed, ``configuration`` holds what the file and the words behind ``--`` say, and
    ``extensions`` the chosen extensions with their arguments.
    """

    synopsis = "[options] [sentinel.conf] [-- --directive value ...]"
    optParameters = [
        ["config", "c", None, "The sentinel.conf to start from and to keep the state in; required."],
    ]
    optFlags = [
        ["tls-verify-hostnames", None, "With tls-replication: dial only whose certificate has the name or IP dialled."],
    ]
    configuration: Configuration

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.extensions: list[tuple[ISentinelExtension, str]] = []
        self.lock: FileLock | None = None
        """What keeps other Sentinels from saving to the same file."""

        self._overrides: Sequence[str] = ()

    @property
    def longdesc(self) -> str:
        """The end of the help text, which names what is installed."""
        words = (
            "Watches Redis and Valkey masters and fails over to their replicas, in place of redis-sentinel "
            "and along with it. Directives behind -- count after those of the file. "
        )
        known = ", ".join(f"{name} ({each.description})" for name, each in installed_extensions().items())
        return words + (f"Extensions: {known}." if known else "No extensions are installed.")

    def opt_extension(self, chosen: str) -> None:
        """Run an extension beside the Sentinel: name or name:argument. May be repeated."""
        name, _, argument = chosen.partition(":")
        extension = installed_extensions().get(name)
        if extension is None:
            known = ", ".join(installed_extensions()) or "none"
            raise usage.UsageError(f"no such extension: {name} (installed: {known})")
        self.extensions.append((extension, argument))

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        sys.stdout.write(f"txsentinel {__version__}\n")
        raise SystemExit(0)

    def parseArgs(self, *words: str) -> None:
        """A first word that is no option is the configuration file, and directives may follow at once."""
        rest = list(words)
        if self["config"] is None and rest and not rest[0].startswith("-"):
            self["config"] = rest.pop(0)
            if rest and rest[0] == "--":  # swallowed by the parser only where no word stands before it
                del rest[0]
        self._overrides = rest

    def postOptions(self) -> None:
        """Read the configuration, and settle with ``twistd`` what both have an opinion on."""
        if self._twistd is not None:
            exit_on_signals()
        locks = FileClaims()
        if self["config"]:
            # Before it is read: whoever has it may be saving it now, for the last time.
            locks.claim_main(os.path.abspath(self["config"]))
        try:
            self.configuration = read_configuration(self["config"], self._overrides, locks.claim_state)
            self.lock = locks.chosen(self.configuration.generic)
        except BaseException:
            locks.release()
            raise
        remove_leftovers(self.configuration.saved_path)
        if self._twistd is not None:
            self._reconcile(self._twistd)

    @property
    def _twistd(self) -> usage.Options | None:
        """The options of ``twistd`` itself; ``None`` in a ``.tac`` file and under other launchers."""
        parent: usage.Options | None = self.parent
        return parent if parent is not None and "nodaemon" in parent else None

    @property
    def detaches(self) -> bool:
        """Will ``twistd`` fork away from the terminal?"""
        return self._twistd is not None and not (self._twistd["nodaemon"] or self._twistd["debug"])

    def _reconcile(self, twistd: usage.Options) -> None:
        """
        ``twistd`` alone decides about its own process; say so where the file asks for something else.

        Its ``twistd.pid`` in the current directory, which would keep a second Sentinel from starting
        there, is only written for daemons without a ``pidfile`` of their own, or when asked for.
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
            # Imported here, as other launchers know nothing of it.
            from txsentinel.cli.detaching import report_failed_start

            report_failed_start("the system log" if twistd["syslog"] else self._log_path(generic))
        if twistd["pidfile"] == TWISTD_PIDFILE and (generic.pidfile or not self.detaches):
            twistd["pidfile"] = ""

    def _warn(self, directive: str, fact: str) -> None:
        sys.stderr.write(f"{os.path.basename(self.configuration.path)} says '{directive}', but {fact}.\n")

    def log(self) -> SentinelLog:
        """
        The log, before anything is written to it.

        What was said to ``twistd`` (``--logfile``, ``--syslog``) comes before what the file says.
        """
        generic = self.configuration.generic
        destinations: list[Destination] = []
        if self._twistd is not None and self._twistd["syslog"]:
            destinations.append(QueuedDestination(SystemLog(self._twistd["prefix"], "user")))
        else:
            destinations.append(LineWriter(self._sink(generic), generic.log_format, generic.log_timestamp_format))
            if generic.syslog_enabled:
                destinations.append(QueuedDestination(SystemLog(generic.syslog_ident, generic.syslog_facility)))
        return SentinelLog(*destinations, threshold=lambda: LOG_LEVELS[generic.loglevel])

    def _sink(self, generic: GenericOptions) -> Sink:
        chosen = self._chosen_log
        if chosen == "-" or not (chosen or generic.logfile or self.detaches):
            return stream_sink(sys.stdout.buffer)
        return file_sink(self._log_path(generic))

    @property
    def _chosen_log(self) -> str:
        """What was said to ``twistd``; empty if nothing was."""
        return (self._twistd["logfile"] if self._twistd is not None else None) or ""

    def _log_path(self, generic: GenericOptions) -> str:
        """The log file, absolute, if the log goes to a file."""
        return os.path.abspath(self._chosen_log or generic.located(generic.logfile) or TWISTD_LOG)


def stream_sink(stream: BinaryIO) -> Sink:
    """Standard output as a log: a file, or something that may be full."""
    try:
        descriptor = stream.fileno()
    except OSError:
        return StreamSink(stream)
    return StreamSink(stream) if stat.S_ISREG(os.fstat(descriptor).st_mode) else PipeSink(descriptor)


def file_sink(path: str) -> Sink:
    """
    The file at ``path`` as a log, be it a FIFO or a device.

    :raises SystemExit: if it is a FIFO that nobody reads, or a device that cannot be opened.
    """
    if is_regular(path):
        return FileSink(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    except OSError as error:
        refuse(f"Can't open the log file {path}: {error.strerror}")
    os.set_blocking(descriptor, True)  # A thread may wait; only opening must not.
    return PipeSink(descriptor)


def read_configuration(
    path: str | None,
    words: Sequence[str],
    claim: Callable[[str], bytes] | None = None,
    disk: Disk | None = None,
) -> Configuration:
    """
    The configuration in the file at ``path``, with the directives of ``words`` behind it.

    :param claim: see :func:`~txsentinel.config.configuration.load`.
    :param disk: see there.
    :raises SystemExit: with a text for standard error, whatever is wrong.
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
            check_user=check_declaration,
            claim=claim,
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
    End the start, as :func:`refuse` does, with ``text`` in the log file if the configuration names one.

    A C Sentinel reports there, and not on standard error, that another process has its port.
    """
    if not generic.logfile:
        refuse(text)
    sink = FileSink(os.path.abspath(generic.located(generic.logfile)))
    try:
        sink.check()
    except OSError:
        refuse(text)
    LineWriter(sink, generic.log_format, generic.log_timestamp_format).tell(time.time(), Level.WARNING, text)
    raise SystemExit(1)


class FileClaims:
    """
    Sees to it that no other process saves to our file, be that the main file or a state file.

    Which of them it is becomes known only when the main file is read, and Sentinels with state files of their own may
    share one.
    """

    def __init__(self) -> None:
        self._main: FileLock | None = None
        self._refusal = ""
        self._state: FileLock | None = None
        self._has_state_file = False

    def claim_main(self, path: str) -> None:
        """Lock the main file for the time being; that it cannot be opened is for its reader to tell."""
        try:
            self._main = FileLock(path)
        except FileInUse as error:
            self._refusal = str(error)
        except OSError:
            return

    def claim_state(self, path: str) -> bytes:
        """
        Lock the state file, which is made if there is none, and read it.

        :raises SystemExit: if another process has it, or it cannot be made.
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
        """Nothing comes of it."""
        for lock in (self._main, self._state):
            if lock is not None:
                lock.release()

    def chosen(self, generic: GenericOptions) -> FileLock | None:
        """
        The lock to keep; ``None`` where there are no locks.

        :param generic: says whether there is a log file to name the other process in.
        :raises SystemExit: if another process saves to the main file, and so would we.
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
    Build the service; nothing is started, since ``twistd`` forks afterwards.

    The reactor's clock is replaced before anything is scheduled on it: the stock reactor orders its
    calls by wall time, and when somebody sets the clock back by an hour, nothing that was scheduled
    before happens for that hour. Sentinels would stop looking, and then report everything down.
    """
    from twisted.internet import reactor as installed

    reactor = cast(ISystemReactor, installed)
    setattr(reactor, "seconds", time.monotonic)  # noqa: B010 - an attribute that mypy takes for a method
    reactor.installNameResolver(DaemonThreadResolver(reactor))
    generic = options.configuration.generic

    def change_loglevel(word: str) -> None:
        generic.loglevel = word

    priority_reactor = cast(ISystemReactor, PriorityReactor(reactor))
    host = RealHost(priority_reactor)
    if options.lock is not None:
        host.files.locks[options.configuration.saved_path] = options.lock
    title = generic.process_title(PROGRAM, options.configuration.path) if generic.set_proc_title else ""
    sentinel = SentinelService(
        host,
        options.configuration,
        note=note,
        listeners=EventPlugins(installed_event_plugins()),
        shutdown=reactor.stop,
        change_loglevel=change_loglevel,
        verify_hostnames=bool(options["tls-verify-hostnames"]),
    )
    context, links = sentinel.context, sentinel.links
    demand = demand_of(options.configuration)
    raise_descriptor_limit(demand.comfortable)
    # A server takes two connections. Those that are down now will want theirs back. The limit of a process that runs
    # may be raised from outside.
    context.available_descriptors = lambda: descriptors_for_clients(descriptor_limit(), 2 * len(links))
    process = SentinelProcess(
        reactor,
        sentinel,
        log=options.log(),
        directory=generic.dir if generic.dir != os.getcwd() else None,
        pidfile=PidFile(generic.located(generic.pidfile)) if generic.pidfile else None,
        supervised=generic.supervised,
        hangup=sentinel.tls.renew if wants_tls(generic) else None,
        serving=sentinel.serving,
        termination=TerminationSignals(reactor),
        set_process_title=partial(host.set_process_title, title) if title else lambda: None,
    )
    capacity = Capacity(reactor, demand, generic.tcp_backlog, note)
    capacity.setServiceParent(process)  # type: ignore[no-untyped-call]
    frozen_collector(priority_reactor).setServiceParent(process)  # type: ignore[no-untyped-call]
    for extension, argument in options.extensions:
        try:
            extension.makeService(sentinel, argument).setServiceParent(process)  # type: ignore[no-untyped-call]
        except ValueError as error:
            refuse(f"Extension {extension.name} cannot run with '{argument}': {error}")
    return process
