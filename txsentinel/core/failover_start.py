"""When a failover of a master that is O_DOWN begins here, and why it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from txsentinel.core import deadlines
from txsentinel.core.failover_blocks import blocked_until
from txsentinel.core.instances import Master
from txsentinel.core.justification import return_awaited_until
from txsentinel.core.pause_rules import pause_of
from txsentinel.core.selection import select
from txsentinel.core.state import SentinelState
from txsentinel.core.vote_count import VoteCounter
from txsentinel.model.events import Level
from txsentinel.model.explanation import VerdictCode
from txsentinel.model.timings import Millis

FRESH_INFO_TIMEOUT: Millis = 100
"""How long after O_DOWN to wait for an INFO of each replica sent after S_DOWN, so that fresh offsets are compared."""

UNFIT_EVENT_DELAY: Millis = 1_000
"""Delay after O_DOWN until the lack of a fit replica is published, as a slow replica may turn out to be fit."""


CAMPAIGN_JITTER: Final = 4
"""The random part of a delay is at most this fraction of the time between two candidates."""


@dataclass(frozen=True, slots=True)
class Hindrance:
    """
    What keeps a failover from being started; ``until`` if it ends by the passing of time.

    ``text`` is a clause for people; the rules that decide leave it empty, and ``hindrances`` adds it.
    """

    code: VerdictCode
    until: Millis | None = None
    text: str = ""


class StartRules:
    """Decides when this Sentinel campaigns."""

    def __init__(self, state: SentinelState, votes: VoteCounter) -> None:
        self._state = state
        self._votes = votes

    def is_due(self, master: Master, now: Millis) -> bool:
        """Whether a failover of ``master`` is to be started now: O_DOWN, its campaign due, and a replica fit."""
        if master.odown_since is None:
            self.forget(master)
            return False
        first = next(self.hindrances(master, now), None)
        if first is not None and first.code is VerdictCode.NOT_OUR_TURN and master.campaign_at is None:
            master.campaign_at = now + self._campaign_delay(master, now)
            first = next(self.hindrances(master, now), None)
        if first is not None:
            self._delayed(master, first, now)
            return False
        if select(master, self._state.timings, now) is None:
            self._announce_unfit(master, now)
            return False
        return True

    def hindrances(self, master: Master, now: Millis) -> Iterator[Hindrance]:
        """
        Yield what keeps this Sentinel from campaigning for a master that is O_DOWN, besides the replicas.

        Nothing is changed. The first one decides; the rest is for explanations.
        """
        if self._state.storage_error is not None:
            yield Hindrance(VerdictCode.STORAGE_FAILING)
        pause = pause_of(self._state, master.name, now)
        if pause is not None:
            yield Hindrance(VerdictCode.PAUSED, pause.until)
        block = blocked_until(master)
        if block is not None and now < block:
            yield Hindrance(VerdictCode.RECENTLY_FAILED_OVER, block)
        delayed_until = deadlines.next_attempt(master)
        if now <= delayed_until:
            voted = master.leader not in (None, self._state.options.my_id)
            code = VerdictCode.VOTED_FOR_OTHER if voted else VerdictCode.ATTEMPT_TOO_RECENT
            yield Hindrance(code, delayed_until + 1)
        awaited_until = return_awaited_until(master, self._state.timings, now)
        if awaited_until is not None and awaited_until > now:
            yield Hindrance(VerdictCode.RETURN_AWAITED, awaited_until)
        if master.campaign_at is None:
            yield Hindrance(VerdictCode.NOT_OUR_TURN, now + self._max_campaign_delay(master, now))
        elif now < master.campaign_at:
            yield Hindrance(VerdictCode.NOT_OUR_TURN, master.campaign_at)
        if master.odown_since is None:
            return
        if not self.offsets_fresh(master, now):
            yield Hindrance(VerdictCode.OFFSETS_PENDING, master.odown_since + FRESH_INFO_TIMEOUT)
        if self._state.in_mass_failure(now):
            # It may have begun after the delay was computed; candidates with lower IDs are late, too.
            turn = master.odown_since + self._votes.campaign_order(master) * self._state.stagger(now)
            if now < turn:
                yield Hindrance(VerdictCode.NOT_OUR_TURN, turn)

    def _delayed(self, master: Master, hindrance: Hindrance, now: Millis) -> None:
        """Log a delay of the campaign, and set when this Sentinel campaigns."""
        code, until = hindrance.code, hindrance.until
        if until is None:
            return
        if code in (VerdictCode.ATTEMPT_TOO_RECENT, VerdictCode.VOTED_FOR_OTHER):
            if master.diagnosis.delay_logged_for != master.attempt_started_at:
                master.diagnosis.delay_logged_for = master.attempt_started_at
                text = "Next failover delay: I will not start a failover before"
                self._state.note(Level.NOTICE, text, until - now)
        elif code is VerdictCode.RETURN_AWAITED:
            if master.campaign_at is None or master.campaign_at < until:
                master.campaign_at = until + self._campaign_delay(master, now)
                text = "lost together with its replicas, which are back; it is waited for until a failover begins"
                self._state.note(Level.NOTICE, f"{master.name} was {text}: {until - now} ms")
        elif code is VerdictCode.NOT_OUR_TURN:
            # Later than before only in a mass failure.
            master.campaign_at = until

    def forget(self, master: Master) -> None:
        """Forget when this Sentinel is to campaign: a failover has begun or ended, or is not required any more."""
        master.campaign_at = None

    def _campaign_delay(self, master: Master, now: Millis) -> Millis:
        """Return how much later than the first candidate this Sentinel campaigns."""
        rank = self._votes.campaign_order(master)
        stagger = self._state.stagger(now)
        return rank * stagger + (self._state.rng(stagger // CAMPAIGN_JITTER + 1) if rank else 0)

    def _max_campaign_delay(self, master: Master, now: Millis) -> Millis:
        """Return the longest delay that :meth:`_campaign_delay` can return now."""
        rank = self._votes.campaign_order(master)
        stagger = self._state.stagger(now)
        return rank * stagger + (stagger // CAMPAIGN_JITTER if rank else 0)

    def offsets_fresh(self, master: Master, now: Millis) -> bool:
        """Whether every reachable replica has answered INFO since the master went down, or waiting has timed out."""
        since = master.sdown_since
        if since is None or master.odown_since is None or now - master.odown_since >= FRESH_INFO_TIMEOUT:
            return True
        return all(
            replica.info_refreshed_at is not None and replica.info_refreshed_at >= since
            for replica in master.replicas.values()
            if replica.link.commands_up and not replica.is_down
        )

    def _announce_unfit(self, master: Master, now: Millis) -> None:
        """
        Publish the event that a C Sentinel publishes when its attempt ends without a fit replica.

        The Sentinel that would campaign first publishes it, at most once in two failover timeouts.
        """
        if master.odown_since is None or now - master.odown_since < UNFIT_EVENT_DELAY:
            return
        before = master.diagnosis.unfit_announced_at
        if before is not None and now - before < 2 * master.options.failover_timeout:
            return
        if self._votes.campaign_order(master) == 0:
            master.diagnosis.unfit_announced_at = now
            self._state.announce("-failover-abort-no-good-slave", master)

    def next_due(self, master: Master, now: Millis) -> Millis:
        """Return when :meth:`is_due` must be called even if nothing else happens."""
        never = now + self._state.timings.ping_period
        if master.odown_since is None:
            return never
        pause = pause_of(self._state, master.name, now)
        if pause is not None:
            return min(never, pause.until)
        due = never if master.campaign_at is None else master.campaign_at
        due = max(due, deadlines.next_attempt(master) + 1, blocked_until(master) or 0)
        if due <= now:
            due = master.odown_since + FRESH_INFO_TIMEOUT
        # The campaign is due already, so something else is missing: a fit replica, or a writable file.
        return due if due > now else now + self._state.timings.sweep_period
