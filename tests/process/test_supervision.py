"""Tests of the process: pid file, directory, readiness, and the order of start and stop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import cast

from twisted.application.service import Application, IService, Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.log_events import LogRecorder
from txsentinel.process.logs import SentinelLog
from txsentinel.process.supervision import (
    PidFile,
    ProcessService,
    UpstartSupervisor,
    supervisor_for,
)
from txsentinel.process.supervisor import Supervisor
from txsentinel.process.systemd import Systemd
from txsentinel.process.termination import SIGNALS, TerminationSignals
from txsentinel.runtime.host import ISystemReactor
from txsentinel.runtime.listeners import CannotStart


class ReadinessTests(SynchronousTestCase):
    """Tests of notifications to the service manager."""

    def test_upstart(self) -> None:
        """Upstart is notified by SIGSTOP."""
        signals: list[tuple[int, int]] = []
        self.patch(os, "kill", lambda pid, number: signals.append((pid, number)))
        UpstartSupervisor().ready()
        self.assertEqual(signals, [(os.getpid(), signal.SIGSTOP)])

    def test_choice(self) -> None:
        """The directive and the environment determine the supervisor."""
        notes = LogRecorder(self)
        systemd, upstart = {"NOTIFY_SOCKET": "/run/x"}, {"UPSTART_JOB": "sentinel"}
        for mode, environment, kind in (
            ("no", systemd, Supervisor),
            ("auto", {}, Supervisor),
            ("auto", systemd, Systemd),
            ("auto", upstart, UpstartSupervisor),
            ("systemd", systemd, Systemd),
            ("upstart", upstart, UpstartSupervisor),
        ):
            self.assertIs(type(supervisor_for(mode, environment)), kind, (mode, environment))
        self.assertEqual(notes.texts, ["NOTIFY_SOCKET is set, but ignored: 'supervised' is no, not auto or systemd"])

    def test_absent_supervisor(self) -> None:
        """A configured supervisor that is absent is logged, and the process starts."""
        notes = LogRecorder(self)
        self.assertIs(type(supervisor_for("systemd", {})), Supervisor)
        self.assertIs(type(supervisor_for("upstart", {})), Supervisor)
        self.assertEqual(
            notes.texts,
            [
                "systemd supervision requested, but NOTIFY_SOCKET not found",
                "upstart supervision requested, but UPSTART_JOB not found",
            ],
        )


class PidFileTests(SynchronousTestCase):
    """Tests of the pid file."""

    def setUp(self) -> None:
        self.file = PidFile(os.path.abspath(self.mktemp()))

    def test_contents(self) -> None:
        """The file has the pid and a line end, and is removed afterwards."""
        self.file.write()
        with open(self.file.path, encoding="ascii") as file:
            self.assertEqual(file.read(), f"{os.getpid()}\n")
        self.file.remove()
        self.assertFalse(os.path.exists(self.file.path))

    def test_failure_is_only_logged(self) -> None:
        """A missing directory does not prevent the start or the stop."""
        notes = LogRecorder(self)
        file = PidFile(os.path.join(self.file.path, "gone", "pid"))
        file.write()
        file.remove()
        self.assertEqual(notes.texts, ["Failed to write PID file: No such file or directory"])

    def test_fifo(self) -> None:
        """Neither writing nor removing blocks on a FIFO at the path."""
        notes = LogRecorder(self)
        os.mkfifo(self.file.path)
        self.file.write()
        self.file.remove()
        self.assertEqual(notes.texts, ["Failed to write PID file: No such device or address"])
        self.assertTrue(os.path.exists(self.file.path))

    def test_pid_file_of_another_process(self) -> None:
        """The file of another process is not removed."""
        self.file.write()
        for contents in ("1\n", "not a pid"):
            with open(self.file.path, "w", encoding="ascii") as file:
                file.write(contents)
            self.file.remove()
            self.assertTrue(os.path.exists(self.file.path))


class RecordingService(Service):
    """A service that records its start and stop."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.setName(name)
        self.calls = calls
        self.stopped: Deferred[None] = Deferred()

    def startService(self) -> None:
        """Record it."""
        self.calls.append(f"start {self.name}")

    def stopService(self) -> Deferred[None]:
        """Record it; end when the test demands it."""
        self.calls.append(f"stop {self.name}")
        return self.stopped


