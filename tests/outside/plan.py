"""The faults of one round, drawn from a seed: the same for every kind of Sentinel."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.outside.routes import Route

MASTER = "master"


class FaultType(Enum):
    """The kinds of faults."""

    ISOLATE = "isolate"  # one process has no connection to other ones, but clients reach it
    PARTITION = "partition"  # two sides, clients included, without connection to each other
    OUTBOUND_BLOCKED = "outbound-blocked"  # nothing from one process arrives at the others
    INBOUND_BLOCKED = "inbound-blocked"  # nothing arrives at one process
    PAIRS = "pairs"  # some pairs of processes have no connection; others have, so there are no sides
    ONE_WAY = "one-way"  # some pairs have no connection in one direction
    DELAY = "delay"  # all_nodes to and from one process takes longer
    RESET = "reset"  # all connections of one process are reset, repeatedly
    FREEZE = "freeze"  # one process is stopped (SIGSTOP) with its connections open
    KILL = "kill"  # one process is killed (SIGKILL) and starts again with its files
    EMPTY_RESTART = "empty-restart"  # the master is killed and starts again soon, without its data
    CLOSE_PORT = "close-port"  # one process runs, but connections to it are closed and new ones refused
    REFUSE = "refuse"  # some callers of one process have their connections reset, and new ones too
    REJECT = "reject"  # one server answers some or all callers with errors only
    MINORITY = "minority"  # the master, a minority of the Sentinels and some writers are cut off from all others


GENERAL_FAULTS: Final = (
    FaultType.ISOLATE,
    FaultType.PARTITION,
    FaultType.OUTBOUND_BLOCKED,
    FaultType.INBOUND_BLOCKED,
    FaultType.PAIRS,
    FaultType.ONE_WAY,
    FaultType.DELAY,
    FaultType.RESET,
    FaultType.FREEZE,
    FaultType.KILL,
)
"""The faults that are drawn by default. Another list, or another order, changes what a seed draws."""

GUARDED_FAULTS: Final = (
    FaultType.EMPTY_RESTART,
    FaultType.CLOSE_PORT,
    FaultType.REFUSE,
    FaultType.REJECT,
    FaultType.MINORITY,
)
"""The faults that the settings beyond those of C Sentinels are for."""

SIGNALS: Final = (FaultType.FREEZE, FaultType.KILL, FaultType.EMPTY_RESTART)
"""The faults that stop a process; they affect no routes."""

TOO_MANY_CLIENTS: Final = "ERR max number of clients reached"
"""The error that a server sends before it closes a new connection."""

SENTINEL_ERRORS: Final = (
    "NOAUTH Authentication required.",
    "NOPERM this user has no permissions to run this command",
)
"""Errors of a server whose password or rights were changed for the Sentinels only: clients and replicas use it."""

NO_STALE_DATA: Final = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
"""The error of a replica; a master has no reason for it."""

SERVER_ERRORS: Final = ("LOADING Redis is loading the dataset in memory", NO_STALE_DATA, TOO_MANY_CLIENTS)
"""Errors that all callers receive."""


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One fault. Processes are named by their roles at the begin of the round: ``master``, ``replica-1``, ``sentinel-2``,
    ``client-1``.
    """

    kind: FaultType
    starts: float
    """Seconds since the first fault of the round could start; ``lasts`` is in seconds too."""

    lasts: float
    nodes: tuple[str, ...]
    """The affected processes; of a partition, the smaller side."""

    routes: tuple[Route, ...] = ()
    """The routes that are cut, slowed or reset."""

    delay: float = 0.0
    """Additional seconds in one direction."""

    error: str = ""
    """The error reply, without its first byte."""

    def __str__(self) -> str:
        """Return a line for operators."""
        how = f" by {self.delay:.2f} s" if self.delay else f" with {self.error!r}" if self.error else ""
        affected_routes = " ".join(f"{source}>{destination}" for source, destination in self.routes)
        by_routes = self.kind in (FaultType.PAIRS, FaultType.ONE_WAY, FaultType.REFUSE)
        affected = affected_routes if by_routes else ", ".join(self.nodes)
        return f"{self.starts:.2f}–{self.ends:.2f} s {self.kind.value}{how}: {affected}"

    @property
    def ends(self) -> float:
        """Seconds since the first fault of the round could start."""
        return self.starts + self.lasts


@dataclass(frozen=True)
class Participants:
    """The participants of a round, by role."""

    replicas: int = 2
    sentinels: int = 3
    clients: int = 4

    @property
    def servers(self) -> list[str]:
        """Return the servers, the master first."""
        return [MASTER, *(f"replica-{number + 1}" for number in range(self.replicas))]

    @property
    def sentinel_names(self) -> list[str]:
        """Return the Sentinels in the order of the setting."""
        return [f"sentinel-{number + 1}" for number in range(self.sentinels)]

    @property
    def nodes(self) -> list[str]:
        """Return servers and Sentinels."""
        return self.servers + self.sentinel_names

    @property
    def client_names(self) -> list[str]:
        """Return writers and readers."""
        return [f"client-{number + 1}" for number in range(self.clients)]


def both(routes: Iterable[Route]) -> tuple[Route, ...]:
    """Return these routes and the reverse ones."""
    return tuple(route for source, destination in routes for route in ((source, destination), (destination, source)))


