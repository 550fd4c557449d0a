"""
The inputs of the core. Each is a method that dispatches to the module that decides.

Each input receives ``now`` in milliseconds of the host's monotonic clock, takes effect at once as far as possible, and
leaves effects in ``outbox``. Nothing here waits, reads a clock or accesses a disk.
"""

from __future__ import annotations

from collections.abc import Callable

from txsentinel.core.administration import Administration
from txsentinel.core.availability import Availability
from txsentinel.core.blockers import Blocker, blockers
from txsentinel.core.crash_detection import CrashDetection
from txsentinel.core.effects import Outbox, Reconfigure
from txsentinel.core.election import Elections
from txsentinel.core.empty_restart import EmptyRestarts
from txsentinel.core.evaluation import Evaluation
from txsentinel.core.explaining import MAX_JOURNAL, Explaining
from txsentinel.core.failover import Failovers
from txsentinel.core.failover_start import StartRules
from txsentinel.core.failure_recorder import FailureRecorder
from txsentinel.core.fencing import Fencing
from txsentinel.core.hello_processing import HelloProcessing
from txsentinel.core.instances import Instance, InstanceLink, Master, Peer, Replica, Server
from txsentinel.core.journal import Journal
from txsentinel.core.justification import is_outdated
from txsentinel.core.link import LinkKind
from txsentinel.core.observation import Observation
from txsentinel.core.options import SentinelOptions
from txsentinel.core.order_replies import OrderReplies
from txsentinel.core.probing import Probing
from txsentinel.core.questions import Questions
from txsentinel.core.readiness import Readiness
from txsentinel.core.reconfiguration import Reconfiguration
from txsentinel.core.registry import Registry
from txsentinel.core.reported_state import ReportedState, reported_state
from txsentinel.core.state import UNKNOWN_STORAGE_ERROR, SentinelState, StorageError
from txsentinel.core.switching import Switching
from txsentinel.core.tilt import ProcessorTime, TiltGuard
from txsentinel.core.verdict_log import VerdictLog
from txsentinel.core.vote_count import VoteCounter
from txsentinel.core.voting import Vote, Voting
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.model.explanation import Explanation, VerdictCode
from txsentinel.model.failure import FailureClass
from txsentinel.model.history import JournalKind
from txsentinel.model.timings import Limits, Millis, Timings
from txsentinel.wire.resp import text


