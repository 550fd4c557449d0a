"""The parts of the core, and what each of them depends on."""

from __future__ import annotations

from collections.abc import Callable

from txsentinel.core.administration import Administration
from txsentinel.core.availability import Availability
from txsentinel.core.crash_detection import CrashDetection
from txsentinel.core.durable_records import DurableRecords
from txsentinel.core.effects import Outbox
from txsentinel.core.election import Elections
from txsentinel.core.empty_restart import EmptyRestarts
from txsentinel.core.evaluation import Evaluation
from txsentinel.core.explaining import Explaining
from txsentinel.core.failover import Failovers
from txsentinel.core.failover_blocks import FailoverBlocks
from txsentinel.core.failover_start import StartRules
from txsentinel.core.failure_recorder import FailureRecorder
from txsentinel.core.fan_out import FanOut
from txsentinel.core.fencing import Fencing
from txsentinel.core.hello_processing import HelloProcessing
from txsentinel.core.instances import Master
from txsentinel.core.journal import Journal
from txsentinel.core.leaving import Leaving
from txsentinel.core.membership import CLEANUP_PERIOD, Forgetting, Parking
from txsentinel.core.observation import Observation
from txsentinel.core.operation_records import OperationRecords
from txsentinel.core.options import SentinelOptions
from txsentinel.core.order_replies import OrderReplies
from txsentinel.core.pauses import Pauses
from txsentinel.core.probing import Probing
from txsentinel.core.questions import Questions
from txsentinel.core.readiness import Readiness
from txsentinel.core.reconfiguration import Reconfiguration
from txsentinel.core.registry import Registry
from txsentinel.core.schedules import Schedules
from txsentinel.core.state import SentinelState
from txsentinel.core.switching import Switching
from txsentinel.core.switchover import Switchovers
from txsentinel.core.tilt import TiltGuard
from txsentinel.core.verdict_log import VerdictLog
from txsentinel.core.vote_count import VoteCounter
from txsentinel.core.voting import Voting
from txsentinel.core.write_holding import WriteHolds
from txsentinel.core.write_rejection import WriteRejections
from txsentinel.model.timings import Limits, Millis, Timings


