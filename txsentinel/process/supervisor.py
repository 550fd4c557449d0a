"""What a process reports to its supervisor."""

from __future__ import annotations

from typing import Final

MANAGER_VARIABLES: Final = frozenset(
    ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "UPSTART_JOB")
)
"""The environment variables by which a supervisor addresses one process; its child processes must not have them."""


class Supervisor:
    """The supervisor of the process; this class is for ``supervised no`` and needs no notifications."""

    def ready(self) -> None:
        """Notify it that the Sentinel serves."""

    def status(self, text: str) -> None:
        """Notify it of one line on the state of the Sentinel."""

    def working(self) -> None:
        """Notify it that the Sentinel monitors."""

    def failing(self) -> None:
        """Notify it that the process ends because of an internal error."""

    def reloading(self, monotonic_microseconds: int) -> None:
        """Notify it that files are being read again, and of the time by ``CLOCK_MONOTONIC``."""

    def reloaded(self, problem: str) -> None:
        """Notify it that this is done; ``problem`` is empty unless the previous contents stay in use."""

    def stopping(self) -> None:
        """Notify it that the process is stopping."""
