"""
Mixed quorums: Sentinels of several kinds with one master that is lost repeatedly.

``python -m tests.interop.rounds --rounds 20 --mix redis:1,txsentinel:2 --mix valkey:2,txsentinel:1``

After each loss all Sentinels must have the same new master with one config epoch, the remaining replicas must
follow it, and no Sentinel may have voted twice in an epoch. Then the lost server returns and all must become stable.
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

AGREEMENT_SECONDS = 120.0
STABLE_SECONDS = 180.0

DOWN_AFTER = 1500
"""
Milliseconds. C Sentinels that adopt a new master at once may consider it down until their next connection
attempt, a second at most; below some 1200 a mixed group switches repeatedly, which no leader can prevent.
"""

FAILOVER_TIMEOUT = 6000
"""Milliseconds. Short, because a lost election is repeated only after twice that time."""


COORDINATING_KINDS = ("txsentinel", "compiled", "valkey")
"""The kinds of Sentinels that support ``SENTINEL FAILOVER name COORDINATED``."""


class Disruption(Enum):
    """How a round takes the master away."""

    KILL = "kill"  # its connections are reset; it returns as a replica
    FREEZE = "freeze"  # it falls silent with its connections open; it returns believing to be the master
    SHUTDOWN = "shutdown"  # it leaves in order; it returns believing to be a master
    MANUAL = "manual"  # it stays, and an operator asks some Sentinel for another one
    COORDINATED = "coordinated"  # the same, but master and replica exchange their roles without losing a write


@dataclass
class Round:
    """The result of one loss."""

    disruption: Disruption
    seconds: float
    """From the loss to agreement."""

    leaders: list[str]
    """Kinds of the elected leaders, in order; more than one if a failover was repeated."""

    switches: int
    """Maximum number of switches that any Sentinel published; one is normal."""


@dataclass
class Summary:
    """All rounds of one mix."""

    mix: str
    rounds: list[Round] = field(default_factory=list)

    def __str__(self) -> str:
        """Return one line for the operator."""
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
    Return the kinds of Sentinels in a mix like ``redis:1,txsentinel:2``, one entry each.

    :raises ValueError: if the mix cannot be parsed.
    """
    kinds: list[str] = []
    for part in mix.split(","):
        kind, _, count = part.partition(":")
        kinds += [kind] * int(count)
    return kinds


def double_votes(events: Iterable[RecordedEvent]) -> list[str]:
    """Return every vote of a Sentinel whose epoch is not above that of its previous vote."""
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
    """One mix with one master and two replicas, and the disruptions."""

    def __init__(self, harness: Harness, mix: str, server_kind: str, rng: random.Random) -> None:
        self.fleet = Fleet(
            harness, kinds_of(mix), server_kind, down_after=DOWN_AFTER, failover_timeout=FAILOVER_TIMEOUT
        )
        self._kinds = {sentinel.name: sentinel.kind for sentinel in self.fleet.sentinels}
        self._recorder = EventRecorder(self.fleet.ports)
        self._rng = rng
        self._clients: Clients | None = None
        """The process of the last lost master."""

    def __enter__(self) -> MixedFleet:
        self.fleet.start()
        self._recorder.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._recorder.stop()
        self._close()

    def _close(self) -> None:
        if self._clients is not None:
            self._clients.close()
        self._clients = None

    def lose_master(self, disruption: Disruption, absent: SentinelProcess | None = None) -> tuple[Round, RedisProcess]:
        """
        Take the master away and wait for agreement on another one.

        :param absent: a Sentinel that is killed before, and started again once the others have agreed.
        :returns: the result, and the old master, to be passed to :meth:`bring_back`.
        :raises DeadlineExpired: if there is no agreement.
        :raises AssertionError: if a Sentinel voted twice in an epoch.
        """
        master = self.fleet.master()
        if absent is not None:
            absent.kill()
        self._close()
        self._clients = Clients(master)
        began = time.monotonic()
        self._disrupt(disruption, master)
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
        End the disruption of the old master, wait until all is stable, and check the servers then.

        :raises DeadlineExpired: if it does not become stable.
        :raises AssertionError: if a server blocks writes, has old clients, or has a file with another role.
        """
        if disruption is Disruption.KILL:
            self.fleet.revive(server)
        elif disruption is Disruption.FREEZE:
            server.thaw()
        elif disruption is Disruption.SHUTDOWN:
            server.replica_of = None
            server.start()
        self.fleet.set_info_period(500)
        self.fleet.wait_quiet(STABLE_SECONDS)
        self.fleet.set_info_period(10_000)
        problems = server_problems(self.fleet.servers.values(), self.fleet.master_port())
        if self._clients is not None:
            problems += client_problems(self._clients)
        if problems:
            raise AssertionError("; ".join(problems))

    def restart_sentinel(self) -> SentinelProcess:
        """Stop one Sentinel in order and start it again from its file."""
        sentinel = self.random_sentinel()
        sentinel.stop()
        sentinel.start(keep_config=True)
        self.fleet.wait_quiet(STABLE_SECONDS)
        self._recorder.wait_subscribed()
        return sentinel

    def random_sentinel(self) -> SentinelProcess:
        """Return a random Sentinel."""
        return self._rng.choice(self.fleet.sentinels)

    def _disrupt(self, disruption: Disruption, master: RedisProcess) -> None:
        if disruption is Disruption.KILL:
            master.kill()
        elif disruption is Disruption.FREEZE:
            master.freeze()
        elif disruption is Disruption.SHUTDOWN:
            with suppress(OSError):  # it closes the connection instead of replying
                master.call("SHUTDOWN", "NOSAVE", timeout=AGREEMENT_SECONDS)
            master.wait_ended()
        else:
            running = [sentinel for sentinel in self.fleet.sentinels if sentinel.running]
            words = ["SENTINEL", "FAILOVER", self.fleet.name]
            if disruption is Disruption.COORDINATED:
                running = [sentinel for sentinel in running if sentinel.kind in COORDINATING_KINDS]
                words.append("COORDINATED")
            sentinel = self._rng.choice(running)
            # No replica is fit until its INFO has arrived.
            wait_for(lambda: sentinel.call(*words) == "OK", AGREEMENT_SECONDS, "the order to be taken")

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
    report: Callable[[str], None] = lambda text: None,
) -> Summary:
    """
    Start a mix and run all rounds; in every third round one Sentinel misses the failover,
    before every fourth one a Sentinel is restarted.

    :param seed: for the random choices of the rounds; real processes are not deterministic.
    :raises DeadlineExpired: if the Sentinels do not agree or do not become stable. Logs are kept.
    """
    summary = Summary(mix)
    rng = random.Random(seed)
    with Harness() as harness, MixedFleet(harness, mix, server_kind, rng) as mixed:
        for number, disruption in enumerate(disruptions, start=1):
            if number % 4 == 0:
                mixed.restart_sentinel()
            absent = mixed.random_sentinel() if number % 3 == 0 else None
            outcome, old_master = mixed.lose_master(disruption, absent)
            summary.rounds.append(outcome)
            note = f", {absent.kind} absent" if absent else ""
            leaders = ", ".join(outcome.leaders) or "nobody"
            report(
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
