"""
Real servers and Sentinels as child processes, and a demonstration over them (``python -m txsentinel.demo``).

Nothing else of the package imports this; tests and benchmarks do.
"""

from txsentinel.demo.blocking import Connection, DeadlineExpired, ReplyError, call, wait_for
from txsentinel.demo.fleet import Fleet
from txsentinel.demo.processes import ChildProcess, Harness, RedisProcess, SentinelProcess, free_port
from txsentinel.demo.programs import BinaryMissing
from txsentinel.demo.recorder import EventRecorder, RecordedEvent

__all__ = [
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
    "call",
    "free_port",
    "wait_for",
]
