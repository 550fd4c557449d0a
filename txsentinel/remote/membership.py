"""
Removal of members of a group, and draining of hosts, by orders to Sentinels of ours.

C Sentinels have no such orders. They forget a member only by ``SENTINEL RESET``, which forgets all others as well,
until these are discovered again; see :class:`ResetInTurn`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import AddressAgreement
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.decoding import decoded, plain_reply
from txsentinel.remote.reading import Scope, read_sentinel
from txsentinel.remote.reports import InstanceReport, SentinelReport

RESET_DISTANCE_SECONDS: Final = 30.0
"""Shortest time between the resets of two Sentinels."""

RECOVERY_SECONDS: Final = 60.0
"""How long a Sentinel may take to discover the group again after its reset: C ones need up to 10 s for replicas."""

CHECK_SECONDS: Final = 0.5


@dataclass(frozen=True)
class NodeOutcome:
    """What one Sentinel has done; ``result`` is a clause."""

    id: str | None
    address: str | None
    kind: str
    result: str


@dataclass(frozen=True)
class GroupSize:
    """A group after a removal; ``warning`` if it cannot elect a leader."""

    master: str
    sentinels: int
    majority: int
    reachable: int
    warning: str | None


@dataclass(frozen=True)
class Removal:
    """The answer to ``TXSENTINEL FORGET``."""

    node: str
    kind: str
    address: str
    masters: tuple[GroupSize, ...]
    sentinels: tuple[NodeOutcome, ...]


@dataclass(frozen=True)
class DrainProblem:
    """What prevents a drain."""

    code: str
    text: str


@dataclass(frozen=True)
class MovedMaster:
    """
    One master that was to be moved; ``to`` is ``None`` if it was not, for the reason ``problem``.

    ``verdict`` is that of its receipt: proven, unproven or lost.
    """

    master: str
    old: str
    to: str | None
    problem: str | None
    receipt: str | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class ServerClients:
    """A server that still has clients; ``clients`` is ``None`` if their number is unknown."""

    address: str
    clients: int | None


@dataclass(frozen=True)
class DrainReport:
    """The answer to ``TXSENTINEL DRAIN``."""

    host: str
    safe: bool
    executed: bool
    masters: tuple[str, ...]
    servers: tuple[str, ...]
    sentinels_there: tuple[str, ...]
    problems: tuple[DrainProblem, ...]
    moved: tuple[MovedMaster, ...]
    still: tuple[ServerClients, ...]
    sentinels: tuple[NodeOutcome, ...]


def order(sentinel: SentinelReport, settings: ConnectionSettings, seconds: float, *words: str) -> object:
    """
    Send an order to a Sentinel of ours, and return its answer as plain values.

    :param seconds: timeout of the answer.
    :raises ErrorAnswer: if it is refused.
    :raises ConnectionFailed: if there is no answer.
    """
    with RemoteConnection(sentinel.endpoint, replace(settings, timeout=max(seconds, settings.timeout))) as connection:
        connection.use_resp3()
        return plain_reply(connection.call("TXSENTINEL", *words))


def removal_of(answer: object) -> Removal:
    """
    Return the answer to ``TXSENTINEL FORGET`` as a record.

    :raises UnknownForm: if it has another form.
    """
    return decoded(Removal, answer)


def drain_of(answer: object) -> DrainReport:
    """
    Return the answer to ``TXSENTINEL DRAIN`` as a record.

    :raises UnknownForm: if it has another form.
    """
    if isinstance(answer, dict) and isinstance(answer.get("moved"), list):
        # A Python word cannot be the name of a field.
        moved = [{**each, "old": each.get("from")} for each in answer["moved"] if isinstance(each, dict)]
        answer = {**answer, "moved": moved}
    return decoded(DrainReport, answer)


def find_member(agreement: AddressAgreement, words: str, node: Endpoint | None) -> tuple[str | None, Endpoint] | None:
    """
    Return the ID, if it is a Sentinel, and the address of a member, as any Sentinel of the group lists it.

    :param words: the beginning of an ID; not used if ``node`` is given.
    :returns: ``None`` if there is none, or more than one.
    """
    found: set[tuple[str | None, Endpoint]] = set()
    for each in agreement.members:
        report = each.masters.get(agreement.name)
        if report is None:
            continue
        for peer in report.peers:
            if peer.endpoint == node or (node is None and peer.run_id.startswith(words.lower())):
                found.add((peer.run_id, peer.endpoint))
        found.update((None, replica.endpoint) for replica in report.replicas if replica.endpoint == node)
    return found.pop() if len(found) == 1 else None


def lists_member(report: SentinelReport, name: str, member: tuple[str | None, Endpoint]) -> InstanceReport | None:
    """Return what a Sentinel reports about a member; ``None`` if it does not list it."""
    master = report.masters.get(name)
    if master is None:
        return None
    sentinel_id, endpoint = member
    if sentinel_id is not None:
        return next((each for each in master.peers if each.run_id == sentinel_id), None)
    return next((each for each in master.replicas if each.endpoint == endpoint), None)


class ResetRefused(Exception):
    """A Sentinel must not be reset now; the text has the reason."""


class ResetInTurn:
    """
    Resets C Sentinels of one group one after the other, so that the others can fail the master over at any time.

    A C Sentinel that was reset knows no other one for about a second, and no replica for up to ten. Meanwhile it votes
    for others, but cannot lead.

    :param member: what they are to forget.
    :param progress: called with a sentence for each step.
    """

    def __init__(
        self,
        agreement: AddressAgreement,
        member: tuple[str | None, Endpoint],
        settings: ConnectionSettings,
        progress: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        connect: Callable[[Endpoint, ConnectionSettings], RemoteConnection] = RemoteConnection,
        read: Callable[[Endpoint, ConnectionSettings, Scope], SentinelReport] = read_sentinel,
    ) -> None:
        self._connect = connect
        self._read_sentinel = read
        self._name = agreement.name
        self._member = member
        self._settings = settings
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._quorum = agreement.quorum
        self._endpoints = [each.endpoint for each in agreement.members]

    def run(self, sentinels: Sequence[SentinelReport]) -> list[NodeOutcome]:
        """Reset these Sentinels; the first that cannot be reset, or does not recover, ends it."""
        outcomes: list[NodeOutcome] = []
        problem = ""
        for place, sentinel in enumerate(sentinels):
            result = f"keeps it: {problem}"
            if not problem:
                try:
                    began = self._clock()
                    self._reset(sentinel)
                    result = "removed by a reset"
                    left = RESET_DISTANCE_SECONDS - (self._clock() - began)
                    if place + 1 < len(sentinels) and left > 0:
                        self._progress(f"the next one is reset in {left:.0f} s")
                        self._sleep(left)
                except (ResetRefused, ConnectionFailed, ErrorAnswer) as refusal:
                    problem = str(refusal)
                    result = f"keeps it: {problem}"
            outcomes.append(NodeOutcome(sentinel.sentinel_id, str(sentinel.endpoint), sentinel.kind, result))
        return outcomes

    def _reset(self, sentinel: SentinelReport) -> None:
        """Reset one Sentinel, and wait until it can take part in a failover again."""
        expected = self._check_others(sentinel)
        with self._connect(sentinel.endpoint, self._settings) as connection:
            connection.call("SENTINEL", "RESET", self._name)
        self._progress(f"{sentinel.endpoint} was reset")
        deadline = self._clock() + RECOVERY_SECONDS
        while (missing := self._missing(sentinel, expected)) is not None:
            if self._clock() > deadline:
                raise ResetRefused(f"it was reset, but {missing} after {RECOVERY_SECONDS:.0f} s")
            self._sleep(CHECK_SECONDS)
        self._progress(f"{sentinel.endpoint} knows {len(expected)} replicas, and the quorum can be reached")

    def _read(self, endpoint: Endpoint) -> SentinelReport:
        return self._read_sentinel(endpoint, self._settings, Scope([self._name], True))

    def _check_others(self, sentinel: SentinelReport) -> set[Endpoint]:
        """
        Return the replicas that are usable, according to the other Sentinels.

        :raises ResetRefused: if the others could not fail the master over meanwhile.
        """
        others = [self._read(each) for each in self._endpoints if each != sentinel.endpoint]
        usable = [each for each in others if each.reachable and self._name in each.masters]
        known = max((len(each.masters[self._name].peers) + 1 for each in usable), default=1)
        needed = max(known // 2 + 1, self._quorum)
        # The one that is reset still votes, but leads no failover until it has discovered the others.
        if not usable or len(usable) + 1 < needed:
            text = f"{len(usable)} other Sentinels of {known} answer; one of them must be able to lead a failover with"
            raise ResetRefused(f"{text} {needed} votes meanwhile")
        replicas = {
            replica.endpoint
            for each in usable
            for replica in each.masters[self._name].replicas
            if replica.usable and replica.endpoint != self._member[1]
        }
        if not replicas:
            raise ResetRefused("the other Sentinels know no replica that could be promoted meanwhile")
        return replicas

    def _missing(self, sentinel: SentinelReport, expected: set[Endpoint]) -> str | None:
        """Return what a Sentinel lacks after its reset; ``None`` if nothing."""
        report = self._read(sentinel.endpoint)
        master = report.masters.get(self._name)
        if master is None:
            return report.problem or "it does not monitor the master"
        if master.quorum_ok is False:
            return f"reports {master.quorum_check}"
        absent = expected - {replica.endpoint for replica in master.replicas if replica.usable}
        if absent:
            return f"does not know {', '.join(sorted(str(each) for each in absent))}"
        return None
