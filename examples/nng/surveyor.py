"""
Ask all Sentinels at once for the address of a master: ``python surveyor.py mymaster ADDRESS...``.

The answer of a majority is the address; the others are late, lost or behind.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pynng


def survey(name: str, addresses: list[str], deadline_ms: int = 500) -> list[dict[str, Any]]:
    """Return the answers that arrive before the deadline."""
    answers: list[dict[str, Any]] = []
    with pynng.Surveyor0(survey_time=deadline_ms) as socket:
        for address in addresses:
            socket.dial(address, block=True)
        socket.send(name.encode())
        try:
            while len(answers) < len(addresses):
                answers.append(json.loads(socket.recv()))
        except pynng.Timeout:
            pass
    return answers


if __name__ == "__main__":
    for answer in survey(sys.argv[1], sys.argv[2:]):
        print(answer["sentinel"], answer["address"], answer["config_epoch"], answer["status"])
