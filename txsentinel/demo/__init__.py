"""
Real servers and Sentinels as child processes, and a demonstration with them (``python -m txsentinel.demo``).

Only tests and benchmarks import this; the rest of the package does not.
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
