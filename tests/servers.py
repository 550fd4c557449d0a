"""
Real servers and Sentinels for tests and benchmarks.

The classes ship with the package, because the demonstration needs them; what only tests need stands here.
"""

from __future__ import annotations

from txsentinel.demo import (
    BinaryMissing,
    ChildProcess,
    Connection,
    DeadlineExpired,
    EventRecorder,
    Fleet,
    RecordedEvent,
    RedisProcess,
    ReplyError,
    SentinelProcess,
    Workbench,
    call,
    free_port,
    wait_for,
)
from txsentinel.demo.blocking import info_fields, pairs
from txsentinel.demo.programs import available

__all__ = [
    "BinaryMissing",
    "ChildProcess",
    "Connection",
    "DeadlineExpired",
    "EventRecorder",
    "Fleet",
    "RecordedEvent",
    "RedisProcess",
    "ReplyError",
    "SentinelProcess",
    "Workbench",
    "available",
    "call",
    "free_port",
    "info_fields",
    "missing",
    "pairs",
    "wait_for",
]


def missing(*kinds: str) -> str:
    """
    Why a test over these kinds of servers must be skipped on this machine; empty if it can run.

    Made for trial's ``skip`` attribute: ``if missing("redis"): skip = missing("redis")``.
    """
    absent = [kind for kind in kinds if not available(kind)]
    return f"not on this machine: {', '.join(absent)}" if absent else ""
