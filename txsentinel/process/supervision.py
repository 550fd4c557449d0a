"""The process of a Sentinel: its directory, its pid file, and its supervisor."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import ILogObserver
from twisted.python.components import Componentized

from txsentinel.config.disk import read_file
from txsentinel.model.events import Level
from txsentinel.process.logs import note
from txsentinel.process.supervisor import Supervisor
from txsentinel.process.systemd import HealthNotifier, ServiceHealth, Systemd, watchdog_seconds
from txsentinel.process.termination import TerminationSignals
from txsentinel.runtime.host import ISystemReactor
from txsentinel.runtime.listeners import CannotStart


class UpstartSupervisor(Supervisor):
    """``supervised upstart``, for jobs with ``expect stop``: the process signals readiness by SIGSTOP."""

    def ready(self) -> None:
        """Stop this process; Upstart continues it at once."""
        os.kill(os.getpid(), signal.SIGSTOP)


def supervisor_for(mode: str, environment: Mapping[str, str]) -> Supervisor:
    """
    Return the supervisor for a word of the ``supervised`` directive.

    If the environment lacks the variable of the configured supervisor, this is logged and the process starts
    unsupervised, as in C.
    """
    if mode in ("upstart", "auto") and environment.get("UPSTART_JOB"):
        return UpstartSupervisor()
    if mode in ("systemd", "auto") and environment.get("NOTIFY_SOCKET"):
        return Systemd(environment)
    if mode in ("upstart", "systemd"):
        variable = {"upstart": "UPSTART_JOB", "systemd": "NOTIFY_SOCKET"}[mode]
        note(Level.WARNING, f"{mode} supervision requested, but {variable} not found")
    elif environment.get("NOTIFY_SOCKET"):
        # A unit of Type=notify would wait for the notification until its start times out.
        note(Level.WARNING, f"NOTIFY_SOCKET is set, but ignored: 'supervised' is {mode}, not auto or systemd")
    return Supervisor()


class PidFile:
    """
    The file of the ``pidfile`` directive, with the process ID and a line end.

    :param path: absolute.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self) -> None:
        """Write the file. A failure is only logged."""
        try:
            # Without O_NONBLOCK, opening a FIFO would wait for a reader.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
            with open(os.open(self.path, flags, 0o666), "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            note(Level.NOTICE, f"Failed to write PID file: {error.strerror}")

    def remove(self) -> None:
        """Remove the file, unless it has the ID of another process by now."""
        with suppress(OSError, ValueError):
            owner = int(read_file(self.path))
            if owner == os.getpid():
                note(Level.NOTICE, "Removing the pid file.")
                os.unlink(self.path)


class ProcessService(MultiService):
    """
    The top-level service of a Sentinel process.

    ``twistd`` constructs it before it forks; the setup of the final process is made when it starts.

    :param sentinel: the Sentinel, the first child; extensions added later start after it and stop before.
    :param log: becomes the log observer of the application to which this is added, in place of the one of
        ``twistd``; ``None`` to keep that.
    :param directory: the ``dir`` directive, absolute; ``None`` to keep the working directory.
    :param pidfile: ``None`` for none.
    :param supervised: the word of the ``supervised`` directive.
    :param hangup: called by the reactor after each SIGHUP; returns what was wrong, empty if nothing was. ``None`` to
        ignore that signal.
    :param health: what to report to a supervisor that wants to know; ``None`` for nothing.
    :param serving: fires when the Sentinel serves; ``None`` if it does as soon as it has started.
    :param termination: handles SIGTERM and SIGINT; ``None`` to leave them to the reactor.
    :param set_process_title: sets the title of the calling process, for ``proc-title-template``.
    :param log_file: the path of the log; a refused start is then also reported on standard error. Empty if the log goes
        to standard output.
    """

    def __init__(
        self,
        reactor: ISystemReactor,
        sentinel: IService,
        *,
        log: ILogObserver | None = None,
        directory: str | None = None,
        pidfile: PidFile | None = None,
        supervised: str = "no",
        hangup: Callable[[], Deferred[str]] | None = None,
        health: ServiceHealth | None = None,
        serving: Deferred[None] | None = None,
        termination: TerminationSignals | None = None,
        set_process_title: Callable[[], None] = lambda: None,
        log_file: str = "",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sentinel = sentinel
        self._reactor = reactor
        self._observer = log
        self._directory = directory
        self._pidfile = pidfile
        self._supervised = supervised
        self._hangup = hangup
        self._health = health
        self._termination = termination
        self._set_process_title = set_process_title
        self._log_file = log_file
        self._serving = succeed(None) if serving is None else serving
        self._constructed_in = os.getpid()
        self._supervisor = Supervisor()
        sentinel.setServiceParent(self)  # type: ignore[no-untyped-call]

    def setServiceParent(self, parent: object) -> None:
        """
        Also set the log observer of the application.

        A plug-in gets the application before its log starts only here. So all log lines have the same format.
        """
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)  # type: ignore[no-untyped-call]
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """
        Set the working directory, the signal handlers and the process title.

        :raises CannotStart: as :meth:`startService`, if the working directory cannot be changed.
        """
        if self._directory is not None:
            try:
                os.chdir(self._directory)
            except OSError as error:
                text = f"Can't chdir to '{self._directory}': {error.strerror}."
                note(Level.WARNING, text)
                self._refuse(CannotStart(text))
        if self._hangup is None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload))
        if self._termination is not None:
            self._termination.install()
            self._reactor.callWhenRunning(self._termination.install)
        self._set_process_title()
        super().privilegedStartService()  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """
        Start, and notify the supervisor when the Sentinel serves.

        The pid file is not written before that. A second Sentinel that fails because the port is in use must not
        overwrite the pid file of the first one.

        :raises CannotStart: in a daemon: ``twistd`` then notifies the process at the terminal, which waits for it.
        :raises SystemExit: otherwise, with status 1; the log has the reason.
        """
        try:
            super().startService()  # type: ignore[no-untyped-call]
        except CannotStart as refusal:
            self._refuse(refusal)
        self._supervisor = supervisor_for(self._supervised, os.environ)
        self._serving.addCallback(self._serve)

    def _refuse(self, refusal: CannotStart) -> NoReturn:
        """End the start; the log has the reason."""
        if os.getpid() != self._constructed_in:
            # The process ends now. Without this the interpreter would also write a traceback to the log.
            sys.excepthook = lambda *_: None
            raise refusal
        if self._log_file and sys.__stderr__ is not None:
            # ``sys.stderr`` may be redirected into the log by now.
            sys.__stderr__.write(f"txsentinel: {str(refusal).rstrip('.')}. See {self._log_file}.\n")
            sys.__stderr__.flush()
        raise SystemExit(1) from None

    def failing(self) -> None:
        """Notify the supervisor that the process ends because of an internal error."""
        self._supervisor.failing()

    def stopService(self) -> Deferred[None]:
        """Stop, and remove the pid file when everything is saved."""
        self._supervisor.stopping()
        stopped = maybeDeferred(super().stopService)
        return stopped.addBoth(self._remove_pidfile)

    def _serve(self, result: None) -> None:
        if self._pidfile is not None:
            self._pidfile.write()
        self._reactor.callWhenRunning(self._supervisor.ready)
        if self._health is not None and isinstance(self._supervisor, Systemd):
            watchdog = watchdog_seconds(os.environ)
            self._health.observe(HealthNotifier(self._supervisor, self._health, time.monotonic, watchdog).swept)

    def reload(self) -> Deferred[str]:
        """Call ``hangup``, between two notifications of the supervisor; return its result."""
        if self._hangup is None:
            return succeed("")

        def done(problem: str) -> str:
            self._supervisor.reloaded(problem)
            return problem

        self._supervisor.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        return self._hangup().addCallback(done)

    def _remove_pidfile(self, result: object) -> object:
        if self._pidfile is not None:
            self._pidfile.remove()
        return result