class FaultGenerator:
    """Draws the faults of one round."""

    MASTER_SHARE = 0.5
    """Share of faults of a single process that affect the master; the others affect any process."""

    def __init__(self, rng: random.Random, participants: Participants) -> None:
        self._rng = rng
        self._participants = participants

    def fault(self, kind: FaultType) -> Fault:
        """Draw one fault of this kind with its times."""
        starts = round(self._rng.uniform(0.0, 2.5), 2)
        lasts = round(self._rng.uniform(2.0, 5.0), 2)
        if kind is FaultType.EMPTY_RESTART:
            return Fault(kind, starts, round(self._rng.uniform(0.1, 2.0), 2), (MASTER,))
        if kind in (FaultType.PARTITION, FaultType.MINORITY):
            side, other = self._sides() if kind is FaultType.PARTITION else self._minority()
            apart = [(one, far) for one in side for far in other]
            return Fault(kind, starts, lasts, tuple(side), both(apart))
        if kind is FaultType.REJECT:
            return self._rejection(starts, lasts)
        if kind in (FaultType.PAIRS, FaultType.ONE_WAY):
            pairs = self._pairs()
            involved = tuple(sorted({node for pair in pairs for node in pair}))
            return Fault(kind, starts, lasts, involved, both(pairs) if kind is FaultType.PAIRS else tuple(pairs))
        node = self._target()
        outwards = [(node, other) for other in self._participants.nodes if other != node]
        inwards = [(other, node) for node, other in outwards]
        if kind in (FaultType.FREEZE, FaultType.KILL, FaultType.CLOSE_PORT):
            return Fault(kind, starts, lasts, (node,))
        if kind is FaultType.REFUSE:
            callers = [*(caller for caller, _ in inwards), *self._participants.client_names]
            refused = self._rng.sample(callers, self._rng.randint(1, len(callers)))
            return Fault(kind, starts, lasts, (node,), tuple((caller, node) for caller in sorted(refused)))
        if kind is FaultType.ISOLATE:
            return Fault(kind, starts, lasts, (node,), both(outwards))
        if kind is FaultType.OUTBOUND_BLOCKED:
            return Fault(kind, starts, lasts, (node,), tuple(outwards))
        if kind is FaultType.INBOUND_BLOCKED:
            return Fault(kind, starts, lasts, (node,), tuple(inwards))
        outwards += [(node, client) for client in self._participants.client_names]
        delay = round(self._rng.uniform(0.05, 0.6), 2) if kind is FaultType.DELAY else 0.0
        return Fault(kind, starts, lasts, (node,), both(outwards), delay)

    def _rejection(self, starts: float, lasts: float) -> Fault:
        servers = self._participants.servers
        node = MASTER if self._rng.random() < self.MASTER_SHARE else self._rng.choice(servers)
        errors = [each for each in SENTINEL_ERRORS + SERVER_ERRORS if node != MASTER or each != NO_STALE_DATA]
        error = self._rng.choice(errors)
        callers = self._participants.sentinel_names
        if error in SERVER_ERRORS:
            callers = [*(other for other in servers if other != node), *callers, *self._participants.client_names]
        return Fault(FaultType.REJECT, starts, lasts, (node,), tuple((caller, node) for caller in callers), error=error)

    def _minority(self) -> tuple[list[str], list[str]]:
        participants = self._participants
        count = (len(participants.sentinel_names) - 1) // 2
        # The first clients are the writers; without one of them on the master's side there would be nothing to lose.
        clients = [participants.client_names[0]]
        clients += [name for name in participants.client_names[1:] if self._rng.random() < 0.5]
        side = [MASTER, *sorted(self._rng.sample(participants.sentinel_names, count)), *clients]
        return side, [name for name in participants.nodes + participants.client_names if name not in side]

    def _target(self) -> str:
        return MASTER if self._rng.random() < self.MASTER_SHARE else self._rng.choice(self._participants.nodes)

    def _sides(self) -> tuple[list[str], list[str]]:
        all_nodes = self._participants.nodes + self._participants.client_names
        while True:
            one = [name for name in all_nodes if self._rng.random() < 0.5]
            other = [name for name in all_nodes if name not in one]
            nodes = [len(set(side) & set(self._participants.nodes)) for side in (one, other)]
            if min(nodes):
                return (one, other) if nodes[0] <= nodes[1] else (other, one)

    def _pairs(self) -> list[Route]:
        nodes = self._participants.nodes
        all_pairs = [(one, other) for one in nodes for other in nodes if one != other]
        count = self._rng.randint(2, max(2, len(all_pairs) // 3))
        chosen: list[Route] = []
        for pair in self._rng.sample(all_pairs, count):
            if pair[::-1] not in chosen:
                chosen.append(pair)
        return chosen


def draw(
    seed: int,
    number: int,
    participants: Participants,
    max_faults: int = 4,
    fault_types: Sequence[FaultType] = GENERAL_FAULTS,
) -> list[Fault]:
    """
    Draw the faults of one round, in the order of their start.

    :param number: of the round; each one has a random number generator of its own, so that it can be repeated alone.
    :param max_faults: maximum number of faults; at least half as many, and one, are drawn.
    :param fault_types: the kinds to draw from; none is repeated before all were drawn.
    """
    rng = random.Random(f"{seed}/{number}")
    count = rng.randint(max(1, max_faults // 2), max_faults)
    drawing = FaultGenerator(rng, participants)
    drawn: list[FaultType] = []
    while len(drawn) < count:
        drawn += rng.sample(list(fault_types), min(len(fault_types), count - len(drawn)))
    return sorted((drawing.fault(kind) for kind in drawn), key=lambda fault: fault.starts)
