"""``python -m txsentinel.demo``: three Sentinels over real servers, for you to kill the master and watch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from txsentinel.demo.fleet import Fleet
from txsentinel.demo.processes import Workbench
from txsentinel.demo.programs import BinaryMissing
from txsentinel.demo.show import Show


def say(text: str) -> None:
    """Print a line at once, even into a pipe."""
    print(text, flush=True)


def introduction(fleet: Fleet, interactive: bool) -> str:
    """Who runs where, and what to try."""
    master = fleet.master()
    lines = ["", f'Watched under the name "{fleet.name}":']
    for server in fleet.servers.values():
        role = "master " if server is master else "replica"
        lines.append(f"  {role}     127.0.0.1:{server.port}  pid {server.pid}")
    lines.append("Sentinels:")
    for number, sentinel in enumerate(fleet.sentinels, start=1):
        lines.append(f"  sentinel {number}  127.0.0.1:{sentinel.port}  pid {sentinel.pid}")
    port = fleet.sentinels[0].port
    lines += [
        "",
        f"Ask one:          redis-cli -p {port} sentinel master {fleet.name}   (or any Redis client, or telnet)",
        f"Crash the master: kill -9 {master.pid}" + ("   (or press Enter here)" if interactive else ""),
        f"Hang the master:  kill -STOP {master.pid}   (and kill -CONT {master.pid} to wake it up again)",
        "What dies is started again after a while. Ctrl-C ends it all and leaves nothing behind.",
        "",
    ]
    return "\n".join(lines)


def run(reactor: Any, fleet: Fleet, kill_once: bool) -> Deferred[Any]:
    """
    Show what happens until the reactor stops, or, with ``kill_once``, until one failover is over.

    :returns: fires, or fails, when there is no more to show.
    """
    keyboard = sys.stdin if sys.stdin is not None and sys.stdin.isatty() and not kill_once else None
    show = Show(reactor, fleet, say, keyboard)
    reactor.addSystemEventTrigger("before", "shutdown", show.stop)
    say(introduction(fleet, keyboard is not None))
    started = show.start()
    if not kill_once:
        return started.addCallback(lambda _: Deferred())

    def strike(_: object) -> Deferred[float]:
        reactor.callLater(1.0, show.kill_master)
        return show.writer.recovered.addTimeout(30.0, reactor)

    return started.addCallback(strike)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m txsentinel.demo", description=__doc__)
    parser.add_argument("--down-after", type=int, default=1000, metavar="MS", help="silence that counts as death")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--sentinels", type=int, default=3)
    parser.add_argument("--server", default="valkey", choices=["valkey", "redis"])
    parser.add_argument("--kill-once", action="store_true", help="kill the master, wait for the next one, and leave")
    options = parser.parse_args(arguments)
    with Workbench() as bench:
        say(
            f"Starting a master, {options.replicas} replicas and {options.sentinels} Sentinels in {bench.directory} ..."
        )
        try:
            fleet = Fleet(
                bench,
                ["txsentinel"] * options.sentinels,
                options.server,
                options.replicas,
                down_after=options.down_after,
            )
        except BinaryMissing as problem:
            sys.exit(str(problem))
        fleet.start()
        react(run, (fleet, options.kill_once))


if __name__ == "__main__":
    main()
