"""
What must hold in every world: the safety properties S1 to S16, checked apart from the code they are about.

A witness hears every published event, sees every order that leaves a Sentinel, and looks at the whole
fleet every few milliseconds. It keeps records of its own and believes only those: a vote counts as
given when its voter announced it or a peer was told of it, and never un-happens, whatever crashes.

=== ==================================================================================================
S1  one vote per Sentinel, master and epoch, for ever
S2  the epochs of a Sentinel's votes for a master only rise
S3  one elected leader per master and epoch
S4  who acts unforced has a majority and the quorum of votes of the epoch it acts in
S5  a config epoch names one address, everywhere and for ever
S6  no Sentinel's config epoch falls; after a crash it is at least the durable one
S7  no Sentinel's durable current epoch falls
S8  no config epoch exceeds the current epoch
S9  no vote's epoch exceeds the current epoch
S10 an automatic failover needs S_DOWN here, and a quorum that held this very address down lately
S11 nobody but an elected or ordered leader makes a master; others are only told to follow the published one
S12 a new address is published only after it was seen as master, or with a higher config epoch
S13 in TILT nothing is started, promoted or judged
S14 nobody of priority 0 is promoted
S15 two automatic attempts of one Sentinel are two failover-timeouts apart, but for switch, reset, restart
S16 nor does it attempt within that time after it voted for another
=== ==================================================================================================
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from txsentinel.address import Address
from txsentinel.core.effects import Announce, Effect, Reconfigure
from txsentinel.core.instances import Master, Replica
from txsentinel.events import SentinelEvent
from txsentinel.sim.fleet import CONFIG_PATH, Fleet, SimSentinel, Watcher

LOOK_PERIOD: Final = 0.02
"""Seconds between two looks at the whole fleet."""

OPINION_LIFE: Final = 6.0
"""Seconds for which a Sentinel's S_DOWN may still count elsewhere: five ask periods and the way."""

ATTEMPT_SLACK: Final = 0.1

FROZEN_IN_TILT: Final = frozenset(
    {"+sdown", "-sdown", "+odown", "-odown", "+try-failover", "+elected-leader", "+selected-slave", "+promoted-slave"}
)


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    at: float
    promise: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise} at {self.at:.3f} s: {self.what}"


@dataclass(slots=True)
class _Attempt:
    """What keeps a Sentinel from failing a master over again: times in seconds."""

    began: float | None = None
    voted_for_other: float | None = None


