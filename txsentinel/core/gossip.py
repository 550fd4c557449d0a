"""
What a hello of another Sentinel changes: who our peers are, the epoch, and where a master is.

Only hellos of peers are believed: of an ID at the address under which it is filed. All others go to ``confirmation``.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.confirmation import Confirmations, Waiting
from txsentinel.core.failover import Failovers
from txsentinel.core.ignored import warn_ignored
from txsentinel.core.instances import Master, Peer, Role
from txsentinel.core.link import InstanceLink
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.core.switching import Switching
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.hello import Hello, MalformedHello
from txsentinel.wire.resp import text

CONFLICT_TIMEOUT: Millis = 1_000
"""How long two addresses may go by one config epoch until the first Sentinel by ID has one confirmed."""

MAX_CLONES: Final = 16
"""Places of Sentinels with our own ID that the log names."""

MAX_HELLO: Final = 4096
"""Bytes of a hello; longer ones are ignored. Those of C Sentinels end at about 1,100."""


class Gossip:
    """Learns from hellos. Works in TILT as well."""

    def __init__(self, state: SentinelState, registry: Registry, switching: Switching, failovers: Failovers) -> None:
        self._state = state
        self._registry = registry
        self._switching = switching
        self._failovers = failovers
        self.confirmations = Confirmations(state, registry, self._confirmed)
        self._known: dict[bytes, Peer] = {}
        self._clones: dict[bytes, None] = {}
        """Where Sentinels with our own ID are, as their hellos say."""

    def hello(self, payload: bytes, now: Millis, *, through_server: bool) -> None:
        """
        Take in one hello; whatever is wrong with it, nothing of it is believed then.

        The very bytes that taught us nothing new the last time teach nothing new now: epochs only
        rise. They only show that their sender lives.

        :param through_server: whether it came by our subscription to a server, not by a direct PUBLISH.
        """
        peer = self._known.get(payload)
        if peer is not None and peer.hello_seen == payload and peer.master.peers.get(peer.name) is peer:
            peer.hello_received_at = now
            return
        if len(payload) > MAX_HELLO:
            return
        fields = payload.split(b",", 3)
        if len(fields) > 2 and fields[2] == self._state.options.my_id.encode():
            # Our own hello mostly, echoed by a server that we published it on.
            self._own_id(b",".join(fields[:2]))
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
            self._believe(hello, master, peer, payload, now)

    def _own_id(self, place: bytes) -> None:
        """A hello bears our own ID. If it does not come from where we are, somebody has a copy of our file."""
        if place in self._state.own_places or place in self._clones or len(self._clones) >= MAX_CLONES:
            return
        self._clones[place] = None
        where = excerpt(text(place).replace(",", " port "))
        self._state.note(
            Level.WARNING,
            f"A Sentinel at {where} has the ID of this one and is ignored. If it was started from a copy of its file,"
            " delete the line 'sentinel myid' there and start it again",
        )

    def _believe(self, hello: Hello, master: Master, peer: Peer, payload: bytes, now: Millis) -> None:
        """Take in what a peer says."""
        self._state.follow_epoch(hello.current_epoch, master, now, connected=peer.link.commands_up)
        peer.hello_received_at = now
        peer.is_txsentinel = _is_from_txsentinel(payload)
        peer.acknowledges = False
        if max(hello.current_epoch, hello.master_config_epoch) > self._state.current_epoch:
            # Too far ahead to follow at once. The peer repeats itself.
            return
        if self._configuration(hello, master, peer, now):
            peer.acknowledges = peer.is_txsentinel and hello.master_config_epoch == master.config_epoch
            self._known.pop(peer.hello_seen, None)
            peer.hello_seen = payload
            self._known[payload] = peer

    def conflict_due(self, master: Master) -> Millis | None:
        """When we should have the present address of a disputed master confirmed by a majority."""
        if master.conflict_since is None or master.failover is not None:
            return None
        place = sum(1 for peer_id in master.peers if peer_id < self._state.options.my_id)
        return master.conflict_since + (2 * place + 1) * CONFLICT_TIMEOUT

    def evaluate(self, master: Master, now: Millis) -> None:
        """
        Settle a dispute: two addresses with one config epoch never outrank each other.

        C Sentinels stay divided until the next failover. The first Sentinel by ID that sees its own
        address up has it given a new epoch by election, which everybody follows.
        """
        due = self.conflict_due(master)
        if due is None or now < due:
            return
        master.conflict_since = None
        if master.is_down or master.role_reported is not Role.MASTER or not master.link.commands_up:
            return
        self._failovers.republish(master, now)

    def forget_all(self, master: Master) -> None:
        """The peers of ``master`` are about to go."""
        self.confirmations.forget(master)
        for peer in master.peers.values():
            self.forget(peer)

    def forget(self, peer: Peer) -> None:
        """The peer is gone: its hellos are no longer familiar."""
        self._known.pop(peer.hello_seen, None)

    def _sane(self, hello: Hello) -> bool:
        state = self._state
        if not 0 <= hello.master_config_epoch <= hello.current_epoch <= state.limits.highest_epoch:
            return False
        if not (0 < hello.sentinel_port < 65536 and 0 < hello.master_port < 65536):
            return False
        return state.sane_id(hello.sentinel_id)

    def _peer(self, hello: Hello, master: Master, payload: bytes, now: Millis, through_server: bool) -> Peer | None:
        """The sender as a peer of ``master``, or ``None`` if it has to tell its ID first."""
        address = self._registry.address(hello.sentinel_ip, hello.sentinel_port)
        peer = master.peers.get(hello.sentinel_id)
        if address is None:
            subject = f"Sentinel {hello.sentinel_id} of {master.name}"
            warn_ignored(self._state, master, subject, hello.sentinel_ip, hello.sentinel_port)
            return peer
        if peer is not None and peer.address.same(address):
            return peer
        link = self._registry.shared_link(hello.sentinel_id, address)
        if link is not None:
            # Filed so under another master.
            return self._file(hello.sentinel_id, address, master, link, now)
        if peer is None and through_server:
            master.note_unconfirmed_hello(hello.sentinel_id, now, self._state.timings.publish_period)
        self.confirmations.named(hello.sentinel_id, address, master, payload, now, through_server=through_server)
        return None

    def _confirmed(self, waiting: Waiting, link: InstanceLink, now: Millis) -> None:
        """Whoever listens there is who the hello said: file it, and believe what it has said meanwhile."""
        for name, payload in waiting.hellos.items():
            master = self._registry.masters.get(name)
            if master is None:
                continue
            peer = self._file(waiting.peer_id, waiting.address, master, link, now)
            if peer is not None:
                self._believe(Hello.parse(payload), master, peer, payload, now)

    def _file(self, peer_id: str, address: Address, master: Master, link: InstanceLink, now: Millis) -> Peer | None:
        """
        File a confirmed Sentinel under ``master``, or note that it moved; ``link`` leads there.

        :returns: ``None`` if ``master`` has as many peers as it may have.
        """
        state = self._state
        peer = master.peers.get(peer_id)
        if peer is not None:
            if not peer.address.same(address):
                self._move(peer, master, address, link, now)
            return peer
        stranger = next((p for p in master.peers.values() if p.address.same(address)), None)
        if stranger is None and len(master.peers) >= state.limits.peers:
            return None
        peer = self._registry.add_peer(master, peer_id, address, now, link)
        if stranger is not None:
            state.announce("+sentinel-invalid-addr", stranger)
            for other in self._registry.peers_known_as(stranger.name):
                self.forget(other)
                state.changed(other.master)
                self._registry.drop_peer(other)
        state.changed(master)
        state.announce("+sentinel", peer)
        return peer

    def _move(self, peer: Peer, master: Master, address: Address, link: InstanceLink, now: Millis) -> None:
        state = self._state
        updated = -1
        for other in self._registry.peers_known_as(peer.name):
            self.forget(other)
            other.hello_seen = b""
            self._registry.readdress_peer(other, address, now, link)
            state.changed(other.master)
            updated += 1
        by_hostname = state.options.announce_hostnames
        detail = f"ip {address.announced(by_hostname)} port {address.port} for {peer.name}"
        state.announce("+sentinel-address-switch", master, detail)
        if updated:
            state.announce("+sentinel-address-update", peer, f"{updated} additional matching instances")

    def _configuration(self, hello: Hello, master: Master, peer: Peer, now: Millis) -> bool:
        """
        Adopt a newer configuration; true if there was none to learn and there is nothing to dispute.

        The address must make sense before the epoch is touched: C raises the epoch first, and one
        hello with a name that does not resolve uses it up.
        """
        state = self._state
        address = self._registry.address(hello.master_ip, hello.master_port)
        if address is None:
            subject = f"the master {master.name} as Sentinel {hello.sentinel_id} tells it"
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
            # Wait until the name means something; the peer repeats itself.
            self._registry.resolve_later(address)
            return False
        master.config_epoch = hello.master_config_epoch
        master.conflict_since = None
        state.changed(master)
        if not moved:
            self._failovers.superseded(master)
            return False
        self._failovers.discard(master)
        state.announce("+config-update-from", peer)
        self._switching.announce_switch(master, address)
        self._switching.run_client_script(master, "observer", address)
        self._switching.switch(master, address, published, now)
        return False

    def _dispute(self, hello: Hello, master: Master, now: Millis) -> None:
        if master.conflict_since is None:
            master.conflict_since = now
            ours = master.address
            self._state.complain(
                "Two addresses with one config epoch",
                f"Sentinel {hello.sentinel_id} says {master.name} is at {excerpt(hello.master_ip)}:{hello.master_port} "
                f"with config epoch {master.config_epoch}, we say {ours.joined()} with the same epoch: "
                "a majority will be asked to confirm one of them",
            )
            self._state.due.schedule(master, now)


def _is_from_txsentinel(payload: bytes) -> bool:
    """Is its current epoch written as we write it, with a leading zero? (See ``SentinelState.hello``.)"""
    epoch = payload.split(b",", 4)[3]
    return len(epoch) > 1 and epoch.startswith(b"0")