class FakeReactor:
    """A fake reactor that records calls."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []
        self.stops = 0

    def stop(self) -> None:
        """Stop; raise at the second call, as a reactor does."""
        if self.stops:
            raise ReactorNotRunning
        self.stops += 1

    def callWhenRunning(self, function: Callable[[], object]) -> None:
        """Record the call."""
        self.waiting.append(function)

    def callFromThread(self, function: Callable[..., object], *arguments: object) -> None:
        """Record the call from a thread."""
        self.waiting.append(partial(function, *arguments))


class ProcessTests(SynchronousTestCase):
    """Tests of ``ProcessService``."""

    def setUp(self) -> None:
        self.calls: list[str] = []
        self.reactor = FakeReactor()
        self.system = cast(ISystemReactor, self.reactor)
        self.sentinel = RecordingService("sentinel", self.calls)
        hangup = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, hangup)
        self.addCleanup(os.chdir, os.getcwd())

    def test_interface(self) -> None:
        """It provides ``IService``."""
        verifyObject(IService, ProcessService(self.system, self.sentinel))

    def test_ready_only_when_serving(self) -> None:
        """Readiness is notified when the Sentinel serves, not when it starts."""
        path = os.path.abspath(self.mktemp())
        serving: Deferred[None] = Deferred()
        process = ProcessService(self.system, self.sentinel, pidfile=PidFile(path), serving=serving)
        process.startService()
        self.assertEqual((os.path.exists(path), self.reactor.waiting), (False, []))
        serving.callback(None)
        self.assertEqual((os.path.exists(path), len(self.reactor.waiting)), (True, 1))

    def test_start_that_fails(self) -> None:
        """Status 1 in the process that was started, an exception for ``twistd`` in one that it forked; no pid file."""
        path = os.path.abspath(self.mktemp())

        def refuse() -> None:
            raise CannotStart("no port")

        self.sentinel.startService = refuse  # type: ignore[method-assign]
        process = ProcessService(self.system, self.sentinel, pidfile=PidFile(path))
        self.assertEqual(self.assertRaises(SystemExit, process.startService).code, 1)
        self.patch(os, "getpid", lambda: 1)
        self.patch(sys, "excepthook", sys.excepthook)
        self.assertRaises(CannotStart, process.startService)
        self.assertFalse(os.path.exists(path))

    def test_nothing_happens_before_the_start(self) -> None:
        """The constructor has no side effects, because the process is forked afterwards."""
        path = os.path.abspath(self.mktemp())
        ProcessService(self.system, self.sentinel, directory="/", pidfile=PidFile(path))
        self.assertFalse(os.path.exists(path))
        self.assertNotEqual(os.getcwd(), "/")
        self.assertEqual((self.calls, self.reactor.waiting), ([], []))

    def test_log_of_the_application(self) -> None:
        """The log observer becomes that of the application, so that twistd makes none of its own."""
        log = SentinelLog()
        application = Application("sentinel")
        ProcessService(self.system, self.sentinel, log=log).setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), log)
        other = Application("other")
        ProcessService(self.system, RecordingService("other", [])).setServiceParent(other)
        self.assertIs(other.getComponent(ILogObserver, None), None)

    def test_hangup(self) -> None:
        """SIGHUP is ignored without a handler; a handler is called by the reactor, not by the signal."""
        calls: list[str] = []

        def hangup() -> Deferred[str]:
            calls.append("hangup")
            return succeed("")

        process = ProcessService(self.system, self.sentinel, hangup=hangup)
        process.privilegedStartService()
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual((calls, len(self.reactor.waiting)), ([], 1))
        self.reactor.waiting.pop()()
        self.assertEqual(calls, ["hangup"])

    def test_termination(self) -> None:
        """The handlers are there before the reactor runs, and again when it does, as it installs its own."""
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in handlers.items():
            self.addCleanup(signal.signal, number, handler)
        process = ProcessService(self.system, self.sentinel, termination=TerminationSignals(self.system))
        self.assertEqual({number: signal.getsignal(number) for number in SIGNALS}, handlers)
        process.privilegedStartService()
        ours = {number: signal.getsignal(number) for number in SIGNALS}
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.reactor.waiting.pop()()
        self.assertEqual({number: signal.getsignal(number) for number in SIGNALS}, ours)

    def test_signals(self) -> None:
        """The reactor is stopped in a turn of its own, once; a second SIGTERM changes nothing."""
        for number in SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        notes = LogRecorder(self)
        TerminationSignals(self.system).install()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        self.assertEqual((self.reactor.stops, len(self.reactor.waiting)), (0, 2))
        for stop in self.reactor.waiting:
            stop()
        self.assertEqual(self.reactor.stops, 1)
        self.assertEqual(notes.texts[0], "Received SIGINT scheduling shutdown...")

    def test_title(self) -> None:
        """The title is set once, in the process that starts: the one that constructs may not be the one that serves."""
        process = ProcessService(self.system, self.sentinel, set_process_title=lambda: self.calls.append("title"))
        self.assertEqual(self.calls, [])
        process.privilegedStartService()
        process.startService()
        self.assertEqual(self.calls, ["title", "start sentinel"])

    def test_order_of_start_and_stop(self) -> None:
        """Directory first, extensions after the Sentinel, then the pid file; ready once the reactor turns."""
        directory = os.path.realpath(self.mktemp())
        os.makedirs(directory)
        path = os.path.join(directory, "pid")
        process = ProcessService(self.system, self.sentinel, directory=directory, pidfile=PidFile(path))
        extension = RecordingService("extension", self.calls)
        extension.setServiceParent(process)
        process.privilegedStartService()
        self.assertEqual(os.getcwd(), directory)
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
        self.assertFalse(os.path.exists(path))
        process.startService()
        self.assertTrue(os.path.exists(path))
        self.assertEqual(len(self.reactor.waiting), 1)
        stopped = process.stopService()
        self.assertEqual(self.calls, ["start sentinel", "start extension", "stop extension", "stop sentinel"])
        extension.stopped.callback(None)
        self.assertNoResult(stopped)
        self.assertTrue(os.path.exists(path), "the pid file must outlive the last write")
        self.sentinel.stopped.callback(None)
        self.successResultOf(stopped)
        self.assertFalse(os.path.exists(path))
