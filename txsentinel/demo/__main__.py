"""``python -m txsentinel.demo``: run three Sentinels over real servers; the user kills the master and watches."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python.failure import Failure

from txsentinel.demo.blocking import DeadlineExpired, ReplyError
from txsentinel.demo.fleet import Fleet
from txsentinel.demo.processes import Harness
from txsentinel.demo.programs import BinaryMissing
from txsentinel.demo.show import Show

START_TIMEOUT_SECONDS: Final = 60.0
RECOVERY_TIMEOUT_SECONDS: Final = 30.0


def print_line(text: str) -> None:
    """Print a line at once, even into a pipe."""
    print(text, flush=True)


def introduction(fleet: Fleet, interactive: bool) -> str:
    """List the processes, and what to try."""
    master = fleet.master()
    lines = ["", f'Watched under the name "{fleet.name}":']
    for server in fleet.servers.values():
        role = "master " if server is master else "replica"
        lines.append(f"  {role}     127.0.0.1:{server.port}  pid {server.pid}")
    lines.append("Sentinels:")
    for number, sentinel in enumerate(fleet.sentinels, start=1):
        lines.append(f"  sentinel {number}  127.0.0.1:{sentinel.port}  pid {sentinel.pid}")
    port = fleet.sentinels[0].port
    program = os.path.relpath(os.path.join(os.path.dirname(sys.executable), "txsentinel"))
    lines += [
        "",
        f"See it in a browser: {fleet.pages[0]}   (drawing, live events, history; each Sentinel has such a page)",
        f"Why, or why not?     {program} explain {fleet.name} --sentinel 127.0.0.1:{port}",
        f"What happened?       {program} history {fleet.name} --sentinel 127.0.0.1:{port}",
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
    Show events until the reactor stops or, with ``kill_once``, until one failover is over.

    :returns: fires, or fails, when there is no more to show.
    """
    keyboard = sys.stdin if sys.stdin is not None and sys.stdin.isatty() and not kill_once else None
    show = Show(reactor, fleet, print_line, keyboard)
    reactor.addSystemEventTrigger("before", "shutdown", show.stop)
    print_line(introduction(fleet, keyboard is not None))
    started = show.start()
    if not kill_once:
        return started.addCallback(lambda _: Deferred())

    def strike(_: object) -> Deferred[None]:
        reactor.callLater(1.0, show.kill_master)
        recovered = show.writer.recovered.addTimeout(RECOVERY_TIMEOUT_SECONDS, reactor, _not_recovered)
        return recovered.addCallback(lambda _: show.reported)

    return started.addCallback(strike)


def _not_recovered(result: object, seconds: float) -> NoReturn:
    raise DeadlineExpired(f"no master accepted writes within {seconds:g} s of the kill")


def number_from(lowest: int, why: str) -> Callable[[str], int]:
    """
    Return a function that reads the value of an option.

    :param why: the reason for ``lowest``, for the error message.
    """

    def read(word: str) -> int:
        try:
            number = int(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{word!r} is not a whole number") from None
        if number < lowest:
            raise argparse.ArgumentTypeError(f"{number} is too low, {lowest} is the least: {why}")
        return number

    return read


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m txsentinel.demo", description=__doc__)
    parser.add_argument(
        "--down-after",
        type=number_from(1, "a server that may not be silent for any time is always down"),
        default=1000,
        metavar="MS",
        help="silence that counts as death",
    )
    parser.add_argument(
        "--replicas", type=number_from(1, "without a replica no server can replace the master"), default=2
    )
    parser.add_argument(
        "--sentinels", type=number_from(1, "without a Sentinel the master's death is not detected"), default=3
    )
    parser.add_argument("--server", default="valkey", choices=["valkey", "redis"])
    parser.add_argument("--kill-once", action="store_true", help="kill the master, wait for the next one, and leave")
    options = parser.parse_args(arguments)
    try:
        demonstrate(options)
    except BinaryMissing as problem:
        sys.exit(str(problem))
    except (DeadlineExpired, ReplyError, RuntimeError, OSError) as problem:
        sys.exit(
            f"The demonstration ends here: {problem}\nIf the machine is busy with other things, try it again later."
        )
    except KeyboardInterrupt:
        sys.exit("Interrupted; nothing is left behind.")


def demonstrate(options: argparse.Namespace) -> None:
    """
    Start everything and show events, until Ctrl-C ends the process.

    :raises BinaryMissing: if there is no such server on this machine.
    :raises DeadlineExpired: if something does not happen in time; the logs are kept then, and their place is printed.
    :raises RuntimeError: if a process ended during its start; likewise.
    """
    failures: list[Failure] = []

    def keep(failure: Failure) -> None:
        failure.trap(DeadlineExpired)  # type: ignore[no-untyped-call]
        failures.append(failure)

    with Harness() as harness:
        print_line(
            f"Starting a master, {options.replicas} replicas and {options.sentinels} Sentinels"
            f" in {harness.directory} ..."
        )
        fleet = Fleet(
            harness,
            ["txsentinel"] * options.sentinels,
            options.server,
            options.replicas,
            down_after=options.down_after,
            http=True,
        )
        fleet.start(START_TIMEOUT_SECONDS)
        try:
            react(lambda reactor: run(reactor, fleet, options.kill_once).addErrback(keep))
        finally:
            if failures:
                failures[0].raiseException()


if __name__ == "__main__":
    main()
