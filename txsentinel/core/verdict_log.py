"""Log lines on why masters that are down are not failed over."""

from __future__ import annotations

from txsentinel.core.copied_state import CopiedState
from txsentinel.core.diagnosis_state import VERDICT_PERIOD
from txsentinel.core.failover_start import StartRules
from txsentinel.core.hindrances import hindrances, is_lasting
from txsentinel.core.instances import Master
from txsentinel.core.state import SentinelState
from txsentinel.core.tilt import TiltGuard
from txsentinel.core.vote_count import VoteCounter
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis


class VerdictLog:
    """
    Logs the most severe reason that does not end by itself when it changes, and once a minute while it does not.

    Delays are logged by the rules that cause them.
    """

    def __init__(self, state: SentinelState, tilt: TiltGuard) -> None:
        self._state = state
        self._tilt = tilt
        self._votes = VoteCounter(state)
        self._rules = StartRules(state, self._votes)

    def evaluate(self, master: Master, now: Millis) -> None:
        """Determine the reason if that is due; most failovers are over before it is for the first time."""
        if master.sdown_since is not None and now >= master.diagnosis.verdict_due and master.failover is None:
            self.log(master, now)

    def log(self, master: Master, now: Millis) -> None:
        """Log why ``master``, which is down, is not failed over, unless that was logged."""
        diagnosis = master.diagnosis
        diagnosis.verdict_due = now + VERDICT_PERIOD
        # Not copied, as the rules only read.
        found = hindrances(CopiedState(self._state, self._tilt, master, now, self._votes, self._rules))
        first = next((each for each in found if is_lasting(each)), None)
        if first is not None and diagnosis.should_log(first.code, now):
            self._state.note(Level.WARNING, f"No failover of {master.name}: {first.text}")
