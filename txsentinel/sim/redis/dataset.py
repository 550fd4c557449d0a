"""The data set of a simulated Redis, and the commands that change it."""

from __future__ import annotations


def apply(store: dict[bytes, bytes], words: list[bytes]) -> None:
    """Apply a write, of a client or of the replication stream."""
    name = words[0].upper()
    if name == b"SET":
        store[words[1]] = words[2]
    elif name == b"INCR":
        store[words[1]] = b"%d" % (int(store.get(words[1], b"0")) + 1)
    elif name == b"DEL":
        for key in words[1:]:
            store.pop(key, None)
    elif name == b"FLUSHALL":
        store.clear()
