"""
The file of notifications that were given up, and the file of those that are to be tried again.

A letter is a line of JSON. To have all of them tried again, ``dead-letters.jsonl`` is renamed to ``retry.jsonl``, as
``txsentinel webhooks retry`` does: the running Sentinel takes that file within some seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from txsentinel.extensions.notifications import Notification, decode_notification, json_bytes
from txsentinel.model.plain import Plain

FILE_NAME: Final = "dead-letters.jsonl"
RETRY_NAME: Final = "retry.jsonl"

MAX_FILE_BYTES: Final = 8 << 20
"""A longer file is renamed, with ``.1`` appended, in place of the former one of that name."""

MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A notification that is not tried any more, with the reason."""

    target: str
    notification: Notification
    attempts: int
    reason: str


def encode_letter(letter: DeadLetter) -> bytes:
    """Return a letter as a line."""
    document: dict[str, Plain] = {
        "target": letter.target,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "notification": letter.notification.encode(),
    }
    return json_bytes(document) + b"\n"


def append_letters(directory: str, letters: Sequence[DeadLetter]) -> None:
    """
    Append letters to the file durably; this blocks.

    :raises OSError: if that fails.
    """
    path = os.path.join(directory, FILE_NAME)
    lines = b"".join(encode_letter(each) for each in letters)
    try:
        if os.path.getsize(path) + len(lines) > MAX_FILE_BYTES:
            os.replace(path, path + ".1")
    except FileNotFoundError:
        pass
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, MODE)
    with open(descriptor, "ab", buffering=0) as file:
        file.write(lines)
        os.fsync(file.fileno())


def take_retries(directory: str) -> tuple[list[tuple[str, Notification]], int]:
    """
    Take what is to be tried again out of its file, which is removed; this blocks.

    :returns: pairs of target and notification, and the number of lines that could not be read.
    :raises OSError: if the file is there and cannot be read.
    """
    path = os.path.join(directory, RETRY_NAME)
    try:
        with open(path, "rb") as file:
            lines = file.read(2 * MAX_FILE_BYTES).splitlines()
    except FileNotFoundError:
        return [], 0
    os.remove(path)
    letters, bad = read_letters(lines)
    return [(each.target, each.notification) for each in letters], bad


def read_letters(lines: Iterable[bytes]) -> tuple[list[DeadLetter], int]:
    """Return letters, and the number of lines that are none."""
    found: list[DeadLetter] = []
    bad = 0
    for line in lines:
        try:
            document = json.loads(line)
            notification = decode_notification(document["notification"])
            attempts = int(document.get("attempts", 0))
            found.append(DeadLetter(str(document["target"]), notification, attempts, str(document.get("reason", ""))))
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
            bad += 1
    return found, bad
