"""
A program that runs one verb over a canned fleet, for the tests of what a terminal shows.

``python -m tests.cli.operator.screens WIDTH VERB ...`` writes to its standard output, which is the terminal.
"""

from __future__ import annotations

import sys

from tests.remote.samples import (
    SENTINELS,
    fleet,
    identifier,
    info,
    master_fields,
    master_report,
    replica,
    sentinel,
    unreachable,
)
from txsentinel.cli.operator import command, explanation, membership, options, pause_column, pauses, reading
from txsentinel.model.snapshots import Instant
from txsentinel.remote.connection import ConnectionFailed
from txsentinel.remote.fleet import FleetReport


def troubled_fleet() -> FleetReport:
    """Return a fleet of which much differs, with a hostile address."""
    replicas = [
        replica("10.0.0.1"),
        replica("10.0.0.3", master_link_down_time="61000"),
        replica("evil\x1b[31m\x07", slave_priority="0"),
    ]
    infos = [info("10.0.0.2", "master"), info("10.0.0.1", "slave"), info("10.0.0.3", "slave", 4_000_000)]
    down = {"flags": "master,s_down", "s-down-time": "41000", "last-ok-ping-reply": "42500"}
    first = master_report(SENTINELS[0], master_fields(), replicas, None, infos)
    second = master_report(SENTINELS[1], master_fields(quorum="3") | down, replicas, None, infos)
    return fleet(
        sentinel(SENTINELS[0], first, "txsentinel", "0.2.0"),
        sentinel(SENTINELS[1], second),
        unreachable(SENTINELS[2], "no answer in time"),
    )


def refuse(*arguments: object) -> None:
    """Stand for a connection that is refused."""
    raise ConnectionFailed("connection refused")


def answer(sentinel: object, settings: object, seconds: float, *words: str) -> object:
    """Answer an order to remove a member or to drain a host."""
    peers = [
        {"id": identifier(SENTINELS[1]), "address": f"{SENTINELS[1]}:26379", "kind": "c", "result": "keeps it"},
        {"id": identifier("10.0.0.14"), "address": "10.0.0.14:26379", "kind": "txsentinel", "result": "no answer"},
    ]
    if words[0] == "PAUSED":
        states = (
            {"id": "b", "address": "10.0.0.12:26379", "kind": "c", "state": "leased", "until": 1_800_000_360_000},
            {
                "id": "c",
                "address": "10.0.0.13:26379",
                "kind": "unknown",
                "state": "free",
                "why": "not reached",
            },
        )
        master = {"name": "mymaster", "guaranteed": 0, "votes_needed": 2, "holder": "a", "sentinels": list(states)}
        pause = {
            "master": "mymaster",
            "until": 1_800_001_800_000,
            "scope": "failover",
            "by": "alice",
        }
        return [{**pause, "reason": "new kernel\x1b", "guaranteed": 0, "masters": [master]}]
    if words[0] == "FORGET":
        short = "only 2 of 4 Sentinels can be reached, 3 are needed for a failover"
        group = {"master": "mymaster", "sentinels": 4, "majority": 3, "reachable": 2, "warning": short}
        own = {"id": identifier(SENTINELS[0]), "address": None, "kind": "txsentinel", "result": "removed"}
        node = {"node": identifier(SENTINELS[2]), "kind": "sentinel", "address": f"{SENTINELS[2]}:26379"}
        return {**node, "masters": [group], "sentinels": [own, *peers]}
    moved = {"master": "mymaster", "from": "10.0.0.2:6379", "to": "10.0.0.1:6379", "problem": None}
    moved |= {"receipt": "01KB000000000000000000000", "verdict": "proven"}
    stays = {"master": "other", "from": "10.0.0.2:6380", "to": None, "problem": "the failover did not succeed"}
    found = {"host": "10.0.0.2", "safe": False, "executed": True, "masters": ["mymaster", "other"], "problems": []}
    servers = {"servers": ["10.0.0.2:6379", "10.0.0.2:6380"], "sentinels_there": [], "moved": [moved, stays]}
    still = [{"address": "10.0.0.2:6380", "clients": 3}]
    peers[0]["result"] = "may promote them: it is a C Sentinel"
    return {**found, **servers, "still": still, "sentinels": peers}


def main() -> int:
    """Run the verb."""
    setattr(explanation, "RemoteConnection", refuse)  # noqa: B010
    setattr(membership, "order", answer)  # noqa: B010
    setattr(pauses, "order", answer)  # noqa: B010
    setattr(pause_column, "order", answer)  # noqa: B010
    setattr(reading, "now", lambda: Instant(1_800_000_000_000))  # noqa: B010
    setattr(options, "read_fleet", lambda *arguments: troubled_fleet())  # noqa: B010
    return command.run([*sys.argv[1:], "--profile-file", "/nonexistent"])


if __name__ == "__main__":
    sys.exit(main())
