"""
Log lines on what would matter if a master that is up went down now: each once when it begins and once when it ends.

- The quorum is above the number of known Sentinels.
- No replica can be promoted, for whatever reason.
- A replica has had no link to the master for :data:`STALE_AFTER`.
- The master refuses writes for lack of replicas (``min-replicas-to-write``).
- The master was restarted without its data, which no guard judges; this is logged at once.
- A replica lost its data while the master refuses the commands of this Sentinel, so that ``empty-restart-failover``
  cannot judge the master.

Masters are evaluated after each of their INFO replies, and not before their group has had time to be discovered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from txsentinel.core.blockers import is_discovering, unfit_text
from txsentinel.core.conditions import REFUSES_WRITES, has_lost_its_master, lost_data, lost_link, refuses_writes
from txsentinel.core.instances import Master, Replica, Server
from txsentinel.core.selection import choose, unfit_because
from txsentinel.core.state import SentinelState
from txsentinel.core.tilt import TiltGuard
from txsentinel.model.events import Level
from txsentinel.model.history import JournalKind
from txsentinel.model.timings import Millis

DISCOVERY_PERIOD: Final[Millis] = 15_000
"""How long a master must have been monitored at its address; its peers and replicas are known long before."""

STALE_AFTER: Final[Millis] = 5_000
"""How long a replica may have no link to the master without a log line."""


class Readiness:
    """Logs conditions of masters that are up; does nothing in TILT."""

    def __init__(self, state: SentinelState, tilt: TiltGuard) -> None:
        self._state = state
        self._tilt = tilt

    def info_answered(self, server: Server, now: Millis) -> None:
        """Handle that ``server`` has answered INFO, or refused it."""
        if self._tilt.active or server.gone:
            return
        if isinstance(server, Master):
            self._check_own_data(server, now)
            self._evaluate(server, now)
        elif isinstance(server, Replica) and server.master.link.refusals:
            self._check_data(server)

    def _evaluate(self, master: Master, now: Millis) -> None:
        """Log what began or ended since the last call, if ``master`` is up."""
        if master.sdown_since is not None or master.failover is not None or now - master.created_at < DISCOVERY_PERIOD:
            return
        if not master.diagnosis.warned and self._is_sound(master, now):
            return
        found = dict(self._found(master, now))
        for kind, text in found.items():
            if kind not in master.diagnosis.warned:
                self._state.note(Level.WARNING, f"{master.name} at {master.address.joined()}: {text}")
                self._state.journal.write(JournalKind.CONDITION, master.name, now, data=(("text", text),))
        for kind in sorted(master.diagnosis.warned.difference(found)):
            self._state.note(Level.NOTICE, f"{master.name} at {master.address.joined()}: no longer: {kind}")
            self._state.journal.write(JournalKind.CONDITION_ENDED, master.name, now, data=(("text", kind),))
        master.diagnosis.warned = frozenset(found)

    def _is_sound(self, master: Master, now: Millis) -> bool:
        """Return whether none of the conditions holds, as for nearly every master, without composing texts."""
        fit = False
        for replica in master.replicas.values():
            if self._is_stale(replica):
                return False
            fit = fit or unfit_because(replica, master, self._state.timings, now) is None
        if not fit or master.options.quorum > master.voters:
            return False
        return not refuses_writes(master)

    def _check_own_data(self, master: Master, now: Millis) -> None:
        """Log it if ``master`` was restarted without its data, unless a guard judges that and logs it."""
        report, diagnosis = master.data_set, master.diagnosis
        if report is None or report.loading or diagnosis.loss_logged_for == report.replid:
            return
        lost = None if master.options.guards.empty_restart_failover else lost_data(master)
        if lost is not None:
            diagnosis.loss_logged_for = report.replid
            self._state.note(Level.WARNING, f"{master.name} at {master.address.joined()}: it {lost}")
            self._state.journal.write(JournalKind.CONDITION, master.name, now, data=(("text", f"it {lost}"),))

    def _check_data(self, replica: Replica) -> None:
        """Log it if ``replica`` has copied an empty data set of a master that cannot be judged."""
        master = replica.master
        before, after = replica.replaced_data_set, replica.data_set
        refusal = master.link.refusals.get("INFO")
        if (
            before is None
            or after is None
            or refusal is None
            or master.diagnosis.losses.get(replica.name) == after.replid
        ):
            return
        if not before.keys or after.keys != 0 or not replica.follows(master.address):
            return
        kept = master.diagnosis.losses.items()
        master.diagnosis.losses = {name: replid for name, replid in kept if name in master.replicas}
        master.diagnosis.losses[replica.name] = after.replid
        self._state.note(
            Level.WARNING,
            f"DATA LOST: {replica.name} had {before.keys} keys and has copied an empty data set from {master.name} at "
            f"{master.address.joined()}. This Sentinel cannot judge that master, which answers {refusal.error}: was it "
            "restarted without its data and its users?",
        )

    def _found(self, master: Master, now: Millis) -> Iterator[tuple[str, str]]:
        """Yield the summary and the sentence of each condition that holds."""
        if master.options.quorum > master.voters:
            count = f"{master.voters} Sentinel{'s are' if master.voters > 1 else ' is'} known"
            yield (
                "its quorum is above the number of Sentinels",
                f"its quorum is {master.options.quorum} and only {count}, so it can never be failed over. Start the "
                f"missing Sentinels, or lower the quorum with SENTINEL SET {master.name} quorum",
            )
        chosen, refused = choose(master, self._state.timings, now)
        if chosen is None and not is_discovering(master, now):
            yield "no replica can be promoted", f"{unfit_text(master, refused)}, so it could not be failed over now"
        for replica in master.replicas.values():
            if self._is_stale(replica):
                yield f"replica {replica.name} has no link to it", f"replica {replica.name} {lost_link(replica, now)}"
        if refuses_writes(master):
            yield "it refuses writes", f"it {REFUSES_WRITES}"

    @staticmethod
    def _is_stale(replica: Replica) -> bool:
        return has_lost_its_master(replica) and replica.master_link_down_for > STALE_AFTER
