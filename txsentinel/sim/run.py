"""One run of a seed: a fleet, its faults, the healing, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from txsentinel.core.sentinel import SentinelCore
from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.faults import Fault, FaultInjector, draw_plan, heal, observe_all
from txsentinel.sim.fleet import Fleet, TranscriptLine
from txsentinel.sim.groups import Shape
from txsentinel.sim.pause_faults import LENGTHS_MS
from txsentinel.sim.redis.persistence import Persistence
from txsentinel.sim.server_checks import LIMIT, STABLE_SECONDS
from txsentinel.sim.simulation import collecting_seldom

START_LIMIT = 30.0
"""Seconds within which the members of a healthy fleet know each other."""

CONVERGENCE_LIMIT = 120.0
"""
Seconds after the last fault within which all must agree (L1 to L6): TILT, two failover-timeouts, an election, the
conversion of a returned master, and a repair after another failover-timeout.
"""

WAITS_FOR_OPERATORS = (3.0, 3.0)
"""Seconds after which the operator checks that everything is monitored, so that every process has started."""

HARMLESS = {"slow-sentinel", "starve-sentinel"}
"""Faults of Sentinels during which they may hold no server down."""

CLIENT_LIMIT = 40.0
"""Seconds within which every client is served again; it may first have to close a dead connection."""


@dataclass(slots=True)
class RunOutcome:
    """The outcome of a seed; times are in simulated seconds."""

    seed: int
    shape: Shape
    plan: list[Fault]
    seconds: float
    faults: list[tuple[float, str]]
    lines: list[TranscriptLine]
    wrong: list[str]
    interesting_from: float
    failovers: int
    digest: str
    converged_after: float | None


def draw_shape(seed: int) -> Shape:
    """Draw the size and the options of a fleet."""
    random = Random(f"shape/{seed}")
    sentinels = random.choice((3, 3, 3, 5))
    quorum = random.choice((sentinels // 2 + 1, sentinels // 2 + 1, 1, sentinels))
    replicas = random.choice((1, 2, 2, 3))
    shape = Shape(
        sentinels=sentinels,
        masters=random.choice((1, 1, 2, 3)),
        replicas=replicas,
        quorum=quorum,
        down_after=random.choice((300, 1_000, 1_000, 3_000)),
        failover_timeout=random.choice((3_000, 10_000)),
        parallel_syncs=random.choice((1, 2)),
        unwilling=random.choice((0, 0, 0, 1)) if replicas > 1 else 0,
        hostnames=random.random() < 0.2,
        c_peers=random.choice((0, 0, 0, 1, 2)),
    )
    # Drawn apart, so that it changes nothing else of the fleet.
    modes = (Persistence.LOG, Persistence.LOG, Persistence.SNAPSHOT, Persistence.NONE)
    shape = replace(shape, persistence=Random(f"persistence/{seed}").choice(modes))
    # With a shorter period a C Sentinel holds each new master down before it has reconnected to it, and never recovers.
    return replace(shape, down_after=max(shape.down_after, 1_000)) if shape.c_peers else shape


class Run:
    """
    One seed, phase by phase: faults, healing, and a last failover that must succeed.

    :param plan: the faults, in place of those that the seed would draw.
    :param shape: the fleet, in place of the one that the seed would draw.
    :param invariant: stop as soon as this one is violated.
    """

    def __init__(
        self,
        seed: int,
        seconds: float,
        plan: list[Fault] | None = None,
        shape: Shape | None = None,
        invariant: str | None = None,
    ) -> None:
        self.seed = seed
        self.seconds = seconds
        self.plan = draw_plan(seed, seconds) if plan is None else plan
        self.shape = shape or draw_shape(seed)
        self.fleet = Fleet(seed, self.shape)
        self.checker = InvariantChecker(self.fleet)
        self.wrong: list[str] = []
        self._invariant = invariant
        self._healed_at = 0.0
        self._converged_after: float | None = None
        self._log: list[tuple[float, str]] = []

    def all(self) -> RunOutcome:
        """Run all phases, or stop at the first one that fails."""
        return self._run(
            self.start,
            self.inject_faults,
            self._heal,
            self._agree,
            self._replace,
            self._hand_over,
            self._restart_empty,
        )

    def faults_only(self) -> RunOutcome:
        """Run until all agree after the faults, or stop at the first phase that fails."""
        return self._run(self.start, self.inject_faults, self._heal, self._agree)

    def _run(self, *phases: Callable[[], None]) -> RunOutcome:
        with collecting_seldom():
            for phase in phases:
                phase()
                if self._over:
                    break
        return self._outcome()

    @property
    def _over(self) -> bool:
        if self._invariant is None:
            return bool(self.wrong)
        broken = [violation.invariant for violation in self.checker.violations]
        broken += [what.partition(" ")[0] for what in self.wrong]
        return self._invariant in broken or bool(self.wrong)

    def _pass(self, seconds: float) -> None:
        """Advance the simulation; stop at the violation that the run was started for."""
        if self._invariant is None:
            self.fleet.run(seconds)
        while self._invariant is not None and seconds > 0 and not self._over:
            self.fleet.run(min(seconds, 0.5))
            seconds -= 0.5

    def start(self) -> None:
        """Start the fleet, and wait until its members know each other."""
        self.fleet.start()
        if not self.fleet.converge(START_LIMIT):
            self.wrong += [f"L5 at the start: {what}" for what in self.fleet.disagreements()]

    def inject_faults(self) -> None:
        """Inject the faults of the plan, for as long as they last."""
        self._log = FaultInjector(self.fleet, self.plan).log
        self._pass(self.seconds)
        if self.plan and {fault.kind for fault in self.plan} <= HARMLESS:
            down = [line for line in self.fleet.lines if "+sdown master " in line.text or "+sdown slave " in line.text]
            self.wrong += [f"slow {line.who} logs {line.text} although all servers were healthy" for line in down[:1]]

    def _heal(self) -> None:
        heal(self.fleet)
        self._healed_at = self.fleet.simulation.seconds()
        self._pass(max((fault.lasts for fault in self.plan), default=0.0))
        if any(fault.kind == "pause-failovers" for fault in self.plan):
            # All pauses have ended then, also where the order to end them did not arrive.
            self._pass(max(LENGTHS_MS) / 1000 + 1)
        heal(self.fleet)
        for wait in WAITS_FOR_OPERATORS:
            self._pass(wait)
            observe_all(self.fleet)

    def _agree(self) -> None:
        if self.fleet.converge(CONVERGENCE_LIMIT):
            self._converged_after = self.fleet.simulation.seconds() - self._healed_at
        else:
            self.wrong += [f"L2 to L6 after healing: {what}" for what in self.fleet.disagreements()]

    def _replace(self) -> None:
        """Kill a master of the healthy fleet: it must be replaced (L1), and follow when it returns (L4)."""
        fleet = self.fleet
        group = fleet.masters[self.seed % len(fleet.masters)]
        dying = next(server for server in group.servers if server.is_master)
        served = [client.served for client in fleet.clients]
        dying.host.kill()
        views = [sentinel.alive.core.master(group.name) for sentinel in fleet.sentinels]
        options = [view.options for view in views]
        # A Sentinel that tried or voted recently must first wait.
        limit = max(each.down_after + 3 * each.failover_timeout for each in options) / 1000 + 15.0

        def moved() -> bool:
            views = {s.alive.core.master(group.name).published_address.ip for s in fleet.sentinels if s.running}
            return len(views) == 1 and dying.host.ip not in views

        if not fleet.simulation.run_until(moved, limit):
            self.wrong.append(f"L1 {group.name} was not failed over within {limit:g} s of the death of its master")
        dying.host.restart()
        if not fleet.converge(CONVERGENCE_LIMIT):
            self.wrong += [f"L4 after the return of {dying.host.name}: {what}" for what in fleet.disagreements()]
        if fleet.simulation.run_until(
            lambda: all(client.served > before for client, before in zip(fleet.clients, served, strict=True)),
            CLIENT_LIMIT,
        ):
            return
        for client, before in zip(fleet.clients, served, strict=True):
            if client.served == before:
                self.wrong.append(f"replies: {client.host.name} is not served any more")

    def _hand_over(self) -> None:
        """
        Order a coordinated failover in the healthy fleet: afterwards all must agree, and the servers' files must match.
        """
        fleet = self.fleet
        self._pass(STABLE_SECONDS + LIMIT)
        group = fleet.masters[self.seed % len(fleet.masters)]
        fleet.clients[self.seed % len(fleet.clients)].order("SENTINEL", "FAILOVER", group.name, "COORDINATED")
        self._pass(LIMIT)
        if not fleet.converge(CONVERGENCE_LIMIT):
            self.wrong += [f"L2 after the hand-over of {group.name}: {what}" for what in fleet.disagreements()]
        self._pass(STABLE_SECONDS)
        for server in fleet.servers:
            if server.configured_master() != server.master_address:
                named = server.configured_master()
                self.wrong.append(f"files: that of {server.host.name} names {named}, not {server.master_address}")

    def _restart_empty(self) -> None:
        """Restart a master of the healthy fleet without its data: the others must keep theirs, and it gets it back."""
        fleet, shape = self.fleet, self.shape
        group = fleet.masters[self.seed % len(fleet.masters)]
        cores = [sentinel.alive.core for sentinel in fleet.sentinels]
        views = [core.master(group.name) for core in cores]
        if shape.unwilling >= shape.replicas or any(view.options.quorum > len(views) for view in views):
            return  # no replica may be promoted, or ours are too few to agree
        if not all(view.options.guards.empty_restart_failover for view in views):
            return  # an operator had the group monitored anew, with the default
        distance = max(2 * view.options.failover_timeout for view in views) / 1000
        fleet.simulation.run_until(lambda: all(_may_attempt(core, group.name) for core in cores), distance + LIMIT)
        server = next(server for server in group.servers if server.is_master)
        keys = set(server.data)
        random = Random(f"empty/{self.seed}")
        self._pass(STABLE_SECONDS + random.random())
        server.host.kill()
        server.storage.erase()
        self._pass(random.uniform(0.2, 2.0))
        server.host.restart()
        self._pass(STABLE_SECONDS)
        if not fleet.converge(CONVERGENCE_LIMIT):
            self.wrong += [f"L2 after {server.host.name} returned empty: {what}" for what in fleet.disagreements()]
        for each in group.servers:
            if not keys <= each.data.keys():
                lost = f"{len(keys - each.data.keys())} keys as {server.host.name} restarted empty"
                self.wrong.append(f"data of {each.host.name}: it lost {lost}")

    def _outcome(self) -> RunOutcome:
        if not self.wrong:
            self.checker.history.finish()
        wrong = self.wrong + [str(violation) for violation in self.checker.violations]
        wrong += [f"an exception: {failure}" for failure in self.fleet.simulation.failures]
        simulation = self.fleet.simulation
        first = self.checker.violations[0].at if self.checker.violations else simulation.seconds()
        return RunOutcome(
            seed=self.seed,
            shape=self.shape,
            plan=self.plan,
            seconds=simulation.seconds(),
            faults=self._log,
            lines=self.fleet.lines,
            wrong=wrong,
            interesting_from=first,
            failovers=self.checker.failovers,
            digest=simulation.digest(),
            converged_after=self._converged_after,
        )


def _may_attempt(core: SentinelCore, name: str) -> bool:
    """Whether a Sentinel need not wait after an attempt to fail over."""
    started, now = core.master(name).attempt_started_at, core.state.counted_at
    return started is None or (now is not None and now - started > 2 * core.master(name).options.failover_timeout)


def run_seed(seed: int, seconds: float, plan: list[Fault] | None = None) -> RunOutcome:
    """Start a fleet, inject faults for ``seconds``, heal it, and check that it agrees."""
    return Run(seed, seconds, plan).all()
