"""The administrative inputs of the core: the start, and the commands that add, remove, change or fail over masters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from txsentinel.core.durable_records import HeldRecord
from txsentinel.core.errors import CommandError, InvalidAddress
from txsentinel.core.evaluation import Evaluation
from txsentinel.core.failover import Failovers
from txsentinel.core.failover_blocks import FailoverBlocks
from txsentinel.core.fencing import Fencing
from txsentinel.core.handover import check_handover_supported
from txsentinel.core.hello_processing import HelloProcessing
from txsentinel.core.instances import Instance, Master, Peer, Replica, Server
from txsentinel.core.membership import Forgetting, Parking
from txsentinel.core.options import SECRET_OPTIONS, MasterOptions, OptionChanges, OptionSetter
from txsentinel.core.pause_rules import is_hands_off
from txsentinel.core.registry import Registry
from txsentinel.core.selection import select
from txsentinel.core.state import SentinelState
from txsentinel.core.switching import Switching
from txsentinel.core.tilt import TiltGuard
from txsentinel.core.voting import Voting
from txsentinel.model.address import Address
from txsentinel.model.timings import Millis


@dataclass(frozen=True, slots=True)
class Removed:
    """A master that was removed, with its published address, the other servers and its peers at that time."""

    master: Master
    address: Address
    replicas: list[Address]
    peers: list[tuple[Address, str]]
    records: list[HeldRecord]


class Administration:
    """Executes the orders of operators."""

    def __init__(
        self,
        state: SentinelState,
        registry: Registry,
        tilt: TiltGuard,
        voting: Voting,
        switching: Switching,
        failovers: Failovers,
        hello_processing: HelloProcessing,
        evaluation: Evaluation,
        fencing: Fencing,
        forgetting: Forgetting,
        parking: Parking,
        blocks: FailoverBlocks,
    ) -> None:
        self._state = state
        self._registry = registry
        self._tilt = tilt
        self._voting = voting
        self._switching = switching
        self._failovers = failovers
        self._hello_processing = hello_processing
        self._evaluation = evaluation
        self._fencing = fencing
        self._forgetting = forgetting
        self._parking = parking
        self._blocks = blocks

    def monitor(self, name: str, host: str, port: int, quorum: int, now: Millis) -> Master:
        """
        Start to monitor a master (``SENTINEL MONITOR``).

        Its last vote counts as given in the current epoch, so that a name that was removed and is added again cannot be
        voted for twice in one epoch.

        :raises CommandError: for a bad address or a name in use.
        """
        address = self._registry.address(host, port)
        if address is None:
            raise InvalidAddress
        if not 0 < port <= 65535:
            raise CommandError("ERR Invalid port number.")
        if name in self._registry.masters:
            raise CommandError("ERR Duplicate master name.")
        options = MasterOptions(
            quorum,
            down_after=self._state.timings.default_down_after,
            failover_timeout=self._state.timings.default_failover_timeout,
        )
        master = self._registry.add_master(name, address, options, now)
        self._voting.restore(master, self._state.current_epoch)
        self._state.changed(master)
        self._state.announce("+monitor", master, f"quorum {quorum}", binding=True)
        return master

    def readmit(self, removed: Removed, now: Millis) -> None:
        """Monitor a master again whose removal could not be saved; its last vote is as durable as before."""
        before = removed.master
        self._state.records.put_back(removed.records)
        master = self.restore(
            before.name,
            removed.address,
            before.options,
            now,
            config_epoch=before.config_epoch,
            leader_epoch=before.leader_epoch,
            replicas=removed.replicas,
            peers=removed.peers,
        )
        self._voting.readmit(master, before)
        self._state.changed(master)

    def restore(
        self,
        name: str,
        address: Address,
        options: MasterOptions,
        now: Millis,
        *,
        config_epoch: int,
        leader_epoch: int,
        replicas: Sequence[Address],
        peers: Sequence[tuple[Address, str]],
    ) -> Master:
        """
        Add a master from the file at start; duplicate replicas and peers are ignored.

        So are those that were removed, according to the records: another file may still list them.
        """
        master = self._registry.add_master(name, address, options, now)
        self._switching.adopt_config_epoch(master, config_epoch)
        self._voting.restore(master, leader_epoch)
        self._state.current_epoch = max(self._state.current_epoch, config_epoch, leader_epoch)
        self._forgetting.restore(master, now)
        self._parking.restore(master, now)
        self._blocks.restore(master, now)
        for place in replicas:
            if not place.same(address) and master.membership.tombstone_of(place, now) is None:
                self._registry.add_replica(master, place, now)
        for place, peer_id in peers:
            known = peer_id in master.peers or peer_id in master.membership.tombstones
            if not known and peer_id != self._state.options.my_id:
                self._registry.add_peer(master, peer_id, place, now)
        return master

    def announce_monitored(self) -> None:
        """Publish ``+monitor`` for every master, at start."""
        for master in self._registry.masters.values():
            self._state.announce("+monitor", master, f"quorum {master.options.quorum}")

    def remove(self, name: str, now: Millis, *, announce: bool = True) -> Removed:
        """
        Stop monitoring a master (``SENTINEL REMOVE``).

        :returns: the argument for :meth:`readmit` if the removal cannot be saved.
        :raises NoSuchMaster: if it is not monitored.
        """
        master = self._registry.master(name)
        address = master.published_address
        servers = [master.address, *(replica.address for replica in master.replicas.values())]
        self._failovers.holds.rejections.discard(master)
        removed = Removed(
            master,
            address,
            [place for place in servers if not place.same(address)],
            [(peer.address, peer.name) for peer in master.peers.values()],
            self._state.records.take_master(name),
        )
        self._hello_processing.forget_all(master)
        self._failovers.ends.discard(master)
        self._fencing.discard(master)
        self._state.changed(master)
        if announce:
            self._state.announce("-monitor", master, binding=True)
        self._registry.remove_master(master)
        return removed

    def remove_members(self, master: Master, generation: int, now: Millis) -> None:
        """Remove the members of ``master`` whose tombstones are durable, as of ``generation``."""
        failover = master.failover
        for member in self._forgetting.take_removed(master, generation):
            if isinstance(member, Replica):
                if failover is None or failover.promoted is not member:
                    self._registry.drop_replica(member)
            else:
                self._hello_processing.forget(member)
                self._registry.drop_peer(member)
        self._state.touch(master)
        self._evaluation.schedule(master, now)

    def reset(self, pattern: str, now: Millis) -> int:
        """Reset every master that matches (``SENTINEL RESET``); return their number."""
        masters = self._registry.matching(pattern)
        for master in masters:
            self.reset_master(master, now)
        return len(masters)

    def reset_master(self, master: Master, now: Millis) -> None:
        """Reset one master."""
        self._hello_processing.forget_all(master)
        # Finish a published promotion, so that its config epoch does not belong to the old address.
        self._failovers.finish(master, now)
        self._failovers.ends.discard(master)
        self._fencing.discard(master)
        self._switching.reset(master, now)

    def set_options(self, name: str, changes: OptionChanges, now: Millis, apply: OptionSetter) -> None:
        """
        Set options from left to right, which ``apply`` validates, up to the first that it refuses (``SENTINEL SET``).

        :raises NoSuchMaster: if it is not monitored.
        """
        master, log_in_anew = self._registry.master(name), ""
        try:
            for option, values in changes:
                apply(master.options, option, values, self._state.options)
                word = option.lower()
                if word in ("auth-pass", "auth-user"):
                    log_in_anew = f"{word} changed"
                self._state.changed(master)
                shown = "******" if word in SECRET_OPTIONS else " ".join(values)
                self._state.announce("+set", master, f"{option} {shown}", binding=True)
        finally:
            self._options_took_effect(master, log_in_anew, now)

    def reset_options(self, name: str, options: MasterOptions, now: Millis) -> None:
        """Restore ``options``, a copy from before a ``SENTINEL SET`` that could not be saved."""
        master = self._registry.masters.get(name)
        if master is None:
            return
        renew = (master.options.auth_pass, master.options.auth_user) != (options.auth_pass, options.auth_user)
        for row in fields(MasterOptions):
            setattr(master.options, row.name, getattr(options, row.name))
        self._state.changed(master)
        self._options_took_effect(master, "credentials changed" if renew else "", now)

    def _options_took_effect(self, master: Master, log_in_anew: str, now: Millis) -> None:
        """Have all instances of ``master`` evaluated with its new options; ``log_in_anew`` is why to reconnect."""
        servers: list[Server] = [master, *master.replicas.values()]
        if log_in_anew:
            self._registry.renew_credentials([*servers], log_in_anew)
        for server in servers:
            self._registry.set_credentials(server.link, server)
        for instance in (*servers, *master.peers.values()):
            instance.link.min_down_after = None
            self._state.due.schedule(instance, now)

    def options_changed(self, now: Millis, *, peers_log_in_anew: bool = False) -> None:
        """Handle that ``SENTINEL CONFIG SET`` changed the options of the Sentinel itself."""
        self._state.touch(None)
        self._state.changed(None)
        if peers_log_in_anew:
            peers: list[Instance] = [i for i in self._registry.instances() if isinstance(i, Peer)]
            self._registry.renew_credentials(peers, "sentinel-user or sentinel-pass changed")

    def use_credentials(self, name: str | None) -> None:
        """
        Use the present passwords for new connections to the servers of a master, or to peers (``None``).

        Connections that are authenticated stay: a server does not close them when its password changes.
        """
        if name is None:
            for instance in self._registry.instances():
                if isinstance(instance, Peer):
                    self._registry.set_credentials(instance.link, instance)
            return
        master = self._registry.master(name)
        for server in (master, *master.replicas.values()):
            self._registry.set_credentials(server.link, server)

    def failover(self, name: str, now: Millis, *, coordinated: bool = False, by: str | None = None) -> None:
        """
        Start a failover now (``SENTINEL FAILOVER``).

        :param coordinated: have the master, which must be up, hand over its role without losing a write.
        :param by: who ordered it, for the history.
        :raises CommandError: if the master is unknown, is being failed over, has no fit replica or does not support
            ``coordinated``; and in TILT, with its remaining duration.
        """
        master = self._registry.master(name)
        if master.failover is not None and not master.failover.republish:
            raise CommandError("INPROG Failover already in progress")
        if self._tilt.active:
            raise CommandError(f"TILT Nothing is decided here for another {self._tilt.left(now)} ms")
        if is_hands_off(self._state, name, now):
            raise CommandError("PAUSED No server may be reconfigured (scope hands-off). TXSENTINEL RESUME ends this")
        if coordinated:
            check_handover_supported(master)
        if self._state.storage_error is not None:
            raise CommandError(f"ERR Failed to save config file: {self._state.storage_error}")
        if select(master, self._state.timings, now) is None:
            raise CommandError("NOGOODSLAVE No suitable replica to promote")
        self._failovers.force(master, now, coordinated=coordinated, by=by)
        self._evaluation.step(master, now)

    def refresh(self, servers: Sequence[Server], now: Millis) -> None:
        """Have INFO of servers requested now."""
        for server in servers:
            self._evaluation.refresh(server, now)

    def flush(self) -> None:
        """Have the whole hard state saved (``SENTINEL FLUSHCONFIG``)."""
        self._state.changed(None)
        for master in self._registry.masters.values():
            self._state.changed(master)
