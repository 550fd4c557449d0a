"""Helpers for tests with installations of real processes."""

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
from txsentinel.demo.blocking import MAX_WAIT_SECONDS

LONG = os.environ.get("TXSENTINEL_LONG") == "1"
"""Whether the long variants were requested: every combination instead of one of each kind."""

SECONDS = MAX_WAIT_SECONDS
"""Timeout for all that real processes do in much less time."""

STATE_WORDS = ("myid", "monitor", "config-epoch", "leader-epoch", "current-epoch", "known-")
"""Settings behind the word ``sentinel`` that a Sentinel changes in its file."""


def shorten_periods(sentinels: Iterable[SentinelProcess]) -> None:
    """Shorten the INFO and hello periods of Sentinels, so that they converge sooner."""
    for sentinel in sentinels:
        if sentinel.running:
            sentinel.call("SENTINEL", "DEBUG", "INFO-PERIOD", 200, "PUBLISH-PERIOD", 250)


def file_words(path: Path) -> list[list[str]]:
    """Return every ``sentinel ...`` line of a configuration without its first word and its quotes."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return [[word.strip('"') for word in line[1:]] for line in lines if line and line[0] == "sentinel"]


def operator_lines(path: Path) -> list[str]:
    """Return every line of a configuration, including comments, that is not state of the Sentinel."""
    return [
        line
        for line in path.read_text().splitlines()
        if not any(line.startswith(f"sentinel {word}") for word in STATE_WORDS)
    ]


def persistent_state(sentinel: SentinelProcess, name: str) -> dict[str, object]:
    """Return what a running Sentinel must know after a restart: its ID, the instances, and the epochs."""
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
    """Return the epoch of the last vote for a master from the file."""
    return next(int(words[2]) for words in file_words(sentinel.config_path) if words[:2] == ["leader-epoch", name])


def listing(sentinel: SentinelProcess, what: str, name: str) -> list[dict[str, str]]:
    """Return the reply of ``SENTINEL REPLICAS`` or ``SENTINEL SENTINELS``."""
    reply = sentinel.call("SENTINEL", what, name)
    if not isinstance(reply, list):
        raise ReplyError(f"{sentinel.name} answered {reply!r}")
    return [pairs(entry) for entry in reply]


def shut_down(server: RedisProcess) -> None:
    """Shut a server down in order."""
    with suppress(OSError):  # it closes the connection instead of replying
        server.call("SHUTDOWN", "NOSAVE", timeout=SECONDS)
    server.wait_ended()


def wait_moved(fleet: Fleet, old: RedisProcess, seconds: float = SECONDS) -> RedisProcess:
    """
    Wait until all running Sentinels have the same new master with one config epoch, and all reachable servers, except
    the old master, follow it.

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
    Wait until each of these Sentinels has published an event on ``channel`` that contains ``words``.

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
    """Return the switches of a master that each Sentinel published, as pairs of ports."""
    moves: dict[str, list[tuple[str, str]]] = {}
    for event in recorder.since(since, "+switch-master"):
        of, _, old, _, new = event.payload.split()
        if of == name:
            moves.setdefault(event.sentinel, []).append((old, new))
    return moves


def replacement(stack: ExitStack, before: SentinelProcess, kind: str) -> SentinelProcess:
    """
    Create a Sentinel of another kind, not started, with the port and the file of one that has ended.

    :param stack: stops it in the end.
    """
    after = SentinelProcess(kind, before.port, before.directory)
    stack.callback(after.stop)
    return after
