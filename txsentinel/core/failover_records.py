"""The record of one failover, made from the records of the journal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from txsentinel.core.availability import DATA_MISSING
from txsentinel.core.journal import ComparedReplica, JournalEntry, KnownServer, SwitchedServers
from txsentinel.core.selection import PREFERENCES
from txsentinel.core.switchover_state import receipt_of
from txsentinel.model.failure import FailureClass
from txsentinel.model.history import (
    DataLoss,
    FailoverKind,
    FailoverRecord,
    JournalKind,
    LossVerdict,
    ObserverRole,
    Outcome,
    PhaseTime,
    ReplicaRecord,
    Resyncs,
    ServerRecord,
    VoterRecord,
    failover_group,
)
from txsentinel.model.receipt import Receipt
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.model.timings import Millis

ENDS: Final = (JournalKind.SWITCHED, JournalKind.CONFIG_ADOPTED, JournalKind.ABORTED)
"""The records that end a failover."""

AMENDMENTS: Final = (
    JournalKind.DURABLE,
    JournalKind.ANNOUNCED,
    JournalKind.CLIENTS_CLOSED,
    JournalKind.DATA_COMPARED,
    JournalKind.RESYNCS,
    JournalKind.RECEIPT,
)
"""The records that may follow the end of a failover and still belong to it."""

_KINDS: Final = {
    "automatic": FailoverKind.AUTOMATIC,
    "forced": FailoverKind.FORCED,
    "coordinated": FailoverKind.COORDINATED,
    "switchover": FailoverKind.SWITCHOVER,
}
"""The code of a campaign → the kind of the failover."""

_CLASSES: Final = frozenset(each.value for each in FailureClass)

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_NOT_BACK: Final = DataLoss(LossVerdict.UNKNOWN, None, None, None, "the old master has not reported its data yet")
_NOT_PROMOTED: Final = DataLoss(LossVerdict.NONE, 0, None, None, "no replica was ordered to become master")


def record_id(observer: str, master: str, sequence: int, at: Instant) -> str:
    """Return a ULID: its time is ``at``, its other digits depend on the remaining arguments and are the same again."""
    digest = hashlib.sha256(f"{observer}\0{master}\0{sequence}\0{at.unix_ms}".encode("utf-8", "surrogateescape"))
    number = (at.unix_ms & ((1 << 48) - 1)) << 80 | int.from_bytes(digest.digest()[:10], "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def is_provisional(end: JournalEntry) -> bool:
    """Whether the end of a failover may be that of an own campaign only, while another Sentinel leads the failover."""
    return end.kind is JournalKind.ABORTED and end.code == Outcome.NOT_ELECTED.value


def failover_record(
    entries: Sequence[JournalEntry], end: JournalEntry, master: str, own_id: str, wall_offset: Millis
) -> FailoverRecord:
    """
    Return the record of the failover of ``master`` that ended with the record ``end`` of the journal.

    :param entries: the records of the master, oldest first; the earliest ones may have been discarded.
    :param own_id: the ID of this Sentinel.
    :param wall_offset: the wall clock minus the monotonic clock, in milliseconds.
    """
    return _Builder(entries, end, master, own_id, wall_offset).build()


class _Builder:
    """Collects the parts of one record."""

    def __init__(
        self, entries: Sequence[JournalEntry], end: JournalEntry, master: str, own_id: str, wall_offset: Millis
    ) -> None:
        assert end.servers is not None and end.epoch is not None
        self._end = end
        self._epoch: int = end.epoch
        self._master = master
        self._own_id = own_id
        self._wall_offset = wall_offset
        self._steps = _steps(entries, end)
        self._later = _later(entries, end)
        began = self._first(JournalKind.CAMPAIGN)
        # What happens to the old master after an ordered failover began is not its cause.
        before = end if began is None or end.kind is JournalKind.CONFIG_ADOPTED else began
        self._sdown = _sdown(entries, before)
        self._odown = _odown(entries, before)
        self._servers: SwitchedServers = end.servers
        self._compared: tuple[ComparedReplica, ...] = end.servers.candidates
        selected = self._last(JournalKind.SELECTED)
        # What this Sentinel selected was in vain if another configuration was adopted instead.
        own = end.kind is not JournalKind.CONFIG_ADOPTED
        if own and selected is not None and selected.servers is not None:
            self._servers, self._compared = selected.servers, selected.servers.candidates
        self._switched = end.kind is not JournalKind.ABORTED

    def build(self) -> FailoverRecord:
        end, data = self._end, dict(self._end.data)
        outcome = Outcome.SWITCHED if self._switched else Outcome(end.code)
        config_epoch = self._epoch if self._switched else data.get("config_epoch")
        cause, failure_class = self._cause()
        new = self._servers.new if self._switched or self._compared else None
        closed = self._clients_closed()
        return FailoverRecord(
            record_id=record_id(self._own_id, self._master, end.sequence, self._instant(end.at)),
            group=failover_group(self._master, self._epoch),
            master=self._master,
            kind=self._kind(),
            outcome=outcome,
            observer=self._own_id,
            observer_role=self._role(),
            leader=self._leader(),
            cause=cause,
            failure_class=failure_class,
            from_server=_server(self._servers.old),
            to_server=None if new is None else _server(new),
            epoch=self._epoch,
            config_epoch=config_epoch if isinstance(config_epoch, int) else 0,
            phases=self._phases(),
            voters=self._voters(),
            replicas=self._replicas(),
            chosen_because=chosen_because(self._compared) if new is not None else None,
            loss=self._loss(),
            resyncs=self._resyncs(),
            clients_closed=None if closed is None else int(dict(closed.data).get("clients") or 0),
            operator=self._ordered("by"),
            comment=self._ordered("comment"),
            operation=self._ordered("operation"),
            receipt=self._receipt(),
        )

    def _instant(self, at: Millis) -> Instant:
        return Instant(at + self._wall_offset)

    def _last(self, kind: JournalKind) -> JournalEntry | None:
        return next((each for each in reversed(self._steps) if each.kind is kind), None)

    def _first(self, kind: JournalKind) -> JournalEntry | None:
        return next((each for each in self._steps if each.kind is kind), None)

    def _after(self, kind: JournalKind) -> JournalEntry | None:
        return next((each for each in reversed(self._later) if each.kind is kind), None)

    def _kind(self) -> FailoverKind:
        campaign = self._last(JournalKind.CAMPAIGN)
        if campaign is not None and campaign.code in _KINDS:
            return _KINDS[campaign.code]
        return FailoverKind.AUTOMATIC if self._sdown is not None else FailoverKind.FORCED

    def _role(self) -> ObserverRole:
        if self._end.kind is not JournalKind.CONFIG_ADOPTED:
            return ObserverRole.LEADER if self._was_elected() else ObserverRole.CANDIDATE
        vote = self._vote()
        if vote is None:
            return ObserverRole.BYSTANDER
        return ObserverRole.CANDIDATE if vote.subject == self._own_id else ObserverRole.FOLLOWER

    def _was_elected(self) -> bool:
        """Whether this Sentinel was elected in the epoch of the failover, or led it without an election."""
        return self._switched or any(
            each.kind is JournalKind.ELECTED and each.epoch == self._epoch for each in self._steps
        )

    def _vote(self) -> JournalEntry | None:
        """Return our vote in the epoch of the failover."""
        given = (each for each in reversed(self._steps) if each.kind is JournalKind.VOTE_GIVEN)
        return next((each for each in given if each.epoch == self._epoch), None)

    def _leader(self) -> str | None:
        if self._end.kind is JournalKind.CONFIG_ADOPTED:
            vote = self._vote()
            # A candidate that voted for itself and lost does not know who won.
            return None if vote is None or vote.subject == self._own_id else vote.subject
        return self._own_id if self._was_elected() else None

    def _cause(self) -> tuple[str, str | None]:
        """Return the cause and the class of the failure."""
        if self._first(JournalKind.OPERATOR) is not None or self._sdown is None:
            return self._ordered("cause") or "operator", None
        code = self._sdown.code
        if code == DATA_MISSING:
            return "reboot_empty", None
        return "down", code if code in _CLASSES else None

    def _ordered(self, name: str) -> str | None:
        """Return a field of the order of an operator; ``None`` without one."""
        order = self._last(JournalKind.OPERATOR)
        found = None if order is None else dict(order.data).get(name)
        return found if isinstance(found, str) else None

    def _receipt(self) -> Receipt | None:
        entry = self._after(JournalKind.RECEIPT)
        if entry is None or entry.evidence is None or entry.epoch != self._epoch:
            return None
        return receipt_of(str(dict(entry.data)["operation"]), self._master, entry.evidence, self._wall_offset)

    def _phases(self) -> tuple[PhaseTime, ...]:
        found: list[tuple[str, Millis]] = []
        if self._sdown is not None:
            silent = dict(self._sdown.data).get("last_ok_ping_ms")
            if isinstance(silent, int):
                found.append(("last_ok_ping", self._sdown.at - silent))
            found.append(("sdown", self._sdown.at))
        if self._odown is not None:
            found.append(("odown", self._odown.at))
        if self._end.kind is JournalKind.CONFIG_ADOPTED:
            vote = self._vote()
            steps = [("voted", vote), ("switched", self._end), ("durable", self._after(JournalKind.DURABLE))]
        else:
            promoted, durable = self._last(JournalKind.PROMOTED), None
            announced = None
            if promoted is not None:
                durable = self._last(JournalKind.DURABLE) or self._after(JournalKind.DURABLE)
                announced = self._last(JournalKind.ANNOUNCED) or self._after(JournalKind.ANNOUNCED)
            steps = [
                ("campaign", self._first(JournalKind.CAMPAIGN)),
                ("elected", self._last(JournalKind.ELECTED)),
                ("selected", self._last(JournalKind.SELECTED)),
                ("promotion_ordered", self._last(JournalKind.PROMOTION_ORDERED)),
                ("promoted", promoted),
                ("durable", durable),
                ("announced", announced),
                ("replicas_done", self._last(JournalKind.REPLICAS_DONE)),
                ("switched" if self._switched else "aborted", self._end),
            ]
        found += [(name, entry.at) for name, entry in steps if entry is not None]
        closed = self._clients_closed()
        if closed is not None:
            found.append(("clients_gone", closed.at))
        found.sort(key=_at)
        phases: list[PhaseTime] = []
        before: Millis | None = None
        for name, at in found:
            phases.append(PhaseTime(name, self._instant(at), None if before is None else at - before))
            before = at
        return tuple(phases)

    def _voters(self) -> tuple[VoterRecord, ...]:
        voters: dict[str, VoterRecord] = {}
        for each in self._steps:
            peer, at = each.subject, self._instant(each.at)
            if each.kind is JournalKind.VOTE_GIVEN and each.epoch == self._epoch:
                voters[self._own_id] = VoterRecord(self._own_id, "self", None, at, peer, each.epoch, None)
            elif peer is None:
                continue
            elif each.kind is JournalKind.VOTE_REQUESTED and each.epoch == self._epoch:
                voters[peer] = VoterRecord(peer, each.code or "c", at, None, None, None, None)
            elif each.kind is JournalKind.VOTE_RECEIVED and peer in voters:
                leader, asked = dict(each.data).get("leader"), voters[peer]
                vote = leader if isinstance(leader, str) and leader != "*" else None
                reason = None
                if each.code != "granted":
                    reason = "it gave no vote" if vote is None else f"it had voted for {vote} in epoch {each.epoch}"
                voters[peer] = VoterRecord(peer, asked.kind, asked.asked_at, at, vote, each.epoch, reason)
        return tuple(voters.values())

    def _replicas(self) -> tuple[ReplicaRecord, ...]:
        highest = max([self._servers.old.offset or 0, *(each.server.offset or 0 for each in self._compared)])
        found, rank = [], 0
        for each in self._compared:
            offset = each.server.offset or 0
            fit = each.key is not None
            rank += fit
            unfit = each.unfit
            found.append(
                ReplicaRecord(
                    Endpoint(each.server.host, each.server.port),
                    offset,
                    highest - offset,
                    each.server.priority or 0,
                    rank if fit else None,
                    None if unfit is None else unfit.code.value,
                    None if unfit is None else unfit.text,
                )
            )
        return tuple(found)

    def _loss(self) -> DataLoss:
        if not self._switched and self._first(JournalKind.PROMOTION_ORDERED) is None:
            return _NOT_PROMOTED
        compared = self._after(JournalKind.DATA_COMPARED) or self._last(JournalKind.DATA_COMPARED)
        if compared is None or compared.epoch != self._epoch:
            return _NOT_BACK
        return data_loss(compared)

    def _resyncs(self) -> Resyncs | None:
        counted = self._after(JournalKind.RESYNCS)
        if counted is None or counted.epoch != self._epoch:
            return None
        return resyncs_of(counted)

    def _clients_closed(self) -> JournalEntry | None:
        """Return the record of the clients that the old master closed when it was ordered to follow the new one."""
        old = self._servers.old
        entries = (*self._steps, *self._later)
        closed = (each for each in entries if each.kind is JournalKind.CLIENTS_CLOSED)
        return next((each for each in closed if each.subject == f"{old.host}:{old.port}"), None)


def chosen_because(compared: Sequence[ComparedReplica]) -> str | None:
    """
    Return a clause on why the first of the replicas was selected; ``None`` if none is fit.

    It names the first difference to the second one in the order of promotion.
    """
    fit = [each for each in compared if each.key is not None]
    if not fit:
        return None
    if len(fit) == 1:
        return "it is the only fit replica"
    first, second = fit[0], fit[1]
    assert first.key is not None and second.key is not None
    other = second.server.name
    values = (
        "",
        f": {first.server.priority}, {other} has {second.server.priority}",
        f": offset {first.server.offset}, {other} has {second.server.offset}",
        "",
        f": {first.server.run_id}, {other} has {second.server.run_id}",
    )
    for preference, ours, theirs, value in zip(PREFERENCES, first.key, second.key, values, strict=True):
        if ours != theirs:
            return f"{preference}{value}"
    return f"it equals {other} in all respects"


def data_loss(compared: JournalEntry) -> DataLoss:
    """Return the verdict on the lost data that a record of the journal has."""
    data = dict(compared.data)
    return DataLoss(
        LossVerdict(compared.code),
        _number(data.get("lost_bytes")),
        _number(data.get("from_offset")),
        _number(data.get("to_offset")),
        str(data.get("text")),
    )


def resyncs_of(counted: JournalEntry) -> Resyncs:
    """Return the numbers of synchronizations that a record of the journal has."""
    data = dict(counted.data)
    return Resyncs(_number(data.get("partial")) or 0, _number(data.get("full")) or 0)


def _steps(entries: Sequence[JournalEntry], end: JournalEntry) -> list[JournalEntry]:
    """
    Return the records from the end of the failover before this one up to the end of this one.

    Own campaigns that were lost belong to the failover that another Sentinel led, or that a later campaign began.
    """
    steps: list[JournalEntry] = []
    for each in entries:
        if each.sequence > end.sequence:
            break
        steps.append(each)
        if each.kind in ENDS and each.sequence < end.sequence and not is_provisional(each):
            steps.clear()
    return steps


def _later(entries: Sequence[JournalEntry], end: JournalEntry) -> list[JournalEntry]:
    """Return the records after the end of the failover that amend it."""
    later: list[JournalEntry] = []
    over = False
    for each in entries:
        if each.sequence <= end.sequence:
            continue
        if each.kind in (JournalKind.DATA_COMPARED, JournalKind.RESYNCS):
            if each.epoch == end.epoch:
                later.append(each)
        elif each.kind is JournalKind.CAMPAIGN or each.kind in ENDS:
            over = True
        elif each.kind in AMENDMENTS and not over:
            later.append(each)
    return later


def _sdown(entries: Sequence[JournalEntry], end: JournalEntry) -> JournalEntry | None:
    """Return the beginning of the S_DOWN of the master that holds at ``end``."""
    found: JournalEntry | None = None
    for each in entries:
        if each.sequence >= end.sequence:
            break
        if each.subject is None and each.kind in (JournalKind.SDOWN, JournalKind.SDOWN_ENDED):
            found = each if each.kind is JournalKind.SDOWN else None
        elif each.kind in (JournalKind.SWITCHED, JournalKind.CONFIG_ADOPTED):
            found = None
    return found


def _odown(entries: Sequence[JournalEntry], end: JournalEntry) -> JournalEntry | None:
    """Return the beginning of the O_DOWN of the master that holds at ``end``."""
    found: JournalEntry | None = None
    for each in entries:
        if each.sequence >= end.sequence:
            break
        if each.kind is JournalKind.ODOWN:
            found = each
        elif each.kind in (JournalKind.ODOWN_ENDED, JournalKind.SWITCHED, JournalKind.CONFIG_ADOPTED):
            found = None
    return found


def _server(known: KnownServer) -> ServerRecord:
    return ServerRecord(Endpoint(known.host, known.port), known.run_id, known.replid, known.offset, known.priority)


def _number(value: str | int | None) -> int | None:
    return value if isinstance(value, int) else None


def _at(phase: tuple[str, Millis]) -> Millis:
    return phase[1]
