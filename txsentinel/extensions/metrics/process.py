"""The metrics of the process, read from the kernel (Linux)."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from txsentinel.extensions.metrics import catalogue
from txsentinel.extensions.metrics.format import Family

FDS_PERIOD: Final = 15.0
"""Seconds between two counts of the open descriptors where the kernel reports no number, as before Linux 6.2."""


class ProcessFamilies:
    """
    The metrics of this process; those that the system does not report are left out.

    :param clock: returns the present time in seconds.
    :param proc: the directory that describes the process.
    """

    def __init__(self, clock: Callable[[], float], proc: str = "/proc/self") -> None:
        self._clock = clock
        self._proc = proc
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._fds = 0
        self._fds_counted_at: float | None = None
        self._started: str | None = None

    def families(self) -> Iterator[tuple[Family, bytes]]:
        """Yield each family with its sample."""
        for family, value in self._values():
            yield family, family.line((), value).encode()

    def _values(self) -> Iterator[tuple[Family, str]]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        yield catalogue.CPU_SECONDS, f"{used.ru_utime + used.ru_stime:.6f}"
        with suppress(OSError):
            with open(f"{self._proc}/statm", encoding="ascii") as file:
                total, resident = file.read().split()[:2]
            yield catalogue.RESIDENT, str(int(resident) * self._page)
            yield catalogue.VIRTUAL, str(int(total) * self._page)
        with suppress(OSError):
            yield catalogue.OPEN_FDS, str(self._open_fds())
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield catalogue.MAX_FDS, "+Inf" if limit == resource.RLIM_INFINITY else str(limit)
        with suppress(OSError):
            self._started = self._started or self._start_time()
            yield catalogue.START_TIME, self._started

    def _open_fds(self) -> int:
        """Return the number of open descriptors. With thousands of links, listing them takes milliseconds."""
        path = f"{self._proc}/fd"
        size = os.stat(path).st_size
        if size:
            return size
        now = self._clock()
        if self._fds_counted_at is None or now - self._fds_counted_at >= FDS_PERIOD:
            self._fds_counted_at = now
            self._fds = len(os.listdir(path)) - 1  # the last one is that of the listing
        return self._fds

    def _start_time(self) -> str:
        with open(f"{self._proc}/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/stat", encoding="ascii") as file:
            booted = next(int(line.split()[1]) for line in file if line.startswith("btime "))
        return f"{booted + ticks / self._ticks:.2f}"
