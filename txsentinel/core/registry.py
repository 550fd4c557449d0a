"""The registry of masters with their replicas and peers, and of the links that they share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from txsentinel.core.alignment import phase_of, slots_for
from txsentinel.core.effects import Connect, Disconnect, Reconnect, ResolveAddress
from txsentinel.core.errors import NoSuchMaster
from txsentinel.core.instance_index import InstanceIndex
from txsentinel.core.instances import Instance, InstanceLink, Master, Peer, Replica, Server
from txsentinel.core.link import LinkKind
from txsentinel.core.options import MasterOptions
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.model.address import HOST_NAME, MAX_HOST, UNSPECIFIED, Address, canonical_ip
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis
from txsentinel.wire.glob import glob_match
from txsentinel.wire.resp import data

SERVER_KINDS = (LinkKind.COMMANDS, LinkKind.PUBSUB)
PEER_KINDS = (LinkKind.COMMANDS,)


COUNT_PERIOD: Final[Millis] = 1_000
"""Interval at which the instances are counted."""


class Registry:
    """
    The instances of a Sentinel and their links.

    A link belongs to an address. It stays open when the server at that address continues in another role, so a switch
    needs no reconnection.
    """

    def __init__(self, state: SentinelState) -> None:
        self._state = state
        self.masters: dict[str, Master] = {}
        self._links = 0
        self._names: dict[str, str] = {}
        self._resolved_at: dict[str, Millis] = {}
        self._index = InstanceIndex()

    def master(self, name: str) -> Master:
        """
        Return the master of that name.

        :raises NoSuchMaster: if it is not monitored.
        """
        master = self.masters.get(name)
        if master is None:
            raise NoSuchMaster
        return master

    def by_address(self, host: str, port: int) -> Master | None:
        """Return the first master with that configured address; ``host`` is an IP or a name."""
        if len(host) > MAX_HOST:
            return None
        return self.master_at(self.address_or_name(host, port))

    def master_at(self, address: Address) -> Master | None:
        """Return the first master with that address, or ``None``."""
        found = self._index.masters_at(address)
        if len(found) > 1:
            return next(master for master in self.masters.values() if master in found)
        return found[0] if found else None

    def matching(self, pattern: str) -> list[Master]:
        """Return the masters whose names match a glob pattern."""
        glob = data(pattern)
        return [master for master in self.masters.values() if glob_match(glob, data(master.name))]

    def instances(self) -> Iterator[Instance]:
        """Yield all instances: each master, then its replicas, then its peers."""
        for master in self.masters.values():
            yield master
            yield from master.replicas.values()
            yield from master.peers.values()

    def address(self, host: str, port: int) -> Address | None:
        """
        Make an address from text that was configured or received.

        :returns: ``None`` if it is a name and names are not resolved, or if it cannot be the address of an instance
            (see ``address.UNSPECIFIED``, ``address.HOST_NAME``). A name is unresolved in the result unless it is in the
            cache.
        """
        ip = canonical_ip(host)
        if ip is not None:
            return None if ip in UNSPECIFIED else Address.literal(ip, port)
        if not self._state.options.resolve_hostnames or HOST_NAME.fullmatch(host) is None:
            return None
        wanted = host.casefold()
        return Address(host, self._names.get(wanted, ""), port)

    def address_or_name(self, host: str, port: int) -> Address:
        """
        Make an address from text in our own file, or in a question about an address in it.

        Names are accepted even where names are not resolved, and so is 0.0.0.0, as C Sentinels load such files.
        """
        ip = canonical_ip(host)
        if ip is not None:
            return Address.literal(ip, port)
        return self.address(host, port) or Address(host, "", port)

    def open_link(self, instance: Instance, now: Millis) -> InstanceLink:
        """Make a link to the instance's address and have it connected."""
        kinds = SERVER_KINDS if isinstance(instance, Server) else PEER_KINDS
        self._links += 1
        link = InstanceLink(self._links, instance.address, kinds, now)
        link.join(instance)
        self.set_credentials(link, instance)
        if instance.address.resolved and instance.address.port:
            self._state.emit(Connect(link), probe=True)
        elif instance.address.hostname:
            self._state.emit(ResolveAddress(instance.address), probe=True)
        return link

    def open_peer_link(self, address: Address, now: Millis) -> InstanceLink:
        """Make a link to a resolved address of a Sentinel that is not a peer yet, and have it connected."""
        self._links += 1
        link = InstanceLink(self._links, address, PEER_KINDS, now)
        self._set_peer_credentials(link)
        self._state.emit(Connect(link), probe=True)
        return link

    def set_credentials(self, link: InstanceLink, instance: Instance) -> None:
        """
        Set user, password and renamed commands of a link.

        Renamed commands apply to servers only; C Sentinels apply them to peers too, which breaks the links between
        Sentinels.
        """
        if isinstance(instance, Peer):
            self._set_peer_credentials(link)
            return
        settings = instance.master.options
        link.username, link.password = settings.auth_user, settings.auth_pass
        link.next_password = settings.next_auth_pass
        link.renamed_commands = settings.renamed_commands

    def _set_peer_credentials(self, link: InstanceLink) -> None:
        options = self._state.options
        if options.sentinel_pass:
            link.username, link.password = options.sentinel_user or None, options.sentinel_pass
            link.next_password = options.next_sentinel_pass
        else:
            link.username, link.password = None, options.requirepass or None
            link.next_password = options.next_requirepass

    def renew_credentials(self, instances: list[Instance], reason: str) -> None:
        """Set the current credentials on the links of these instances, and reconnect them."""
        seen: set[int] = set()
        for instance in instances:
            link = instance.link
            self.set_credentials(link, instance)
            if link.link_id not in seen:
                seen.add(link.link_id)
                self.reconnect(link, None, reason)

    def reconnect(self, link: InstanceLink, kind: LinkKind | None, reason: str) -> None:
        """Have one connection of a link (``None``: all of them) closed and reconnected."""
        for each in link.kinds if kind is None else (kind,):
            link.broken(each)
        if kind is not LinkKind.PUBSUB:
            link.void_requests()
        if not link.closed and link.address.resolved:
            self._state.emit(Reconnect(link, kind, reason), probe=True)

    def leave_link(self, instance: Instance) -> None:
        """
        Remove an instance from its link, and close the link after the last one.

        Replies to its requests will be ignored, and its unanswered vote requests no longer count against the limit.
        """
        link = instance.link
        link.part(instance)
        if isinstance(instance, Peer):
            link.votes_waiting.pop(instance, None)
            link.votes_in_flight -= sum(1 for question in instance.asked if question.vote_epoch is not None)
        instance.void_requests()
        if link.instances:
            # The instance that is first now has to send the PINGs.
            self._state.due.schedule(link.first, 0)
        elif not link.closed:
            link.closed = True
            self._state.emit(Disconnect(link))

    def resolve_later(self, address: Address) -> None:
        """Have a name resolved that no instance has yet."""
        self._state.emit(ResolveAddress(address), probe=True)

    def resolve_again(self, address: Address, now: Millis) -> None:
        """Have a name resolved again after a failed connection, as its IP may have changed."""
        name = address.hostname.casefold()
        if not self._state.options.resolve_hostnames or canonical_ip(name) is not None:
            return
        if len(self._resolved_at) >= 2 * self._state.limits.host_names:
            self._forget_names()
        if now - self._resolved_at.get(name, -self._state.timings.ping_period) >= self._state.timings.ping_period:
            self._resolved_at[name] = now
            self._state.emit(ResolveAddress(address), probe=True)

    def awaits_resolution(self, address: Address) -> bool:
        """Whether an instance has the name of ``address`` and no IP yet."""
        wanted = address.hostname.casefold()
        return any(not instance.address.ip for instance in self._index.named(wanted))

    def named(self, hostname: str) -> list[Instance]:
        """Return the instances whose address has that host name, which is no IP address."""
        return self._index.named(hostname.casefold())

    def resolved(self, address: Address, ip: str, now: Millis) -> None:
        """Handle a resolved name: move the instances that have it to links at the new IP."""
        if len(self._names) >= self._state.limits.host_names:
            self._forget_names()
        self._names[address.hostname.casefold()] = ip
        for instance in self.named(address.hostname):
            known = instance.address
            if known.ip == ip:
                continue
            self.readdress(instance, Address(known.hostname, ip, known.port))
            if known.ip:
                # Unless names are announced, the file has the IP, as with C Sentinels, so the new one must be saved.
                self._state.changed(instance.master)
            self.leave_link(instance)
            self._link_anew(instance, now)

    def _forget_names(self) -> None:
        """Remove the names from the cache that no instance has, as hellos may contain any number of names."""
        wanted = self._index.names()
        self._names = {name: ip for name, ip in self._names.items() if name in wanted}
        self._resolved_at = {name: at for name, at in self._resolved_at.items() if name in wanted}

    def readdress(self, instance: Instance, address: Address) -> None:
        """Change the address of an instance, which keeps its link."""
        self._index.remove(instance)
        instance.address = address
        self._index.add(instance)

    def _link_anew(self, instance: Instance, now: Millis) -> None:
        shared = self.shared_link(instance.name, instance.address) if isinstance(instance, Peer) else None
        if shared is None:
            instance.link = self.open_link(instance, now)
        else:
            shared.join(instance)
            instance.link = shared

    def start_clocks(self, now: Millis) -> None:
        """
        Restart the clocks of links that were never up, as connection attempts begin now.

        A process that is starved during its start may take longer than ``down-after-milliseconds`` to get here.
        """
        for instance in self.instances():
            link = instance.link
            if link.commands_since is None and link.unanswered_ping_at == link.created_at:
                link.created_at = link.unanswered_ping_at = now
                link.available_at = link.last_reply_at = link.pubsub_active_at = now

    def count_instances(self, now: Millis) -> None:
        """Count the monitored instances, at most every ``COUNT_PERIOD``."""
        state = self._state
        if state.counted_at is None or now - state.counted_at >= COUNT_PERIOD:
            state.counted_at = now
            masters = self.masters.values()
            state.instances = sum(1 + len(each.replicas) + len(each.peers) for each in masters)
            state.probe_slots = slots_for(state.instances)
            state.probe_phase = phase_of(state.options.my_id)

    def add_master(self, name: str, address: Address, options: MasterOptions, now: Millis) -> Master:
        """Start to monitor a master."""
        if address.ip in UNSPECIFIED or not address.port:
            # Such an address can come only from a file, and C Sentinels load such files.
            self._state.note(Level.WARNING, f"{name} cannot be at {address.joined()}: no server has such an address")
        master = Master(
            name, address, _UNLINKED, now, role_reported_at=now, replication_changed_at=now, options=options
        )
        self.masters[name] = master
        self._index.add(master)
        master.link = self.open_link(master, now)
        self._state.due.schedule(master, now)
        return master

    def remove_master(self, master: Master) -> None:
        """Stop monitoring a master, its replicas and its peers."""
        self.drop_replicas(master)
        self.drop_peers(master)
        self._discard(master)
        del self.masters[master.name]
        self._state.journal.forget(master.name)
        self._state.comparisons.forget(master.name)

    def _discard(self, instance: Instance) -> None:
        instance.gone = True
        self._index.remove(instance)
        self.leave_link(instance)
        self._state.due.forget(instance)

    def replica_at(self, master: Master, address: Address) -> Replica | None:
        """Return the replica of ``master`` at that address, or ``None``."""
        known = master.replicas.get(self._replica_name(address))
        if known is not None and known.address.same(address):
            return known
        return next((replica for replica in master.replicas.values() if replica.address.same(address)), None)

    def is_replica_name(self, master: Master, address: Address) -> bool:
        """Whether ``master`` has a replica at that address whose name is derived from exactly this address."""
        replica = master.replicas.get(self._replica_name(address))
        return replica is not None and replica.address.same(address)

    def _replica_name(self, address: Address) -> str:
        return address.joined(self._state.options.announce_hostnames or not address.resolved)

    def detach_servers(self, master: Master) -> None:
        """Remove a master and its replicas from their links, which stay open for the servers after a switch."""
        for server in (master, *master.replicas.values()):
            server.link.part(server)
            self._state.due.forget(server)
            if server is not master:
                server.gone = True
                self._index.remove(server)
        master.replicas = {}

    def adopt_link(self, server: Server, link: InstanceLink | None, now: Millis) -> InstanceLink:
        """
        Let ``server`` use an existing link to its address, or open a new one.

        A link without a command connection is not reused: its clocks are out of date, and its next connection attempt
        may be delayed.
        """
        if link is None or link.closed or not link.commands_up:
            opened = self.open_link(server, now)
            # A pause that this Sentinel ordered concerns the server, so its end must not be lost with the old link.
            opened.handover_end = None if link is None else link.handover_end
            return opened
        link.join(server)
        link.void_requests()
        return link

    def relink(self, master: Master, link: InstanceLink | None, now: Millis) -> None:
        """Let ``master``, which has left its link, use an existing one to its address, or a new one."""
        master.link = self.open_link(master, now) if link is None else self.adopt_link(master, link, now)

    def close_unused(self, links: Iterable[InstanceLink]) -> None:
        """Close those of ``links`` that no instance uses."""
        for link in links:
            if not link.instances and not link.closed:
                link.closed = True
                self._state.emit(Disconnect(link))

    def add_replica(
        self, master: Master, address: Address, now: Millis, link: InstanceLink | None = None
    ) -> Replica | None:
        """
        Add a replica to a master, with an existing link or a new one.

        :returns: ``None`` if the master has a replica at that address or of that name already.
        """
        if self.replica_at(master, address) is not None:
            return None
        name = self._replica_name(address)
        if name in master.replicas:
            return None
        replica = Replica(
            name,
            address,
            _UNLINKED,
            now,
            of=master,
            role_reported=Role.REPLICA,
            role_reported_at=now,
            replication_changed_at=now,
        )
        replica.link = self.adopt_link(replica, link, now)
        master.replicas[name] = replica
        self._index.add(replica)
        self._state.due.schedule(replica, now)
        return replica

    def drop_replica(self, replica: Replica) -> None:
        """Remove one replica of a master."""
        self._discard(replica)
        del replica.master.replicas[replica.name]

    def drop_replicas(self, master: Master) -> None:
        """Remove all replicas of a master."""
        for replica in master.replicas.values():
            self._discard(replica)
        master.replicas = {}

    def shared_link(self, peer_id: str, address: Address) -> InstanceLink | None:
        """Return a link to that Sentinel at that address that a peer of another master uses, or ``None``."""
        for peer in self._index.peers(peer_id):
            if not peer.link.closed and peer.link.address.same(address):
                return peer.link
        return None

    def peer_at(self, address: Address) -> Peer | None:
        """Return any peer at that address, of any master, or ``None``."""
        for master in self.masters.values():
            for peer in master.peers.values():
                if not peer.link.closed and peer.link.address.same(address):
                    return peer
        return None

    def add_peer(
        self, master: Master, peer_id: str, address: Address, now: Millis, link: InstanceLink | None = None
    ) -> Peer:
        """Add a peer to a master, with ``link``, or a shared link of another master, or a new one."""
        peer = Peer(peer_id, address, _UNLINKED, now, of=master, run_id=peer_id, hello_received_at=now, opinion_at=now)
        self._link_peer(peer, link, now)
        master.peers[peer_id] = peer
        self._index.add(peer)
        master.unconfirmed.discard(peer_id)
        self._state.due.schedule(peer, now)
        return peer

    def drop_peer(self, peer: Peer) -> None:
        """Remove one peer of one master."""
        self._discard(peer)
        del peer.master.peers[peer.name]

    def drop_peers(self, master: Master) -> None:
        """Remove all peers of a master."""
        for peer in list(master.peers.values()):
            self.drop_peer(peer)

    def readdress_peer(self, peer: Peer, address: Address, now: Millis, link: InstanceLink | None = None) -> None:
        """Change the address of a peer, and with it its link."""
        self.leave_link(peer)
        self.readdress(peer, address)
        self._link_peer(peer, link, now)

    def _link_peer(self, peer: Peer, link: InstanceLink | None, now: Millis) -> None:
        if link is None or link.closed:
            self._link_anew(peer, now)
        else:
            link.join(peer)
            peer.link = link

    def peers_known_as(self, peer_id: str) -> list[Peer]:
        """Return the peers with that ID, one per master."""
        return list(self._index.peers(peer_id))


_UNLINKED = InstanceLink(0, Address("", "", 0), (), 0, closed=True)
"""Placeholder for the link of an instance during its construction."""