class Witness(Watcher):
    """Watches one fleet; ``violations`` is what it saw."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.violations: list[Violation] = []
        self.failovers = 0
        self.looks = 0
        self._votes: dict[tuple[str, str, int], str] = {}
        self._newest_vote: dict[tuple[str, str], int] = {}
        self._leaders: dict[tuple[str, int], str] = {}
        self._addresses: dict[tuple[str, int], Address] = {}
        self._config_epochs: dict[tuple[str, str], int] = {}
        self._durable: dict[tuple[str, str], int] = {}
        self._published: dict[tuple[str, str], tuple[Address, int]] = {}
        self._down: dict[tuple[str, str, Address], float] = {}
        self._attempts: dict[tuple[str, str], _Attempt] = {}
        self._names: dict[str, str] = {}
        fleet.watchers.append(self)
        fleet.world.call_later(LOOK_PERIOD, self._look_on)

    def born(self, sentinel: SimSentinel) -> None:
        """A process begins: what it may forget is forgotten, what it must remember is compared."""
        service = sentinel.alive
        for group in self._fleet.masters:
            self._attempts.pop((sentinel.name, group.name), None)
            key = (sentinel.name, group.name)
            record = next((m for m in service.configuration.masters if m.name == group.name), None)
            if record is not None:
                durable = self._durable.get(key, 0)
                self._expect(record.config_epoch >= durable, "S6", f"{key} restarted below its durable {durable}")
                self._config_epochs[key] = record.config_epoch
                self._published.pop(key, None)
        service.core.outbox.emit = self._hearing(sentinel, service.core.outbox.emit)  # type: ignore[method-assign]
        perform = service.links.perform
        service.links.perform = self._seeing(sentinel, perform)  # type: ignore[assignment,method-assign]

    def event(self, sentinel: SimSentinel, event: SentinelEvent) -> None:
        """An event was published, so what it reports is durable."""
        if event.channel == "+vote-for-leader" and event.master is not None:
            leader, epoch = event.payload.split()
            self._voted(sentinel.name, event.master, int(epoch), leader)

    def decided(self, sentinel: SimSentinel, event: SentinelEvent) -> None:
        """A Sentinel came to a decision, which it will publish once that is durable."""
        core = sentinel.alive.core
        channel = event.channel
        master = None if event.master is None else core.registry.masters.get(event.master)
        ordered = master is not None and master.failover is not None and master.failover.forced
        frozen = core.tilt.active and channel in FROZEN_IN_TILT and not (ordered and channel == "+try-failover")
        self._expect(not frozen, "S13", f"{sentinel.name} decided {event} in TILT")
        if master is None:
            return
        key = (sentinel.name, master.name)
        if channel == "+sdown":
            self._remember_down(key, master)
        elif channel == "+vote-for-leader" and event.payload.split()[0] != core.options.my_id:
            self._attempts.setdefault(key, _Attempt()).voted_for_other = self._now
        elif channel in ("+switch-master", "+reset-master"):
            self._attempts.pop(key, None)
        elif channel == "+try-failover":
            self._attempted(sentinel, master)

    def look(self) -> None:
        """Compare the whole fleet with what was seen before."""
        self.looks += 1
        for sentinel in self._fleet.sentinels:
            if not sentinel.running:
                continue
            core = sentinel.alive.core
            self._names[core.options.my_id] = sentinel.name
            for group in self._fleet.masters:
                master = core.registry.masters.get(group.name)
                if master is not None:
                    self._look_at(sentinel, master)
        self._look_at_disks()

    @property
    def _now(self) -> float:
        return self._fleet.world.seconds()

    def _expect(self, holds: bool, promise: str, what: str) -> None:
        if not holds:
            self.violations.append(Violation(self._now, promise, what))

    def _look_on(self) -> None:
        self.look()
        self._fleet.world.call_later(LOOK_PERIOD, self._look_on)

    def _look_at(self, sentinel: SimSentinel, master: Master) -> None:
        core = sentinel.alive.core
        key = (sentinel.name, master.name)
        self._remember_down(key, master)
        for peer in master.peers.values():
            voter = self._names.get(peer.name)
            if voter is not None and peer.leader is not None:
                self._voted(voter, master.name, peer.leader_epoch, peer.leader, told=True)
        self._expect(
            master.config_epoch >= self._config_epochs.get(key, 0), "S6", f"{key} fell to {master.config_epoch}"
        )
        self._config_epochs[key] = master.config_epoch
        self._expect(
            master.config_epoch <= core.current_epoch, "S8", f"{key}: {master.config_epoch} > {core.current_epoch}"
        )
        self._expect(
            master.leader_epoch <= core.current_epoch, "S9", f"{key}: {master.leader_epoch} > {core.current_epoch}"
        )
        self._look_at_address(key, master)

    def _remember_down(self, key: tuple[str, str], master: Master) -> None:
        if master.sdown_since is not None:
            self._down[key[0], key[1], master.address] = self._now

    def _look_at_address(self, key: tuple[str, str], master: Master) -> None:
        address, epoch = master.published_address, master.config_epoch
        if epoch:
            known = self._addresses.setdefault((master.name, epoch), address)
            self._expect(known.same(address), "S5", f"{key} holds {address.joined()}@{epoch}, another {known.joined()}")
        before = self._published.get(key)
        self._published[key] = (address, epoch)
        if before is not None and not before[0].same(address):
            self._expect(epoch > before[1], "S12", f"{key} moved to {address.joined()} without a higher config epoch")

    def _look_at_disks(self) -> None:
        for sentinel in self._fleet.sentinels:
            contents = sentinel.host.files.contents.get(CONFIG_PATH, b"")
            for line in contents.decode().splitlines():
                words = line.split()
                if words[:2] == ["sentinel", "current-epoch"]:
                    self._rises(sentinel.name, "", int(words[2]), "S7")
                elif words[:2] == ["sentinel", "config-epoch"]:
                    self._rises(sentinel.name, words[2], int(words[3]), "S6")
                elif words[:2] == ["sentinel", "leader-epoch"]:
                    self._rises(sentinel.name, f"{words[2]}/vote", int(words[3]), "S2")

    def _rises(self, sentinel: str, what: str, value: int, promise: str) -> None:
        key = (sentinel, what)
        self._expect(value >= self._durable.get(key, 0), promise, f"{key} fell to {value} on disk")
        self._durable[key] = value

    def _voted(self, voter: str, master: str, epoch: int, leader: str, *, told: bool = False) -> None:
        given = self._votes.setdefault((voter, master, epoch), leader)
        self._expect(given == leader, "S1", f"{voter} voted for {given[:8]} and {leader[:8]} on {master} in {epoch}")
        if told:
            contents = next(s for s in self._fleet.sentinels if s.name == voter).host.files.contents[CONFIG_PATH]
            durable = _durable_vote(contents.decode(), master)
            self._expect(durable >= epoch, "S1", f"{voter} told its vote of {epoch} on {master}, durable is {durable}")
            return
        newest = self._newest_vote.get((voter, master), 0)
        self._expect(epoch > newest, "S2", f"{voter} voted on {master} in {epoch} after {newest}")
        self._newest_vote[(voter, master)] = max(epoch, newest)

    def _attempted(self, sentinel: SimSentinel, master: Master) -> None:
        key = (sentinel.name, master.name)
        attempt = self._attempts.setdefault(key, _Attempt())
        failover = master.failover
        if failover is None or failover.forced or failover.republish:
            return
        distance = 2 * master.options.failover_timeout / 1000
        now = self._now
        if attempt.began is not None:
            self._expect(now - attempt.began >= distance - 1 - ATTEMPT_SLACK, "S15", f"{key} tried again too soon")
        if attempt.voted_for_other is not None:
            soon = now - attempt.voted_for_other < distance - ATTEMPT_SLACK
            self._expect(not soon, "S16", f"{key} tried too soon after its vote for another")
        attempt.began = now
        self._expect(master.sdown_since is not None, "S10", f"{key} tried although the master is up to it")
        agreeing = sum(
            1
            for other in self._fleet.sentinels
            if now - self._down.get((other.name, master.name, master.address), -OPINION_LIFE) < OPINION_LIFE
        )
        self._expect(
            agreeing >= master.options.quorum, "S10", f"{key} tried with {agreeing} that held the address down"
        )

    def _hearing(self, sentinel: SimSentinel, emit: Callable[..., None]) -> Callable[..., None]:
        def heard(effect: Effect, **how: bool) -> None:
            emit(effect, **how)
            if isinstance(effect, Announce):
                self.decided(sentinel, effect.event)

        return heard

    def _seeing(self, sentinel: SimSentinel, perform: Callable[[Effect], None]) -> Callable[[Effect], None]:
        def seen(effect: Effect) -> None:
            if isinstance(effect, Reconfigure):
                self._ordered(sentinel, effect)
            perform(effect)

        return seen

    def _ordered(self, sentinel: SimSentinel, order: Reconfigure) -> None:
        if not order.link.instances:
            return
        instance = order.link.instances[0]
        master = instance.master
        core = sentinel.alive.core
        key = (sentinel.name, master.name)
        if not order.promotes:
            published = master.published_address
            right = order.host in (published.ip, published.hostname) and order.port == published.port
            self._expect(right, "S11", f"{key} told {instance.name} to follow {order.host}:{order.port}")
            return
        self.failovers += 1
        failover = master.failover
        if failover is None or failover.promoted is not instance:
            self._expect(False, "S11", f"{key} made {instance.name} a master without leading a failover")
            return
        assert isinstance(instance, Replica)
        self._expect(not core.tilt.active, "S13", f"{key} promoted in TILT")
        self._expect(instance.priority != 0, "S14", f"{key} promoted {instance.name} of priority 0")
        if failover.forced:
            return
        me, epoch = core.options.my_id, failover.epoch
        leader = self._leaders.setdefault((master.name, epoch), me)
        self._expect(leader == me, "S3", f"{key} and {leader[:8]} both lead {master.name} in {epoch}")
        voters = [v for (v, m, e), c in self._votes.items() if (m, e, c) == (master.name, epoch, me)]
        given = {*voters, *(self._names.get(p.name, "") for p in master.peers.values() if _votes_for(p, me, epoch))}
        needed = max((len(master.peers) + 1) // 2 + 1, master.options.quorum)
        self._expect(len(given) >= needed, "S4", f"{key} acts in {epoch} with {len(given)} votes of {needed}")


def _votes_for(peer: object, leader: str, epoch: int) -> bool:
    return getattr(peer, "leader", None) == leader and getattr(peer, "leader_epoch", None) == epoch


def _durable_vote(contents: str, master: str) -> int:
    for line in contents.splitlines():
        words = line.split()
        if words[:3] == ["sentinel", "leader-epoch", master]:
            return int(words[3])
    return 0
