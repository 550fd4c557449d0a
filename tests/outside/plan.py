"""What is done to an installation in one round, drawn from a seed: the same for every kind of Sentinel."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from tests.outside.ways import Way

MASTER = "master"


class FaultType(Enum):
    """The kinds of faults."""

    ISOLATE = "isolate"  # one process hears no other one and is not heard, but clients reach it
    PARTITION = "partition"  # two sides, clients among them, that hear nothing of each other
    OUTBOUND_BLOCKED = "outbound-blocked"  # one process is not heard any more, though it hears
    INBOUND_BLOCKED = "inbound-blocked"  # one process hears nothing any more, though it is heard
    PAIRS = "pairs"  # some pairs of processes do not reach each other; others do, so there are no sides
    ONE_WAY = "one-way"  # some pairs do not reach each other in one direction
    DELAY = "delay"  # everything to and from one process takes longer
    RESET = "reset"  # all connections of one process are reset, again and again
    FREEZE = "freeze"  # one process stands still (SIGSTOP) with its connections open
    KILL = "kill"  # one process dies (SIGKILL) and starts again with what it had on disk


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One fault. Processes go by what they are when the round begins: ``master``, ``replica-1``, ``sentinel-2``,
    ``client-1``.
    """

    kind: FaultType
    starts: float
    """Seconds since the faults of the round began; ``lasts`` is in seconds too."""

    lasts: float
    nodes: tuple[str, ...]
    """Whom it befalls; of a partition, the side of fewer processes."""

    ways: tuple[Way, ...] = ()
    """Which ways are cut, slowed or reset."""

    delay: float = 0.0
    """Seconds that one way takes longer."""

    def __str__(self) -> str:
        """For a person who looks for what happened."""
        how = f" by {self.delay:.2f} s" if self.delay else ""
        whom = " ".join(f"{source}>{destination}" for source, destination in self.ways)
        affected = whom if self.kind in (FaultType.PAIRS, FaultType.ONE_WAY) else ", ".join(self.nodes)
        return f"{self.starts:.2f}–{self.ends:.2f} s {self.kind.value}{how}: {affected}"

    @property
    def ends(self) -> float:
        """Seconds since the faults of the round began."""
        return self.starts + self.lasts


@dataclass(frozen=True)
class Participants:
    """Who takes part in a round, by role."""

    replicas: int = 2
    sentinels: int = 3
    clients: int = 4

    @property
    def servers(self) -> list[str]:
        """The master first."""
        return [MASTER, *(f"replica-{number + 1}" for number in range(self.replicas))]

    @property
    def sentinel_names(self) -> list[str]:
        """In the order in which they were asked for."""
        return [f"sentinel-{number + 1}" for number in range(self.sentinels)]

    @property
    def nodes(self) -> list[str]:
        """Servers and Sentinels."""
        return self.servers + self.sentinel_names

    @property
    def client_names(self) -> list[str]:
        """Writers and readers."""
        return [f"client-{number + 1}" for number in range(self.clients)]


def both(ways: Iterable[Way]) -> tuple[Way, ...]:
    """These ways and the ways back."""
    return tuple(way for source, destination in ways for way in ((source, destination), (destination, source)))


class FaultGenerator:
    """Draws the faults of one round."""

    MASTER_SHARE = 0.5
    """How often a fault of a single process is the master's; else it may be anybody's."""

    def __init__(self, rng: random.Random, participants: Participants) -> None:
        self._rng = rng
        self._participants = participants

    def fault(self, kind: FaultType) -> Fault:
        """One fault of this kind, at its time."""
        starts = round(self._rng.uniform(0.0, 2.5), 2)
        lasts = round(self._rng.uniform(2.0, 5.0), 2)
        if kind is FaultType.PARTITION:
            side, other = self._sides()
            apart = [(one, far) for one in side for far in other]
            return Fault(kind, starts, lasts, tuple(side), both(apart))
        if kind in (FaultType.PAIRS, FaultType.ONE_WAY):
            pairs = self._pairs()
            involved = tuple(sorted({node for pair in pairs for node in pair}))
            return Fault(kind, starts, lasts, involved, both(pairs) if kind is FaultType.PAIRS else tuple(pairs))
        node = self._victim()
        outwards = [(node, other) for other in self._participants.nodes if other != node]
        inwards = [(other, node) for node, other in outwards]
        if kind in (FaultType.FREEZE, FaultType.KILL):
            return Fault(kind, starts, lasts, (node,))
        if kind is FaultType.ISOLATE:
            return Fault(kind, starts, lasts, (node,), both(outwards))
        if kind is FaultType.OUTBOUND_BLOCKED:
            return Fault(kind, starts, lasts, (node,), tuple(outwards))
        if kind is FaultType.INBOUND_BLOCKED:
            return Fault(kind, starts, lasts, (node,), tuple(inwards))
        outwards += [(node, client) for client in self._participants.client_names]
        delay = round(self._rng.uniform(0.05, 0.6), 2) if kind is FaultType.DELAY else 0.0
        return Fault(kind, starts, lasts, (node,), both(outwards), delay)

    def _victim(self) -> str:
        return MASTER if self._rng.random() < self.MASTER_SHARE else self._rng.choice(self._participants.nodes)

    def _sides(self) -> tuple[list[str], list[str]]:
        everybody = self._participants.nodes + self._participants.client_names
        while True:
            one = [name for name in everybody if self._rng.random() < 0.5]
            other = [name for name in everybody if name not in one]
            nodes = [len(set(side) & set(self._participants.nodes)) for side in (one, other)]
            if min(nodes):
                return (one, other) if nodes[0] <= nodes[1] else (other, one)

    def _pairs(self) -> list[Way]:
        nodes = self._participants.nodes
        all_pairs = [(one, other) for one in nodes for other in nodes if one != other]
        count = self._rng.randint(2, max(2, len(all_pairs) // 3))
        chosen: list[Way] = []
        for pair in self._rng.sample(all_pairs, count):
            if pair[::-1] not in chosen:
                chosen.append(pair)
        return chosen


def draw(
    seed: int,
    number: int,
    participants: Participants,
    max_faults: int = 4,
    fault_types: Sequence[FaultType] = tuple(FaultType),
) -> list[Fault]:
    """
    The faults of one round, in the order in which they start.

    :param number: of the round; each draws from dice of its own, so that any can be repeated alone.
    :param most: how many faults at most; at least half as many, and one.
    :param kinds: what they are drawn from, without repeating one before all had their turn.
    """
    rng = random.Random(f"{seed}/{number}")
    count = rng.randint(max(1, max_faults // 2), max_faults)
    drawing = FaultGenerator(rng, participants)
    drawn: list[FaultType] = []
    while len(drawn) < count:
        drawn += rng.sample(list(fault_types), min(len(fault_types), count - len(drawn)))
    return sorted((drawing.fault(kind) for kind in drawn), key=lambda fault: fault.starts)
