"""The protocol of systemd for services: notifications, the watchdog, and sockets that systemd has opened."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from txsentinel.model.events import Level
from txsentinel.process.logs import note
from txsentinel.process.supervisor import Supervisor

FIRST_DESCRIPTOR: Final = 3
"""The number of the first inherited socket (``SD_LISTEN_FDS_START``)."""

STOP_TIMEOUT_SECONDS: Final = 15
"""How long, at most, stopping takes: the last write is given up after five seconds."""

READY: Final = "STATUS=Ready to accept connections\nREADY=1\n"
STOPPING: Final = f"STATUS=Saving and leaving\nSTOPPING=1\nEXTEND_TIMEOUT_USEC={STOP_TIMEOUT_SECONDS * 1_000_000}\n"


def notify_systemd(state: str, environment: Mapping[str, str]) -> None:
    """
    Send assignments such as ``READY=1`` to the socket that systemd names in ``NOTIFY_SOCKET``.

    This does not block: if the queue of the socket is full, the message is lost.

    :raises OSError: if no process listens there; ``FileNotFoundError`` also if the variable is not set.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        raise FileNotFoundError("NOTIFY_SOCKET is not set")
    if address.startswith("@"):  # how an address in Linux's abstract name space is written
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as notify_socket:
        notify_socket.connect(os.fsencode(address))
        notify_socket.sendall(state.encode("utf-8", "replace"))


class Systemd(Supervisor):
    """``supervised systemd``, for units of ``Type=notify`` and ``Type=notify-reload``."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._unreachable = False

    def ready(self) -> None:
        """Send ``READY=1``: ``systemctl start`` returns, and units ordered after this one start."""
        self._notify(READY)

    def status(self, text: str) -> None:
        """Send the text that ``systemctl status`` shows."""
        self._notify(f"STATUS={_one_line(text)}\n")

    def working(self) -> None:
        """Send ``WATCHDOG=1``: the next one is due within ``WatchdogSec=``."""
        self._notify("WATCHDOG=1\n")

    def failing(self) -> None:
        """Send ``WATCHDOG=trigger``: the service is restarted as if the watchdog had expired."""
        self._notify("WATCHDOG=trigger\n")

    def reloading(self, monotonic_microseconds: int) -> None:
        """Send ``RELOADING=1`` with the time, without which ``systemctl reload`` waits in vain since version 253."""
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={monotonic_microseconds}\n")

    def reloaded(self, problem: str) -> None:
        """Send ``READY=1`` after a reload; ``problem`` becomes the status, empty if there was none."""
        self._notify(f"STATUS=Reload failed: {_one_line(problem)}\nREADY=1\n" if problem else READY)

    def stopping(self) -> None:
        """Send ``STOPPING=1``, so that the end is not taken for a crash, and ask for time for the last write."""
        self._notify(STOPPING)

    def _notify(self, state: str) -> None:
        """Send; log a failure once, until sending works again."""
        try:
            notify_systemd(state, self._environment)
        except OSError as error:
            if not self._unreachable:
                note(Level.WARNING, f"Systemd could not be notified: {error}")
            self._unreachable = True
        else:
            self._unreachable = False


def _one_line(text: str) -> str:
    return text.replace("\n", " ")


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """
    Return the time limit of the watchdog in seconds.

    :returns: ``None`` if there is no watchdog, or ``WATCHDOG_PID`` names another process.
    """
    limit, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not limit.isdecimal() or not int(limit) or (process and process != str(os.getpid())):
        return None
    return int(limit) / 1_000_000


def inherited_sockets(environment: Mapping[str, str]) -> dict[str, list[int]]:
    """
    Return the descriptors of the sockets that systemd passes to this process, by the name of ``FileDescriptorName=``.

    Several sockets can have one name, such as those for IPv4 and for IPv6. There are none after a fork of ``twistd``,
    as they are meant for the process that systemd has started.
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[int]] = {}
    for position in range(int(count)):
        name = names[position] if position < len(names) else "unknown"
        found.setdefault(name, []).append(FIRST_DESCRIPTOR + position)
    return found


class ServiceHealth(Protocol):
    """What the service manager is notified of."""

    def status(self) -> str:
        """Return one line on the state of the service."""

    def problem(self) -> str:
        """Return why the service does not work although it sweeps; empty if it works."""

    def observe(self, swept: Callable[[], None]) -> None:
        """Call ``swept`` after each sweep."""


class HealthNotifier:
    """
    Notifies the service manager of status and liveness, driven by the sweeps only.

    A process that does not sweep sends nothing, so the watchdog expires. The status is sent when it changes, at most
    once a second.

    :param seconds: a monotonic clock.
    :param watchdog: the time limit in seconds; ``None`` for no watchdog.
    """

    STATUS_PERIOD: Final = 1.0
    """Seconds between two statuses."""

    MAX_LATENESS: Final = 2.0
    """Seconds between two sweeps above which the process is too late to count as working."""

    def __init__(
        self, supervisor: Supervisor, health: ServiceHealth, seconds: Callable[[], float], watchdog: float | None
    ) -> None:
        self._supervisor = supervisor
        self._health = health
        self._seconds = seconds
        self._period = None if watchdog is None else watchdog / 3
        self._status = ""
        self._status_due = self._working_due = self._swept_at = seconds()

    def swept(self) -> None:
        """Send what is due."""
        now = self._seconds()
        late, self._swept_at = now - self._swept_at > self.MAX_LATENESS, now
        if self._period is not None and now >= self._working_due and not late and not self._health.problem():
            self._working_due = now + self._period
            self._supervisor.working()
        if now >= self._status_due:
            self._status_due = now + self.STATUS_PERIOD
            status = self._health.status()
            if status != self._status:
                self._status = status
                self._supervisor.status(status)
