"""What INFO tells of the process and the machine, found out once."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from txsentinel import __version__

REDIS_VERSION: Final = "7.2.4"
"""The version whose commands we speak; clients choose commands by it."""


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """Seconds of processor time: system and user, of this process, of its children, of the main thread."""

    system: float = 0.0
    user: float = 0.0
    children_system: float = 0.0
    children_user: float = 0.0
    main_system: float = 0.0
    main_user: float = 0.0


def processor_time() -> ProcessorTime:
    """The processor time used so far."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    thread = resource.getrusage(resource.RUSAGE_THREAD) if hasattr(resource, "RUSAGE_THREAD") else own
    return ProcessorTime(
        own.ru_stime, own.ru_utime, children.ru_stime, children.ru_utime, thread.ru_stime, thread.ru_utime
    )


def _system() -> str:
    names = os.uname()
    return f"{names.sysname} {names.release} {names.machine}"


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """
    What does not change while the process lives, and the one thing that is measured on demand.

    ``run_id`` is 40 hexadecimal digits, new at each start; it is not the Sentinel's ID.
    """

    version: str = __version__
    run_id: str = "0" * 40
    executable: str = field(default_factory=lambda: os.path.abspath(sys.argv[0] or sys.executable))
    system: str = field(default_factory=_system)
    compiler: str = field(default_factory=lambda: platform.python_compiler().split(" ")[-1])
    word_size: int = field(default_factory=lambda: 64 if sys.maxsize > 1 << 32 else 32)
    processor_time: Callable[[], ProcessorTime] = processor_time
