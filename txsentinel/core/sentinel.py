"""
The inputs of the core. Each is a method that dispatches to the module that decides.

Each input receives ``now`` in milliseconds of the host's monotonic clock, takes effect at once as far as possible, and
leaves effects in ``outbox``. Nothing here waits, reads a clock or accesses a disk.
"""

from __future__ import annotations

from txsentinel.core.blockers import Blocker, blockers
from txsentinel.core.effects import Reconfigure
from txsentinel.core.explaining import MAX_JOURNAL
from txsentinel.core.instances import Master
from txsentinel.core.justification import is_outdated
from txsentinel.core.link_inputs import LinkInputs
from txsentinel.core.state import UNKNOWN_STORAGE_ERROR, StorageError
from txsentinel.core.tilt import ProcessorTime
from txsentinel.core.voting import Vote
from txsentinel.model.events import Level
from txsentinel.model.explanation import Explanation, VerdictCode
from txsentinel.model.history import JournalKind
from txsentinel.model.timings import Millis


class SentinelCore(LinkInputs):
    """The decisions of a Sentinel as a deterministic function of its inputs."""

    # Inputs from timers and from the disk.

    def sweep(self, now: Millis, wall_now: Millis, processor: ProcessorTime | None = None) -> None:
        """
        Evaluate the instances that are due, at most ``Limits.evaluations`` of them.

        After a pause too short for TILT, the first sweep only sends probes and evaluates no instance, as replies that
        arrived meanwhile have not been read yet.

        :param wall_now: the wall clock in milliseconds, to detect changes; ``processor`` explains TILT in the log.
        """
        late = self.tilt.is_late(now)
        # Two late sweeps in a row are no pause but a busy machine, on which instances must be evaluated all the same.
        late, self._swept_late = late and not self._swept_late, late
        if self._swept_at is None:
            self.registry.start_clocks(now)
        self._swept_at = now
        if self.tilt.swept(now, wall_now, processor):
            self._crashes.interrupted()
            self.state.announce_text("+tilt", "#tilt mode entered", None)
            period = self.timings.tilt_period
            text = f"TILT: {self.tilt.report}; no instance is evaluated for {period} ms, until"
            self.state.note(Level.WARNING, text, period)
            report = self.tilt.report
            code = None if report is None else report.cause.value
            self.state.journal.write_own(JournalKind.TILT, now, code=code, data=(("reason", str(report)),))
        elif self.tilt.over(now):
            self.state.announce_text("-tilt", "#tilt mode exited", None)
            self.state.journal.write_own(JournalKind.TILT_ENDED, now)
        if self.tilt.starvation is not None:
            self._crashes.interrupted()
            self.state.note_throttled("This Sentinel waits for a processor", f"No TILT: {self.tilt.starvation}")
        self.registry.count_instances(now)
        self.pauses.evaluate(now, wall_now)
        self.fan_out.expire(now)
        self._hello_processing.confirmations.sweep(now)
        if self._members_due is None or now >= self._members_due:
            self.sweep_members(now, wall_now)
        if len(self.state.records) or self.state.operations.scheduled:
            self.schedules.evaluate(now, wall_now)
        self.operation_records.evaluate(now, wall_now)
        self.rejections.evaluate(now, wall_now)
        if self.state.operations.held_elsewhere:
            self.switchovers.expire_holds(now)
        if self.state.operations.pending:
            self.switchovers.advance(now)
        for instance in self.state.due.take_due(now, None if late else self.state.limits.evaluations):
            if late:
                self._probing.evaluate(instance, now)
                self.state.due.schedule(instance, now + 1)
            else:
                self._evaluation.evaluate(instance, now)

    def committed(self, generation: int, now: Millis) -> None:
        """Handle that the hard state up to ``generation`` is durable."""
        before, self.state.durable_generation = self.state.durable_generation, generation
        self.saved_at = now
        self.journal.committed(generation, now)
        recovered, self.state.storage_error = self.state.storage_failing, None
        if recovered:
            self.state.touch(None)
            self.journal.write_own(JournalKind.SAVE_RECOVERED, now)
            self.state.note(Level.NOTICE, "This Sentinel can save its votes again: it votes and leads failovers.")
        for master in self.registry.masters.values():
            self._voting.committed(master, generation)
            if master.membership.unsaved:
                self.administration.remove_members(master, generation, now)
            if master.address_before is not None and before < master.address_generation <= generation:
                self.state.touch(master)
            failover = master.failover
            if failover is None:
                continue
            # With many failovers under way, most commits concern few of them.
            rejection = None if failover.operation is None else failover.operation.rejection
            awaited = failover.vote_generation if rejection is None else rejection.generation
            if recovered or (awaited is not None and before < awaited <= generation):
                self._evaluation.step(master, now)

    def commit_failed(self, generation: int, now: Millis, error: StorageError = UNKNOWN_STORAGE_ERROR) -> None:
        """Handle that saving ``generation`` failed: until a commit succeeds, give no votes and lead no failovers."""
        if not self.state.storage_failing:
            until = "Until it can, it neither votes nor leads failovers, and refuses to be reconfigured."
            self.state.note(Level.WARNING, f"{error.sentence}. {until}")
            self.journal.write_own(JournalKind.SAVE_FAILED, now, code=error.code, data=(("reason", error.reason),))
            self.state.touch(None)
        self.state.storage_error = error
        for master in self.registry.masters.values():
            # Clients must not wait for the new address to become durable, which may never happen.
            self.state.publish_unsaved(master)
            if master.failover is not None:
                self._evaluation.step(master, now)

    # Inputs from clients and peers.

    def vote_requested(self, host: str, port: int, epoch: int, candidate: str, now: Millis) -> Vote:
        """Answer ``SENTINEL is-master-down-by-addr``: our opinion, and our vote unless ``candidate`` is ``*``."""
        vote = self._voting.requested(host, port, epoch, candidate, now)
        master = self.registry.by_address(host, port)
        if master is None:
            return vote
        failover = master.failover
        if failover is not None and master.leader not in (None, self.options.my_id):
            self._failovers.ends.concede(master, now)
        if master.sdown_since is not None and master.odown_since is None and not self.tilt.active:
            # The sender considers it down, so ask the others again now instead of a period later.
            self._evaluation.ask_again(master, now)
        return vote

    def holds_down(self, host: str, port: int) -> bool:
        """Whether the master at that address is S_DOWN here; never in TILT."""
        master = self.registry.by_address(host, port)
        return master is not None and master.sdown_since is not None and not self.tilt.active

    def blockers(self, master: Master, now: Millis) -> list[Blocker]:
        """Return the reasons that would prevent a failover of ``master`` now; empty if there are none."""
        return list(blockers(master, self.state, self.tilt, now))

    def explain(self, name: str, now: Millis, wall_now: Millis, journal: int = MAX_JOURNAL) -> Explanation:
        """
        Explain why a master is, or is not, failed over; nothing is changed.

        :param wall_now: the wall clock in milliseconds since 1970.
        :param journal: number of the latest journal records to include.
        :raises NoSuchMaster: if it is not monitored.
        """
        return self._explaining.explain(self.registry.master(name), now, wall_now, journal)

    def verdict(self, master: Master, now: Millis) -> VerdictCode:
        """Return the code of the explanation of ``master``, without the rest of it."""
        return self._explaining.verdict(master, now)[0]

    def verdict_until(self, master: Master, now: Millis) -> tuple[VerdictCode, Millis | None]:
        """Return the same, and when it may change without an input; ``None`` if only an input can change it."""
        return self._explaining.verdict(master, now)

    def is_outdated(self, order: Reconfigure) -> bool:
        """Whether ``order``, which waited for its generation, is no longer valid."""
        return is_outdated(order, by_hostname=self.options.announce_hostnames)
