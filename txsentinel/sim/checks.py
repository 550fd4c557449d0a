"""
Safety invariants S1 to S18, which must hold in every run. The checker shares no code with what it checks.

It inspects each Sentinel after each of its turns. It sees every event that a Sentinel decides or publishes, every byte
that it sends (:mod:`~txsentinel.sim.wire_checks`), and everything that its disk stores. It keeps records of its own and
trusts only those: a vote counts once its voter has announced or sent it, and no crash undoes it.

======= ==============================================================================================
S1      one vote per Sentinel, master and epoch, for ever
S2      the epochs of a Sentinel's votes for a master only rise
S3      one elected leader per master and epoch
S4      an elected leader has received votes of its epoch from a majority and from the quorum
S5      a config epoch names one address, on all Sentinels and for ever
S6      no Sentinel's config epoch falls; after a crash it is at least the durable one
S7      no Sentinel's durable current epoch falls
S8      no config epoch exceeds the current epoch
S9      no vote's epoch exceeds the current epoch
S10     an automatic failover needs S_DOWN here and a quorum of opinions on this address within five seconds
S11     only an elected or ordered leader promotes; other servers are only ordered to follow the published master
S12     a new address is published only after its server reported role master, or with a higher config epoch
S13     in TILT nothing is started, promoted or set down; a Sentinel that was stopped enters TILT
S14     no replica of priority 0 is promoted
S15     two automatic attempts of one Sentinel are two failover-timeouts apart, but for switch, reset, restart, recovery
S16     a Sentinel makes no attempt within that time after it voted for another one (a shorter time if that one does not
        confirm to be a candidate); S15 and S16 do not apply if a replica took over after the vote
S17     no replica is promoted while the old master answers PING and does not report role slave, unless it lost data
S18     and ``data``: see :mod:`~txsentinel.sim.data_checks`
durable no vote, address, ID, event or confirmation is sent before it is on disk
slow    no server is held down because a Sentinel reads replies late (see :mod:`~txsentinel.sim.run`)
bounded queues and connections do not grow without limit (:mod:`~txsentinel.sim.bound_checks`)
pauses  and ``clients``, ``files``, ``follows``: the state of servers (:mod:`~txsentinel.sim.server_checks`)
history every failover has a record with the right outcome (:mod:`~txsentinel.sim.history_checks`)
fence   only an isolated master is paused, for as long as it is (:mod:`~txsentinel.sim.fence_checks`)
======= ==============================================================================================

S5 has one gap: forced failovers that proceed without a majority share no epoch with each other, but may share one with
an election that they did not know of.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txsentinel.core.effects import Announce, Effect, Note, PauseWrites, ResumeWrites
from txsentinel.core.instances import Master
from txsentinel.core.voting import FORGED_REQUEST, UNCONFIRMED_CANDIDATE
from txsentinel.model.events import SentinelEvent
from txsentinel.sim.bound_checks import BoundChecker
from txsentinel.sim.crash_checks import CrashChecker
from txsentinel.sim.data_checks import DataChecker
from txsentinel.sim.durable import read_persisted
from txsentinel.sim.fence_checks import FenceChecker
from txsentinel.sim.fleet import CONFIG_PATH, SENTINEL_PORT, Fleet, Observer, SimSentinel
from txsentinel.sim.history_checks import HistoryChecker
from txsentinel.sim.pause_checks import PauseChecker
from txsentinel.sim.records import NEVER, RecordedMaster, Records, SentinelRecord, Violation
from txsentinel.sim.server_checks import ServerChecker
from txsentinel.sim.simulation import SECOND
from txsentinel.sim.wire_checks import ORDER_LIFE, WireChecker
from txsentinel.sim.wiretap import WireTapInstaller

__all__ = ["InvariantChecker", "Violation"]

CHECK_INTERVAL: Final = 1.0
"""Seconds between two measurements of what must not grow."""

OPINION_LIFE: Final = 5.0
"""Seconds for which an opinion counts."""

SWITCHOVER_LIFE: Final = 30.0
"""Seconds after the order within which a switchover begins, or never."""

SLACK: Final = 0.1
"""Seconds that a decision may lag behind its inputs: one sweep."""

TILT_TRIGGER: Final = 2.0

PLANNED_SLEEP: Final = 1.0
"""Seconds for which a process sleeps at most while nothing is due; a gap counts from the planned end of that."""

STARVATION_LIMIT: Final = 30.0
"""Seconds for which a process may wait for a processor without TILT."""

FROZEN_IN_TILT: Final = frozenset(
    {"+sdown", "-sdown", "+odown", "-odown", "+try-failover", "+elected-leader", "+selected-slave", "+promoted-slave"}
)


class InvariantChecker(Observer):
    """Check one fleet; ``violations`` lists what was broken."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.records = Records(fleet)
        fleet.report_violation = self.records.expect
        self._expect = self.records.expect
        names = set(self.records.sentinels)
        self._servers = ServerChecker(self.records)
        self._bounds = BoundChecker(fleet, self.records)
        self.crashes = CrashChecker(self.records)
        self.fences = FenceChecker(self.records)
        self.pauses = PauseChecker(self.records)
        self.data = data = DataChecker(self.records, self._servers.is_stable)
        wire = WireChecker(self.records, data, self.pauses)
        fleet.network.joined = WireTapInstaller(
            wire, names, {peer.name for peer in fleet.c_peers}, SENTINEL_PORT, fleet.simulation.seconds
        ).joined
        for sentinel in fleet.sentinels:
            sentinel.host.files.stored = self._storing(self.records.sentinels[sentinel.name])
        self.history = HistoryChecker(self.records)
        fleet.observers += [self, self.history]
        fleet.simulation.call_later(CHECK_INTERVAL, self._observe)

    @property
    def violations(self) -> list[Violation]:
        """The violations, in order."""
        return self.records.violations

    @property
    def failovers(self) -> int:
        """The number of promotions ordered."""
        return self.records.failovers

    def born(self, sentinel: SimSentinel) -> None:
        """A process started: drop the records that a restart may lose, compare those that it must keep."""
        record = self.records.sentinels[sentinel.name]
        service = sentinel.alive
        persisted = record.persisted = read_persisted(sentinel.host.files.surviving(CONFIG_PATH), self._fleet.names)
        record.tilt_since = record.tilt_expected_by = record.starved_until = None
        record.turned_at = self._now
        record.wall_offset = sentinel.host.wall_offset
        record.valid_hellos.clear()
        for name, master in record.masters.items():
            master.forget_attempts()
            master.opinions.clear()
            master.down_at = master.address = None
            on_disk = persisted.masters.get(name)
            if on_disk is not None:
                master.newest_vote = self.records.retract(sentinel.name, name, on_disk.leader_epoch)
            loaded = next((m for m in service.configuration.masters if m.name == name), None)
            known = persisted.masters.get(name)
            if loaded is not None and known is not None:
                self._expect(
                    loaded.config_epoch >= known.config_epoch, "S6", f"{sentinel.name} restarts below its durable epoch"
                )
                master.config_epoch, master.leader_epoch = loaded.config_epoch, known.leader_epoch
                master.durable_places = {known.place}
        service.core.outbox.observer = self._effect_observer(sentinel)
        sentinel.host.reactor.turned = _Observer(self, record).turned

    # After each turn

    def clocks(self, record: SentinelRecord, now: float, tilt: bool) -> None:
        """Check that a Sentinel enters TILT after its process stopped, or its clock jumped, for more than the limit."""
        host, gap = record.sentinel.host, now - record.turned_at
        step = host.wall_offset - record.wall_offset
        longest = TILT_TRIGGER + PLANNED_SLEEP + SLACK
        jumped = not -TILT_TRIGGER / 8 <= step + gap <= longest
        waited = (host.starved_ms - record.starved_ms) / 1000
        if not step and 2 * waited > gap and gap + 2 * SLACK <= STARVATION_LIMIT:
            record.starved_until = now + 2 * SLACK
        elif jumped or gap > longest:
            # A jump is noticed by the next sweep.
            record.tilt_expected_by = now + 2 * SLACK + (PLANNED_SLEEP if step else 0.0)
        if record.starved_until is not None and now > record.starved_until:
            record.starved_until = None
        if record.starved_until is not None:
            self._expect(record.tilt_since != now, "slow", f"{record.sentinel.name} waited for a processor: TILT")
        record.starved_ms = host.starved_ms
        record.wall_offset = host.wall_offset
        if tilt:
            record.tilt_expected_by = None
        elif record.tilt_expected_by is not None and now > record.tilt_expected_by:
            record.tilt_expected_by = None
            self._expect(False, "S13", f"{record.sentinel.name} was stopped, or its clock jumped, without TILT")

    def check_all(self, record: SentinelRecord) -> None:
        """Check every master of one Sentinel and take a snapshot of each."""
        core = record.sentinel.alive.core
        record.seen = [RecordedMaster(master) for master in core.registry.masters.values()]
        record.seen_epoch = core.state.current_epoch
        for master in core.registry.masters.values():
            self._check_master(record, master)
            self.crashes.check(record.sentinel, master)

    def _check_master(self, record: SentinelRecord, master: Master) -> None:
        kept = record.master(master.name)
        address, epoch = master.published_address, master.config_epoch
        if address is not kept.address or epoch != kept.config_epoch:
            self._moved(record, master)
        if master.leader_epoch != kept.leader_epoch:
            who = record.sentinel.name
            saved = record.persisted.masters.get(master.name)
            # A vote that was cast on a master whose MONITOR is undone was never on disk, and never shown.
            undone = record.sentinel.alive.core.state.storage_failing and (
                saved is None or master.leader_epoch >= saved.leader_epoch
            )
            fine = undone or master.leader_epoch >= kept.leader_epoch
            self._expect(fine, "S2", f"{who} fell back to {master.leader_epoch}")
            kept.leader_epoch = master.leader_epoch
        current = record.sentinel.alive.core.current_epoch
        if master.config_epoch > current or master.leader_epoch > current:
            invariant = "S8" if master.config_epoch > current else "S9"
            what = f"{master.config_epoch} or {master.leader_epoch} on {master.name} exceeds {current}"
            self._expect(False, invariant, f"{record.sentinel.name}: {what}")
        if master.sdown_since is not None:
            kept.down_at = (master.address.ip, master.address.port)
        elif kept.down_at is not None:
            kept.down_until[kept.down_at] = self._now
            kept.down_at = None

    def _moved(self, record: SentinelRecord, master: Master) -> None:
        """The published address or the config epoch changed (S5, S6, S12)."""
        who, name, kept = record.sentinel.name, master.name, record.master(master.name)
        address, epoch = master.published_address, master.config_epoch
        place = (address.ip, address.port)
        before = kept.address
        self._expect(epoch >= kept.config_epoch, "S6", f"{who} fell to config epoch {epoch} on {name}")
        if before is not None and before.resolved and (before.ip, before.port) != place:
            higher = epoch > kept.config_epoch
            self._expect(higher, "S12", f"{who} moved {name} to {place} without a higher config epoch")
            publishers = self.records.hellos.get((name, epoch, place), set()) - {who}
            seen = record.saw_master.get(address.ip, NEVER) >= kept.promotions.get(address.ip, -NEVER)
            self._expect(
                publishers or seen, "S12", f"{who} moved {name} to {place}@{epoch}, which no Sentinel saw as a master"
            )
            kept.forget_attempts()
            kept.opinions.clear()
        kept.address, kept.config_epoch = address, epoch
        if address.resolved:
            kept.held.setdefault(place, epoch)
            self.records.claimed(who, name, epoch, place)

    # Events

    def _effect_observer(self, sentinel: SimSentinel) -> Callable[[Effect], None]:
        def observe(effect: Effect) -> None:
            if isinstance(effect, Announce):
                self._decided(sentinel, effect.event)
            elif isinstance(effect, Note) and effect.kind == UNCONFIRMED_CANDIDATE:
                self._check_release(sentinel, effect.text.split()[-1])
            elif isinstance(effect, Note) and effect.kind == FORGED_REQUEST:
                self._check_denial(sentinel, effect.text)
            elif isinstance(effect, PauseWrites | ResumeWrites):
                self.fences.ordered(sentinel, effect)

        return observe

    def _decided(self, sentinel: SimSentinel, event: SentinelEvent) -> None:
        """An event was decided; it is published later, when it is durable."""
        core, channel = sentinel.alive.core, event.channel
        record = self.records.sentinels[sentinel.name]
        master = None if event.master is None else core.registry.masters.get(event.master)
        ordered = master is not None and self._now - record.master(master.name).ordered_at <= ORDER_LIFE
        if channel in FROZEN_IN_TILT and not (ordered and channel == "+try-failover"):
            self._expect(not core.tilt.active, "S13", f"{sentinel.name} decided {event} in TILT")
        if master is None:
            return
        if channel == "+sdown" and event.payload.startswith("master "):
            self.crashes.decided_down(sentinel, master)
        kept = record.master(master.name)
        if channel == "+vote-for-leader":
            candidate, epoch = event.payload.split()[0], int(event.payload.split()[1])
            self.records.voted(sentinel.name, master.name, epoch, candidate, out=False)
            self.pauses.voted(sentinel, master, candidate, epoch)
            rises = epoch > kept.newest_vote
            self._expect(rises, "S2", f"{sentinel.name} voted on {master.name} in {epoch} after {kept.newest_vote}")
            kept.newest_vote = max(epoch, kept.newest_vote)
            if candidate != core.options.my_id:
                kept.voted_for_other, kept.other = self._now, (candidate, epoch)
                kept.voting_since = self._now if kept.voting_since is None else kept.voting_since
        elif channel in ("+switch-master", "+reset-master"):
            kept.forget_attempts()
        elif channel == "+try-failover":
            self._attempted(sentinel, master)
        elif channel == "-failover-abort-master-is-back":
            back = master.sdown_since is None or master.odown_since is None
            self._expect(back, "S15", f"{sentinel.name} on {master.name}: an attempt is void though the master is down")
            kept.began = kept.began_before

    def _attempted(self, sentinel: SimSentinel, master: Master) -> None:
        """A Sentinel starts a failover (S10, S15, S16)."""
        record = self.records.sentinels[sentinel.name]
        kept, now = record.master(master.name), self._now
        who = f"{sentinel.name} on {master.name}"
        failover = master.failover
        self._expect(failover is not None, "S11", f"{who}: an attempt that is none")
        if failover is None:
            return
        kept.forced = failover.forced
        if failover.forced or failover.planned:
            # The conditions of a switchover are tested before it begins.
            planned_at = None if failover.operation is None else failover.operation.order.at
            life = ORDER_LIFE if failover.operation is None else SWITCHOVER_LIFE
            ordered = now - kept.ordered_at <= life
            if planned_at is not None:
                ordered = 1000 * sentinel.host.wall_clock() >= planned_at - 1
            self._expect(ordered, "S10", f"{who}: a failover that was not ordered")
            return
        distance = 2 * master.options.failover_timeout / 1000
        if self._taken_over(record, master, max(kept.began or NEVER, kept.voted_for_other or NEVER)):
            kept.forget_attempts()
        if kept.began is not None:
            self._expect(now - kept.began >= distance - SLACK, "S15", f"{who} tried again after {now - kept.began} s")
        if kept.voted_for_other is not None and self._campaigned(master.name, *kept.other):
            since = now - kept.voted_for_other
            self._expect(since >= distance - SLACK, "S16", f"{who} tried {since} s after its vote for another")
        kept.began_before = kept.began
        kept.began = now
        self._expect(master.sdown_since is not None, "S10", f"{who} tried although the master is up to it")
        place = (master.address.ip, master.address.port)
        agreeing = 1 + sum(
            1
            for (about, voter), at in kept.opinions.items()
            if about == place and voter != sentinel.name and now - at <= OPINION_LIFE + SLACK
        )
        quorum = master.options.quorum
        self._expect(agreeing >= quorum, "S10", f"{who} tried with {agreeing} of {quorum} opinions on {place}")

    def _taken_over(self, record: SentinelRecord, master: Master, last_vote: float) -> bool:
        """Whether the monitored server became a replica after the last vote, and the one it follows is a master."""
        became = record.became_replica.get(master.address.ip, NEVER)
        if became <= max(last_vote, record.saw_master.get(master.address.ip, NEVER)):
            return False
        followed = self.records.server_at(master.address.ip).master_address
        if followed is None:
            return False
        return record.saw_master.get(self._fleet.names.get(followed[0], followed[0]), NEVER) >= became

    def _check_release(self, sentinel: SimSentinel, name: str) -> None:
        """No candidate has confirmed in time that it asked for a vote: such votes delay nobody any more (S16)."""
        kept, core = self.records.sentinels[sentinel.name].master(name), sentinel.alive.core
        limit = min(core.timings.election_timeout, core.master(name).options.failover_timeout) / 1000
        if kept.voting_since is not None and self._now - kept.voting_since >= limit - SLACK:
            kept.voted_for_other = kept.voting_since = None

    def _check_denial(self, sentinel: SimSentinel, text: str) -> None:
        """
        A candidate denies that it asked for a vote, as its own was not saved: such votes delay nobody any more (S16).

        If its disk recovers, that vote is sent later.
        """
        for name, kept in self.records.sentinels[sentinel.name].masters.items():
            candidate, epoch = kept.other
            if f" for {name} in epoch {epoch} in the name of {candidate} " in text:
                if not self._campaigned(name, candidate, epoch):
                    kept.voted_for_other = kept.voting_since = None

    def _campaigned(self, master: str, candidate: str, epoch: int) -> bool:
        """
        Whether that candidate has sent its vote for itself. If not, its request may be found forged and delays no
        failover.
        """
        names = [name for name, record in self.records.sentinels.items() if record.persisted.my_id == candidate]
        return any((name, master, epoch) in self.records.published_votes for name in names)

    def event(self, sentinel: SimSentinel, event: SentinelEvent) -> None:
        """An event is published. Its content must be durable, except for a switch while the disk is known to fail."""
        self._servers.event(sentinel, event)
        if event.channel not in ("+switch-master", "+vote-for-leader") or event.master is None:
            return
        record = self.records.sentinels[sentinel.name]
        words = event.payload.split()
        if event.channel == "+vote-for-leader":
            self.records.voted(sentinel.name, event.master, int(words[1]), words[0], out=True)
        master = record.persisted.masters.get(event.master)
        if master is None:
            return
        if event.channel == "+vote-for-leader":
            fine = master.leader_epoch >= int(words[1])
        else:
            fine = record.disk_fails or self.records.may_publish(record, event.master, (words[3], int(words[4])))
        self._expect(fine, "durable", f"{sentinel.name} published {event} before it was on disk")

    # Disks

    def _storing(self, record: SentinelRecord) -> Callable[[str, bytes], None]:
        def stored(path: str, contents: bytes) -> None:
            if path != CONFIG_PATH:
                return
            before, after = record.persisted, read_persisted(contents, self._fleet.names)
            record.persisted = after
            who = record.sentinel.name
            fine = after.current_epoch >= before.current_epoch
            self._expect(fine, "S7", f"{who} wrote current epoch {after.current_epoch} after {before.current_epoch}")
            fine = not before.my_id or after.my_id == before.my_id
            self._expect(fine, "durable", f"{who} wrote another ID")
            for name, master in after.masters.items():
                kept = record.master(name)
                kept.durable_places.add(master.place)
                if kept.reset_writes:
                    kept.reset_writes, kept.reset_at = kept.reset_writes - 1, self._now
                old = before.masters.get(name)
                if old is not None:
                    if master.config_epoch < old.config_epoch:
                        fell, record.master(name).may_fall = record.master(name).may_fall, False
                        self._expect(fell, "S6", f"{who} wrote config epoch {master.config_epoch} on {name}")
                    fine = master.leader_epoch >= old.leader_epoch
                    self._expect(fine, "S2", f"{who} wrote leader epoch {master.leader_epoch} on {name}")

        return stored

    def _observe(self) -> None:
        self.measure()
        self._fleet.simulation.call_later(CHECK_INTERVAL, self._observe)

    def measure(self) -> None:
        """Measure every queue."""
        self._bounds.measure()

    @property
    def _now(self) -> float:
        return self._fleet.simulation.seconds()


