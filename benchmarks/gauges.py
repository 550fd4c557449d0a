"""Processor time, memory and sockets of a process, read from the kernel (Linux)."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time so far, of all threads, in steps of a clock tick (mostly 10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def sockets(pid: int) -> int:
    """Open sockets, listening ones included."""
    count = 0
    with os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            try:
                count += os.readlink(entry.path).startswith("socket:")
            except OSError:
                continue  # closed meanwhile
    return count


def raise_descriptor_limit() -> int:
    """Raise the descriptor limit of this process and its children to the hard limit; return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
