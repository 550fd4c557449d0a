"""A master moves to another address: what is told to whom, what is kept, and what begins anew."""

from __future__ import annotations

from typing import Final

from txsentinel.core.effects import Reconfigure, RunScript
from txsentinel.core.instances import Master, Peer, Role, Server
from txsentinel.core.link import InstanceLink
from txsentinel.core.probing import Probing, needs_hello
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.core.voting import Voting
from txsentinel.model.address import Address
from txsentinel.model.timings import Millis

C_RETRY: Final[Millis] = 1_050
"""The beat at which a C Sentinel tries to reach a dead master again: its ping period and half a tick."""

REDISCOVERY_DELAY: Final[Millis] = 200
"""
How long a master that was reset is not asked for its replicas, so that whoever ordered the reset can see that they are
gone. A C Sentinel waits for the next INFO that is due, up to ten seconds.
"""

C_MARGIN: Final[Millis] = 200
C_SAFE_DOWN_AFTER: Final[Millis] = C_RETRY + C_MARGIN - 50


class Switching:
    """Moves masters, for failovers that we led and for news from others."""

    def __init__(self, state: SentinelState, registry: Registry, voting: Voting, probing: Probing) -> None:
        self._state = state
        self._registry = registry
        self._voting = voting
        self._probing = probing

    def announce_switch(self, master: Master, address: Address) -> None:
        """Announce ``+switch-master``, to be called before :meth:`switch`."""
        by_hostname = self._state.options.announce_hostnames
        old = master.address
        self._state.announce_text(
            "+switch-master",
            f"{master.name} {old.announced(by_hostname)} {old.port} {address.announced(by_hostname)} {address.port}",
            master,
        )

    def run_client_script(self, master: Master, role: str, address: Address) -> None:
        """Queue the client-reconfig-script for a move from the configured address to ``address``."""
        path = master.options.client_reconfig_script
        if path is None:
            return
        by_hostname = self._state.options.announce_hostnames
        old = master.address
        places = (old.announced(by_hostname), str(old.port), address.announced(by_hostname), str(address.port))
        self._state.emit(RunScript(path, (master.name, role, "start", *places)))

    def role_change(self, server: Server, master: Address | None) -> Reconfigure:
        """The transaction that makes ``server`` follow ``master``, or nobody."""
        abort = server.server_failover is True
        if master is None:
            return Reconfigure(server.link, None, 0, abort)
        host = master.announced(self._state.options.announce_hostnames)
        return Reconfigure(server.link, host, master.port, abort)

    def broadcast_hello(self, master: Master, now: Millis) -> None:
        """
        Send our hello about ``master`` to everybody now, or as soon as it is safe for C Sentinels.

        The servers just had their subscribers killed, so it is the direct hello to each peer that counts.
        """
        master.hello_not_before = self._safe_for_c(master, now)
        period = self._state.timings.publish_period
        for instance in needs_hello(master):
            held = master.hello_not_before > now and not (isinstance(instance, Peer) and instance.is_txsentinel)
            if held:
                instance.hello_published_at = min(instance.hello_published_at, now - period)
                self._state.due.schedule(instance, master.hello_not_before)
            else:
                self._probing.publish_hello(instance, now)

    def switch(self, master: Master, address: Address, published: Address, now: Millis) -> None:
        """
        Move ``master`` to ``address``; its other servers, the old master among them, become its replicas.

        ``published`` is what the world was told to be its address so far: with a promotion under way, not its own.

        Connections that are up are kept, each under its new role: nothing is known worse because of
        the switch, and no clock of a dead address is held against a live one. Peers are kept, what
        they said of the old address is not.
        """
        old = master.address
        links: dict[Address, InstanceLink] = {}
        for server in (master, *master.replicas.values()):
            links[server.address] = server.link
        addresses = [replica.address for replica in master.replicas.values() if not replica.address.same(address)]
        if not old.same(address):
            addresses.append(old)
        known = self._registry.replica_at(master, address)
        if known is not None:
            address = known.address
        hands_over = known is not None and known.server_failover is not None
        self._registry.detach_servers(master)
        self._begin_anew(master, address, now)
        # What its INFO told of FAILOVER while it was a replica; whether one is running it tells again.
        master.server_failover = False if hands_over else None
        master.hello_not_before = max(master.hello_not_before, self._safe_for_c(master, now, links.get(old)))
        master.link = self._registry.adopt_link(master, links.get(address), now)
        generation = self._state.changed(master)
        if not published.same(address):
            self._state.moved(master, published, generation)
        for place in addresses:
            replica = self._registry.add_replica(master, place, now, links.get(place))
            if replica is not None:
                self._state.announce("+slave", replica)
        self._registry.close_unused(links.values())
        self._state.due.schedule(master, now)

    def reset(self, master: Master, now: Millis) -> None:
        """``SENTINEL RESET``: forget replicas, peers, state and links, keep address, options and epochs."""
        self._registry.drop_peers(master)
        self._registry.drop_replicas(master)
        self._registry.leave_link(master)
        self._begin_anew(master, master.address, now)
        master.switched_at = None
        master.ignored_addresses = {}
        master.info_not_before = now + REDISCOVERY_DELAY
        master.link = self._registry.open_link(master, now)
        self._state.changed(master)
        self._state.due.schedule(master, now)
        self._state.announce("+reset-master", master)

    def _begin_anew(self, master: Master, address: Address, now: Millis) -> None:
        master.address = address
        master.sdown_since = master.odown_since = master.down_started_at = None
        master.script_kill_sent = False
        master.failover = None
        master.leader = None
        master.attempt_started_at = master.campaign_at = master.delay_logged_for = None
        master.conflict_since = master.unfit_logged_at = master.unfit_announced_at = None
        master.run_id = None
        master.rebooting_since = None
        master.role_reported, master.role_reported_at = Role.MASTER, now
        master.info_refreshed_at = master.info_requested_at = None
        master.server_failover = None
        master.reported_master = None
        master.role_requested = master.role_refused = False
        master.hello_sent_at = None
        master.created_at = master.switched_at = now
        for peer in master.peers.values():
            peer.acknowledges = False
        self._voting.forget_opinions(master)

    def _safe_for_c(self, master: Master, now: Millis, link: InstanceLink | None = None) -> Millis:
        """
        When a C Sentinel may be told of the new address without taking the new master for dead.

        Having switched, it waits for its next permitted attempt to connect, which it counts from its
        last attempt towards the dead master, while the down clock of the new one already runs. With a
        down-after of about a second or less the hello must come late enough before that attempt.
        Below 300 ms no moment is good enough. Both figures follow from its beat of one attempt per
        second since the connection broke.
        """
        down_after = master.options.down_after
        broken_at = (link or master.link).lost_at
        still_up = (link or master.link).commands_up
        if still_up or broken_at is None or not 300 <= down_after < C_SAFE_DOWN_AFTER:
            return now
        if all(peer.is_txsentinel for peer in master.peers.values()):
            return now
        earliest, latest = C_RETRY + C_MARGIN - down_after, C_RETRY - C_MARGIN // 2
        since_attempt = (now - broken_at) % C_RETRY
        if since_attempt < earliest:
            return now + earliest - since_attempt
        if since_attempt > latest:
            return now + C_RETRY - since_attempt + earliest
        return now
