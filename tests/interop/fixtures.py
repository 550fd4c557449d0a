"""What tests with whole installations of real processes have in common."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.servers import (
    EventRecorder,
    Fleet,
    RecordedEvent,
    RedisProcess,
    ReplyError,
    SentinelProcess,
    pairs,
    wait_for,
)

LONG = os.environ.get("TXSENTINEL_LONG") == "1"
"""Were the long variants asked for? They try every combination where one of each kind is enough otherwise."""

SECONDS = 30.0
"""Deadline for whatever real processes take far less for unless something is wrong."""

STATE_WORDS = ("myid", "monitor", "config-epoch", "leader-epoch", "current-epoch", "known-")
"""What a Sentinel itself changes in its file, behind the word ``sentinel``."""


def hurry(sentinels: Iterable[SentinelProcess]) -> None:
    """Have Sentinels look at healthy servers and greet each other more often, so that all settles sooner."""
    for sentinel in sentinels:
        if sentinel.running:
            sentinel.call("SENTINEL", "DEBUG", "INFO-PERIOD", 200, "PUBLISH-PERIOD", 250)


def file_words(path: Path) -> list[list[str]]:
    """Every ``sentinel ...`` line of a configuration without its first word, quotes removed."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return [[word.strip('"') for word in line[1:]] for line in lines if line and line[0] == "sentinel"]


def operators_lines(path: Path) -> list[str]:
    """Every line of a configuration, comments among them, that does not belong to the Sentinel's state."""
    return [
        line
        for line in path.read_text().splitlines()
        if not any(line.startswith(f"sentinel {word}") for word in STATE_WORDS)
    ]


def memory(sentinel: SentinelProcess, name: str) -> dict[str, object]:
    """What a running Sentinel must still know after a restart: who it is, whom it knows, and the epochs."""
    replicas: list[dict[str, str]] = listing(sentinel, "REPLICAS", name)
    peers = listing(sentinel, "SENTINELS", name)
    fields = pairs(sentinel.call("SENTINEL", "MASTER", name))
    current = next(int(words[1]) for words in file_words(sentinel.config_path) if words[0] == "current-epoch")
    return {
        "id": sentinel.call("SENTINEL", "MYID"),
        "address": (fields["ip"], fields["port"]),
        "config-epoch": fields["config-epoch"],
        "current-epoch": current,
        "replicas": {(each["ip"], each["port"]) for each in replicas},
        "peers": {(each["runid"], each["ip"], each["port"]) for each in peers},
    }


def leader_epoch(sentinel: SentinelProcess, name: str) -> int:
    """The epoch of its last vote for a master, as its file has it."""
    return next(int(words[2]) for words in file_words(sentinel.config_path) if words[:2] == ["leader-epoch", name])


def listing(sentinel: SentinelProcess, what: str, name: str) -> list[dict[str, str]]:
    """``SENTINEL REPLICAS`` or ``SENTINEL SENTINELS``."""
    reply = sentinel.call("SENTINEL", what, name)
    if not isinstance(reply, list):
        raise ReplyError(f"{sentinel.name} answered {reply!r}")
    return [pairs(entry) for entry in reply]


def shut_down(server: RedisProcess) -> None:
    """Have a server leave in order."""
    with suppress(OSError):  # it hangs up instead of answering
        server.call("SHUTDOWN", "NOSAVE", timeout=15.0)
    server.wait_ended(15.0)


def wait_moved(fleet: Fleet, old: RedisProcess, seconds: float = SECONDS) -> RedisProcess:
    """
    Wait until all running Sentinels name one and the same other master, with one config epoch, and whoever
    of the servers can be asked, but for the old master, follows it.

    :returns: the new master.
    """
    survivors = [server for server in fleet.servers.values() if server.running and server is not old]

    def moved() -> bool:
        problems = fleet.agreement_problems(survivors)
        if fleet.master_port() == old.port:
            problems.append(f"{old.port} is still the master")
        if problems:
            raise ReplyError("; ".join(problems))
        return True

    wait_for(moved, seconds, f"agreement on another master than {old.port}")
    return fleet.master()


def wait_event(
    recorder: EventRecorder, since: float, channel: str, sentinels: Iterable[str], words: str = ""
) -> list[RecordedEvent]:
    """
    Wait until each of these Sentinels has announced something on ``channel`` with ``words`` in it.

    :returns: the first such event of each, in order of arrival.
    """
    wanted = set(sentinels)

    def found(events: Sequence[RecordedEvent]) -> dict[str, RecordedEvent]:
        first: dict[str, RecordedEvent] = {}
        for event in events:
            if event.at >= since and event.channel == channel and words in event.payload and event.sentinel in wanted:
                first.setdefault(event.sentinel, event)
        return first

    recorder.wait_for(lambda events: len(found(events)) == len(wanted), SECONDS, f"{channel} {words} of {wanted}")
    return list(found(recorder.events).values())


def switches(recorder: EventRecorder, since: float, name: str) -> dict[str, list[tuple[str, str]]]:
    """The moves of a master that each Sentinel announced: ports from and to."""
    moves: dict[str, list[tuple[str, str]]] = {}
    for event in recorder.since(since, "+switch-master"):
        of, _, old, _, new = event.payload.split()
        if of == name:
            moves.setdefault(event.sentinel, []).append((old, new))
    return moves


def handed_over(stack: ExitStack, before: SentinelProcess, kind: str) -> SentinelProcess:
    """
    A Sentinel of another kind, not yet started, on the port and with the very file of one that has ended.

    :param stack: stops it in the end.
    """
    after = SentinelProcess(kind, before.port, before.directory)
    stack.callback(after.stop)
    return after
