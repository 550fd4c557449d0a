"""
Mixed quorums put to the test: Sentinels of several kinds over one master that is lost again and again.

``python -m tests.interop.rounds --rounds 20 --mix redis:1,txsentinel:2 --mix valkey:2,txsentinel:1``

After each loss all Sentinels must name one and the same new master with one config epoch, the surviving replicas must
follow it, and no Sentinel may have voted twice in an epoch. Then the lost server returns and all must become quiet.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from tests.interop.server_checks import Clients, client_problems, server_problems
from tests.servers import (
    SERVER_KINDS,
    EventRecorder,
    Fleet,
    Harness,
    RecordedEvent,
    RedisProcess,
    ReplyError,
    SentinelProcess,
    available,
    wait_for,
)

AGREEMENT_SECONDS = 60.0
QUIET_SECONDS = 90.0

DOWN_AFTER = 1500
"""
Milliseconds. C Sentinels that learn of a new master at once may hold it for down until their next attempt to connect,
a second at most, so below some 1200 a mixed group flaps through no fault of the leader.
"""

FAILOVER_TIMEOUT = 6000
"""Milliseconds. Short, because a lost election is repeated only after twice that time."""


COORDINATING_KINDS = ("txsentinel", "compiled", "valkey")
"""The kinds of Sentinels that know ``SENTINEL FAILOVER name COORDINATED``."""


class Disruption(Enum):
    """How a round takes the master away."""

    KILL = "kill"  # its connections are reset; it returns as a replica
    FREEZE = "freeze"  # it falls silent with its connections open; it returns believing to be the master
    SHUTDOWN = "shutdown"  # it leaves in order; it returns believing to be a master
    MANUAL = "manual"  # it stays, and an operator asks some Sentinel for another one
    COORDINATED = "coordinated"  # the same, but master and replica exchange their roles without losing a write


@dataclass
class Round:
    """What came of one loss."""

    disruption: Disruption
    seconds: float
    """From the loss to agreement."""

    leaders: list[str]
    """Kinds of the Sentinels that were elected, in order; more than one if a failover was repeated."""

    switches: int
    """Most changes of master that any Sentinel announced; one is what it takes."""


@dataclass
class Summary:
    """All rounds of one mix."""

    mix: str
    rounds: list[Round] = field(default_factory=list)

    def __str__(self) -> str:
        """One line for the operator."""
        led = Counter(leader for each in self.rounds for leader in each.leaders)
        seconds = [each.seconds for each in self.rounds]
        extra = sum(each.switches - 1 for each in self.rounds)
        leaders = ", ".join(f"{kind} {count}" for kind, count in sorted(led.items()))
        return (
            f"{self.mix}: {len(self.rounds)} rounds agreed, within {min(seconds):.1f}–{max(seconds):.1f} s;"
            f" led by {leaders}; {extra} switches more than needed"
        )


def kinds_of(mix: str) -> list[str]:
    """
    The kinds of Sentinel in a mix like ``redis:1,txsentinel:2``, one word each.

    :raises ValueError: if that is not what it looks like.
    """
    kinds: list[str] = []
    for part in mix.split(","):
        kind, _, count = part.partition(":")
        kinds += [kind] * int(count)
    return kinds


def double_votes(events: Iterable[RecordedEvent]) -> list[str]:
    """Every vote of a Sentinel whose epoch is not above that of its vote before."""
    last: dict[str, RecordedEvent] = {}
    wrong: list[str] = []
    for event in events:
        if event.channel != "+vote-for-leader":
            continue
        before = last.get(event.sentinel)
        if before is not None and int(event.payload.split()[1]) <= int(before.payload.split()[1]):
            wrong.append(f"{event.sentinel} voted for {before.payload}, then for {event.payload}")
        last[event.sentinel] = event
    return wrong


class MixedFleet:
    """One mix over one master and two replicas, and the troubles that befall it."""

    def __init__(self, harness: Harness, mix: str, server_kind: str, rng: random.Random) -> None:
        self.fleet = Fleet(
            harness, kinds_of(mix), server_kind, down_after=DOWN_AFTER, failover_timeout=FAILOVER_TIMEOUT
        )
        self._kinds = {sentinel.name: sentinel.kind for sentinel in self.fleet.sentinels}
        self._recorder = EventRecorder(self.fleet.ports)
        self._rng = rng
        self._clients: Clients | None = None
        """Of the master that was lost last."""

    def __enter__(self) -> MixedFleet:
        self.fleet.start()
        self._recorder.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._recorder.stop()
        self._leave()

    def _leave(self) -> None:
        if self._clients is not None:
            self._clients.close()
        self._clients = None

    def lose_master(self, disruption: Disruption, absent: SentinelProcess | None = None) -> tuple[Round, RedisProcess]:
        """
        Take the master away and wait for agreement on another one.

        :param absent: a Sentinel that is killed just before, and started again once the others have agreed.
        :returns: what came of it, and the old master, which :meth:`bring_back` takes.
        :raises DeadlineExpired: if there is no agreement.
        :raises AssertionError: if a Sentinel voted twice in an epoch.
        """
        master = self.fleet.master()
        if absent is not None:
            absent.kill()
        self._leave()
        self._clients = Clients(master)
        began = time.monotonic()
        self._strike(disruption, master)
        survivors = [server for server in self.fleet.servers.values() if server is not master]
        self._wait_agreement(master, survivors)
        seconds = time.monotonic() - began
        if absent is not None:
            absent.start(keep_config=True)
            self._wait_agreement(master, survivors)
            self._recorder.wait_subscribed()
        present = [name for name in self.fleet.ports if absent is None or name != absent.name]
        self._recorder.wait_for(
            lambda events: {
                event.sentinel for event in events if event.channel == "+switch-master" and event.at >= began
            }.issuperset(present),
            AGREEMENT_SECONDS,
            "every Sentinel to announce the switch",
        )
        votes = double_votes(self._recorder.events)
        if votes:
            raise AssertionError(f"votes given twice: {votes}")
        leaders = [self._kinds[event.sentinel] for event in self._recorder.since(began, "+elected-leader")]
        switches = Counter(event.sentinel for event in self._recorder.since(began, "+switch-master"))
        return Round(disruption, seconds, leaders, max(switches.values())), master

    def bring_back(self, disruption: Disruption, server: RedisProcess) -> None:
        """
        Undo what was done to the old master, wait until everything is at rest, and look at the servers then.

        :raises DeadlineExpired: if it does not come to rest.
        :raises AssertionError: if a server holds writes, serves clients of before, or has a file that says otherwise.
        """
        if disruption is Disruption.KILL:
            self.fleet.revive(server)
        elif disruption is Disruption.FREEZE:
            server.thaw()
        elif disruption is Disruption.SHUTDOWN:
            server.replica_of = None
            server.start()
        self.fleet.set_info_period(500)
        self.fleet.wait_quiet(QUIET_SECONDS)
        self.fleet.set_info_period(10_000)
        problems = server_problems(self.fleet.servers.values(), self.fleet.master_port())
        if self._clients is not None:
            problems += client_problems(self._clients)
        if problems:
            raise AssertionError("; ".join(problems))

    def restart_sentinel(self) -> SentinelProcess:
        """Stop one Sentinel in order and start it again from the file it left behind."""
        sentinel = self.some_sentinel()
        sentinel.stop()
        sentinel.start(keep_config=True)
        self.fleet.wait_quiet(QUIET_SECONDS)
        self._recorder.wait_subscribed()
        return sentinel

    def some_sentinel(self) -> SentinelProcess:
        """Any of them."""
        return self._rng.choice(self.fleet.sentinels)

    def _strike(self, disruption: Disruption, master: RedisProcess) -> None:
        if disruption is Disruption.KILL:
            master.kill()
        elif disruption is Disruption.FREEZE:
            master.freeze()
        elif disruption is Disruption.SHUTDOWN:
            with suppress(OSError):  # it hangs up instead of answering
                master.call("SHUTDOWN", "NOSAVE", timeout=15.0)
            master.wait_ended(15.0)
        else:
            running = [sentinel for sentinel in self.fleet.sentinels if sentinel.running]
            words = ["SENTINEL", "FAILOVER", self.fleet.name]
            if disruption is Disruption.COORDINATED:
                running = [sentinel for sentinel in running if sentinel.kind in COORDINATING_KINDS]
                words.append("COORDINATED")
            self._rng.choice(running).call(*words)

    def _wait_agreement(self, old: RedisProcess, survivors: Sequence[RedisProcess]) -> None:
        def agreed() -> bool:
            problems = self.fleet.agreement_problems(survivors)
            if self.fleet.master_port() == old.port:
                problems.append(f"{old.port} is still the master")
            if problems:
                raise ReplyError("; ".join(problems))
            return True

        wait_for(agreed, AGREEMENT_SECONDS, "agreement on a new master")


def run_mix(
    mix: str,
    disruptions: Sequence[Disruption],
    server_kind: str = "redis",
    seed: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Summary:
    """
    Start a mix and let it go through all troubles; every third round one Sentinel misses the failover,
    before every fourth one was restarted.

    :param seed: for the choices that are made here; the rest is up to real processes.
    :raises DeadlineExpired: if they do not agree, or do not come to rest. Logs are kept.
    """
    summary = Summary(mix)
    rng = random.Random(seed)
    with Harness() as harness, MixedFleet(harness, mix, server_kind, rng) as mixed:
        for number, disruption in enumerate(disruptions, start=1):
            if number % 4 == 0:
                mixed.restart_sentinel()
            absent = mixed.some_sentinel() if number % 3 == 0 else None
            outcome, old_master = mixed.lose_master(disruption, absent)
            summary.rounds.append(outcome)
            note = f", {absent.kind} absent" if absent else ""
            leaders = ", ".join(outcome.leaders) or "nobody"
            say(
                f"{mix} round {number}: {disruption.value}{note}: agreed after {outcome.seconds:.1f} s,"
                f" led by {leaders}"
            )
            if number < len(disruptions):
                mixed.bring_back(disruption, old_master)
    return summary


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop.rounds", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=8, help="losses per mix")
    parser.add_argument("--mix", action="append", metavar="KIND:N,KIND:N", help="may be given several times")
    parser.add_argument("--server", default="redis", choices=SERVER_KINDS)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(arguments)
    usual = [disruption for disruption in Disruption if disruption is not Disruption.COORDINATED]
    disruptions = [usual[number % len(usual)] for number in range(options.rounds)]
    mixes = options.mix or ["redis:1,txsentinel:2", "redis:2,txsentinel:1", "valkey:1,txsentinel:2"]
    summaries: list[Summary] = []
    for mix in mixes:
        absent = [kind for kind in set(kinds_of(mix)) if not available(kind)]
        if absent:
            print(f"{mix}: left out, not on this machine: {', '.join(absent)}")
            continue
        summaries.append(run_mix(mix, disruptions, options.server, options.seed, lambda text: print(text, flush=True)))
    for summary in summaries:
        print(summary)
    if not summaries:
        sys.exit("nothing could be tried")


if __name__ == "__main__":
    main()