class CoreParts:
    """The modules that decide, with the state that they share."""

    def __init__(self, options: SentinelOptions, timings: Timings, limits: Limits, rng: Callable[[int], int]) -> None:
        self.state = SentinelState(options, timings, limits, rng)
        self.tilt = TiltGuard(timings)
        self.registry = Registry(self.state)
        self.fan_out = FanOut(self.state, self.registry)
        self.forgetting = Forgetting(self.state, self.registry, self.tilt)
        self.parking = Parking(self.state, self.registry)
        self.failover_blocks = FailoverBlocks(self.state)
        self._probing = Probing(self.state)
        self._voting = Voting(self.state, self.registry, self.tilt)
        self._questions = Questions(self.state, self._voting)
        self._failures = FailureRecorder(self.state, self.registry)
        self._crashes = CrashDetection(self.state, self.registry, self._probing, self.tilt)
        self._availability = Availability(self.state, self.registry, self._questions, self._failures)
        self.fan_out = FanOut(self.state, self.registry)
        votes = VoteCounter(self.state)
        verdicts = VerdictLog(self.state, self.tilt)
        self._switching = Switching(
            self.state, self.registry, self._questions, self._probing, self.forgetting, self.failover_blocks
        )
        reconfiguration = Reconfiguration(self.state, self.registry, self._switching)
        self.operation_records = OperationRecords(self.state)
        self.rejections = WriteRejections(self.state, self.registry, self.fan_out)
        self._failovers = Failovers(
            self.state,
            Elections(self.state, self._voting, self._questions, votes, self.fan_out),
            StartRules(self.state, votes),
            self._probing,
            self._switching,
            reconfiguration,
            verdicts,
            WriteHolds(self.state, self._probing, self.fan_out, self.rejections),
        )
        self._restarts = EmptyRestarts(self.state, self._probing)
        self._observation = Observation(
            self.state,
            self.registry,
            self._failovers,
            self._switching,
            reconfiguration,
            self._restarts,
            self._failures,
            self._crashes,
            self.forgetting,
            self.parking,
        )
        self._hello_processing = HelloProcessing(
            self.state, self.registry, self._switching, self._failovers, self.forgetting
        )
        confirmations = self._hello_processing.confirmations
        self.id_reply = confirmations.answered
        self._order_replies = OrderReplies(self.journal)
        self.follow_order_refused = self._order_replies.follow_order_refused
        self.switchovers = Switchovers(
            self.state,
            self.registry,
            self._probing,
            self._failovers,
            self.tilt,
            self.rejections,
            self.operation_records,
        )
        self.schedules = Schedules(self.state, self.registry, self.fan_out, self.switchovers)
        self.pauses = Pauses(self.state, self.registry, self.fan_out)
        self.leaving = Leaving(self.state, self.registry, self.pauses, self.schedules, self.rejections)
        self._explaining = Explaining(self.state, self.tilt, self._crashes, confirmations)
        self._fencing = Fencing(self.state, self._probing)
        self._readiness = Readiness(self.state, self.tilt)
        self._evaluation = Evaluation(
            self.state,
            self.tilt,
            self._probing,
            self._availability,
            self._voting,
            self._questions,
            self._failovers,
            self._hello_processing,
            self._crashes,
            self._fencing,
            verdicts,
        )
        self.administration = Administration(
            self.state,
            self.registry,
            self.tilt,
            self._voting,
            self._switching,
            self._failovers,
            self._hello_processing,
            self._evaluation,
            self._fencing,
            self.forgetting,
            self.parking,
            self.failover_blocks,
        )
        self._swept_at: Millis | None = None
        self._members_due: Millis | None = None
        """When :meth:`sweep_members` is due; ``None`` before its first call."""

        self._swept_late = False
        self.saved_at: Millis | None = None
        """When the hard state was last saved; ``None`` if it was not yet."""

    @property
    def options(self) -> SentinelOptions:
        """The settings of the Sentinel itself."""
        return self.state.options

    @property
    def timings(self) -> Timings:
        """The periods, which ``SENTINEL DEBUG`` may change."""
        return self.state.timings

    @property
    def journal(self) -> Journal:
        """The records of rare events of each master."""
        return self.state.journal

    @property
    def records(self) -> DurableRecords:
        """What operators ordered until a certain time."""
        return self.state.records

    @property
    def outbox(self) -> Outbox:
        """The effects that are to be executed."""
        return self.state.outbox

    @property
    def current_epoch(self) -> int:
        """The highest known epoch."""
        return self.state.current_epoch

    @property
    def durable_generation(self) -> int:
        """The latest generation of hard state that is durable."""
        return self.state.durable_generation

    @property
    def simulate_crash(self) -> set[str]:
        """The words of ``SENTINEL SIMULATE-FAILURE`` that are in force."""
        return self.state.simulated_crashes

    @property
    def swept_at(self) -> Millis | None:
        """When :meth:`sweep` was last called; ``None`` if it never was."""
        return self._swept_at

    @property
    def next_due(self) -> Millis | None:
        """When :meth:`sweep` must be called at the latest; ``None`` if no instance is scheduled."""
        due = self.state.due.next_due
        if not self.state.operations.pending:
            return due
        return self.switchovers.next_due if due is None else min(due, self.switchovers.next_due)

    @property
    def has_timed_work(self) -> bool:
        """Whether sweeps have work that has no deadline in :attr:`next_due`, so that they must be frequent."""
        state = self.state
        operations = state.operations
        return (
            self.tilt.active
            or bool(operations.pending or operations.scheduled or operations.held_elsewhere)
            or len(state.records) > 0
            or bool(state.admissions)
            or len(self.fan_out) > 0
            or len(self._hello_processing.confirmations) > 0
            or self.pauses.is_busy
        )

    def master(self, name: str) -> Master:
        """
        Return the master of that name.

        :raises NoSuchMaster: if it is not monitored.
        """
        return self.registry.master(name)

    def sweep_members(self, now: Millis, wall_now: Millis) -> None:
        """Apply what the passing of time changes about the members of groups, every ``CLEANUP_PERIOD``."""
        self._members_due = now + CLEANUP_PERIOD
        for master in self.registry.masters.values():
            membership, guards = master.membership, master.options.guards
            if membership.parked:
                self.parking.expire(master, now)
            if guards.failover_block_period is not None:
                self.failover_blocks.record(master, now, wall_now)
            if membership.tombstones or guards.forget_sentinels_after or guards.forget_replicas_after:
                self.forgetting.expire(master, now, wall_now)
