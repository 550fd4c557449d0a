"""Tests of the protocol of systemd: notifications, watchdog and inherited sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.log_events import LogRecorder
from txsentinel.process.supervisor import Supervisor
from txsentinel.process.systemd import (
    HealthNotifier,
    Systemd,
    inherited_sockets,
    notify_systemd,
    watchdog_seconds,
)


def listening_manager(case: SynchronousTestCase, address: str) -> socket.socket:
    """Return a socket like that of systemd, at a path or, after a NUL, in the abstract name space."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    case.addCleanup(manager.close)
    manager.bind(address)
    manager.setblocking(False)
    return manager


class NotificationTests(SynchronousTestCase):
    """Tests of the messages."""

    def setUp(self) -> None:
        name = f"txsentinel-{os.getpid()}-{id(self):x}"
        self.manager = listening_manager(self, "\0" + name)
        self.systemd = Systemd({"NOTIFY_SOCKET": "@" + name})

    def received(self) -> list[str]:
        """Return the assignments of the next message."""
        return self.manager.recv(4096).decode().splitlines()

    def test_start_and_stop(self) -> None:
        """Systemd gets READY and later STOPPING, with time for the last write."""
        self.systemd.ready()
        self.assertEqual(self.received(), ["STATUS=Ready to accept connections", "READY=1"])
        self.systemd.stopping()
        self.assertEqual(self.received(), ["STATUS=Saving and leaving", "STOPPING=1", "EXTEND_TIMEOUT_USEC=15000000"])

    def test_socket_with_a_path(self) -> None:
        """An address without an at-sign is a path."""
        path = os.path.join("/tmp", f"notify-{os.getpid()}-{id(self):x}")  # short enough for a socket
        manager = listening_manager(self, path)
        self.addCleanup(os.unlink, path)
        notify_systemd("READY=1", {"NOTIFY_SOCKET": path})
        self.assertEqual(manager.recv(999), b"READY=1")

    def test_reload(self) -> None:
        """A reload is framed by RELOADING with the time and READY, with the problem as the status if there is one."""
        self.systemd.reloading(123)
        self.systemd.reloaded("")
        self.systemd.reloaded("line 3:\nbad rule")
        self.assertEqual(self.received(), ["RELOADING=1", "MONOTONIC_USEC=123"])
        self.assertIn("READY=1", self.received())
        self.assertEqual(self.received(), ["STATUS=Reload failed: line 3: bad rule", "READY=1"])

    def test_watchdog_and_status(self) -> None:
        """A status is one line, whatever it has in it, so that it cannot forge another assignment."""
        self.systemd.working()
        self.systemd.failing()
        self.systemd.status("caf\udce9\nREADY=1")
        self.assertEqual(
            [self.received() for _ in range(3)], [["WATCHDOG=1"], ["WATCHDOG=trigger"], ["STATUS=caf? READY=1"]]
        )

    def test_missing_manager(self) -> None:
        """A missing service manager is logged once, until it is there again."""
        lines = LogRecorder(self)
        self.manager.close()
        for _ in range(3):
            self.systemd.working()
        self.assertEqual(len(lines.texts), 1)
        with self.assertRaises(OSError):
            notify_systemd("READY=1", {})

    def test_manager_that_does_not_read(self) -> None:
        """A full queue of the manager never blocks the Sentinel."""
        LogRecorder(self)
        for _ in range(2000):
            self.systemd.working()
        self.assertEqual(self.received(), ["WATCHDOG=1"])


class EnvironmentTests(SynchronousTestCase):
    """Tests of what the environment demands."""

    def test_watchdog(self) -> None:
        """There is a watchdog only for this process, with a limit above zero."""
        mine = str(os.getpid())
        for environment, seconds in (
            ({}, None),
            ({"WATCHDOG_USEC": "3000000"}, 3.0),
            ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": mine}, 3.0),
            ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
            ({"WATCHDOG_USEC": "0"}, None),
            ({"WATCHDOG_USEC": "soon"}, None),
        ):
            self.assertEqual(watchdog_seconds(environment), seconds, environment)

    def test_sockets(self) -> None:
        """Sockets are found by name; several may share one; those of another process are none of ours."""
        mine = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "4", "LISTEN_FDNAMES": "sentinel:http:sentinel"}
        self.assertEqual(inherited_sockets(mine), {"sentinel": [3, 5], "http": [4], "unknown": [6]})
        self.assertEqual(inherited_sockets({**mine, "LISTEN_PID": "1"}), {})
        self.assertEqual(inherited_sockets({**mine, "LISTEN_FDS": "x"}), {})


class RecordingSupervisor(Supervisor):
    """Records what it is notified of."""

    def __init__(self) -> None:
        self.received: list[str] = []

    def working(self) -> None:
        self.received.append("working")

    def status(self, text: str) -> None:
        self.received.append(text)


class FakeHealth:
    """A service with the state that a test sets."""

    line = "1 master ok"
    reason = ""

    def status(self) -> str:
        return self.line

    def problem(self) -> str:
        return self.reason

    def observe(self, swept: Callable[[], None]) -> None:
        raise AssertionError("the notifier does not observe by itself")


class HealthNotifierTests(SynchronousTestCase):
    """Tests of what follows from sweeps."""

    def setUp(self) -> None:
        self.now = 100.0
        self.supervisor, self.health = RecordingSupervisor(), FakeHealth()
        self.notifier = HealthNotifier(self.supervisor, self.health, lambda: self.now, 6.0)

    def sweep_until(self, until: float) -> list[str]:
        """Sweep ten times a second; return what was received."""
        self.supervisor.received = []
        while self.now < until:
            self.now = round(self.now + 0.1, 1)
            self.notifier.swept()
        return self.supervisor.received

    def test_period(self) -> None:
        """The watchdog is fed every third of its limit; the status is sent once if it does not change."""
        self.assertEqual(self.sweep_until(106.0), ["working", "1 master ok", "working", "working"])

    def test_status_at_most_once_a_second(self) -> None:
        """A status that changes all the time is sent once a second."""
        sent = 0
        for number in range(30):
            self.health.line = str(number)
            self.now += 0.1
            self.notifier.swept()
            sent = sum(each != "working" for each in self.supervisor.received)
        self.assertEqual(sent, 3)

    def test_without_sweeps(self) -> None:
        """Nothing is sent without sweeps, nor by a sweep that is two seconds late; a stopped process is not alive."""
        self.sweep_until(101.0)
        self.supervisor.received = []
        self.now = 140.0
        self.notifier.swept()
        self.assertEqual(self.supervisor.received, [])
        self.now += 0.1
        self.notifier.swept()
        self.assertEqual(self.supervisor.received, ["working"])

    def test_problem(self) -> None:
        """A Sentinel with a problem sweeps and is not alive."""
        self.health.reason = "the file is being saved for 31 s"
        self.assertNotIn("working", self.sweep_until(110.0))
        self.health.reason = ""
        self.assertIn("working", self.sweep_until(110.2))

    def test_no_watchdog(self) -> None:
        """Without a watchdog only the status is sent."""
        self.notifier = HealthNotifier(self.supervisor, self.health, lambda: self.now, None)
        self.assertEqual(self.sweep_until(110.0), ["1 master ok"])
