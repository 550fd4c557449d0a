"""The switch of a master to another address, and its publication; ``SENTINEL RESET``."""

from __future__ import annotations

from typing import Final

from txsentinel.core.crash_evidence import CrashEvidence
from txsentinel.core.effects import Reconfigure, RunScript
from txsentinel.core.failover_blocks import FailoverBlocks
from txsentinel.core.instances import InstanceLink, Master, Peer, Server
from txsentinel.core.journal import SwitchedServers
from txsentinel.core.lineage import forget
from txsentinel.core.membership import Forgetting
from txsentinel.core.probing import Probing, needs_hello
from txsentinel.core.questions import Questions
from txsentinel.core.registry import Registry
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.core.voting import C_MARGIN, C_RETRY, C_SAFE_DOWN_AFTER
from txsentinel.model.address import Address
from txsentinel.model.history import JournalKind
from txsentinel.model.timings import Millis

REDISCOVERY_DELAY: Final[Millis] = 200
"""
How long no INFO is sent to a master that was reset, so that the client that ordered the reset can see that the replicas
were removed. A C Sentinel waits for the next periodic INFO, up to ten seconds.
"""


class Switching:
    """Moves masters to other addresses, after own failovers and after hellos of others."""

    def __init__(
        self,
        state: SentinelState,
        registry: Registry,
        questions: Questions,
        probing: Probing,
        forgetting: Forgetting,
        blocks: FailoverBlocks,
    ) -> None:
        self._state = state
        self._forgetting = forgetting
        self._blocks = blocks
        self._registry = registry
        self._questions = questions
        self._probing = probing

    def announce_switch(self, master: Master, address: Address) -> None:
        """Publish ``+switch-master``; to be called before :meth:`switch`."""
        by_hostname = self._state.options.announce_hostnames
        old = master.address
        self._state.announce_text(
            "+switch-master",
            f"{master.name} {old.announced(by_hostname)} {old.port} {address.announced(by_hostname)} {address.port}",
            master,
        )

    def record_switch(
        self, kind: JournalKind, master: Master, epoch: int, subject: str | None, servers: SwitchedServers, now: Millis
    ) -> None:
        """Write to the journal that a failover has ended with a switch; to be called before :meth:`switch`."""
        failover = master.failover
        # Whether the failover of another Sentinel was ordered is not known, but then its old master is up.
        down = master.is_down or not master.link.commands_up
        if down if failover is None else not failover.ordered:
            self._blocks.failed_over(master, epoch, now)
        new = servers.new
        assert new is not None
        data = (("old", f"{servers.old.host}:{servers.old.port}"), ("new", f"{new.host}:{new.port}"))
        journal = self._state.journal
        journal.write(kind, master.name, now, epoch=epoch, subject=subject, data=data, servers=servers)
        journal.ended(master.name)

    def run_client_script(self, master: Master, role: str, address: Address) -> None:
        """Queue the ``client-reconfig-script`` for a switch from the configured address to ``address``."""
        path = master.options.client_reconfig_script
        if path is None:
            return
        by_hostname = self._state.options.announce_hostnames
        old = master.address
        places = (old.announced(by_hostname), str(old.port), address.announced(by_hostname), str(address.port))
        self._state.emit(RunScript(path, (master.name, role, "start", *places)))

    def role_change(self, server: Server, master: Address | None) -> Reconfigure:
        """Return the order that makes ``server`` a replica of ``master``, or a master if ``master`` is ``None``."""
        abort = server.server_failover is True
        if master is None:
            return Reconfigure(server.link, None, 0, abort)
        host = master.announced(self._state.options.announce_hostnames)
        return Reconfigure(server.link, host, master.port, abort)

    def record_follow_order(self, server: Server, address: Address, now: Millis) -> None:
        """Write to the journal that ``server`` is ordered to follow the server at ``address``."""
        data, subject = (("new", address.joined()),), server.address.joined()
        self._state.journal.write(JournalKind.FOLLOW_ORDERED, server.master.name, now, subject=subject, data=data)

    def adopt_config_epoch(self, master: Master, epoch: int) -> None:
        """Set the config epoch, which ends a dispute about the address of the former one."""
        if self._state.durable_address(master) is master.published_address:
            master.epoch_before = master.config_epoch
        master.config_epoch = epoch
        master.conflict_since = None

    def begin_dispute(self, master: Master, now: Millis) -> None:
        """Record that another Sentinel announces a different address with our config epoch."""
        master.conflict_since = now

    def end_dispute(self, master: Master) -> None:
        """Record that the dispute is being resolved."""
        master.conflict_since = None

    def await_info(self, server: Server, now: Millis) -> None:
        """Record that an order is about to be sent that an INFO follows."""
        self._probing.await_info(server, now)

    def broadcast_hello(self, master: Master, now: Millis) -> None:
        """
        Send our hello about ``master`` to all its instances now, or as soon as it is safe for C Sentinels.

        Subscribers were just disconnected from reconfigured servers, so the direct hellos to peers are essential.
        """
        master.hello_not_before = self._safe_for_c(master, now)
        for instance in needs_hello(master):
            held = master.hello_not_before > now and not (isinstance(instance, Peer) and instance.is_txsentinel)
            if held:
                self._probing.publish_hello_soon(instance, now)
                self._state.due.schedule(instance, master.hello_not_before)
            else:
                self._probing.publish_hello(instance, now)

    def switch(self, master: Master, address: Address, published: Address, now: Millis) -> None:
        """
        Move ``master`` to ``address``; its other servers, including the old master, become its replicas.

        Established connections are kept, each under its new role, so the switch loses no evidence, and the clocks of an
        address that is down do not apply to one that is up. Peers are kept; their opinions of the old address are not.

        :param published: the previously published address; during a promotion it differs from ``master.address``.
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
        # Its INFO as a replica showed whether it supports FAILOVER; the next INFO shows whether one is running.
        self._reset_state(master, address, now, False if hands_over else None)
        master.hello_not_before = max(master.hello_not_before, self._safe_for_c(master, now, links.get(old)))
        self._registry.relink(master, links.get(address), now)
        self._forgetting.lift_address(master, address, now)
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
        """Discard replicas, peers, state and links of a master; keep its address, options and epochs."""
        self._registry.drop_peers(master)
        self._registry.drop_replicas(master)
        self._registry.leave_link(master)
        self._reset_state(master, master.address, now)
        master.switched_at = None
        master.ignored_addresses = {}
        forget(master)
        master.info_not_before = now + REDISCOVERY_DELAY
        self._registry.relink(master, None, now)
        self._state.changed(master)
        self._state.due.schedule(master, now)
        self._state.announce("+reset-master", master)

    def _reset_state(self, master: Master, address: Address, now: Millis, server_failover: bool | None = None) -> None:
        """Set all state of the master and of what others report about it, as at its construction."""
        self._registry.readdress(master, address)
        master.sdown_since = master.odown_since = master.down_started_at = None
        master.script_kill_sent = False
        master.crash = CrashEvidence()
        master.failover = None
        master.leader = None
        master.attempt_started_at = master.campaign_at = None
        master.attempt_before = master.unconfirmed_since = None
        master.conflict_since = None
        master.diagnosis.restart_log()
        master.run_id = None
        master.rebooting_since = master.restart = master.data_missing_since = None
        master.data_set = master.replaced_data_set = None
        master.role_reported, master.role_reported_at = Role.MASTER, now
        master.info_refreshed_at = master.info_requested_at = None
        master.server_failover = server_failover
        master.reported_master = None
        master.isolation = master.least_lag = master.major_version = None
        master.role_requested = master.role_refused = False
        master.hello_sent_at = None
        master.created_at = master.switched_at = now
        self._questions.forget_opinions(master)

    def _safe_for_c(self, master: Master, now: Millis, link: InstanceLink | None = None) -> Millis:
        """
        Return when a hello with the new address may be sent to C Sentinels without making them consider it S_DOWN.

        After the switch, a C Sentinel waits for its next permitted connection attempt, which it counts from its last
        attempt to connect to the dead master, while the down clock of the new one already runs. With a
        ``down-after-milliseconds`` of about a second or less, the hello must arrive shortly before that attempt. Below
        300 ms no time is safe. Both figures follow from its interval of one attempt per second since the connection was
        lost.
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
