"""
Who is down: subjectively by our own evidence, objectively when enough peers agree; links that are half dead; TILT.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from txsentinel.core.instances import PROMOTION_SEEN, Instance, Master, Role
from txsentinel.core.link import InstanceLink, LinkKind
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis, Timings

MAX_NAMED_PEERS: Final = 5


class TiltCause(Enum):
    """What was wrong with this process or its clock; the value is the word that INFO shows."""

    CLOCK_STEPPED = "clock-stepped"
    PROCESS_STOPPED = "process-stopped"
    LOOP_LATE = "loop-late"


CATCHING_UP: Final[Millis] = 20
"""How soon a judgement is tried again that waits for what has arrived to be read."""


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """How long the thread that decides has run, and has waited for a processor, between two sweeps; milliseconds."""

    ran: Millis
    waited: Millis


@dataclass(frozen=True, slots=True)
class TiltReport:
    """Why TILT was entered, and by how many milliseconds; ``str`` is a clause for the log."""

    cause: TiltCause
    milliseconds: Millis
    """By how far the clock was set, negative backwards; else how long nothing was done."""

    processor: ProcessorTime | None = None

    def __str__(self) -> str:
        """What happened."""
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
    Am *I* the slow one? Watches the gaps between sweeps on the monotonic and on the wall clock.

    A gap that is negative or longer than ``tilt-trigger`` means that this process or its clock
    stood still or jumped: for ``tilt-period`` nothing is decided, only watched.
    """

    timings: Timings
    since: Millis | None = None
    total: int = 0
    report: TiltReport | None = None
    """Why TILT was last entered, over or not."""

    _previous: tuple[Millis, Millis] | None = None

    @property
    def active(self) -> bool:
        """Are we in TILT?"""
        return self.since is not None

    def swept(self, now: Millis, wall_now: Millis, processor: ProcessorTime | None = None) -> bool:
        """
        Note a sweep; true if the gap before it (re)starts TILT.

        :param processor: what this thread did in the gap; ``None`` if that is not known.
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
        # Whoever is stopped neither runs nor waits for a processor. Both are measured a sweep period too long at most.
        if processor is not None and 2 * (processor.ran + processor.waited) < gap:
            return TiltReport(TiltCause.PROCESS_STOPPED, gap, processor)
        return TiltReport(TiltCause.LOOP_LATE, gap, processor)

    def left(self, now: Millis) -> Millis:
        """How long TILT lasts from now on if nothing else happens; 0 outside of it."""
        return 0 if self.since is None else max(0, self.since + self.timings.tilt_period - now)

    def over(self, now: Millis) -> bool:
        """Leave TILT if its period has passed; true at the moment of leaving."""
        if self.since is None or now - self.since <= self.timings.tilt_period:
            return False
        self.since = None
        return True


class Availability:
    """Judges S_DOWN of everybody and O_DOWN of masters. Never called in TILT."""

    def __init__(self, state: SentinelState, registry: Registry) -> None:
        self._state = state
        self._registry = registry

    def evaluate(self, instance: Instance, now: Millis) -> None:
        """Recycle half-dead connections and judge S_DOWN."""
        self._check_link(instance, now)
        self.check_sdown(instance, now)

    def stable_until(self, instance: Instance, now: Millis) -> Millis:
        """
        Until when time alone changes no judgement about an instance of which there is nothing to say.

        :returns: ``now`` if there is something to judge, or if it is not well. Nearly every visit ends
            here, so this asks in one go what the judgements ask one by one.
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
        for peer in master.peers.values():  # noqa: SIM110 (a generator costs more than all the rest)
            if peer.reports_master_down:
                return False
        return True

    def check_sdown(self, instance: Instance, now: Millis) -> None:
        """Enter or leave S_DOWN."""
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
        """Log that too few Sentinels can be reached to fail over a master that went down: nothing else will happen."""
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
        """Enter or leave O_DOWN: S_DOWN here, and enough peers who say so of the present address."""
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
        """An opinion counts for five ask periods, whatever else happens meanwhile."""
        return reports_down and now - opinion_at <= 5 * self._state.timings.ask_period

    def next_due(self, instance: Instance, now: Millis) -> Millis:
        """When a judgement may change by the mere passing of time."""
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
        """Does it call itself a replica without being told to by us?"""
        return master.role_reported is Role.REPLICA and master.failover_state not in PROMOTION_SEEN

    def _wrong_role_limit(self, master: Master) -> Millis:
        """How long it may call itself a replica: less if then nobody is a master, as nothing else can mend that."""
        if master.is_masterless:
            return master.options.down_after
        return master.options.down_after + 2 * self._state.timings.info_period

    @staticmethod
    def _silent_from(link: InstanceLink) -> Millis | None:
        """Since when there is no acceptable sign of life although there should be."""
        if link.attempt_waiting:
            return None
        if link.unanswered_ping_at is not None:
            return link.unanswered_ping_at
        return None if link.commands_up else link.available_at

    def _check_link(self, instance: Instance, now: Millis) -> None:
        link = instance.link
        timings = self._state.timings
        heard = self._state.received_until(now)
        up_since = link.commands_since
        if up_since is not None and now - up_since > timings.min_link_reconnect_period:
            silent = link.silent_since
            if silent is not None and heard - silent > max(
                instance.master.options.down_after // 2, timings.ping_period
            ):
                # The down clock is left alone: the subscription may have proved that the server lives.
                self._registry.reconnect(link, LinkKind.COMMANDS, "no answer to any command")
        up_since = link.pubsub_since
        if up_since is not None and now - up_since > timings.min_link_reconnect_period:
            if heard - link.pubsub_active_at > 3 * timings.publish_period:
                self._registry.reconnect(link, LinkKind.PUBSUB, "nothing heard on the subscription")

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
        """When to judge what was due by ``due``: again soon, if what arrived by then is still unread."""
        return now + CATCHING_UP if due <= now and self._state.received_until(now) < now else due
