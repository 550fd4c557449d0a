"""S_DOWN by this Sentinel's own evidence, O_DOWN by agreement of a quorum, and half-dead connections."""

from __future__ import annotations

from typing import Final

from txsentinel.core import deadlines
from txsentinel.core.failure_recorder import FailureRecorder
from txsentinel.core.instances import Instance, Master
from txsentinel.core.link import LinkKind
from txsentinel.core.questions import Questions
from txsentinel.core.quorum import agreeing_sentinels, unreachable, usable_sentinels, votes_needed
from txsentinel.core.registry import Registry
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.model.events import Level
from txsentinel.model.history import JournalKind
from txsentinel.model.timings import Millis

DATA_MISSING: Final = "data-missing"
"""The code of an S_DOWN because the master lacks data that a replica holds, in the journal."""

CATCHING_UP: Final[Millis] = 20
"""Delay after which an instance is evaluated again if received data has not been read yet."""


def cause_of_sdown(instance: Instance, now: Millis) -> str:
    """Return a clause with the reason why ``instance`` is S_DOWN."""
    if isinstance(instance, Master) and instance.crash.confirmed_at is not None:
        return f"crashed; {instance.link.cause_of_silence(now)}"
    if now > deadlines.silence(instance.link, instance.master.options.down_after):
        return instance.link.cause_of_silence(now)
    if isinstance(instance, Master) and instance.data_missing_since is not None:
        return "it restarted without data that a replica holds"
    if isinstance(instance, Master) and not deadlines.reports_wrong_role(instance):
        return f"it restarted and has not answered PING with PONG for {now - (instance.rebooting_since or now)} ms"
    return "it reports to be a replica"


