"""S_DOWN by this Sentinel's own evidence, O_DOWN by agreement of a quorum, half-dead connections, and TILT."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from txsentinel.core.failover_state import PROMOTION_SEEN
from txsentinel.core.instances import Instance, InstanceLink, Master, Role
from txsentinel.core.link import LinkKind
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.core.succession import is_masterless, successor
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis, Timings

MAX_NAMED_PEERS: Final = 5


class TiltCause(Enum):
    """The reason for TILT; the value is the word in INFO."""

    CLOCK_STEPPED = "clock-stepped"
    PROCESS_STOPPED = "process-stopped"
    LOOP_LATE = "loop-late"


CATCHING_UP: Final[Millis] = 20
"""Delay after which an instance is judged again if received data has not been read yet."""


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """How long the reactor's thread has run and has waited for a CPU between two sweeps; milliseconds."""

    ran: Millis
    waited: Millis


@dataclass(frozen=True, slots=True)
class TiltReport:
    """Why TILT was entered; ``str`` is a clause for the log."""

    cause: TiltCause
    milliseconds: Millis
    """By how much the clock was set, negative for backwards; for the other causes, the gap between two sweeps."""

    processor: ProcessorTime | None = None

    def __str__(self) -> str:
        """Return a clause that describes the cause."""
        if self.cause is TiltCause.CLOCK_STEPPED:
            return f"the clock was set by {self.milliseconds:+} ms"
        if self.cause is TiltCause.PROCESS_STOPPED:
            return f"this process stood still for {self.milliseconds} ms"
        text = f"nothing was decided for {self.milliseconds} ms"
        if self.processor is None:
            return text
        return f"{text}, {self.processor.ran} of them at work and {self.processor.waited} waiting for a processor"


@dataclass(slots=True)
class TiltGuard:
    """
    Detects that this process was stopped or starved, or that its clock was changed.

    It measures the gaps between sweeps on the monotonic clock and on the wall clock. A gap that is negative or longer
    than ``tilt-trigger`` starts TILT: for ``tilt-period`` the Sentinel monitors but decides nothing.
    """

    timings: Timings
    since: Millis | None = None
    total: int = 0
    report: TiltReport | None = None
    """Why TILT was last entered, whether or not it has ended."""

    _previous: tuple[Millis, Millis] | None = None

    @property
    def active(self) -> bool:
        """Whether TILT is in force."""
        return self.since is not None

    def swept(self, now: Millis, wall_now: Millis, processor: ProcessorTime | None = None) -> bool:
        """
        Record a sweep; return whether the gap before it starts or extends TILT.

        :param processor: CPU time of the thread in the gap; ``None`` if unknown.
        """
        previous, self._previous = self._previous, (now, wall_now)
        if previous is None:
            return False
        limit = self.timings.tilt_trigger
        gap, wall_gap = now - previous[0], wall_now - previous[1]
        if 0 <= gap <= limit and 0 <= wall_gap <= limit:
            return False
        self.since = now
        self.total += 1
        self.report = self._explain(gap, wall_gap, processor)
        return True

    def _explain(self, gap: Millis, wall_gap: Millis, processor: ProcessorTime | None) -> TiltReport:
        step = wall_gap - gap
        if abs(step) > self.timings.tilt_trigger or gap <= self.timings.tilt_trigger:
            return TiltReport(TiltCause.CLOCK_STEPPED, step)
        # A stopped process neither runs nor waits for a CPU. Both figures are too high by at most one sweep period.
        if processor is not None and 2 * (processor.ran + processor.waited) < gap:
            return TiltReport(TiltCause.PROCESS_STOPPED, gap, processor)
        return TiltReport(TiltCause.LOOP_LATE, gap, processor)

    def left(self, now: Millis) -> Millis:
        """Return the remaining duration of TILT; 0 outside of it."""
        return 0 if self.since is None else max(0, self.since + self.timings.tilt_period - now)

    def over(self, now: Millis) -> bool:
        """Leave TILT if its period has passed; return whether it was left by this call."""
        if self.since is None or now - self.since <= self.timings.tilt_period:
            return False
        self.since = None
        return True


