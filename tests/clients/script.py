"""
What the scripts for client libraries have in common: their argument and their reports.

A script is started with one argument, a :class:`Plan` as JSON. It prints one JSON object for each step that it
reaches, with its time (``at``, in seconds since the epoch). The steps, in order and once each:

- ``library``: its ``version``.
- ``found``: the port of the ``master`` and those of the ``replicas``, if the library offers them.
- ``read``: the ``port`` of the replica that returned the value written to the master.
- ``ready``: subscribed to ``+switch-master``; the master may be killed.
- ``event``: the ``payload`` of that event.
- ``wrote``: the ``port`` of the new master and the ``value`` that it accepted.
- ``read again``: as ``read``, with that value.

After ``ready`` a script writes continuously and ignores errors, as an application would.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

LIFETIME = 300
"""Seconds after which a script ends, even if its parent process is gone."""

PAUSE = 0.05
"""Seconds between two attempts."""


@dataclass(frozen=True)
class Plan:
    """The argument of a script. Credentials that are ``None`` are not used; the files are for TLS."""

    library: str
    key: str
    protocol: int
    sentinels: list[tuple[str, int]]
    name: str = "mymaster"
    user: str | None = None
    password: str | None = None
    sentinel_user: str | None = None
    sentinel_password: str | None = None
    authority: str | None = None
    certificate: str | None = None
    private_key: str | None = None

    def encode(self) -> str:
        """Encode the plan as the argument of a script."""
        return json.dumps(asdict(self))

    @classmethod
    def from_arguments(cls) -> Plan:
        """Decode the plan of this script, and start its lifetime."""
        signal.alarm(LIFETIME)
        words = json.loads(sys.argv[1])
        return cls(**{**words, "sentinels": [tuple(each) for each in words["sentinels"]]})


def report_step(step: str, **fields: object) -> None:
    """Report a step."""
    print(json.dumps({"step": step, "at": time.time(), **fields}), flush=True)


def values() -> Iterator[str]:
    """Generate the values to write."""
    number = 0
    while True:
        number += 1
        yield str(number)


def attempts() -> Iterator[None]:
    """Repeat with a pause in between, for blocking code, until the lifetime ends."""
    while True:
        yield
        time.sleep(PAUSE)
