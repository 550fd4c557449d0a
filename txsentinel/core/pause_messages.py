"""What paused Sentinels of our kind send each other, and its parsing."""

from __future__ import annotations

from collections.abc import Sequence

from txsentinel.core.durable_records import DurableRecord
from txsentinel.core.pause_rules import FAILOVER_SCOPE
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import data, text


def pause_words(record: DurableRecord, left: Millis) -> list[bytes]:
    """Return the command that passes a record on to a peer."""
    verb = "RESUME" if record.withdrawn else "PAUSE"
    words = [
        "TXSENTINEL",
        verb,
        record.key.master,
        "FOR",
        str(max(1, left)),
        "SCOPE",
        record.setting("scope", FAILOVER_SCOPE),
    ]
    words += ["AT", str(record.requested_unix), "ID", record.request_id, "BY", record.by, "REASON", record.reason]
    if record.setting("require"):
        words += ["REQUIRE", record.setting("require")]
    return [data(word) for word in words]


def lists_of(reply: object) -> dict[str, list[object]]:
    """Return the lists in a reply that is a flat list of names and values, by name."""
    if not isinstance(reply, list):
        return {}
    pairs = zip(reply[::2], reply[1::2], strict=False)
    return {text(name): value for name, value in pairs if isinstance(name, bytes) and isinstance(value, list)}


def triples(values: Sequence[object]) -> list[tuple[str, str, Millis]]:
    """Return the entries of a flat list of two texts and a period each; malformed ones are left out."""
    found = []
    for first, second, third in zip(values[::3], values[1::3], values[2::3], strict=False):
        if isinstance(first, bytes) and isinstance(second, bytes) and type(third) is int and 0 < third < 1 << 40:
            found.append((text(first), text(second), third))
    return found
