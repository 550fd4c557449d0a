"""
Stand-ins for thousands of Redis servers, controlled by lines of JSON.

When all of them listen, one line prints ``{"port": …, "masters": {"m0": "127.1.0.1", …}, "pids": […]}``. Then each line
of standard input is a command, and its reply is one line:

    {"op": "die", "who": ["m0", "m1r0"]}    likewise "silence", "revive", and "set" with "lag" or "priority"
    {"op": "query"}                         of all, or with "who"
    {"op": "events"}                        roles that were changed by a client, with the moment
    {"op": "usage"}                         processor time, connections, commands

End of input ends the fleet.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.standins.fleet import StandInFleet


def execute(fleet: StandInFleet, line: str) -> dict[str, Any]:
    """Execute one command."""
    try:
        order: dict[str, Any] = json.loads(line)
        what = order.pop("op", None)
        if what in ("crash", "hang", "restart"):
            began, ended = getattr(fleet, what)(**order)
            return {"ok": True, "began": began, "ended": ended}
        if what == "set":
            fleet.set(**order)
            return {"ok": True}
        if what == "query":
            return {"ok": True, "instances": fleet.query(**order)}
        if what == "events":
            return {"ok": True, "events": fleet.events()}
        if what == "usage":
            return {"ok": True, **fleet.usage()}
    except (ValueError, TypeError, AttributeError) as problem:
        return {"ok": False, "problem": str(problem)}
    return {"ok": False, "problem": f"no such order: {what}"}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.standins", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masters", type=int, default=1000)
    parser.add_argument("--replicas", type=int, default=1, help="of each master")
    parser.add_argument("--shards", type=int, default=2, help="processes")
    parser.add_argument("--sync", type=float, default=0.05, metavar="SECONDS", help="from SLAVEOF to a link that is up")
    parser.add_argument(
        "--poll-delay", type=float, default=0.0, metavar="SECONDS", help="wait that long between two polls"
    )
    parser.add_argument("--config", type=Path, help="file for a Sentinel's monitor lines")
    parser.add_argument("--quorum", type=int, default=2, help="in that file")
    options = parser.parse_args(arguments)
    with StandInFleet(options.masters, options.replicas, options.shards, options.sync, options.poll_delay) as fleet:
        monitors = fleet.monitors(options.quorum)
        if options.config is not None:
            lines = [f"sentinel monitor {name} {host} {port} {quorum}\n" for name, host, port, quorum in monitors]
            options.config.write_text("".join(lines))
        masters = {name: host for name, host, _, _ in monitors}
        print(json.dumps({"port": fleet.port, "masters": masters, "pids": fleet.pids}), flush=True)
        for line in sys.stdin:
            print(json.dumps(execute(fleet, line)), flush=True)


if __name__ == "__main__":
    main()
