"""
Processing of received hellos: they change the peers, the current epoch, and the address of a master.

Only hellos of peers are processed: those with a known ID at its registered address. All others are passed to
``confirmation``.

An answer to ``SENTINEL MYID`` does not prove an identity: any process can answer with the ID of a peer. A peer
that is connected and keeps sending hellos from its registered address is therefore not moved to another address. C
Sentinels move it at each hello. The address at which a peer was registered first is an exception, so that a peer that
was moved away while it was down returns there.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.confirmation import Confirmations, Waiting
from txsentinel.core.failover import Failovers
from txsentinel.core.ignored import warn_ignored
from txsentinel.core.instances import InstanceLink, Master, Peer
from txsentinel.core.lineage import adopted, permits
from txsentinel.core.membership import Forgetting
from txsentinel.core.registry import Registry
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.core.switched_servers import switched_servers
from txsentinel.core.switching import Switching
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.model.history import JournalKind
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.hello import Hello, MalformedHello, has_marker
from txsentinel.wire.resp import text

CONFLICT_TIMEOUT: Millis = 1_000
"""How long two addresses may have one config epoch until the Sentinel with the lowest ID has its own confirmed."""

MOVE_PERIODS: Final = 3
"""Hello periods without a hello from its registered address after which a connected peer can be moved to another."""

MAX_CLONES: Final = 16
"""Maximum number of Sentinels with our own ID that are logged."""

MAX_HELLO: Final = 4096
"""Maximum length of a hello in bytes; longer ones are ignored. C Sentinels send at most about 1,100."""


class HelloProcessing:
    """Processes hellos, also in TILT."""

    def __init__(
        self,
        state: SentinelState,
        registry: Registry,
        switching: Switching,
        failovers: Failovers,
        forgetting: Forgetting,
    ) -> None:
        self._state = state
        self._forgetting = forgetting
        self._registry = registry
        self._switching = switching
        self._failovers = failovers
        self.confirmations = Confirmations(state, registry, self._confirmed)
        self._known: dict[bytes, Peer] = {}
        self._own: bytes | None = None
        """The beginning of our hellos, up to the comma after the ID, as the last one of them had it."""

        self._first_addresses: dict[str, Address] = {}
        """ID → the address at which a peer was registered before it was moved."""

    def hello(self, payload: bytes, now: Millis, *, through_server: bool, link: InstanceLink | None = None) -> None:
        """
        Process one hello. An invalid one has no effect at all.

        A hello with the same bytes as one that changed nothing changes nothing either, as epochs only rise. It only
        shows that its sender is alive.

        :param through_server: whether it arrived by the subscription to a server, not by a direct PUBLISH.
        :param link: the link to that server.
        """
        own = self._own
        if own is not None and payload.startswith(own):
            # Echoed by a server that we published it on.
            return
        peer = self._known.get(payload)
        if peer is not None and peer.hello_seen == payload and peer.master.peers.get(peer.name) is peer:
            peer.hello_received_at = peer.confirmed_at = now
            if link is None or link is peer.master.link:
                peer.near_hello_at = now
            return
        if len(payload) > MAX_HELLO:
            return
        fields = payload.split(b",", 3)
        if len(fields) > 2 and fields[2] == self._state.options.my_id.encode():
            place = b",".join(fields[:2])
            if place in self._state.own_endpoints:
                self._own = b",".join([place, fields[2], b""])
            else:
                self._clone(place)
            return
        try:
            hello = Hello.parse(payload)
        except MalformedHello:
            return
        master = self._registry.masters.get(hello.master_name)
        if master is None or not self._sane(hello):
            return
        peer = self._peer(hello, master, payload, now, through_server)
        if peer is not None:
            if link is None or link is master.link:
                peer.near_hello_at = now
            self._apply(hello, master, peer, payload, now)

    def _clone(self, place: bytes) -> None:
        """Handle a hello with our own ID and another address: another Sentinel uses a copy of our file."""
        clones = self._state.clones
        if place in clones or len(clones) >= MAX_CLONES:
            return
        clones[place] = None
        where = excerpt(text(place).replace(",", " port "))
        self._state.note(
            Level.WARNING,
            f"A Sentinel at {where} has the ID of this one and is ignored. If it was started from a copy of its file,"
            " delete the line 'sentinel myid' there and start it again",
        )

    def _apply(self, hello: Hello, master: Master, peer: Peer, payload: bytes, now: Millis) -> None:
        """Apply a hello of a peer."""
        self._state.follow_epoch(hello.current_epoch, master, now, connected=peer.link.commands_up)
        peer.hello_received_at = now
        self._state.touch(master)
        peer.is_txsentinel = peer.link.is_txsentinel = has_marker(payload)
        peer.kind_known = True
        peer.acknowledged_epoch = -1
        if max(hello.current_epoch, hello.master_config_epoch) > self._state.current_epoch:
            # Too far ahead to follow at once. The peer will repeat its hello.
            return
        if self._configuration(hello, master, peer, now):
            peer.confirmed_at = now
            peer.acknowledged_epoch = hello.master_config_epoch
            self._known.pop(peer.hello_seen, None)
            peer.hello_seen = payload
            self._known[payload] = peer

    def conflict_due(self, master: Master) -> Millis | None:
        """Return when this Sentinel should have the current address of a disputed master confirmed by a majority."""
        if master.conflict_since is None or master.failover is not None:
            return None
        place = sum(1 for peer_id in master.peers if peer_id < self._state.options.my_id)
        return master.conflict_since + (2 * place + 1) * CONFLICT_TIMEOUT

    def evaluate(self, master: Master, now: Millis) -> None:
        """
        Resolve a dispute: of two addresses with one config epoch, neither replaces the other.

        C Sentinels remain divided until the next failover. Here the Sentinel with the lowest ID whose own address is up
        campaigns for a new config epoch for it, which all Sentinels then adopt.
        """
        due = self.conflict_due(master)
        if due is None or now < due:
            return
        self._switching.end_dispute(master)
        if master.is_down or master.role_reported is not Role.MASTER or not master.link.commands_up:
            return
        self._failovers.republish(master, now)

    def forget_all(self, master: Master) -> None:
        """Discard the cached hellos of all peers of ``master``, which are about to be removed."""
        self.confirmations.forget(master)
        for peer in master.peers.values():
            self.forget(peer)

    def forget(self, peer: Peer) -> None:
        """Discard the cached hello and the first address of ``peer``."""
        self._known.pop(peer.hello_seen, None)
        self._first_addresses.pop(peer.name, None)

    def _sane(self, hello: Hello) -> bool:
        state = self._state
        if not 0 <= hello.master_config_epoch <= hello.current_epoch <= state.limits.highest_epoch:
            return False
        if not (0 < hello.sentinel_port < 65536 and 0 < hello.master_port < 65536):
            return False
        return state.is_valid_id(hello.sentinel_id)

    def _peer(self, hello: Hello, master: Master, payload: bytes, now: Millis, through_server: bool) -> Peer | None:
        """Return the sender as a peer of ``master``, or ``None`` if its ID must be confirmed first."""
        address = self._registry.address(hello.sentinel_ip, hello.sentinel_port)
        peer = master.peers.get(hello.sentinel_id)
        if address is None:
            subject = f"Sentinel {hello.sentinel_id} of {master.name}"
            warn_ignored(self._state, master, subject, hello.sentinel_ip, hello.sentinel_port)
            return peer
        if peer is not None and peer.address.same(address):
            return peer
        link = self._registry.shared_link(hello.sentinel_id, address)
        if link is not None and (link.commands_up or hello.sentinel_id not in master.membership.tombstones):
            # Registered at this address for another master. If it was removed here, only a connection shows its life.
            return self._register(hello.sentinel_id, address, master, link, now)
        if peer is not None and self._stays(peer, address, now):
            return None
        if peer is None and through_server:
            master.unconfirmed.note_hello(
                hello.sentinel_id,
                now,
                period=self._state.timings.publish_period,
                pubsub_active_at=master.link.pubsub_active_at,
            )
        self.confirmations.named(hello.sentinel_id, address, master, payload, now, through_server=through_server)
        return None

    def _stays(self, peer: Peer, address: Address, now: Millis) -> bool:
        """Return whether ``peer`` is active at its registered address, so that a hello from ``address`` is ignored."""
        active = now - peer.hello_received_at <= MOVE_PERIODS * self._state.timings.publish_period
        if not (active and peer.link.commands_up and not peer.is_down):
            return False
        home = self._first_addresses.get(peer.name)
        if home is not None and home.same(address):
            return False
        self._state.note_throttled(
            "A hello names a Sentinel at another address than its own",
            f"A hello names Sentinel {peer.name} at {address.joined()}. It is ignored, because that Sentinel is "
            f"connected and sends its hellos from {peer.address.joined()}",
        )
        return True

    def _confirmed(self, waiting: Waiting, link: InstanceLink, now: Millis) -> None:
        """Register a Sentinel whose ID was confirmed, and apply its latest hellos."""
        for name, payload in waiting.hellos.items():
            master = self._registry.masters.get(name)
            if master is None:
                continue
            peer = self._register(waiting.peer_id, waiting.address, master, link, now)
            if peer is not None:
                self._apply(Hello.parse(payload), master, peer, payload, now)

    def _register(self, peer_id: str, address: Address, master: Master, link: InstanceLink, now: Millis) -> Peer | None:
        """
        Make a confirmed Sentinel a peer of ``master``, or record its new address.

        :param link: a link to ``address``.
        :returns: ``None`` if ``master`` has the maximum number of peers.
        """
        state = self._state
        peer = master.peers.get(peer_id)
        if peer is not None:
            if not peer.address.same(address):
                if self._stays(peer, address, now):
                    return None
                self._move(peer, master, address, link, now)
            return peer
        displaced = next((p for p in master.peers.values() if p.address.same(address)), None)
        if displaced is None and len(master.peers) >= state.limits.peers:
            return None
        peer = self._registry.add_peer(master, peer_id, address, now, link)
        if displaced is not None:
            state.announce("+sentinel-invalid-addr", displaced)
            for other in self._registry.peers_known_as(displaced.name):
                self.forget(other)
                state.changed(other.master)
                self._registry.drop_peer(other)
        self._forgetting.lift(master, peer_id, now)
        state.changed(master)
        state.announce("+sentinel", peer)
        return peer

    def _move(self, peer: Peer, master: Master, address: Address, link: InstanceLink, now: Millis) -> None:
        state = self._state
        first_address = self._first_addresses.get(peer.name, peer.address)
        updated = -1
        for other in self._registry.peers_known_as(peer.name):
            self.forget(other)
            other.hello_seen = b""
            self._registry.readdress_peer(other, address, now, link)
            state.changed(other.master)
            updated += 1
        self._first_addresses[peer.name] = first_address
        by_hostname = state.options.announce_hostnames
        detail = f"ip {address.announced(by_hostname)} port {address.port} for {peer.name}"
        state.announce("+sentinel-address-switch", master, detail)
        if updated:
            state.announce("+sentinel-address-update", peer, f"{updated} additional matching instances")

    def _configuration(self, hello: Hello, master: Master, peer: Peer, now: Millis) -> bool:
        """
        Adopt the configuration in a hello if it is newer; return whether it is neither newer nor in conflict with ours.

        The address is validated before the epoch is raised. C Sentinels raise the epoch first, so a hello with a name
        that does not resolve makes them ignore the configuration for good.
        """
        state = self._state
        address = self._registry.address(hello.master_ip, hello.master_port)
        if address is None:
            subject = f"the master {master.name} in a hello of Sentinel {hello.sentinel_id}"
            warn_ignored(state, master, subject, hello.master_ip, hello.master_port)
            return False
        published = master.published_address
        moved = not published.same(address)
        if hello.master_config_epoch < master.config_epoch:
            return True
        if hello.master_config_epoch == master.config_epoch:
            if moved and master.config_epoch and published is master.address:
                self._dispute(hello, master, now)
                return False
            return not moved
        if not address.resolved:
            # Wait until the name is resolved; the peer will repeat its hello.
            self._registry.resolve_later(address)
            return False
        if moved and not permits(state, self._registry, master, address, peer, now):
            return False
        self._switching.adopt_config_epoch(master, hello.master_config_epoch)
        state.changed(master)
        if not moved:
            self._failovers.ends.superseded(master, now)
            return False
        self._failovers.ends.discard(master)
        state.announce("+config-update-from", peer)
        self._switching.announce_switch(master, address)
        self._record(master, peer, address, now)
        self._switching.run_client_script(master, "observer", address)
        known = self._registry.replica_at(master, address) is not None
        self._switching.switch(master, address, published, now)
        adopted(master, known=known)
        return False

    def _record(self, master: Master, peer: Peer, address: Address, now: Millis) -> None:
        replica = self._registry.replica_at(master, address)
        servers = switched_servers(master, address, replica, by_hostname=self._state.options.announce_hostnames)
        self._state.comparisons.begin(master.name, master.config_epoch, master, replica, now)
        kind = JournalKind.CONFIG_ADOPTED
        self._switching.record_switch(kind, master, master.config_epoch, peer.name, servers, now)

    def _dispute(self, hello: Hello, master: Master, now: Millis) -> None:
        if master.conflict_since is None:
            self._switching.begin_dispute(master, now)
            ours = master.address
            self._state.note_throttled(
                "Two addresses with one config epoch",
                f"Sentinel {hello.sentinel_id} announces {master.name} at {excerpt(hello.master_ip)}:"
                f"{hello.master_port} with config epoch {master.config_epoch}, but it is at {ours.joined()} with the "
                "same epoch here: a majority will be asked to confirm one of them",
            )
            self._state.due.schedule(master, now)
