"""
Real servers and Sentinels for tests and benchmarks.

The classes are part of the package, because the demonstration uses them; this module has what only tests use.
"""

from __future__ import annotations

import subprocess

from txsentinel.demo import (
    BinaryMissing,
    ChildProcess,
    Connection,
    DeadlineExpired,
    EventRecorder,
    Fleet,
    Harness,
    RecordedEvent,
    RedisProcess,
    ReplyError,
    SentinelProcess,
    call,
    free_port,
    wait_for,
)
from txsentinel.demo.blocking import info_fields, pairs
from txsentinel.demo.programs import SERVER_KINDS, available, server_binary

__all__ = [
    "SERVER_KINDS",
    "BinaryMissing",
    "ChildProcess",
    "Connection",
    "DeadlineExpired",
    "EventRecorder",
    "Fleet",
    "Harness",
    "RecordedEvent",
    "RedisProcess",
    "ReplyError",
    "SentinelProcess",
    "available",
    "call",
    "free_port",
    "info_fields",
    "missing",
    "pairs",
    "version_number",
    "wait_for",
]


def missing(*kinds: str) -> str:
    """
    Return the reason why a test with these kinds of servers must be skipped; empty if it can run.

    For trial's ``skip`` attribute: ``if missing("redis"): skip = missing("redis")``. In CI ``conftest.py`` turns
    such a skip into a failure.
    """
    absent = [kind for kind in kinds if not available(kind)]
    return f"not on this machine: {', '.join(absent)}" if absent else ""


def version_number(kind: str) -> str:
    """
    Return the version that the server program of a kind reports, like ``7.0.15``.

    :raises BinaryMissing: if there is no such program.
    """
    printed = subprocess.run([server_binary(kind), "--version"], capture_output=True, text=True, check=True).stdout
    return next(word.removeprefix("v=") for word in printed.split() if word.startswith("v="))
