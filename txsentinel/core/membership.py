"""
Removal of members that do not exist any more, and servers that are not to be promoted.

**Removal of a Sentinel** makes the majority smaller. If the Sentinel is only cut off, it still counts with the old
majority. Two leaders cannot be elected in one epoch as long as each majority of the smaller group shares a Sentinel
with each majority of the larger one. That holds for one removal at a time: ``v // 2 + 1 + (v - 1) // 2 + 1 > v``. So a
further removal is refused while Sentinels of the smaller group still count the one removed before
(:meth:`Forgetting.check_majority`), and every removal is refused on the side of a minority. ``FORCE`` overrides both.

A member is removed from the memory only when its tombstone is durable, and what is written does not list it. A crash
before that thus restores the larger majority.

**A tombstone** keeps a dead member away: it is not added again from a file, or from INFO of a master that has not
noticed yet that the replica is gone. It does not keep a living one away. A Sentinel that sends hellos and confirms its
ID is added again, as its votes would count twice otherwise; a replica as soon as it acknowledges the stream of the
master.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.durable_records import MAX_RECORDS, DurableRecord, RecordKey, RecordKind
from txsentinel.core.errors import CommandError
from txsentinel.core.instances import Master, Peer, Replica, Server
from txsentinel.core.membership_state import MembershipRequest, ParkedServer, Tombstone
from txsentinel.core.quorum import is_reachable, reachable_sentinels
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.core.tilt import TiltGuard
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.model.history import JournalKind
from txsentinel.model.timings import Millis
from txsentinel.wire.info import online_replicas

DEFAULT_FORGET_TIME: Final[Millis] = 86_400_000
"""How long a tombstone is kept unless the order names another time."""

MAX_FORGET_TIME: Final[Millis] = 366 * 86_400_000

LIFE_PERIODS: Final = 5
"""Hello periods without a hello after which a Sentinel may be removed."""

MAX_ACKNOWLEDGEMENT_AGE: Final = 10
"""Seconds since its last acknowledgement for which the master's INFO shows that a replica is alive."""

MAX_TOMBSTONES: Final = 256
"""Maximum number of tombstones of one master."""

CLEANUP_PERIOD: Final[Millis] = 1_000

EXPIRY_DISTANCE: Final[Millis] = 3_600_000
"""Distance of two removals of the same master because of ``forget-sentinels-after`` or ``forget-replicas-after``."""