class SentinelCore:
    """The decisions of a Sentinel as a deterministic function of its inputs."""

    def __init__(self, options: SentinelOptions, timings: Timings, limits: Limits, rng: Callable[[int], int]) -> None:
        self.state = SentinelState(options, timings, limits, rng)
        self.tilt = TiltGuard(timings)
        self.registry = Registry(self.state)
        self._probing = Probing(self.state)
        self._voting = Voting(self.state, self.registry, self.tilt)
        self._questions = Questions(self.state, self._voting)
        self._failures = FailureRecorder(self.state, self.registry)
        self._crashes = CrashDetection(self.state, self.registry, self._probing, self.tilt)
        self._availability = Availability(self.state, self.registry, self._questions, self._failures)
        votes = VoteCounter(self.state)
        verdicts = VerdictLog(self.state, self.tilt)
        self._switching = Switching(self.state, self.registry, self._questions, self._probing)
        reconfiguration = Reconfiguration(self.state, self._switching)
        self._failovers = Failovers(
            self.state,
            Elections(self.state, self._voting, self._questions, votes),
            StartRules(self.state, votes),
            self._probing,
            self._switching,
            reconfiguration,
            verdicts,
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
        )
        self._hello_processing = HelloProcessing(self.state, self.registry, self._switching, self._failovers)
        confirmations = self._hello_processing.confirmations
        self.id_reply = confirmations.answered
        orders = OrderReplies(self.journal)
        self.clients_closed, self.follow_order_refused = orders.clients_closed, orders.follow_order_refused
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
        )
        self._swept_at: Millis | None = None
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
        return self.state.due.next_due

    def master(self, name: str) -> Master:
        """
        Return the master of that name.

        :raises NoSuchMaster: if it is not monitored.
        """
        return self.registry.master(name)

    # Inputs from timers and from the disk.

    def sweep(self, now: Millis, wall_now: Millis, processor: ProcessorTime | None = None) -> None:
        """
        Evaluate the instances that are due, at most ``Limits.evaluations`` of them.

        After a pause too short for TILT, the first sweep only sends probes and evaluates no instance, as replies that
        arrived meanwhile have not been read yet.

        :param wall_now: the wall clock in milliseconds, to detect changes; ``processor`` explains TILT in the log.
        """
        late = self._swept_at is not None and now - self._swept_at > 2 * self.timings.sweep_period
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
        self._hello_processing.confirmations.sweep(now)
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
            if master.address_before is not None and before < master.address_generation <= generation:
                self.state.touch(master)
            failover = master.failover
            if failover is None:
                continue
            # With many failovers under way, most commits concern few of them.
            if recovered or (failover.vote_generation is not None and before < failover.vote_generation <= generation):
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

    # Inputs from links.

    def link_up(self, link: InstanceLink, kind: LinkKind, local_ip: str, now: Millis) -> None:
        """Handle an established connection of ``link``; ``local_ip`` is its local address."""
        if link.closed:
            return
        self._probing.link_up(link, kind, local_ip, now)
        self.state.touch_link(link)
        if kind is LinkKind.COMMANDS:
            self._failures.connected(link)
            self._crashes.link_up(link)
            self._failovers.link_up(link)
        self._failovers.handovers.link_up(link, kind)
        self._hello_processing.confirmations.link_up(link, now)
        for instance in list(link.instances):
            if isinstance(instance, Peer):
                self._evaluation.ask_new_peer(instance, now)
            self._evaluation.evaluate(instance, now)

    def link_down(
        self, link: InstanceLink, kind: LinkKind, reason: str, now: Millis, failure: FailureClass | None = None
    ) -> None:
        """
        Handle the loss of a connection of ``link``, or a failed attempt to connect.

        :param failure: its class; ``None`` if this Sentinel closed the connection without a failure of its own.
        """
        if link.closed:
            return
        was_up = link.since(kind) is not None
        self._probing.link_down(link, kind, now)
        self.state.touch_link(link)
        if kind is LinkKind.COMMANDS:
            if failure is not None:
                self._failures.connection_failed(link, failure, reason, now)
            self._crashes.link_down(link, was_up, failure, reason, now)
            self.registry.resolve_again(link.address, now)
            self._hello_processing.confirmations.link_down(link, reason)
        for instance in link.instances:
            self._evaluation.schedule(instance, now)
            if instance.master.failover is not None:
                # Fewer peers can vote, or the order to promote may be lost.
                self.state.due.schedule(instance.master, now)

    def ping_reply(self, link: InstanceLink, kind: LinkKind, reply: bytes | None, now: Millis) -> None:
        """Handle a reply to PING: the text of a status or error, ``None`` for anything else."""
        if link.closed:
            return
        self._probing.ping_reply(link, kind, reply, now)
        if reply is not None and reply.startswith(b"PONG"):
            if link.refusals:
                self._failures.command_accepted(link, "PING")
                self._failures.command_accepted(link, "SCRIPT KILL")
            self._observation.pong(link)
        elif reply is not None:
            self._failures.command_refused(link, "PING", text(reply), now)
        self._evaluation.recheck(link, now)

    def info_reply(self, link: InstanceLink, info: bytes | None, now: Millis) -> None:
        """Handle a reply to INFO; ``None`` if it was an error or not a bulk string."""
        if link.closed:
            return
        for instance in list(link.instances):
            if not isinstance(instance, Server):
                continue
            self._probing.info_answered(instance)
            if info is None:
                # An error is no evidence of availability, so it does not delay the next PING either.
                link.silent_since = None
                self._evaluation.schedule(instance, now)
                self._readiness.info_answered(instance, now)
                continue
            if link.refusals:
                self._failures.command_accepted(link, "INFO")
            self._probing.alive(link, now)
            before = reported_state(instance) if self.state.change_observer is not None else None
            tilt = self.tilt.active
            self._observation.info(instance, info, now, tilt=tilt)
            if before is not None:
                self._report_change(instance, before)
            if not link.closed:
                self._evaluation.recheck(link, now)
            master = instance.master
            self._crashes.advance(master, now)
            if master.restart is not None and not tilt and not master.gone and self._restarts.judge(instance, now):
                self._evaluation.evaluate(master, now)
            if not master.gone and (master.failover is not None or master.odown_since is not None):
                self._evaluation.step(master, now)
            if self._fencing.concerns(instance) and not instance.gone:
                self._evaluation.evaluate(instance, now)
            self._evaluation.schedule(instance, now)
            self._readiness.info_answered(instance, now)

    def _report_change(self, server: Server, before: ReportedState) -> None:
        """Report what an INFO has changed: usually the offset and nothing else."""
        master = server.master
        stable = master.sdown_since is None and master.failover is None and master.restart is None
        if stable and before == reported_state(server):
            self.state.touch_offsets(master)
        else:
            self.state.touch(master)

    def writes_paused(self, link: InstanceLink, now: Millis) -> None:
        """Handle that the server of ``link`` has paused its writes."""
        self._fencing.paused(link, now)

    def write_pause_refused(self, link: InstanceLink) -> None:
        """Handle that the server of ``link`` refused to pause its writes."""
        self._fencing.pause_refused(link)

    def writes_resumed(self, link: InstanceLink) -> None:
        """Handle that the server of ``link`` answered the order to end such a pause."""
        self._fencing.resumed(link)

    def command_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """Handle an error reply to ``command``; its consequences for availability follow with the reply itself."""
        if not link.closed:
            self._failures.command_refused(link, command, error, now)

    def role_reply(self, link: InstanceLink, role: bytes | None, refused: bool, now: Millis) -> None:
        """Handle a reply to ROLE: its first word, or ``None``. ``refused``: do not send it again on this connection."""
        if not link.closed:
            self._probing.role_answered(link, role, now, refused=refused)

    def publish_reply(self, link: InstanceLink, instance: Instance, accepted: bool, now: Millis) -> None:
        """Handle a reply to our hello. A hand-over that waited for it may be ordered now."""
        if link.closed:
            return
        sent_at = instance.hello_sent_at
        self._probing.hello_answered(link, instance, accepted, now)
        if accepted and self.journal.awaits_hello:
            self.journal.hello_accepted(instance.master.name, instance.name, sent_at, now)
        if accepted and link.refusals:
            self._failures.command_accepted(link, "PUBLISH")
            self._evaluation.recheck(link, now)
        if isinstance(instance, Master) and not instance.gone and instance.failover is not None:
            self._evaluation.step(instance, now)

    def pubsub_active(self, link: InstanceLink, now: Millis) -> None:
        """Handle any message or reply on the Pub/Sub connection."""
        link.pubsub_active_at = now

    def hello_received(self, payload: bytes, now: Millis, link: InstanceLink | None = None) -> None:
        """Handle a hello that arrived by the subscription of ``link`` or, if ``None``, by a direct PUBLISH."""
        if link is not None and not link.closed:
            self._probing.message_received(link, now)
            self._evaluation.recheck(link, now)
        self._hello_processing.hello(payload, now, through_server=link is not None, link=link)

    def master_down_reply(self, link: InstanceLink, master: Master, reply: object, now: Millis) -> None:
        """Handle a reply to ``is-master-down-by-addr``, which is parsed but not validated."""
        if link.closed:
            return
        if isinstance(reply, list):
            self._probing.alive(link, now)
        self.state.touch(master)
        peer = self._questions.answered(link, master, reply, now)
        self._evaluation.recheck(link, now)
        if peer is not None and not self.tilt.active:
            self._evaluation.check_agreement(master, now)

    def promotion_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """Handle that the server of ``link`` refused ``command`` of its promotion, so that no part was executed."""
        self.state.touch_link(link)
        for replica in [each for each in link.instances if isinstance(each, Replica)]:
            self._failovers.promotion_refused(replica, command, error, now)
            self._evaluation.schedule(replica.master, now)

    def handover_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """Handle that the server of ``link`` refused ``command`` of a hand-over."""
        for instance in list(link.instances):
            if isinstance(instance, Master):
                self._failovers.handover_refused(instance, command, error, now)
                self._evaluation.schedule(instance, now)

    def address_resolved(self, address: Address, ip: str | None, now: Millis) -> None:
        """Handle the result of a name resolution; with ``None``, for a failure, the last known IP is kept."""
        self._failures.resolved(address, ip is not None)
        if ip is not None:
            self.registry.resolved(address, ip, now)
            self._hello_processing.confirmations.resolved(address, ip, now)

    # Inputs from clients and peers.

    def vote_requested(self, host: str, port: int, epoch: int, candidate: str, now: Millis) -> Vote:
        """Answer ``SENTINEL is-master-down-by-addr``: our opinion, and our vote unless ``candidate`` is ``*``."""
        vote = self._voting.requested(host, port, epoch, candidate, now)
        master = self.registry.by_address(host, port)
        if master is None:
            return vote
        failover = master.failover
        if failover is not None and master.leader not in (None, self.options.my_id):
            self._failovers.concede(master, now)
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
