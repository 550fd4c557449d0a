"""The properties of the process and the machine that INFO shows."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from txsentinel import __version__
from txsentinel.wire import resp

REDIS_VERSION: Final = "7.2.4"
"""The version of Redis whose commands are implemented; clients select commands by it."""


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """Processor time in seconds: system and user, of this process, its children and its main thread."""

    system: float = 0.0
    user: float = 0.0
    children_system: float = 0.0
    children_user: float = 0.0
    main_system: float = 0.0
    main_user: float = 0.0


def processor_time() -> CpuUsage:
    """Return the processor time used so far."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    thread = resource.getrusage(resource.RUSAGE_THREAD) if hasattr(resource, "RUSAGE_THREAD") else own
    return CpuUsage(own.ru_stime, own.ru_utime, children.ru_stime, children.ru_utime, thread.ru_stime, thread.ru_utime)


def build_kind() -> str:
    """Return ``compiled`` if the modules where most time is spent are machine code, and ``pure`` otherwise."""
    return "pure" if (resp.__file__ or "").endswith((".py", ".pyc")) else "compiled"


def version_and_build() -> str:
    """Return the version and the kind of build, for ``--version`` and the log."""
    return f"txsentinel {__version__} ({build_kind()})"


def _system() -> str:
    names = os.uname()
    return f"{names.sysname} {names.release} {names.machine}"


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """
    The constant properties of the process, and a function that measures its processor time.

    ``run_id`` is 40 hexadecimal digits, new at each start; it is not the ID of the Sentinel.
    """

    version: str = __version__
    run_id: str = "0" * 40
    executable: str = field(default_factory=lambda: os.path.abspath(sys.argv[0] or sys.executable))
    system: str = field(default_factory=_system)
    compiler: str = field(default_factory=lambda: platform.python_compiler().split(" ")[-1])
    word_size: int = field(default_factory=lambda: 64 if sys.maxsize > 1 << 32 else 32)
    processor_time: Callable[[], CpuUsage] = processor_time
    build: str = field(default_factory=build_kind)
