"""The history of failovers, as the pages of the Sentinels have it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

TIMEOUT_SECONDS: Final = 2.0

_OPENER: Final = build_opener(ProxyHandler({}))


def latest_record(pages: Iterable[str], master: str, port: int) -> dict[str, Any] | None:
    """
    Return the latest record of a failover to a port: that of its leader, or else of any Sentinel.

    It blocks. Sentinels that do not answer are left out.

    :param pages: the addresses of the pages.
    """
    found: list[dict[str, Any]] = []
    for page in pages:
        try:
            with _OPENER.open(f"{page}v1/history?limit=1&master={quote(master)}", timeout=TIMEOUT_SECONDS) as response:
                records = json.load(response)
        except (OSError, ValueError):
            continue
        found += [each for each in records if each["to_server"] and each["to_server"]["address"]["port"] == port]
    latest = max((each["epoch"] for each in found), default=0)
    leaders = sorted(found, key=lambda each: (each["epoch"] != latest, each["observer_role"] != "leader"))
    return leaders[0] if leaders else None


def describe_record(record: dict[str, Any]) -> str:
    """Return a record as one line: servers, cause, and how long each phase took."""
    cause = record["cause"] + (f" ({record['failure_class']})" if record["failure_class"] else "")
    old, new = record["from_server"]["address"]["address"], record["to_server"]["address"]["address"]
    phases = [f"{each['phase'].replace('_', ' ')} +{each['took_ms']}" for each in record["phases"][1:]]
    first = record["phases"][0]["phase"].replace("_", " ") if record["phases"] else "unknown"
    return f"{record['kind']} failover of {old} to {new}, cause: {cause}; ms after {first}: {', '.join(phases)}"
