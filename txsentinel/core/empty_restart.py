"""
A master that restarted without its data, while a replica still holds it.

Every replica would copy the empty data set within about a second, as replicas reconnect that often. A master whose run
ID changed therefore counts as down at once if all of these hold:

- Its replication history is not the one that its replicas have, and does not continue it up to their offsets. Offsets
  of different histories cannot be compared, so they do not matter otherwise.
- It has finished loading, and has fewer keys than a replica that could be promoted and has not copied its data set yet.
  Keys with a time to live count only if it has no keys at all: a master does not load expired keys, whereas replicas
  keep them until a master deletes them. As many keys as clients changed since a master with persistence started do not
  count either: clients may have deleted them. If the master has any keys, nor do those of a replica that accepts
  writes, or had lost its link before the restart.

The first sign, no keys at all where replicas had some, makes this Sentinel pause the clients of the master for a
moment. That delays the replicas, which connect like clients do, until the failover has promoted one of them. It needs
no agreement: it delays the clients of an empty master and ends by itself.

A master that persists its data has the keys, so its restart causes nothing. The judgement ends soon after the restart,
so that an old data set never replaces what clients have written since.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.effects import PauseClients
from txsentinel.core.instances import Master, Replica, Server
from txsentinel.core.pause_rules import pause_of
from txsentinel.core.probing import Probing
from txsentinel.core.restart_state import Restart
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis
from txsentinel.wire.info import DataSetReport

JUDGEMENT_PERIOD: Final[Millis] = 10_000
"""How long after a restarted master has finished loading it can begin to count as down because it lacks data."""

FIRST_PAUSE: Final[Millis] = 30
"""
How long the clients of a master without data are paused at first. It does not answer the other Sentinels meanwhile
either, which must ask it in order to agree.
"""

PAUSE_PERIOD: Final[Millis] = 100
"""
How long each further pause is. It is ordered during the one before, and takes effect when that ends. Waiting commands
are executed in between, so that other Sentinels get their INFO, whereas a replica needs several replies in turn.
"""

LINK_MARGIN: Final[Millis] = 2_000
"""How long before a sign of the former process a replica may have lost its link; it reports that in whole seconds."""

MAX_PAUSES: Final = 10
"""How often they are paused, as long as a replica holds the data."""

_SHOWN_DIGITS: Final = 8
"""How many digits of a replication ID the log shows."""


def missing_keys(wanted: DataSetReport, found: DataSetReport) -> int:
    """
    Return how many keys of the data set ``wanted`` are certainly missing in ``found``; 0 if that is unknown.

    ``found`` is the data set of a server that has just started. Clients may have deleted as many keys as were changed
    since then, if the server loaded data: it has an append-only file, or more keys than changes.
    """
    if wanted.keys is None or found.keys is None:
        return 0
    count = wanted.keys if not found.keys else wanted.keys - wanted.volatile_keys - found.keys + found.volatile_keys
    has_loaded = found.append_only or found.keys > found.changes
    return count if count > (found.changes if has_loaded else 0) else 0


def has_history(data_set: DataSetReport, histories: frozenset[str]) -> bool:
    """Whether the data set belongs to one of the replication histories ``histories``, or continues one."""
    return data_set.replid in histories or data_set.replid2 in histories


def holds_lost_data(replica: Replica, master: Master) -> bool:
    """Whether ``replica`` has reported since the restart of ``master`` that it holds data that ``master`` lost."""
    restart, ours, found = master.restart, replica.data_set, master.data_set
    if restart is None or ours is None or found is None or not _has_reported(replica, restart):
        return False
    if replica.role_reported is Role.REPLICA:
        unknown = ours.replid not in restart.histories
        if ours.replid == found.replid or (unknown and not _waits_for(replica, master)):
            # It follows the new history, by a full copy or, with the former ID as its second, by a continuation.
            return False
    elif not has_history(ours, restart.histories):
        return False
    if found.replid2 in restart.histories and ours.offset < found.second_offset:
        # The master continues the history from a snapshot that is not older than what the replica has.
        return False
    if found.keys and (not ours.read_only or _is_outdated(replica, restart)):
        return False
    return missing_keys(ours, found) > 0


def _is_outdated(replica: Replica, restart: Restart) -> bool:
    """
    Whether ``replica`` had no link to the master for some time before the restart: clients may have deleted its keys.

    Its data is still better than none.
    """
    if replica.role_reported is not Role.REPLICA:
        return False
    lost_for, reported_at = replica.master_link_down_for, replica.info_refreshed_at
    return lost_for < 0 or (reported_at or 0) - lost_for < restart.running_at - LINK_MARGIN


def has_copied_loss(replica: Replica, master: Master) -> bool:
    """
    Whether ``replica`` has copied the data set of ``master``, which lost data, while another replica still holds it.

    Such a replica is unfit for promotion.
    """
    restart, ours = master.restart, replica.data_set
    if restart is None or ours is None or not _has_reported(replica, restart):
        return False
    if has_history(ours, restart.histories) or holds_lost_data(replica, master):
        return False
    return any(holds_lost_data(other, master) for other in master.replicas.values() if _is_usable(other))


def _waits_for(replica: Replica, master: Master) -> bool:
    """
    Whether the replica had a link to ``master`` and waits for it to come back, with the data that it had.

    The ID of its history may be unknown: that of a restarted master changes with its first replica. It may therefore
    have followed the new process, and have received more than that has last reported, if the master died again. So a
    loss is found only while the master is connected.
    """
    if not master.link.commands_up and master.data_missing_since is None:
        return False
    return replica.follows(master.address) and not replica.master_link_up and replica.master_link_down_for >= 0


def _has_reported(replica: Replica, restart: Restart) -> bool:
    return replica.name in restart.reported


def _is_usable(replica: Replica) -> bool:
    """Whether the replica could be promoted, apart from its data."""
    return replica.link.commands_up and not replica.is_down and bool(replica.priority) and not replica.promotion_refusal


def _had_keys(master: Master) -> bool:
    """Whether a replica that could be promoted has last reported keys."""
    reports = (each.data_set for each in master.replicas.values() if _is_usable(each))
    return any(report is not None and report.keys for report in reports)


class EmptyRestarts:
    """Judges masters that restarted; writes ``Master.restart`` and ``Master.data_missing_since``."""

    def __init__(self, state: SentinelState, probing: Probing) -> None:
        self._state = state
        self._probing = probing

    def restarted(self, master: Master, before: DataSetReport | None, after: DataSetReport | None, now: Millis) -> None:
        """
        Handle that the run ID of ``master`` changed.

        :param before: its data set as of the last INFO before that; ``after``, as of the first one since then.
        """
        if not master.options.guards.empty_restart_failover:
            return
        pending = master.restart
        if pending is not None and pending.judged_until is None:
            # It restarted again before it had finished loading.
            histories, former, running_at = pending.histories, pending.former, pending.running_at
        elif before is None:
            return
        else:
            # A replica that has copied the new data set already may have reported its ID first.
            known = {each for each in master.lineage.histories if after is None or each != after.replid}
            histories = frozenset((*known, before.replid, *filter(None, (before.replid2,))))
            running_at = master.info_refreshed_at or now
            former = {}
            for name, replica in master.replicas.items():
                # It may have reported its copy before the master reported its restart.
                for report in (replica.data_set, replica.replaced_data_set):
                    if report is not None and has_history(report, histories) and name not in former:
                        former[name] = report
        master.restart = Restart(histories, former, running_at)
        for replica in master.replicas.values():
            self._probing.request_info(replica, now)

    def judge(self, server: Server, now: Millis) -> bool:
        """
        Judge a master that restarted, after each INFO of its group; return whether it began or ceased to lack data.

        Never called in TILT. ``server`` is the master or a replica, whose INFO has arrived.
        """
        master = server.master
        restart, found = master.restart, master.data_set
        if restart is None or found is None:
            return False
        if not master.options.guards.empty_restart_failover:
            lacked = master.data_missing_since is not None
            master.restart = master.data_missing_since = None
            return lacked
        restart.reported.add(server.name)
        if found.loading or found.keys is None:
            return False
        if restart.judged_until is None:
            restart.judged_until = now + JUDGEMENT_PERIOD
            if not found.keys and _had_keys(master):
                self._pause(master, restart, now)
        since = master.data_missing_since
        replicas = master.replicas.values()
        holders = [each for each in replicas if _is_usable(each) and holds_lost_data(each, master)]
        silent = any(each.link.commands_up and not _has_reported(each, restart) for each in replicas)
        restart.undecided = bool(holders) or silent
        if found.replid in restart.histories or (since is None and now > restart.judged_until):
            master.restart = master.data_missing_since = None
        elif since is not None and now - since > master.options.failover_timeout:
            text = f"{master.name} is no longer taken for crashed: no failover has replaced it, and clients may use it"
            self._state.note(Level.WARNING, text)
            master.restart = master.data_missing_since = None
        elif holders:
            if since is None:
                master.data_missing_since = now
                self._note_missing(master, found, holders)
            self._pause(master, restart, now)
        else:
            master.data_missing_since = None
            if not silent:
                self._note_lost(master, found, restart)
        return (since is None) is not (master.data_missing_since is None)

    def _pause(self, master: Master, restart: Restart, now: Millis) -> None:
        """Keep replicas from copying the data set of ``master`` for a moment, unless no failover can follow."""
        if pause_of(self._state, master.name, now) is not None:
            return
        if restart.pauses < MAX_PAUSES and now >= restart.paused_until - PAUSE_PERIOD // 2:
            period = PAUSE_PERIOD if restart.pauses else FIRST_PAUSE
            restart.pauses += 1
            restart.paused_until = max(now, restart.paused_until) + period
            self._state.emit(PauseClients(master.link, period), probe=True)

    def _note_missing(self, master: Master, found: DataSetReport, holders: list[Replica]) -> None:
        reports = [(each.name, each.data_set) for each in holders if each.data_set is not None]
        theirs = ", ".join(sorted({report.replid[:_SHOWN_DIGITS] for _, report in reports}))
        held = "; ".join(f"{name} holds {report.keys}" for name, report in reports)
        self._state.note(
            Level.WARNING,
            f"{master.name} at {master.address.joined()} restarted without its data: it has {found.keys} keys and the "
            f"replication ID {found.replid[:_SHOWN_DIGITS]} (its replicas: {theirs}), but {held}. "
            "It counts as crashed, so that a replica with the data is promoted",
        )

    def _note_lost(self, master: Master, found: DataSetReport, restart: Restart) -> None:
        """Log, once, that no replica holds the data any more, if there was data that is gone everywhere."""
        if restart.loss_noted:
            return
        lost = 0
        for name, former in restart.former.items():
            replica = master.replicas.get(name)
            if replica is None or replica.data_set is None or not _has_reported(replica, restart):
                continue
            if has_history(replica.data_set, restart.histories):
                # It still has its data, which the master has, too, or cannot be promoted.
                return
            lost = max(lost, missing_keys(former, replica.data_set))
        if not lost:
            return
        restart.loss_noted = True
        self._state.note(
            Level.WARNING,
            f"DATA LOST: {master.name} at {master.address.joined()} restarted with {found.keys} keys, and its replicas "
            f"copied that before one of them could be promoted; at least {lost} keys are gone",
        )
        if master.options.guards.data_lost_event:
            self._state.announce("+data-lost", master, f"#keys {found.keys} lost {lost}")
