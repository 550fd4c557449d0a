"""
Sentinels with one rule broken each, to prove that the invariant checker notices.

A mutant replaces one function of the production code while it is active. It is listed with the invariant that must
detect it, and with the run in which it does: a fleet, a plan of faults, a seed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from txsentinel.config import configuration, recovery
from txsentinel.core import (
    administration,
    availability,
    crash_detection,
    election,
    empty_restart,
    failover,
    failover_records,
    failover_start,
    failure_recorder,
    fencing,
    handover,
    hello_processing,
    lineage,
    observation,
    questions,
    reconfiguration,
    selection,
    sentinel,
    state,
    switching,
    vote_count,
    voting,
)
from txsentinel.core import evaluation as evaluation
from txsentinel.core import tilt as tilt_guard
from txsentinel.core.crash_evidence import CrashStep
from txsentinel.core.effects import Reconfigure
from txsentinel.core.failover_state import FailoverState, SyncStep
from txsentinel.core.fence_state import LeaseEnd
from txsentinel.core.instances import Failover, InstanceLink, Master, Replica
from txsentinel.core.journal import JournalEntry
from txsentinel.core.voting import Vote
from txsentinel.model.address import Address
from txsentinel.model.explanation import Unfit, UnfitCode, VerdictCode
from txsentinel.model.failure import CONFIGURATION_FAULTS, FailureClass
from txsentinel.model.history import JournalKind
from txsentinel.runtime import durability as barriers
from txsentinel.server import replies
from txsentinel.sim import files
from txsentinel.sim.faults import draw_plan
from txsentinel.sim.groups import Shape
from txsentinel.sim.run import Run, RunOutcome
from txsentinel.wire.resp import OK

Patch = tuple[Any, str, Any]


MAX_RUNS = 25
"""Number of seeds within which a mutant must be detected."""


@dataclass(frozen=True)
class Mutant:
    """One broken rule."""

    name: str
    caught_by: str
    """The violated invariant, as violations name it."""

    patches: Callable[[], list[Patch]]
    seed: int = 0
    seconds: float = 30.0
    shape: Shape | None = None
    """The fleet, if not the one that the seed draws."""

    kinds: tuple[str, ...] | None = None
    """The fault types, if not all."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the patches inside the block."""
        with ExitStack() as stack:
            for owner, attribute, replacement in self.patches():
                stack.enter_context(patch.object(owner, attribute, replacement))
            yield

    def run(self, seed: int) -> RunOutcome:
        """Return the result of a run with such Sentinels; it ends with the violation."""
        plan = draw_plan(seed, self.seconds, self.kinds)
        with self.applied():
            return Run(seed, self.seconds, plan, self.shape, invariant=self.caught_by).all()

    def caught(self) -> tuple[bool, list[str]]:
        """
        Return whether the violation is detected within ``MAX_RUNS``, and the violations found.

        The first run is known to detect it, so it is mostly the last one.
        """
        wrong: list[str] = []
        for seed in range(self.seed, self.seed + MAX_RUNS):
            outcome = self.run(seed)
            if self.detected_in(outcome):
                return True, outcome.wrong
            wrong += outcome.wrong
        return False, wrong

    def detected_in(self, outcome: RunOutcome) -> bool:
        """Whether the result has the violation."""
        return any(what.partition(" ")[0] == self.caught_by for what in outcome.wrong)


MUTANTS: list[Mutant] = []


