"""What the operating system sees of a Sentinel: its directory, pid file, and word to the service manager."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import ILogObserver
from twisted.python.components import Componentized

from txsentinel.config.disk import read_file
from txsentinel.model.events import Level
from txsentinel.process.logs import note
from txsentinel.process.termination import TerminationSignals
from txsentinel.runtime.host import ISystemReactor
from txsentinel.runtime.listeners import CannotStart

READY: Final = "STATUS=Ready to accept connections\nREADY=1\n"
STOPPING: Final = "STATUS=Saving and leaving\nSTOPPING=1\n"


def notify_systemd(state: str, environment: Mapping[str, str]) -> None:
    """
    Send assignments such as ``READY=1`` to the socket that systemd names in ``NOTIFY_SOCKET``.

    :raises OSError: if nobody listens there; ``FileNotFoundError`` also if the variable is not set.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        raise FileNotFoundError("NOTIFY_SOCKET is not set")
    if address.startswith("@"):  # how an address in Linux's abstract name space is written
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
        door.connect(os.fsencode(address))
        door.sendall(state.encode())


class Supervisor:
    """Whoever started us and waits for news; this one waits for none (``supervised no``)."""

    def ready(self) -> None:
        """We serve."""

    def stopping(self) -> None:
        """We were asked to end and are at it."""


class Systemd(Supervisor):
    """``supervised systemd``, for units of ``Type=notify``."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def ready(self) -> None:
        """Lets ``systemctl start`` return and units ordered after us begin."""
        self._tell(READY)

    def stopping(self) -> None:
        """Says that our going is no crash."""
        self._tell(STOPPING)

    def _tell(self, state: str) -> None:
        try:
            notify_systemd(state, self._environment)
        except OSError as error:
            note(Level.WARNING, f"Systemd could not be told of our state: {error}")


class UpstartSupervisor(Supervisor):
    """``supervised upstart``, for jobs with ``expect stop``: stopping ourselves means that we are ready."""

    def ready(self) -> None:
        """Upstart continues us at once. Later children must not take themselves for the job."""
        os.environ.pop("UPSTART_JOB", None)
        os.kill(os.getpid(), signal.SIGSTOP)


def supervisor_for(mode: str, environment: Mapping[str, str]) -> Supervisor:
    """
    Whom to tell, by the word of the ``supervised`` directive.

    A manager that was asked for and did not leave its mark in the environment is not there: that is
    logged, and we start unsupervised, as the C servers do.
    """
    if mode in ("upstart", "auto") and environment.get("UPSTART_JOB"):
        return UpstartSupervisor()
    if mode in ("systemd", "auto") and environment.get("NOTIFY_SOCKET"):
        return Systemd(environment)
    if mode in ("upstart", "systemd"):
        mark = {"upstart": "UPSTART_JOB", "systemd": "NOTIFY_SOCKET"}[mode]
        note(Level.WARNING, f"{mode} supervision requested, but {mark} not found")
    return Supervisor()


class PidFile:
    """
    The file of the ``pidfile`` directive: our process id and a line end.

    :param path: absolute.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self) -> None:
        """Write it. Failing to is worth a line in the log and no more."""
        try:
            # Opening a FIFO would wait for a reader.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
            with open(os.open(self.path, flags, 0o666), "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            note(Level.NOTICE, f"Failed to write PID file: {error.strerror}")

    def remove(self) -> None:
        """Remove it, unless another process has put its own id there meanwhile."""
        with suppress(OSError, ValueError):
            owner = int(read_file(self.path))
            if owner == os.getpid():
                note(Level.NOTICE, "Removing the pid file.")
                os.unlink(self.path)


class SentinelProcess(MultiService):
    """
    The Sentinel as a process of its own.

    ``twistd`` constructs it before it forks; what must happen in the final process happens as it starts.

    :param sentinel: the Sentinel, the first child; extensions added later start after it and stop before.
    :param log: becomes the log observer of the application that this is added to, in place of the one
        that ``twistd`` would make; ``None`` to leave that alone.
    :param directory: the ``dir`` directive, absolute; ``None`` to stay.
    :param pidfile: ``None`` for none.
    :param supervised: the word of the ``supervised`` directive.
    :param hangup: called by the reactor after each SIGHUP; ``None`` to ignore that signal.
    :param serving: fires when the Sentinel serves; ``None`` if it does as soon as it has started.
    :param termination: handles SIGTERM and SIGINT; ``None`` to leave them to the reactor.
    :param set_process_title: obeys ``proc-title-template`` in the process that it is called in.
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
        hangup: Callable[[], None] | None = None,
        serving: Deferred[None] | None = None,
        termination: TerminationSignals | None = None,
        set_process_title: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sentinel = sentinel
        self._reactor = reactor
        self._observer = log
        self._directory = directory
        self._pidfile = pidfile
        self._supervised = supervised
        self._hangup = hangup
        self._termination = termination
        self._set_process_title = set_process_title
        self._serving = succeed(None) if serving is None else serving
        self._constructed_in = os.getpid()
        self._supervisor = Supervisor()
        sentinel.setServiceParent(self)  # type: ignore[no-untyped-call]

    def setServiceParent(self, parent: object) -> None:
        """
        Also make our log observer the application's.

        This is the one moment at which a plug-in holds the application before its log begins, so not a
        line comes out in any other shape.
        """
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)  # type: ignore[no-untyped-call]
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """
        Settle our title, where scripts and relative paths begin, and that we outlive the terminal we came from.

        :raises CannotStart: as :meth:`startService`, if the directory cannot be entered any more.
        """
        if self._directory is not None:
            try:
                os.chdir(self._directory)
            except OSError as error:
                text = f"Can't chdir to '{self._directory}': {error.strerror}."
                note(Level.WARNING, text)
                self._refuse(CannotStart(text))
        hangup = self._hangup
        if hangup is None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(hangup))
        if self._termination is not None:
            self._termination.install()
            self._reactor.callWhenRunning(self._termination.install)
        self._set_process_title()
        super().privilegedStartService()  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """
        Start, and say so once we serve. The pid file comes no sooner: a second Sentinel, started by mistake
        and ended by the port being in use, must leave that of the first one alone.

        :raises CannotStart: in a daemon: ``twistd`` then tells the process that waits at the terminal, which
            would else wait for ever.
        :raises SystemExit: elsewhere, with status 1; the log has said why.
        """
        try:
            super().startService()  # type: ignore[no-untyped-call]
        except CannotStart as refusal:
            self._refuse(refusal)
        self._supervisor = supervisor_for(self._supervised, os.environ)
        self._serving.addCallback(self._serve)

    def _refuse(self, refusal: CannotStart) -> NoReturn:
        """End the start; the log has said why."""
        if os.getpid() != self._constructed_in:
            # The last of this process; its log, where the interpreter would dump how it came to this, has said why.
            sys.excepthook = lambda *_: None
            raise refusal
        raise SystemExit(1) from None

    def stopService(self) -> Deferred[None]:
        """Stop; the pid file goes last, when the last write is on the disk."""
        self._supervisor.stopping()
        stopped = maybeDeferred(super().stopService)
        return stopped.addBoth(self._leave)

    def _serve(self, result: None) -> None:
        if self._pidfile is not None:
            self._pidfile.write()
        self._reactor.callWhenRunning(self._supervisor.ready)

    def _leave(self, result: object) -> object:
        if self._pidfile is not None:
            self._pidfile.remove()
        return result