class Availability:
    """Evaluates S_DOWN of all instances and O_DOWN of masters. Never called in TILT."""

    def __init__(
        self, state: SentinelState, registry: Registry, questions: Questions, failures: FailureRecorder
    ) -> None:
        self._state = state
        self._registry = registry
        self._questions = questions
        self._failures = failures

    def evaluate(self, instance: Instance, now: Millis) -> None:
        """Reconnect half-dead connections and evaluate S_DOWN."""
        self._check_link(instance, now)
        self.check_sdown(instance, now)

    def stable_until(self, instance: Instance, now: Millis) -> Millis:
        """
        Return until when no state of a healthy instance can change by the passing of time.

        Nearly every evaluation ends here, so this combines the conditions of all rules in one cheap check.

        :returns: ``now`` if the instance is not healthy or must be evaluated.
        """
        link = instance.link
        if instance.sdown_since is not None or link.commands_since is None:
            return now
        timings = self._state.timings
        down_after = instance.master.options.down_after
        until = now + down_after
        if link.unanswered_ping_at is not None:
            until = deadlines.silence(link, down_after)
        if link.silent_since is not None:
            until = min(until, deadlines.unanswered_commands(link, down_after, timings))
        if link.pubsub_since is not None:
            limit = deadlines.silent_subscription(link, timings)
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
        if master.data_missing_since is not None:
            return False
        for peer in master.peers.values():  # noqa: SIM110 (a generator would dominate the cost)
            if peer.reports_master_down:
                return False
        return True

    def check_sdown(self, instance: Instance, now: Millis) -> None:
        """Evaluate S_DOWN: enter or leave it."""
        down = self._is_down(instance, now)
        if down and instance.sdown_since is None:
            instance.enter_sdown(now)
            self._state.announce("+sdown", instance)
            described = instance.describe(self._state.options.announce_hostnames)
            cause = cause_of_sdown(instance, now)
            self._state.note(Level.NOTICE, f"S_DOWN of {described}: {cause}")
            self._record_sdown(instance, cause, now)
            if isinstance(instance, Master):
                instance.diagnosis.went_down(now)
                self._note_unreachable(instance, now)
        elif not down and instance.sdown_since is not None:
            instance.leave_sdown()
            self._state.announce("-sdown", instance)
            master = instance.master
            subject = None if instance is master else instance.name
            self._state.journal.write(JournalKind.SDOWN_ENDED, master.name, now, subject=subject)

    def _record_sdown(self, instance: Instance, cause: str, now: Millis) -> None:
        master, failure = instance.master, instance.link.failure
        code = None
        if isinstance(instance, Master) and instance.data_missing_since is not None:
            code = DATA_MISSING
        elif failure is not None and failure.at >= instance.link.available_at:
            code = failure.failure_class.value
        self._state.journal.write(
            JournalKind.SDOWN,
            master.name,
            now,
            subject=None if instance is master else instance.name,
            code=code,
            data=(("cause", cause), ("last_ok_ping_ms", now - instance.link.available_at)),
        )

    def _note_unreachable(self, master: Master, now: Millis) -> None:
        """Log that too few Sentinels are reachable to fail over a master that went down, as no event reports it."""
        usable = usable_sentinels(master)
        if usable >= votes_needed(master):
            return
        for code, text in unreachable(master, usable, now):
            if master.diagnosis.should_log(code, now):
                self._state.note(Level.WARNING, f"No failover of {master.name}: {text}")
            break

    def check_odown(self, master: Master, now: Millis) -> None:
        """Evaluate O_DOWN: S_DOWN here, and enough peers whose opinion, not yet expired, is that too."""
        self._questions.expire_opinions(master, now)
        agreeing = agreeing_sentinels(master)
        quorum = master.options.quorum
        down = master.sdown_since is not None and agreeing >= quorum
        if down and master.odown_since is None:
            master.odown_since = master.down_started_at = now
            self._state.went_odown(now)
            self._state.announce("+odown", master, f"#quorum {agreeing}/{quorum}")
            data = (("agreeing", agreeing), ("quorum", quorum))
            self._state.journal.write(JournalKind.ODOWN, master.name, now, data=data)
        elif not down and master.odown_since is not None:
            master.odown_since = None
            self._state.announce("-odown", master)
            self._state.journal.write(JournalKind.ODOWN_ENDED, master.name, now)

    def next_due(self, instance: Instance, now: Millis) -> Millis:
        """Return when a state may change by the passing of time."""
        due = self._link_due(instance, now)
        if instance.sdown_since is not None:
            return due
        silent_until = deadlines.silence(instance.link, instance.master.options.down_after)
        if silent_until < deadlines.NEVER:
            due = min(due, self._after_read(silent_until + 1, now))
        if isinstance(instance, Master):
            due = min(due, deadlines.reports(instance, self._state.timings) + 1)
        return due

    def _is_down(self, instance: Instance, now: Millis) -> bool:
        silent_until = deadlines.silence(instance.link, instance.master.options.down_after)
        if self._state.received_until(now) > silent_until:
            return True
        if not isinstance(instance, Master):
            return False
        return instance.crash.confirmed_at is not None or now > deadlines.reports(instance, self._state.timings)

    def _check_link(self, instance: Instance, now: Millis) -> None:
        link = instance.link
        timings = self._state.timings
        read_until = self._state.received_until(now)
        up_since = link.commands_since
        if up_since is not None and now - up_since > timings.min_link_reconnect_period:
            if read_until > deadlines.unanswered_commands(link, instance.master.options.down_after, timings):
                # The down clock is not restarted: the subscription may have shown that the server is alive.
                self._failures.unanswered(link, "no answer to any command", now)
                self._registry.reconnect(link, LinkKind.COMMANDS, "no answer to any command")
        up_since = link.pubsub_since
        if up_since is not None and now - up_since > timings.min_link_reconnect_period:
            if read_until > deadlines.silent_subscription(link, timings):
                self._registry.reconnect(link, LinkKind.PUBSUB, "nothing received on the subscription")

    def _link_due(self, instance: Instance, now: Millis) -> Millis:
        link = instance.link
        timings = self._state.timings
        grace_period = timings.min_link_reconnect_period
        due = now + grace_period
        up_since = link.commands_since
        if up_since is not None:
            limit = deadlines.unanswered_commands(link, instance.master.options.down_after, timings)
            due = min(due, max(limit, up_since + grace_period) + 1)
        up_since = link.pubsub_since
        if up_since is not None:
            due = min(due, max(deadlines.silent_subscription(link, timings), up_since + grace_period) + 1)
        return self._after_read(due, now)

    def _after_read(self, due: Millis, now: Millis) -> Millis:
        """Return ``due``, or a time soon after ``now`` if data that arrived by ``due`` has not been read yet."""
        return now + CATCHING_UP if due <= now and self._state.received_until(now) < now else due
