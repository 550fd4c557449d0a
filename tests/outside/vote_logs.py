"""
Votes, elections and configurations as observed from outside: in the logs and in the hellos of Sentinels.

Logs are read instead of events because they are complete when a Sentinel dies or is stopped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from tests.outside.failovers import Promotion

_VOTE = re.compile(r"\+vote-for-leader ([0-9a-f]{40}) ([0-9]+)\s*$")
_ELECTED = re.compile(r"\+elected-leader master ")
_PROMOTED = re.compile(r"(\d+ \w+ \d+ [\d:.]+) \S \+promoted-slave slave .* @ \S+ \S+ (\d+)\s*$")


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote of one Sentinel."""

    candidate: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Election:
    """One Sentinel elected for one epoch."""

    sentinel: str
    epoch: int


@dataclass(frozen=True)
class VoteLog:
    """The content of one Sentinel's log."""

    votes: list[Vote]
    elections: list[Election]
    promotions: list[Promotion]
    """Replicas that it promoted and observed as promoted."""


def read_log(name: str, own_id: str, log: str) -> VoteLog:
    """
    Parse a log; the epoch of an election is that of the Sentinel's last vote for itself.

    :param name: of the Sentinel, for messages.
    :param own_id: its ID of 40 hexadecimal digits.
    :raises ValueError: if it was elected without a vote for itself.
    """
    votes: list[Vote] = []
    elections: list[Election] = []
    promotions: list[Promotion] = []
    campaign_epoch: int | None = None
    for line in log.splitlines():
        if match := _VOTE.search(line):
            votes.append(Vote(match[1], int(match[2])))
            if match[1] == own_id:
                campaign_epoch = int(match[2])
        elif _ELECTED.search(line):
            if campaign_epoch is None:
                raise ValueError(f"{name} was elected without having stood: {line}")
            elections.append(Election(name, campaign_epoch))
        elif match := _PROMOTED.search(line):
            at = datetime.strptime(match[1], "%d %b %Y %H:%M:%S.%f").timestamp()
            promotions.append(Promotion(at, int(match[2])))
    return VoteLog(votes, elections, promotions)


def vote_faults(name: str, votes: Iterable[Vote]) -> list[str]:
    """Return each vote whose epoch is not above that of the same Sentinel's previous vote; there is only one master."""
    wrong = []
    before: Vote | None = None
    for vote in votes:
        if before is not None and vote.epoch <= before.epoch:
            first = f"in epoch {before.epoch} for {before.candidate}"
            wrong.append(f"{name} voted {first}, then in {vote.epoch} for {vote.candidate}")
        before = vote
    return wrong


def election_faults(elections: Iterable[Election]) -> list[str]:
    """Return each epoch for which a second Sentinel, or the same one again, was elected."""
    wrong = []
    leaders: dict[int, str] = {}
    for election in elections:
        if election.epoch in leaders:
            wrong.append(f"{leaders[election.epoch]} and {election.sentinel} were elected for epoch {election.epoch}")
        leaders[election.epoch] = election.sentinel
    return wrong


def configurations(hellos: Iterable[str]) -> Mapping[int, frozenset[str]]:
    """
    Return the master's addresses that were announced with each config epoch.

    :param hellos: payloads of ``__sentinel__:hello``: the Sentinel's IP, port, ID and current epoch; the master's
        name, IP, port and config epoch. Others are skipped.
    """
    found: dict[int, frozenset[str]] = {}
    for hello in hellos:
        words = hello.split(",")
        if len(words) == 8 and words[7].isdigit():
            epoch, address = int(words[7]), f"{words[5]}:{words[6]}"
            found[epoch] = found.get(epoch, frozenset()) | {address}
    return found


def configuration_faults(hellos: Iterable[str]) -> list[str]:
    """Return each config epoch that was announced with two addresses."""
    return [
        f"config epoch {epoch} was given to {' and '.join(sorted(addresses))}"
        for epoch, addresses in sorted(configurations(hellos).items())
        if len(addresses) > 1
    ]