class _Observer:
    """Checks one Sentinel process after each of its turns; costs little if nothing has changed."""

    def __init__(self, checker: InvariantChecker, record: SentinelRecord) -> None:
        core, host = record.sentinel.alive.core, record.sentinel.host
        self._checker = checker
        self._record = record
        self._host = host
        self._reactor = host.reactor
        self._simulation = host.simulation
        self._tilt = core.tilt
        self._outbox = core.outbox
        self._state = core.state
        self._masters = core.registry.masters
        record.seen = None

    def turned(self) -> None:
        """A turn ended."""
        if self._reactor.dead or self._reactor.stalled:
            return
        record, checker = self._record, self._checker
        now = self._simulation.time / SECOND
        tilt = self._tilt.since is not None
        if tilt != (record.tilt_since is not None):
            record.tilt_since = now if tilt else None
        stepped = self._host.wall_offset != record.wall_offset
        awaited = record.tilt_expected_by is not None or record.starved_until is not None
        if stepped or awaited or now - record.turned_at > TILT_TRIGGER:
            checker.clocks(record, now, tilt)
        record.turned_at = now
        if self._outbox.pending and record.persisted.my_id:
            what = f"{record.sentinel.name} left effects undone at the end of its turn"
            checker.records.expect(False, "bounded", what)
        seen, masters = record.seen, self._masters
        if seen is None or len(seen) != len(masters) or self._state.current_epoch != record.seen_epoch:
            checker.check_all(record)
            return
        for at, master in enumerate(masters.values()):
            snapshot = seen[at]
            if (
                master is not snapshot.master
                or master.address is not snapshot.address
                or master.config_epoch != snapshot.config_epoch
                or master.leader_epoch != snapshot.leader_epoch
                or master.sdown_since is not snapshot.down_since
                or master.crash.confirmed_at is not snapshot.crashed_at
                # A failover changes inside its own object.
                or master.failover is not None
            ):
                checker.check_all(record)
                return