class Availability:
    """Judges S_DOWN of all instances and O_DOWN of masters. Never called in TILT."""

    def __init__(self, state: SentinelState, registry: Registry) -> None:
        self._state = state
        self._registry = registry

    def evaluate(self, instance: Instance, now: Millis) -> None:
        """Reconnect half-dead connections and judge S_DOWN."""
        self._check_link(instance, now)
        self.check_sdown(instance, now)

    def stable_until(self, instance: Instance, now: Millis) -> Millis:
        """
        Return until when no judgement about a healthy instance can change by the passing of time.

        Nearly every evaluation ends here, so this combines the conditions of all judgements in one cheap check.

        :returns: ``now`` if the instance is not healthy or must be judged.
        """
        link = instance.link
        if instance.sdown_since is not None or link.commands_since is None:
            return now
        options = instance.master.options
        period = self._state.timings.ping_period
        down_after = options.down_after
        until = (now if link.unanswered_ping_at is None else link.unanswered_ping_at) + down_after
        if link.silent_since is not None:
            until = min(until, link.silent_since + max(down_after // 2, period))
        if link.pubsub_since is not None:
            limit = link.pubsub_active_at + 3 * self._state.timings.publish_period
            if limit < until:
                until = limit
        if isinstance(instance, Master) and not self._master_is_stable(instance):
            return now
        return until

    @staticmethod
    def _master_is_stable(master: Master) -> bool:
        if master.failover is not None or master.odown_since is not None or master.conflict_since is not None:
            return False
        if master.role_reported is not Role.MASTER or master.rebooting_since is not None:
            return False
        for peer in master.peers.values():  # noqa: SIM110 (a generator would dominate the cost)
            if peer.reports_master_down:
                return False
        return True

    def check_sdown(self, instance: Instance, now: Millis) -> None:
        """Judge S_DOWN: enter or leave it."""
        down = self._is_down(instance, now)
        if down and instance.sdown_since is None:
            instance.sdown_since = instance.down_started_at = now
            instance.link.sdown_instances[instance] = None
            self._state.announce("+sdown", instance)
            if isinstance(instance, Master):
                self._note_missing(instance, now)
        elif not down and instance.sdown_since is not None:
            instance.sdown_since = None
            instance.link.sdown_instances.pop(instance, None)
            instance.script_kill_sent = False
            self._state.announce("-sdown", instance)

    def _note_missing(self, master: Master, now: Millis) -> None:
        """Log that too few Sentinels are reachable to fail over a master that went down, as no event will say so."""
        missing = [peer for peer in master.peers.values() if peer.sdown_since is not None]
        usable, needed = master.voters - len(missing), max(master.options.quorum, master.majority)
        if usable >= needed:
            return
        text = (
            f"No failover of {master.name}: {usable} of {master.voters} Sentinels can be reached, {needed} are needed"
        )
        if master.options.quorum > master.voters:
            text += f"; its quorum of {master.options.quorum} is above the number of Sentinels known"
        for peer in missing[:MAX_NAMED_PEERS]:
            down_for = (now - (peer.sdown_since or now)) // 1000
            text += f"; {peer.name} at {peer.address.joined()} is down for {down_for} s"
        if len(missing) > MAX_NAMED_PEERS:
            text += f"; {len(missing) - MAX_NAMED_PEERS} more are down"
        self._state.note(Level.WARNING, text)

    def check_odown(self, master: Master, now: Millis) -> None:
        """Judge O_DOWN: S_DOWN here, and enough peers that report the current address down."""
        agreeing = 1 + sum(
            self.opinion_holds(peer.reports_master_down, peer.opinion_at, now) for peer in master.peers.values()
        )
        quorum = master.options.quorum
        down = master.sdown_since is not None and agreeing >= quorum
        if down and master.odown_since is None:
            master.odown_since = master.down_started_at = now
            self._state.went_odown(now)
            self._state.announce("+odown", master, f"#quorum {agreeing}/{quorum}")
        elif not down and master.odown_since is not None:
            master.odown_since = None
            master.campaign_at = None
            self._state.announce("-odown", master)

    def opinion_holds(self, reports_down: bool, opinion_at: Millis, now: Millis) -> bool:
        """Whether a peer's opinion counts now: it is valid for five ask periods."""
        return reports_down and now - opinion_at <= 5 * self._state.timings.ask_period

    def next_due(self, instance: Instance, now: Millis) -> Millis:
        """Return when a judgement may change by the passing of time."""
        due = self._link_due(instance, now)
        if instance.sdown_since is not None:
            return due
        silent_from = self._silent_from(instance.link)
        if silent_from is not None:
            due = min(due, self._after_read(silent_from + instance.master.options.down_after + 1, now))
        if isinstance(instance, Master):
            if self._wrong_role(instance):
                due = min(due, instance.role_reported_at + self._wrong_role_limit(instance) + 1)
            if instance.rebooting_since is not None and instance.options.reboot_down_after:
                due = min(due, instance.rebooting_since + instance.options.reboot_down_after + 1)
        return due

    def _is_down(self, instance: Instance, now: Millis) -> bool:
        silent_from = self._silent_from(instance.link)
        if silent_from is not None:
            if self._state.received_until(now) - silent_from > instance.master.options.down_after:
                return True
        if not isinstance(instance, Master):
            return False
        if self._wrong_role(instance):
            if now - instance.role_reported_at > self._wrong_role_limit(instance):
                return True
        reboot_limit = instance.options.reboot_down_after
        rebooting = instance.rebooting_since
        return bool(reboot_limit) and rebooting is not None and now - rebooting > reboot_limit

    @staticmethod
    def _wrong_role(master: Master) -> bool:
        """Whether the master reports to be a replica although this Sentinel did not order that."""
        return master.role_reported is Role.REPLICA and master.failover_state not in PROMOTION_SEEN

    def _wrong_role_limit(self, master: Master) -> Millis:
        """
        Return how long a master may report to be a replica until it is S_DOWN.

        The limit is lower if no server of the group is a master, as only a failover can repair that, and if it follows
        a replica that is one: the Sentinel that promoted that one may have died before it published it.
        """
        if is_masterless(master) or successor(master) is not None:
            return master.options.down_after
        return master.options.down_after + 2 * self._state.timings.info_period

    @staticmethod
    def _silent_from(link: InstanceLink) -> Millis | None:
        """Return since when a probe has had no acceptable reply; ``None`` if none is outstanding."""
        if link.attempt_waiting:
            return None
        if link.unanswered_ping_at is not None:
            return link.unanswered_ping_at
        return None if link.commands_up else link.available_at

    def _check_link(self, instance: Instance, now: Millis) -> None:
        link = instance.link
        timings = self._state.timings
        read_until = self._state.received_until(now)
        up_since = link.commands_since
        if up_since is not None and now - up_since > timings.min_link_reconnect_period:
            silent = link.silent_since
            if silent is not None and read_until - silent > max(
                instance.master.options.down_after // 2, timings.ping_period
            ):
                # The down clock is not restarted: the subscription may have shown that the server is alive.
                self._registry.reconnect(link, LinkKind.COMMANDS, "no answer to any command")
        up_since = link.pubsub_since
        if up_since is not None and now - up_since > timings.min_link_reconnect_period:
            if read_until - link.pubsub_active_at > 3 * timings.publish_period:
                self._registry.reconnect(link, LinkKind.PUBSUB, "nothing read_until on the subscription")

    def _link_due(self, instance: Instance, now: Millis) -> Millis:
        link = instance.link
        timings = self._state.timings
        grace_period = timings.min_link_reconnect_period
        due = now + grace_period
        up_since = link.commands_since
        if up_since is not None and link.silent_since is not None:
            timeout = max(instance.master.options.down_after // 2, timings.ping_period)
            due = min(due, max(link.silent_since + timeout, up_since + grace_period) + 1)
        up_since = link.pubsub_since
        if up_since is not None:
            due = min(due, max(link.pubsub_active_at + 3 * timings.publish_period, up_since + grace_period) + 1)
        return self._after_read(due, now)

    def _after_read(self, due: Millis, now: Millis) -> Millis:
        """Return ``due``, or a time soon after ``now`` if data that arrived by ``due`` has not been read yet."""
        return now + CATCHING_UP if due <= now and self._state.received_until(now) < now else due