def mutant(caught_by: str, **simulation: Any) -> Callable[[Callable[[], list[Patch]]], Callable[[], list[Patch]]]:
    """Register a function that returns the patches of a mutant, under its name."""

    def register(patches: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
        MUTANTS.append(Mutant(patches.__name__, caught_by, patches, **simulation))
        return patches

    return register


def _without(owner: type, attribute: str, answer: Any = None) -> list[Patch]:
    return [(owner, attribute, lambda *arguments, **keywords: answer)]


# Votes


@mutant("durable", seed=2)
def votes_are_not_saved() -> list[Patch]:
    """A vote is sent before it is on disk."""

    def cast(self: voting.Voting, master: Master, candidate: str, epoch: int, now: int) -> None:
        master.leader, master.leader_epoch, master.voted_at = candidate, epoch, now
        self._state.announce_text("+vote-for-leader", f"{candidate} {epoch}", master)
        if candidate != self._state.options.my_id:
            master.attempt_started_at = now

    return [(voting.Voting, "cast", cast)]


@mutant("durable", kinds=("full-disk", "masters-die", "disk-failure"), seed=4)
def votes_are_published_while_saving_fails() -> list[Patch]:
    """``+vote-for-leader`` is published although the vote could not be saved."""
    return [(barriers, "is_binding", lambda effect: False)]


@mutant("S2", kinds=("bind-mount", "masters-die"), seed=4)
def reads_past_recovery_records() -> list[Patch]:
    """A file whose overwriting was interrupted is read itself, instead of its recovery record."""

    def recovered(raw: bytes) -> recovery.Recovered:
        found = recovery.recovered(raw)
        if found.interrupted is None:
            return found
        at = raw.rfind(recovery.HEADER)
        return recovery.Recovered(recovery.recovered(raw[:at].replace(b"\0", b"")).contents)

    return [(configuration, "recovered", recovered)]


@mutant("S2", kinds=("bind-mount", "masters-die"), seed=4)
def overwrites_without_a_record() -> list[Patch]:
    """The file is overwritten without a recovery record of the new contents."""

    def overwriting(old: bytes, new: bytes) -> recovery.Overwriting:
        return recovery.Overwriting(len(old), b"\n", new, new)

    return [(files, "overwriting", overwriting)]


@mutant("S1", seed=34)
def votes_twice_in_an_epoch() -> list[Patch]:
    """The latest candidate gets a vote, whatever was voted before."""
    real = voting.Voting.requested

    def requested(self: voting.Voting, host: str, port: int, epoch: int, candidate: str, now: int) -> Vote:
        master = self._registry.by_address(host, port)
        if master is not None and candidate != "*" and master.leader_epoch == epoch and master.leader != candidate:
            master.leader, master.vote_generation = candidate, self._state.changed(master)
        return real(self, host, port, epoch, candidate, now)

    return [(voting.Voting, "requested", requested)]


@mutant("S2", kinds=("masters-die", "kill-sentinel"), seed=4)
def restarts_without_its_votes() -> list[Patch]:
    """The last vote is not restored at a restart."""
    real = administration.Administration.restore

    def restore(self: administration.Administration, *arguments: Any, **keywords: Any) -> Master:
        return real(self, *arguments, **{**keywords, "leader_epoch": 0})

    return [(administration.Administration, "restore", restore)]


@mutant("S2", kinds=("monitor-anew", "masters-die"), seed=2)
def removal_forgets_votes() -> list[Patch]:
    """A master that is monitored again gets a second vote in the same epoch."""
    real = administration.Administration.monitor

    def monitor(self: administration.Administration, *arguments: Any) -> Master:
        master = real(self, *arguments)
        master.leader_epoch = master.durable_leader_epoch = 0
        return master

    return [(administration.Administration, "monitor", monitor)]


@mutant(
    "S4",
    kinds=("masters-die", "isolate-sentinel", "kill-server"),
    shape=Shape(quorum=1, failover_timeout=3_000),
    seed=2,
)
def counts_votes_of_any_epoch() -> list[Patch]:
    """Votes of other epochs are counted."""
    real = vote_count.VoteCounter.count

    def count(self: vote_count.VoteCounter, master: Master) -> vote_count.VoteCount:
        assert master.failover is not None
        me, answers = self._state.options.my_id, master.failover.answers
        stale = {peer.name: (me, master.failover.epoch) for peer in master.peers.values() if peer.voted_leader == me}
        with patch.object(master.failover, "answers", {**answers, **stale}):
            return real(self, master)

    return [
        (vote_count.VoteCounter, "count", count),
        *_without(questions.Questions, "expire_opinions"),
        *_without(questions.Questions, "forget_opinions"),
    ]


@mutant("S3", kinds=("masters-die",), seed=2)
def counts_every_answer_as_a_vote() -> list[Patch]:
    """Every reply is counted as a vote for us."""
    real = vote_count.VoteCounter.count

    def count(self: vote_count.VoteCounter, master: Master) -> vote_count.VoteCount:
        assert master.failover is not None
        mine = (self._state.options.my_id, master.failover.epoch)
        with patch.object(master.failover, "answers", dict.fromkeys(master.failover.answers, mine)):
            return real(self, master)

    # Without their order, candidates campaign at once and in the same epoch.
    return [(vote_count.VoteCounter, "count", count), (vote_count.VoteCounter, "campaign_order", lambda *_: 0)]


@mutant("S4", kinds=("masters-die", "directional-block"), seed=10)
def needs_no_majority() -> list[Patch]:
    """The quorum suffices for an election."""
    return [(Master, "majority", property(lambda self: 1))]


@mutant("S4", kinds=("masters-die",), shape=Shape(sentinels=5, quorum=5), seed=1)
def needs_no_quorum_of_votes() -> list[Patch]:
    """The majority suffices for an election, whatever the quorum is."""
    real = vote_count.VoteCounter.count

    def count(self: vote_count.VoteCounter, master: Master) -> vote_count.VoteCount:
        counted = real(self, master)
        return vote_count.VoteCount(
            counted.granted, counted.outstanding, counted.rival, counted.reachable, master.majority
        )

    return [(vote_count.VoteCounter, "count", count)]


# Three Sentinels of five must be dead when a master dies, so their deaths are drawn twice as often as its own.
@mutant(
    "S4", kinds=("masters-die", *2 * ("kill-sentinel", "crash-sentinel")), shape=Shape(sentinels=5, quorum=2), seed=8
)
def forgets_dead_peers() -> list[Patch]:
    """The majority is that of the Sentinels that are up."""
    alive = property(lambda self: 1 + sum(not peer.is_down for peer in self.peers.values()))
    return [(Master, "voters", alive)]


@mutant("S4", kinds=("masters-die",), seed=1)
def promotes_without_an_election() -> list[Patch]:
    """Every campaign succeeds."""
    return _without(election.Elections, "assess", election.ElectionStatus.WON)


@mutant("durable", kinds=("masters-die", "slow-disk"), seed=2)
def counts_its_vote_before_it_is_saved() -> list[Patch]:
    """Our own vote counts before it is saved."""
    real = vote_count.VoteCounter.count

    def count(self: vote_count.VoteCounter, master: Master) -> vote_count.VoteCount:
        with patch.object(self._state, "durable_generation", 1 << 60):
            return real(self, master)

    return [
        (vote_count.VoteCounter, "count", count),
        (election.Elections, "_vote_durable", lambda self, failover: True),
    ]


@mutant("durable", kinds=("masters-die", "full-disk"), seed=4)
def votes_although_the_disk_fails() -> list[Patch]:
    """A vote that could not be saved is sent, as C does."""
    return [(Vote, "fallback", lambda self: self)]


@mutant("S9", kinds=("masters-die",), seed=1)
def votes_beyond_its_current_epoch() -> list[Patch]:
    """A vote does not raise the current epoch."""
    return _without(state.SentinelState, "adopt_epoch")


# Durability


@mutant("durable", kinds=("masters-die",), seed=1)
def has_no_barrier() -> list[Patch]:
    """Nothing waits for the disk."""

    def submit(self: barriers.DurabilityBarrier, generation: int, effect: Any) -> None:
        self._perform(effect)

    def defer_reply(self: barriers.DurabilityBarrier, generation: int, released: Any, failed: Any, *undo: Any) -> None:
        released()

    return [(barriers.DurabilityBarrier, "submit", submit), (barriers.DurabilityBarrier, "defer_reply", defer_reply)]


@mutant("durable", kinds=("masters-die", "slow-disk"), seed=2)
def holds_no_effects() -> list[Patch]:
    """Replies wait for the disk, hellos and events do not."""
    return [(barriers.DurabilityBarrier, "submit", lambda self, generation, effect: self._perform(effect))]


@mutant("durable", kinds=("masters-die",), seed=1)
def holds_no_replies() -> list[Patch]:
    """Hellos and events wait for the disk, replies do not."""
    return [(barriers.DurabilityBarrier, "defer_reply", lambda self, generation, released, failed, *undo: released())]


@mutant("durable", kinds=("masters-die", "slow-disk"), seed=4)
def publishes_address_before_save() -> list[Patch]:
    """A client gets an address that a crash would take back."""
    nothing = property(lambda self: 0, lambda self, generation: None)
    return [(Master, "address_generation", nothing)]


@mutant("durable", kinds=("set",), seed=1)
def confirms_before_save() -> list[Patch]:
    """A command is confirmed before its change is on disk."""
    from txsentinel.server.commands import sentinel_changes

    return [(sentinel_changes, "once_saved", lambda context, undo=None, since=0, value=OK: value)]


@mutant("durable", kinds=("set",), seed=1)
def does_not_save_its_id() -> list[Patch]:
    """The ID is not saved, so a restart would add another voter."""
    from txsentinel.config import rendering, store

    real = rendering.own_head_lines
    return [(store, "own_head_lines", lambda *arguments: [line for line in real(*arguments) if line.kind != "myid"])]


@mutant("replies", kinds=("slow-disk", "set"), seed=1)
def answers_out_of_order() -> list[Patch]:
    """Replies that are ready do not wait for deferred ones before them."""

    def add(self: replies.ReplyQueue, encoded: bytes) -> None:
        self.size += len(encoded)
        self.ready.append(encoded)

    return [(replies.ReplyQueue, "add", add)]


# Configurations and epochs


@mutant("S6", kinds=("masters-die", "isolate-sentinel"), seed=4)
def adopts_older_configurations() -> list[Patch]:
    """Older configurations are adopted, too."""
    # Mutants replace the rule that they break, whatever its name is.
    real = hello_processing.HelloProcessing._configuration

    def configuration(self: hello_processing.HelloProcessing, hello: Any, master: Master, peer: Any, now: int) -> bool:
        address = Address.literal(hello.master_ip, hello.master_port)
        if hello.master_config_epoch < master.config_epoch and not master.published_address.same(address):
            master.config_epoch = hello.master_config_epoch
            self._failovers.ends.discard(master)
            self._switching.switch(master, address, master.published_address, now)
        return real(self, hello, master, peer, now)

    return [(hello_processing.HelloProcessing, "_configuration", configuration)]


@mutant("S12", kinds=("masters-die",), seed=1)
def switches_without_epoch() -> list[Patch]:
    """A newer address is adopted without its config epoch."""
    real = switching.Switching.switch

    def switch(self: switching.Switching, master: Master, address: Address, published: Address, now: int) -> None:
        if master.failover is None:
            master.config_epoch -= 1
        real(self, master, address, published, now)

    return [(switching.Switching, "switch", switch)]


@mutant("S5", kinds=("masters-die", "split", "rival-failovers"), seed=2)
def numbers_its_configurations_itself() -> list[Patch]:
    """A new configuration has the next epoch, not that of the election."""
    real = failover.Failovers.promotion_seen

    def observe(self: failover.Failovers, replica: Replica, now: int) -> bool:
        current = replica.master.failover
        if current is not None:
            current.epoch = replica.master.config_epoch + 1
        return real(self, replica, now)

    return [(failover.Failovers, "promotion_seen", observe)]


@mutant("durable", kinds=("masters-die", "kill-sentinel"), seed=2)
def writes_no_config_epoch() -> list[Patch]:
    """The config epoch is not saved."""
    from txsentinel.config import rendering, store

    def lines(master: Master, *arguments: Any) -> Any:
        with patch.object(master, "config_epoch", 0):
            return real(master, *arguments)

    real = rendering.master_lines
    return [(store, "master_lines", lines)]


@mutant("S6", kinds=("masters-die", "kill-sentinel"), seed=4)
def restarts_without_its_config_epoch() -> list[Patch]:
    """The config epoch in the file is not read."""
    real = administration.Administration.restore

    def restore(self: administration.Administration, *arguments: Any, **keywords: Any) -> Master:
        return real(self, *arguments, **{**keywords, "config_epoch": 0})

    return [(administration.Administration, "restore", restore)]


@mutant("S6", kinds=("masters-die", "reset-master"), seed=4)
def forgets_its_config_epoch_at_reset() -> list[Patch]:
    """RESET sets the config epoch to 0."""
    real = switching.Switching.reset

    def reset(self: switching.Switching, master: Master, now: int) -> None:
        master.config_epoch = 0
        real(self, master, now)

    return [(switching.Switching, "reset", reset)]


@mutant("S7", kinds=("masters-die",), seed=2)
def writes_no_current_epoch() -> list[Patch]:
    """The saved current epoch is that of the last restart."""
    from txsentinel.config import rendering, store

    real = rendering.own_tail_lines
    return [(store, "own_tail_lines", lambda options, epoch, *rest: real(options, epoch % 2, *rest))]


@mutant("S8", kinds=("masters-die", "kill-sentinel"), seed=4)
def restarts_without_its_current_epoch() -> list[Patch]:
    """A restart begins at epoch 0."""
    real = administration.Administration.announce_monitored

    def announce(self: administration.Administration) -> None:
        self._state.current_epoch = 0
        real(self)

    return [(administration.Administration, "announce_monitored", announce)]


@mutant("S12", kinds=("masters-die",), seed=2)
def publishes_before_the_promotion_is_seen() -> list[Patch]:
    """The command to promote counts as the observed promotion."""
    from txsentinel.core import instances
    from txsentinel.core.failover_state import PROMOTION_SEEN

    return [(instances, "PROMOTION_SEEN", PROMOTION_SEEN | {FailoverState.WAIT_PROMOTION})]


@mutant("S12", kinds=("masters-die",), seed=2)
def waits_for_no_info() -> list[Patch]:
    """A promotion that was ordered counts as observed."""

    def wait(self: failover.Failovers, master: Master, current: Failover, now: int) -> None:
        assert current.promoted is not None
        self.promotion_seen(current.promoted, now)

    return [(failover.Failovers, "_await_promotion", wait)]


# Agreement


@mutant("S10", kinds=("cut-pair", "isolate-sentinel", "masters-die"), seed=2)
def needs_no_agreement() -> list[Patch]:
    """S_DOWN is O_DOWN."""
    real = availability.Availability.check_odown

    def check(self: availability.Availability, master: Master, now: int) -> None:
        with patch.object(master.options, "quorum", 1):
            real(self, master, now)

    return [(availability.Availability, "check_odown", check)]


@mutant("S10", kinds=("pause-server", "isolate-sentinel", "busy-server"), seed=4)
def keeps_old_opinions() -> list[Patch]:
    """The opinion of a peer never expires, even after switches."""
    return [
        (questions.Questions, "expire_opinions", lambda *_: None),
        (questions.Questions, "forget_opinions", lambda *_: None),
    ]


@mutant("S10", kinds=("isolate-sentinel", "masters-die", "cut-pair"), seed=1)
def always_reports_down() -> list[Patch]:
    """Every peer gets the opinion that the master is down."""
    real = voting.Voting.requested

    def requested(self: voting.Voting, *arguments: Any) -> Vote:
        vote = real(self, *arguments)
        return Vote(True, vote.leader, vote.leader_epoch, vote.generation, vote.durable_epoch)

    # An opinion is evaluated again when it is sent.
    return [(voting.Voting, "requested", requested), (sentinel.SentinelCore, "holds_down", lambda *_: True)]


@mutant("S13", kinds=("pause-sentinel", "wall-clock"), seed=1)
def never_enters_tilt() -> list[Patch]:
    """A stopped process does not enter TILT."""
    return _without(tilt_guard.TiltGuard, "swept", False)


@mutant("S13", kinds=("pause-sentinel", "wall-clock", "kill-server"), seed=2)
def evaluates_in_tilt() -> list[Patch]:
    """TILT has no effect."""

    def evaluate(self: evaluation.Evaluation, instance: Any, now: int) -> None:
        if not instance.gone:
            self._probing.evaluate(instance, now)
            self._availability.evaluate(instance, now)
            self.schedule(instance, now)

    return [(evaluation.Evaluation, "evaluate", evaluate)]


@mutant("slow", seed=4, kinds=("slow-sentinel",))
def counts_unread_replies_as_missing() -> list[Patch]:
    """Replies that arrived but are not read yet count as missing."""
    return [(state.SentinelState, "received_until", lambda self, now: now)]


STARVED = ("starve-sentinel", "kill-server")


@mutant("slow", kinds=STARVED, seed=2)
def takes_starvation_for_a_stop() -> list[Patch]:
    """A process that waited for a processor enters TILT."""
    return [(tilt_guard.TiltReport, "starved", False)]


@mutant("S13", kinds=("pause-sentinel", "kill-server"), seed=2)
def takes_a_stop_for_starvation() -> list[Patch]:
    """A process that was stopped does not enter TILT."""
    return [(tilt_guard.TiltReport, "starved", True)]


@mutant("S13", kinds=STARVED, seed=2, seconds=120.0)
def starves_without_a_limit() -> list[Patch]:
    """A process that waited for a processor for longer than the period of TILT does not enter it."""
    real = tilt_guard.TiltGuard.swept

    def swept(self: tilt_guard.TiltGuard, *arguments: Any) -> bool:
        before, self.timings = self.timings, replace(self.timings, tilt_period=1_000_000)
        try:
            return real(self, *arguments)
        finally:
            self.timings = before

    return [(tilt_guard.TiltGuard, "swept", swept)]


@mutant("S13", kinds=("pause-sentinel", "kill-server", "masters-die"), seed=4)
def gives_opinions_in_tilt() -> list[Patch]:
    """Opinions are given in TILT."""
    real = voting.Voting.__init__

    def init(self: voting.Voting, shared: Any, registry: Any, tilt: tilt_guard.TiltGuard) -> None:
        real(self, shared, registry, tilt_guard.TiltGuard(tilt.timings))

    def holds_down(self: sentinel.SentinelCore, host: str, port: int) -> bool:
        master = self.registry.by_address(host, port)
        return master is not None and master.sdown_since is not None

    return [(voting.Voting, "__init__", init), (sentinel.SentinelCore, "holds_down", holds_down)]


# Attempts


@mutant("S15", kinds=("masters-die", "crash-server"), shape=Shape(sentinels=5, masters=3, quorum=5), seed=2)
def tries_again_at_once() -> list[Patch]:
    """There is no interval between attempts."""
    real = failover_start.StartRules.hindrances

    def hindrances(self: failover_start.StartRules, master: Master, now: int) -> Iterator[failover_start.Hindrance]:
        interval = (VerdictCode.ATTEMPT_TOO_RECENT, VerdictCode.VOTED_FOR_OTHER)
        return (each for each in real(self, master, now) if each.code not in interval)

    return [(failover_start.StartRules, "hindrances", hindrances)]


@mutant("S16", kinds=("masters-die", "crash-sentinel", "pause-server"), seed=4)
def tries_right_after_voting() -> list[Patch]:
    """A vote for another candidate does not delay our attempt."""
    real = voting.Voting.cast

    def cast(self: voting.Voting, master: Master, candidate: str, epoch: int, now: int) -> None:
        before = master.attempt_started_at
        real(self, master, candidate, epoch, now)
        if candidate != self._state.options.my_id:
            master.attempt_started_at = before

    return [(voting.Voting, "cast", cast)]


@mutant("S10", kinds=("masters-die",), seed=1)
def forces_every_failover() -> list[Patch]:
    """Every failover is forced."""
    # Mutants replace the rule that they break, whatever its name is.
    real = failover.Failovers._start

    def start(self: failover.Failovers, master: Master, now: int, *, forced: bool, coordinated: bool = False) -> None:
        real(self, master, now, forced=True)

    return [(failover.Failovers, "_start", start)]


@mutant("S17", kinds=("pause-group",), seed=1)
def continues_without_reason() -> list[Patch]:
    """A failover continues although its reason is gone."""
    return [
        (failover, "abort_reason", lambda *arguments: None),
        (failover_start, "return_awaited_until", lambda *arguments: None),
    ]


@mutant("S14", kinds=("masters-die",), shape=Shape(unwilling=1), seed=1)
def ignores_priority_zero() -> list[Patch]:
    """Replicas of priority 0 are preferred."""
    real = selection.unfit_because

    def unfit(replica: Replica, *arguments: Any) -> Unfit | None:
        reason = real(replica, *arguments)
        return None if reason is not None and reason.code is UnfitCode.PRIORITY_ZERO else reason

    return [(selection, "unfit_because", unfit), (failover, "unfit_because", unfit)]


@mutant("S11", kinds=("masters-die",), seed=2)
def promotes_for_others() -> list[Patch]:
    """A voter promotes a replica itself."""
    real = voting.Voting.cast

    def cast(self: voting.Voting, master: Master, candidate: str, epoch: int, now: int) -> None:
        real(self, master, candidate, epoch, now)
        if candidate != self._state.options.my_id:
            for replica in master.replicas.values():
                self._state.emit(Reconfigure(replica.link, None))

    # Such a command would be dropped as outdated.
    return [(voting.Voting, "cast", cast), (sentinel.SentinelCore, "is_outdated", lambda *_: False)]


@mutant("S11", kinds=("masters-die",), seed=2)
def reconfigures_replicas_to_a_replica() -> list[Patch]:
    """Replicas are reconfigured to follow one of themselves."""
    real = switching.Switching.role_change

    def change(self: switching.Switching, server: Any, master: Address | None) -> Reconfigure:
        return real(self, server, None if master is None else server.address)

    # An outdated command would be dropped before it is sent, so it is made to look valid.
    return [(switching.Switching, "role_change", change), (sentinel.SentinelCore, "is_outdated", lambda *_: False)]


@mutant("S11", kinds=("rival-failovers",), seed=2)
def sends_outdated_commands() -> list[Patch]:
    """An outdated command is sent, though the master has moved meanwhile."""
    return _without(sentinel.SentinelCore, "is_outdated", False)


# Bounds


@mutant("bounded", kinds=("masters-die", "pause-sentinel"), seed=4)
def repeats_unanswered_requests() -> list[Patch]:
    """Peers are queried again before they replied."""

    class Forgetful(deque):  # type: ignore[type-arg]
        def __contains__(self, question: object) -> bool:
            return False

    real = questions.Questions.ask

    def ask(self: questions.Questions, peer: Any, now: int) -> None:
        peer.asked = Forgetful(peer.asked)
        with patch.object(self._state, "limits", replace(self._state.limits, questions=1 << 30)):
            real(self, peer, now)

    return [(questions.Questions, "ask", ask)]


@mutant("bounded", kinds=("rival-failovers", "reset-master"), seed=4)
def leaks_connections() -> list[Patch]:
    """Links that are not needed any more stay open."""
    from txsentinel.links import pool

    return _without(pool.LinkPool, "_disconnect")


# Servers afterwards


@mutant("pauses", kinds=("coordinated-failover",), seed=2)
def sends_hello_before_unpause() -> list[Patch]:
    """The hello to the old master is sent first, and is blocked by the pause that the next command would end."""
    real_finish, real_word = handover.Handovers.finish, switching.Switching.broadcast_hello
    late: list[tuple[Any, ...]] = []

    def finish(self: handover.Handovers, *servers: Any) -> None:
        late.append((self, *servers))

    def broadcast_hello(self: switching.Switching, master: Master, now: int) -> None:
        real_word(self, master, now)
        while late:
            real_finish(*late.pop())

    return [(handover.Handovers, "finish", finish), (switching.Switching, "broadcast_hello", broadcast_hello)]


@mutant("pauses", kinds=("coordinated-failover",), shape=Shape(failover_timeout=30_000), seed=1)
def pauses_writes_for_too_long() -> list[Patch]:
    """The pause is as long as the failover timeout."""
    return [(handover, "MAX_PAUSE", 1 << 30)]


@mutant("pauses", kinds=("coordinated-failover",), seed=1)
def does_not_unpause() -> list[Patch]:
    """After a hand-over files are rewritten and clients disconnected, but writes stay paused."""
    from txsentinel.links import encoded_commands

    real = encoded_commands.finish_hand_over
    return [(encoded_commands, "finish_hand_over", lambda: [each for each in real() if each != ("CLIENT", "UNPAUSE")])]


@mutant("clients", kinds=("coordinated-failover",), seed=1)
def keeps_the_clients_after_a_hand_over() -> list[Patch]:
    """No client of the old master is disconnected."""
    from txsentinel.links import encoded_commands

    real = encoded_commands.finish_hand_over
    return [(encoded_commands, "finish_hand_over", lambda: [each for each in real() if each[1:3] != ("KILL", "TYPE")])]


@mutant("clients", kinds=("manual-failover",), seed=1)
def keeps_the_subscribers_of_a_demoted_master() -> list[Patch]:
    """Only normal clients are disconnected."""
    from txsentinel.links import encoded_commands

    real = encoded_commands.role_change
    return [(encoded_commands, "role_change", lambda change: [each for each in real(change) if each[-1] != "pubsub"])]


@mutant("files", kinds=("coordinated-failover",), seed=1)
def rewrites_no_file_after_a_hand_over() -> list[Patch]:
    """A restart would restore the old roles."""
    from txsentinel.links import encoded_commands

    real = encoded_commands.finish_hand_over
    return [(encoded_commands, "finish_hand_over", lambda: [each for each in real() if each != ("CONFIG", "REWRITE")])]


@mutant("files", kinds=("masters-die",), seed=1)
def rewrites_no_file_after_a_promotion() -> list[Patch]:
    """An ordered role does not survive a restart."""
    from txsentinel.links import encoded_commands

    real = encoded_commands.role_change
    return [
        (
            encoded_commands,
            "role_change",
            lambda change: [each for each in real(change) if each != ("CONFIG", "REWRITE")],
        )
    ]


@mutant("follows", kinds=("manual-failover", "coordinated-failover"), shape=Shape(replicas=3), seed=1)
def skips_reconfiguration() -> list[Patch]:
    """The other replicas are not reconfigured, and the failover ends nevertheless."""

    def follow(self: reconfiguration.Reconfiguration, replica: Replica, promoted: Replica, now: int) -> None:
        replica.sync = SyncStep.DONE

    return [(reconfiguration.Reconfiguration, "_follow", follow)]


# Crashes


@mutant("crash", kinds=("reset", "half-open"), shape=Shape(down_after=3_000, crash_failover=True), seed=1)
def takes_a_loss_for_a_crash() -> list[Patch]:
    """A lost connection is all the evidence."""

    def assess(self: crash_detection.CrashDetection, master: Master) -> tuple[CrashStep, None]:
        return CrashStep.NO_LOSS if master.crash.lost_at is None else CrashStep.COMPLETE, None

    def lost(self: crash_detection.CrashDetection, link: InstanceLink, *arguments: Any) -> None:
        real(self, link, *arguments)
        for master in [each for each in link.instances if isinstance(each, Master)]:
            self.advance(master, arguments[-1])

    real = crash_detection.CrashDetection.link_down
    return [(crash_detection.CrashDetection, "assess", assess), (crash_detection.CrashDetection, "link_down", lost)]


@mutant("crash", kinds=("reject-pair",), shape=Shape(down_after=3_000, crash_failover=True), seed=1)
def asks_no_replica_about_a_crash() -> list[Patch]:
    """What replicas report about their links to the master does not matter."""
    return [
        (crash_detection, "_has_live_link", lambda *arguments: False),
        (crash_detection, "_has_lost_master", lambda *arguments: True),
    ]


@mutant("crash", kinds=("kill-server",), shape=Shape(down_after=3_000, crash_failover=True), seed=1)
def confirms_no_crash() -> list[Patch]:
    """The attempts that follow the loss at once are enough."""

    real = crash_detection.CrashDetection.assess

    def assess(self: crash_detection.CrashDetection, master: Master) -> tuple[CrashStep, Replica | None]:
        before = master.options.guards
        master.options.guards = replace(before, crash_confirm=0)
        try:
            return real(self, master)
        finally:
            master.options.guards = before

    return [(crash_detection.CrashDetection, "assess", assess)]


# Classes of failures

REFUSED = ("refuse-sentinels",)


@mutant("classes", kinds=REFUSED, seed=1)
def takes_refusals_for_silence() -> list[Patch]:
    """A server that answers with an error of its configuration is S_DOWN."""
    return _without(failure_recorder.FailureRecorder, "_excuse")


@mutant("classes", kinds=REFUSED, seed=2)
def takes_missing_permissions_for_silence() -> list[Patch]:
    """``NOPERM`` is an error like any other."""
    return [(failure_recorder, "CONFIGURATION_FAULTS", CONFIGURATION_FAULTS - {FailureClass.NOPERM})]


@mutant("L1", kinds=REFUSED, seed=2)
def excuses_dead_servers() -> list[Patch]:
    """A server that once refused a command is never S_DOWN."""
    # The rule itself is replaced.
    real = failure_recorder.FailureRecorder._excuse

    def excuse(self: failure_recorder.FailureRecorder, link: InstanceLink, proof: str, now: int) -> None:
        real(self, link, proof, now)
        link.excused_at = now + 1_000_000_000

    return [(failure_recorder.FailureRecorder, "_excuse", excuse)]


# Pauses of isolated masters

FENCED = Shape(down_after=6_000, replicas=1, fence_isolated=True)
ISOLATED = ("isolate-with-minority",)


@mutant("fence", kinds=("isolate-server",), shape=FENCED, seconds=60.0, seed=1)
def fences_without_asking_sentinels() -> list[Patch]:
    """A master whose replicas do not acknowledge counts as isolated, even if all Sentinels answer."""
    return _without(fencing.Fencing, "_answers", False)


@mutant("fence", kinds=("cut-pair",), shape=FENCED, seconds=60.0, seed=1)
def fences_despite_acknowledgements() -> list[Patch]:
    """A replica that acknowledges does not matter; whether a majority answers, neither."""
    return [
        *_without(fencing.Fencing, "_answers", False),
        *_without(fencing.Fencing, "_is_acknowledged", False),
    ]


@mutant("fence", kinds=(*ISOLATED, "wall-clock"), shape=FENCED, seconds=60.0, seed=8)
def fences_in_tilt() -> list[Patch]:
    """Leases are renewed in TILT."""
    real = evaluation.Evaluation.evaluate

    def evaluate(self: evaluation.Evaluation, instance: Any, now: int) -> None:
        if self._tilt.active and not instance.gone:
            self._fencing.evaluate(instance, now)
        real(self, instance, now)

    return [(evaluation.Evaluation, "evaluate", evaluate)]


@mutant("fence", kinds=(*ISOLATED, "full-disk"), shape=FENCED, seconds=60.0, seed=8)
def fences_without_a_disk() -> list[Patch]:
    """A Sentinel that cannot save holds writes all the same."""
    # The rule that this mutant breaks is not visible from outside.
    real = fencing.Fencing._end_reason

    def end_reason(self: fencing.Fencing, *arguments: Any) -> Any:
        error, self._state.storage_error = self._state.storage_error, None
        try:
            return real(self, *arguments)
        finally:
            self._state.storage_error = error

    return [(fencing.Fencing, "_end_reason", end_reason)]


@mutant("fence", kinds=(*ISOLATED, "manual-failover"), shape=FENCED, seconds=60.0, seed=34)
def fences_while_failing_over() -> list[Patch]:
    """Leases are renewed while a failover is in progress that was ordered here."""
    # The rule that this mutant breaks is not visible from outside.
    real = fencing.Fencing._end_reason

    def end_reason(self: fencing.Fencing, master: Master, lease: Any, now: int) -> Any:
        failover, master.failover = master.failover, None
        try:
            return real(self, master, lease, now)
        finally:
            master.failover = failover

    return [(fencing.Fencing, "_end_reason", end_reason)]


@mutant("fence", kinds=ISOLATED, shape=FENCED, seconds=60.0, seed=1)
def fences_for_ever() -> list[Patch]:
    """A lease is renewed whatever the others answer."""
    # The rule that this mutant breaks is not visible from outside.
    real = fencing.Fencing._end_reason

    def end_reason(self: fencing.Fencing, master: Master, lease: Any, now: int) -> Any:
        return real(self, master, lease, now) if lease is None else None

    return [(fencing.Fencing, "_end_reason", end_reason)]


@mutant("fence", kinds=ISOLATED, shape=FENCED, seconds=60.0, seed=1)
def resumes_an_outdated_master() -> list[Patch]:
    """Writes are resumed as soon as the new address is known, before the old master is a replica."""

    def evaluate_former(self: fencing.Fencing, server: Any, lease: Any, now: int) -> None:
        self._end(server, lease, LeaseEnd.MAJORITY_ANSWERS)

    return [(fencing.Fencing, "_evaluate_former", evaluate_former)]


@mutant("fence", kinds=ISOLATED, shape=FENCED, seconds=60.0, seed=1)
def fences_for_another_length() -> list[Patch]:
    """A pause is longer than the agreed length."""
    return [(fencing, "LEASE_LENGTH", 2_500)]


@mutant("pauses", kinds=ISOLATED, shape=FENCED, seconds=60.0, seed=1)
def fences_without_a_limit() -> list[Patch]:
    """A pause hardly ends by itself."""
    return [(fencing, "LEASE_LENGTH", 600_000)]


# Liveness


@mutant("L1", kinds=("set",), seed=1)
def never_fails_over() -> list[Patch]:
    """A failed master is not replaced."""
    return _without(failover_start.StartRules, "is_due", False)


@mutant("L1", kinds=("pause-sentinel", "wall-clock"), seed=2)
def stays_in_tilt() -> list[Patch]:
    """TILT never ends."""
    return _without(tilt_guard.TiltGuard, "over", False)


@mutant("L2", kinds=("masters-die",), seed=2, seconds=10.0)
def ignores_newer_configurations() -> list[Patch]:
    """Configurations of others are not adopted."""
    return _without(hello_processing.HelloProcessing, "_configuration", False)


@mutant("L2", kinds=("misdirect",), seed=2, seconds=10.0)
def never_repairs() -> list[Patch]:
    """A replica of another server is not corrected."""
    return _without(observation.Observation, "_repair")


@mutant("L4", kinds=("set",), seed=2, seconds=5.0)
def never_converts() -> list[Patch]:
    """An old master that returns is not converted."""
    return _without(observation.Observation, "_convert")


@mutant("L2", kinds=("reset",), seed=2)
def never_reconnects() -> list[Patch]:
    """A lost connection is not established again."""
    from txsentinel.links import factory

    return _without(factory.LinkFactory, "_retry_in")


@mutant("L5", seed=5)
def knows_no_peers() -> list[Patch]:
    """Hellos of unknown Sentinels are ignored."""
    return _without(hello_processing.HelloProcessing, "_peer")


@mutant("L2", kinds=("split",), shape=Shape(quorum=1, failover_timeout=3_000), seed=20)
def ignores_epochs_in_hellos() -> list[Patch]:
    """The current epochs in hellos are ignored."""
    real = hello_processing.HelloProcessing.hello

    def hello(self: hello_processing.HelloProcessing, payload: bytes, now: int, **keywords: Any) -> None:
        words = payload.split(b",")
        words[3] = max(words[7], b"%d" % self._state.current_epoch)
        real(self, b",".join(words), now, **keywords)

    return [(hello_processing.HelloProcessing, "hello", hello)]


# Data


@mutant("data", kinds=("empty", "supervised-restart"), seed=1)
def empty_restarts_are_ignored() -> list[Patch]:
    """A master that restarts without its data is not judged, so its replicas copy the loss."""
    return _without(empty_restart.EmptyRestarts, "judge", False)


@mutant("S18", kinds=("foreign-master", "masters-die"), seed=1, shape=Shape(masters=2, replicas=1), seconds=60.0)
def foreign_replicas_are_fit() -> list[Patch]:
    """A replica that copied the data of another group is promoted."""
    return [(selection, "fit", lambda report, master: lineage.Fit.FITS)]


# History


@mutant("history", kinds=("masters-die",), seed=1, seconds=10.0)
def switches_are_not_recorded() -> list[Patch]:
    """The journal has no record of a switch, so that the history misses the failover."""
    return _without(switching.Switching, "record_switch")


@mutant("history", kinds=("masters-die",), seed=1, seconds=10.0)
def records_are_made_before_the_end() -> list[Patch]:
    """The record of a failover is made of the records of its beginning only."""
    real = failover_records._steps  # what a mutant breaks is not public

    def steps(entries: Sequence[JournalEntry], end: JournalEntry) -> list[JournalEntry]:
        return [each for each in real(entries, end) if each.kind is not JournalKind.PROMOTED]

    return [(failover_records, "_steps", steps)]
