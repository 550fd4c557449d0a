"""
What the scripts that drive client libraries share: what they are told, and how they report.

A script is started with one argument, a :class:`Plan` as JSON, and prints one JSON object for each step that it has
reached, and when by the clock (``at``, seconds). In order, and each once:

- ``library``: its ``version``.
- ``found``: the port of the ``master`` and those of the ``replicas``, as far as the library tells.
- ``read``: the ``port`` of the replica that gave back what was written to the master.
- ``ready``: subscribed to ``+switch-master`` by now; the master may be killed.
- ``message_task``: the ``payload`` of that event.
- ``wrote``: the ``port`` of the new master and the ``value`` that it has taken.
- ``read again``: as ``read``, with that value.

Scripts begin to write again at once when they are ready, and do not stop because of errors: an application would not.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

LIFETIME = 60
"""Seconds after which a script gives up, and is gone whatever happens to who started it."""

PAUSE = 0.05
"""Seconds between two tries of anything."""


@dataclass(frozen=True)
class Plan:
    """What a script is told. Users and passwords that are ``None`` are not to be given; files are for TLS."""

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
        """As the argument of a script."""
        return json.dumps(asdict(self))

    @classmethod
    def from_arguments(cls) -> Plan:
        """The plan of this script, whose time begins to run."""
        signal.alarm(LIFETIME)
        words = json.loads(sys.argv[1])
        return cls(**{**words, "sentinels": [tuple(each) for each in words["sentinels"]]})


def report_step(step: str, **fields: object) -> None:
    """Report a step."""
    print(json.dumps({"step": step, "at": time.time(), **fields}), flush=True)


def values() -> Iterator[str]:
    """What to write, one after the other."""
    number = 0
    while True:
        number += 1
        yield str(number)


def tries() -> Iterator[None]:
    """Over and over, with a pause in between, for code that may block; the end comes with the script's lifetime."""
    while True:
        yield
        time.sleep(PAUSE)