class Forgetting:
    """Removes members of groups, and decides whether they are added again."""

    def __init__(self, state: SentinelState, registry: Registry, tilt: TiltGuard) -> None:
        self._state = state
        self._registry = registry
        self._tilt = tilt

    # Orders.

    def find(self, master: Master, *, sentinel_id: str = "", host: str = "", port: int = 0) -> Peer | Replica:
        """
        Return the member with that ID, or at that address.

        :raises CommandError: if there is none, or more than one.
        """
        found: list[Peer | Replica] = []
        if sentinel_id:
            peer = master.peers.get(sentinel_id)
            found = [] if peer is None else [peer]
        else:
            address = self._registry.address_or_name(host, port)
            if address.same(master.address):
                raise CommandError(f"ERR {address.joined()} is the master itself")
            found.extend(peer for peer in master.peers.values() if peer.address.same(address))
            found.extend(replica for replica in master.replicas.values() if replica.address.same(address))
        if len(found) > 1:
            raise CommandError(f"ERR {len(found)} members of {master.name} are at this address: name the ID of one")
        if not found:
            raise CommandError(f"UNKNOWNNODE {master.name} has no such Sentinel or replica here")
        return found[0]

    def check(self, master: Master, member: Peer | Replica, now: Millis, *, force: bool = False) -> None:
        """
        Check that this Sentinel sees no sign of life of ``member``.

        :param force: accept a replica that answers if it follows another server.
        :raises CommandError: if it may be alive, during a failover, in TILT, and while the state cannot be saved.
        """
        if master.failover is not None:
            raise CommandError("INPROG Failover already in progress")
        if self._tilt.active:
            raise CommandError(f"TILT Nothing is decided here for another {self._tilt.left(now)} ms")
        if self._state.storage_error is not None:
            raise CommandError(f"ERR Failed to save config file: {self._state.storage_error}")
        if len(master.membership.tombstones) >= MAX_TOMBSTONES:
            raise CommandError(f"ERR {MAX_TOMBSTONES} removed members of {master.name} are kept away already")
        reason = self._sign_of_life(master, member, now, force)
        if reason is not None:
            raise CommandError(f"STILLALIVE {reason}")

    def check_majority(self, master: Master, peer: Peer) -> None:
        """
        Check that the removal of a Sentinel does not make a second leader possible, should it only be cut off.

        :raises CommandError: if it might.
        """
        reachable, needed = reachable_sentinels(master), master.majority
        if reachable < needed:
            text = f"only {reachable} of {master.voters} Sentinels can be reached, {needed} are a majority"
            why = "if the others are only cut off, each side can elect a leader afterwards"
            raise CommandError(f"WOULDBREAKMAJORITY {text}: {why}. Repeat it with FORCE if they do not exist any more")
        kept_by = self._kept_by(master, peer)
        removed = sum(1 for each in master.membership.tombstones.values() if each.sentinel_id is not None) + 1
        voters = master.voters - 1
        larger = voters + removed
        if kept_by and (voters // 2 + 1) + (larger // 2 + 1) <= larger:
            named = ", ".join(kept_by)
            text = f"Sentinels that still count those removed before could elect a leader of their own: {named}"
            raise CommandError(f"WOULDBREAKMAJORITY {text}. Remove those there first, or repeat it with FORCE")

    def _kept_by(self, master: Master, leaving: Peer) -> list[str]:
        """Return the addresses of the other Sentinels that are not known to have removed all that was removed here."""
        stones = [each for each in master.membership.tombstones.values() if each.sentinel_id is not None]
        return [
            peer.address.joined()
            for peer in master.peers.values()
            if peer is not leaving and any(peer.name not in each.confirmed_by for each in stones)
        ]

    def forget(self, master: Master, member: Peer | Replica, request: MembershipRequest, now: Millis) -> str:
        """
        Remove ``member`` as soon as that is durable, and keep it away for the time that the request names.

        :returns: the name of its tombstone.
        :raises CommandError: if there are too many records.
        """
        place, membership = member.address.joined(not member.address.resolved), master.membership
        sentinel_id = member.name if isinstance(member, Peer) else None
        name = sentinel_id or place
        settings = () if sentinel_id is None else (("address", place),)
        if not put_record(self._state, RecordKind.FORGOTTEN, master, name, request, now, settings):
            return name
        before = membership.tombstones.get(name)
        if before is None or not before.generation:
            membership.unsaved += 1
        made = Tombstone(member.address, sentinel_id, now + request.lasting, self._state.outbox.generation)
        membership.tombstones[name] = made
        kind = "replica" if sentinel_id is None else "Sentinel"
        data = (("by", request.by), ("kind", kind), ("address", place))
        self._state.journal.write(JournalKind.FORGOTTEN, master.name, now, subject=member.name, data=data)
        text = f"{request.by} ordered: the {kind} {member.name} of {master.name} at {place} is removed; until"
        self._state.note(Level.NOTICE, text, request.lasting)
        return name

    def withdraw(self, master: Master, name: str) -> None:
        """Keep a member whose removal could not be saved."""
        tombstone = master.membership.tombstones.get(name)
        if tombstone is not None and tombstone.generation:
            self._discard(master, name)

    def _discard(self, master: Master, name: str) -> None:
        tombstone = master.membership.tombstones.pop(name)
        if tombstone.generation:
            master.membership.unsaved = max(0, master.membership.unsaved - 1)
        self._state.records.replace(RecordKey(RecordKind.FORGOTTEN, master.name, name), None)

    def confirmed(self, master: Master, name: str, sentinel_id: str) -> None:
        """Record that another Sentinel has removed the member of that name as well."""
        tombstone = master.membership.tombstones.get(name)
        if tombstone is not None:
            tombstone.confirmed_by[sentinel_id] = None

    def restore(self, master: Master, now: Millis) -> None:
        """Keep the members away that were removed before the start, according to the records."""
        for held in self._state.records.in_force(RecordKind.FORGOTTEN, now):
            record = held.record
            if record.key.master == master.name:
                subject = record.key.subject
                place = record.setting("address")
                address = parsed_address(self._registry, place or subject)
                made = Tombstone(address, subject if place else None, held.until)
                master.membership.tombstones[subject] = made

    # Members that are removed, and their return.

    def take_removed(self, master: Master, durable: int) -> list[Peer | Replica]:
        """Return the members of ``master`` that are to be removed now, as their tombstones are durable."""
        membership = master.membership
        found: list[Peer | Replica] = []
        for tombstone in membership.tombstones.values():
            if 0 < tombstone.generation <= durable:
                tombstone.generation = 0
                membership.unsaved = max(0, membership.unsaved - 1)
                if tombstone.sentinel_id is not None:
                    peer = master.peers.get(tombstone.sentinel_id)
                    if peer is not None:
                        found.append(peer)
                    continue
                replica = self._registry.replica_at(master, tombstone.address)
                if replica is not None:
                    found.append(replica)
        return found

    def keeps_away(self, master: Master, address: Address, info: bytes, now: Millis) -> bool:
        """
        Whether a replica that INFO of the master lists must not be added, as it was removed and shows no sign of life.

        A replica that acknowledges the stream of the master is alive, which lifts the tombstone.
        """
        name = master.membership.tombstone_of(address, now)
        if name is None:
            return False
        if not self._acknowledges(info, address):
            return True
        self.lift(master, name, now)
        return False

    def lift(self, master: Master, name: str, now: Millis) -> None:
        """Discard a tombstone, if there is one of that name: its subject is alive."""
        if name not in master.membership.tombstones:
            return
        self._discard(master, name)
        self._state.journal.write(JournalKind.RETURNED, master.name, now, subject=name)
        text = f"{name} of {master.name} was removed by an operator, but is alive, and is added again"
        self._state.note(Level.WARNING, text)

    def lift_address(self, master: Master, address: Address, now: Millis) -> None:
        """Discard the tombstone of a replica that became the master."""
        name = master.membership.tombstone_of(address, now)
        if name is not None:
            self.lift(master, name, now)

    # What the passing of time causes.

    def expire(self, master: Master, now: Millis, wall_now: Millis) -> None:
        """Discard old tombstones, and remove a member that has been dead for as long as the options of it require."""
        membership = master.membership
        for name in [name for name, each in membership.tombstones.items() if each.until <= now and not each.generation]:
            del membership.tombstones[name]
        guards = master.options.guards
        if guards.forget_sentinels_after is None and guards.forget_replicas_after is None:
            return
        if membership.expired_at is not None and now - membership.expired_at < EXPIRY_DISTANCE:
            return
        member = self._expired_member(master, now)
        if member is not None:
            membership.expired_at = now
            until = wall_now + DEFAULT_FORGET_TIME
            request_id = f"{self._state.options.my_id[:8]}-{wall_now}"
            request = MembershipRequest(DEFAULT_FORGET_TIME, until, wall_now, request_id, "This Sentinel")
            self.forget(master, member, request, now)

    def _expired_member(self, master: Master, now: Millis) -> Peer | Replica | None:
        """Return a member that has been dead for long, and whose removal is permitted now."""
        if self._tilt.active or master.is_down or not master.link.commands_up:
            return None
        guards = master.options.guards
        members: list[tuple[Millis | None, Peer | Replica]] = []
        members.extend((guards.forget_sentinels_after, peer) for peer in master.peers.values())
        members.extend((guards.forget_replicas_after, replica) for replica in master.replicas.values())
        for period, member in members:
            since = member.sdown_since
            if period is None or since is None or now - since < period:
                continue
            try:
                self.check(master, member, now)
                if isinstance(member, Peer):
                    self.check_majority(master, member)
            except CommandError:
                continue
            return member
        return None

    # Evidence.

    def _sign_of_life(self, master: Master, member: Peer | Replica, now: Millis, force: bool) -> str | None:
        """Return a clause on why ``member`` may be alive, ``None`` if it shows no sign of life."""
        place = member.address.joined()
        if isinstance(member, Peer):
            limit = LIFE_PERIODS * self._state.timings.publish_period
            silent_for = now - member.hello_received_at
            if is_reachable(member):
                return f"the Sentinel at {place} answers"
            if silent_for <= limit:
                return f"the Sentinel at {place} was active {silent_for} ms ago; wait for {limit} ms of silence"
            return None
        if master.info_text is not None and not master.is_down and self._acknowledges(master.info_text, member.address):
            return f"the replica at {place} is online according to its master"
        if member.link.commands_up and not member.is_down:
            if force and member.master_host is not None and not member.follows(master.address):
                return None
            return f"the replica at {place} answers"
        return None

    def _acknowledges(self, info: bytes, address: Address) -> bool:
        """Whether INFO of a master lists the replica at ``address`` as online, with a recent acknowledgement."""
        for host, port in online_replicas(info, MAX_ACKNOWLEDGEMENT_AGE):
            found = self._registry.address(host, port)
            if found is not None and found.same(address):
                return True
        return False


class Parking:
    """Excludes servers from promotion for a time."""

    def __init__(self, state: SentinelState, registry: Registry) -> None:
        self._state = state
        self._registry = registry

    def park(self, master: Master, address: Address, request: MembershipRequest, now: Millis) -> None:
        """
        Have the server at ``address`` not promoted for the time that the request names.

        :raises CommandError: if there are too many records.
        """
        name = address.joined(not address.resolved)
        servers = [master, *master.replicas.values()]
        run_id = next((each.run_id for each in servers if each.address.same(address)), None) or ""
        settings = (("run-id", run_id),) if run_id else ()
        if put_record(self._state, RecordKind.PARKED, master, name, request, now, settings):
            master.membership.parked[name] = ParkedServer(address, run_id, now + request.lasting)
            data = (("by", request.by), ("for_ms", request.lasting))
            self._state.journal.write(JournalKind.PARKED, master.name, now, subject=name, data=data)

    def unpark(self, master: Master, address: Address, now: Millis, by: str) -> bool:
        """Permit the promotion of the server at ``address`` again; return whether it was parked."""
        names = [name for name, each in master.membership.parked.items() if each.address.same(address)]
        for name in names:
            del master.membership.parked[name]
            self._state.records.replace(RecordKey(RecordKind.PARKED, master.name, name), None)
            self._state.journal.write(JournalKind.UNPARKED, master.name, now, subject=name, data=(("by", by),))
        return bool(names)

    def servers_at(self, master: Master, host: str, port: int | None) -> list[Server]:
        """Return the servers of ``master`` at a host; ``port`` is ``None`` for all of them."""
        servers: list[Server] = [master, *master.replicas.values()]
        return [each for each in servers if self.is_at(each.address, host, port)]

    def is_at(self, address: Address, host: str, port: int | None) -> bool:
        """Return whether ``address`` is one of a host, which is an IP or a name."""
        if port is not None and port != address.port:
            return False
        return address.same(self._registry.address_or_name(host, address.port))

    def park_host(self, host: str, port: int | None, request: MembershipRequest, now: Millis) -> int:
        """Park the servers of all masters at a host; return their number."""
        count = 0
        for master in self._registry.masters.values():
            for server in self.servers_at(master, host, port):
                self.park(master, server.address, request, now)
                count += 1
        return count

    def unpark_host(self, host: str, port: int | None, now: Millis, by: str) -> int:
        """Permit the promotion of all servers at a host again; return their number."""
        count = 0
        for master in self._registry.masters.values():
            for server in list(master.membership.parked.values()):
                if self.is_at(server.address, host, port):
                    count += self.unpark(master, server.address, now, by)
        return count

    def restore(self, master: Master, now: Millis) -> None:
        """Have the servers not promoted that were parked before the start, according to the records."""
        for held in self._state.records.in_force(RecordKind.PARKED, now):
            record = held.record
            if record.key.master == master.name:
                address = parsed_address(self._registry, record.key.subject)
                made = ParkedServer(address, record.setting("run-id"), held.until)
                master.membership.parked[record.key.subject] = made

    def reported(self, replica: Replica, now: Millis) -> None:
        """Handle INFO of a replica: a parked server that was restarted and is in sync may be promoted again."""
        server = replica.master.membership.parking_of(replica.address, now)
        if server is None or replica.run_id is None:
            return
        if not server.parked_run_id:
            server.parked_run_id = replica.run_id
        elif server.parked_run_id != replica.run_id and replica.master_link_up:
            self.unpark(replica.master, server.address, now, "its restart")

    def expire(self, master: Master, now: Millis) -> None:
        """Discard parked servers whose time is over."""
        parked = master.membership.parked
        for name in [name for name, each in parked.items() if each.until <= now]:
            del parked[name]
            data = (("by", "the end of its time"),)
            self._state.journal.write(JournalKind.UNPARKED, master.name, now, subject=name, data=data)


def put_record(
    state: SentinelState,
    kind: RecordKind,
    master: Master,
    name: str,
    request: MembershipRequest,
    now: Millis,
    settings: tuple[tuple[str, str], ...],
) -> bool:
    """
    Store the record of a request; return whether it is later than all for the same subject.

    :raises CommandError: if there are too many records.
    """
    if len(state.records) >= MAX_RECORDS:
        raise CommandError(f"ERR This Sentinel keeps at most {MAX_RECORDS} records of pauses, removals and parking")
    record = DurableRecord(
        RecordKey(kind, master.name, name),
        request.until_unix,
        request.requested_unix,
        request.request_id,
        request.by,
        settings=settings,
    )
    return state.records.put(record, now + request.lasting)


def parsed_address(registry: Registry, place: str) -> Address:
    """Return the address that ``host:port`` of a record names."""
    host, _, port = place.rpartition(":")
    return registry.address_or_name(host.strip("[]"), int(port) if port.isdecimal() else 0)
