"""Processing of INFO replies: run ID, role, replicas, offsets, and the corrections that they require."""

from __future__ import annotations

from typing import Final

from txsentinel.core.crash_detection import CrashDetection
from txsentinel.core.empty_restart import EmptyRestarts
from txsentinel.core.failover import Failovers
from txsentinel.core.failover_state import PROMOTION_SEEN
from txsentinel.core.failure_recorder import FailureRecorder
from txsentinel.core.fence_state import LEASE_PERIOD
from txsentinel.core.ignored import warn_ignored
from txsentinel.core.instances import InstanceLink, Master, Replica, Server
from txsentinel.core.kept_text import TextKeeper
from txsentinel.core.lineage import check_announced, learn, may_be_ordered
from txsentinel.core.membership import Forgetting, Parking
from txsentinel.core.pause_rules import is_hands_off
from txsentinel.core.reconfiguration import Reconfiguration
from txsentinel.core.registry import Registry
from txsentinel.core.role import Role
from txsentinel.core.state import SentinelState
from txsentinel.core.switching import Switching
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.info import InfoReport, parse_info, shortened

_NO_GOOD_REPLICAS: Final = b"\nmin_slaves_good_slaves:0\r\n"
"""In INFO of a master with ``min-replicas-to-write``, without a replica that acknowledges in time."""


class Observation:
    """Records what servers report, and corrects replicas with a wrong role or master."""

    def __init__(
        self,
        state: SentinelState,
        registry: Registry,
        failovers: Failovers,
        switching: Switching,
        reconfiguration: Reconfiguration,
        restarts: EmptyRestarts,
        failures: FailureRecorder,
        crashes: CrashDetection,
        forgetting: Forgetting,
        parking: Parking,
    ) -> None:
        self._state = state
        self._registry = registry
        self._failovers = failovers
        self._switching = switching
        self._reconfiguration = reconfiguration
        self._restarts = restarts
        self._failures = failures
        self._crashes = crashes
        self._forgetting = forgetting
        self._parking = parking
        self._too_many_logged: dict[str, None] = {}
        """Names of the masters for which too many replicas were logged."""

        self._texts = TextKeeper()
        self._counted = 0
        """Bytes of all INFO texts when they were last counted."""

        self._added = 0
        """Bytes of the INFO texts that arrived since then, kept or not."""

    def info(self, server: Server, raw: bytes, now: Millis, *, tilt: bool) -> None:
        """
        Process one INFO reply of ``server``.

        :param tilt: whether TILT is in force: the report is recorded, but nothing is corrected.
        """
        limits = self._state.limits
        raw = shortened(raw, limits.info_text)
        report = parse_info(raw, 2 * limits.replicas)
        self._identity(server, report, now)
        if report.data_set is not None:
            before = server.data_set
            if before is not None and before.replid not in (report.data_set.replid, report.data_set.replid2):
                server.replaced_data_set = before
            server.data_set = report.data_set
        if report.failover_running != server.server_failover:
            server.server_failover, server.server_failover_changed_at = report.failover_running, now
        if isinstance(server, Master):
            self._replicas(server, report, raw, now)
            server.least_lag, server.major_version = report.least_lag, report.major_version
            server.lacks_good_replicas = _NO_GOOD_REPLICAS in raw
            follows = report.role == Role.REPLICA.value and report.master_host is not None
            self._crashes.shutdown_reported(server, report.shutting_down)
            server.reported_master = (report.master_host or "", report.master_port or 0) if follows else None
        elif isinstance(server, Replica):
            self._replication(server, report, now)
            self._failures.replica_reported(server, report, now)
            if server.master.membership.parked:
                self._parking.reported(server, now)
        server.info_refreshed_at = now
        self._keep_text(server, raw)
        self._role(server, report, now)
        check_announced(self._state, server)
        learn(server)
        if self._state.comparisons.active:
            self._state.comparisons.reported(server, report.role, now)
        if tilt or not isinstance(server, Replica):
            return
        if report.role == Role.MASTER.value:
            if not self._failovers.promotion_seen(server, now):
                self._convert(server, now)
        elif report.role == Role.REPLICA.value:
            self._repair(server, now)
            self._reconfiguration.sync_seen(server, now)

    def _identity(self, server: Server, report: InfoReport, now: Millis) -> None:
        run_id = report.run_id
        if run_id is None or run_id == server.run_id:
            return
        if server.run_id is not None:
            self._state.announce("+reboot", server)
            if isinstance(server, Master):
                if server.options.reboot_down_after:
                    server.rebooting_since = now
                self._restarts.restarted(server, server.data_set, report.data_set, now)
        server.run_id = run_id

    def pong(self, link: InstanceLink) -> None:
        """Handle a PONG: a restarted server is ready."""
        for server in link.instances:
            if isinstance(server, Server) and server.rebooting_since is not None:
                server.rebooting_since = None
                self._state.touch(server.master)

    def _keep_text(self, server: Server, raw: bytes) -> None:
        """Keep the text for ``SENTINEL INFO-CACHE``, unless all texts together would exceed ``Limits.info_texts``."""
        maximum = self._state.limits.info_texts
        kept = self._texts.keep(raw)
        self._added += len(kept)
        if self._counted + self._added > maximum and self._added > maximum // 16:
            servers = [each for each in self._registry.instances() if isinstance(each, Server) and each is not server]
            self._counted = sum(len(each.info_kept) for each in servers if each.info_kept is not None)
            self._added = len(kept)
        server.info_kept = kept if self._counted + self._added <= maximum else None

    def _replicas(self, master: Master, report: InfoReport, raw: bytes, now: Millis) -> None:
        limits = self._state.limits
        maximum, more = limits.replicas, limits.new_replicas
        known: set[tuple[str, str, int]] | None = None
        master.replicas_omitted = False
        for host, port in report.replicas[: 2 * maximum]:
            address = self._registry.address(host, port)
            if address is None:
                warn_ignored(self._state, master, f"a replica of {master.name}", host, port)
            if address is None or not 0 < port < 65536 or address.same(master.address):
                # A replica at the master's own address would be ordered to follow itself.
                continue
            if self._registry.is_replica_name(master, address):
                continue
            if known is None:
                known = {place for replica in master.replicas.values() for place in replica.address.match_keys}
            if not known.isdisjoint(address.match_keys):
                continue
            if master.membership.tombstones and self._forgetting.keeps_away(master, address, raw, now):
                continue
            if not more:
                master.replicas_omitted = True
                return
            if len(master.replicas) >= maximum:
                if master.name not in self._too_many_logged:
                    self._too_many_logged[master.name] = None
                    self._state.note(Level.WARNING, f"No more than {maximum} replicas of {master.name} are monitored")
                return
            replica = self._registry.add_replica(master, address, now)
            if replica is not None:
                more -= 1
                known.update(address.match_keys)
                self._state.changed(master)
                self._state.announce("+slave", replica)
        self._too_many_logged.pop(master.name, None)

    @staticmethod
    def _replication(replica: Replica, report: InfoReport, now: Millis) -> None:
        replica.master_link_down_for = report.master_link_down_for
        if report.role != Role.REPLICA.value:
            return
        where = (report.master_host, report.master_port)
        if report.master_host is not None and where != (replica.master_host, replica.master_port):
            replica.master_host, replica.master_port = report.master_host, report.master_port or 0
            replica.replication_changed_at = now
        if report.master_link_up is not None:
            replica.master_link_up = report.master_link_up
            if report.master_link_up:
                replica.linked_at = now
        if report.priority is not None:
            replica.priority = report.priority
        if report.repl_offset is not None:
            replica.repl_offset = report.repl_offset
        if report.announced is not None:
            replica.announced = report.announced

    def _role(self, server: Server, report: InfoReport, now: Millis) -> None:
        if report.role is None:
            return
        role = Role(report.role)
        postponed, server.role_change_postponed = server.role_change_postponed, False
        if role is server.role_reported:
            if postponed:
                self._announce_role(server, role, report)
            return
        server.role_reported, server.role_reported_at = role, now
        if role is Role.REPLICA:
            server.replication_changed_at = now
        failover = server.failover if isinstance(server, Master) else None
        if failover is not None and role is Role.REPLICA:
            if failover.state in PROMOTION_SEEN or failover.handover_ordered:
                # This Sentinel ordered it to follow the new master. C Sentinels do so after the switch, as a replica.
                return
        if role is not self._expected(server) and self._led_by_another(server.master, now):
            # A hello with the new address will arrive, most likely before a C Sentinel would have sent INFO. Publish
            # the event only if the next INFO reports the same.
            server.role_change_postponed = True
        elif not postponed:
            self._announce_role(server, role, report)

    @staticmethod
    def _expected(server: Server) -> Role:
        return Role.REPLICA if isinstance(server, Replica) else Role.MASTER

    def _led_by_another(self, master: Master, now: Millis) -> bool:
        """Whether this Sentinel has just voted for another one to lead a failover of ``master``."""
        if master.leader in (None, self._state.options.my_id) or master.voted_at is None:
            return False
        return now - master.voted_at <= self._state.timings.election_timeout

    def _announce_role(self, server: Server, role: Role, report: InfoReport) -> None:
        channel = "+role-change" if role is self._expected(server) else "-role-change"
        self._state.announce(channel, server, f"new reported role is {role.value}")
        if isinstance(server, Master) and role is Role.REPLICA and server.failover is None:
            follows = f"{excerpt(report.master_host or '?')} port {report.master_port or 0}"
            text = f"{server.name} at {server.address.joined()} is a replica of {follows}: monitor that one"
            self._state.note(Level.WARNING, text)

    def _convert(self, replica: Replica, now: Millis) -> None:
        """Order a replica that reports to be a master, such as an old master that is up again, to follow the master."""
        # While its writes are held, its clients wait for the order, and its address is known to be outdated.
        held = replica.link.lease is not None or replica.link.held_elsewhere_until is not None
        wait = LEASE_PERIOD // 2 if held else 4 * self._state.timings.publish_period
        if replica.master.failover is not None or is_hands_off(self._state, replica.master.name, now):
            return
        if self._is_correctable(replica, wait, now) and now - replica.role_reported_at > wait:
            self._send(replica, "+convert-to-slave", now)

    def _repair(self, replica: Replica, now: Millis) -> None:
        """Order a replica that follows another server, or is stuck in its own FAILOVER, to follow the master."""
        timeout = replica.master.options.failover_timeout
        if replica.master.failover is not None or is_hands_off(self._state, replica.master.name, now):
            return
        if replica.server_failover is True and now - replica.server_failover_changed_at > timeout:
            if self._is_correctable(replica, timeout, now):
                self._send(replica, "+fix-slave-config", now)
                replica.server_failover_changed_at = now
        elif replica.master_host is not None and not replica.follows(replica.master.address):
            if self._is_correctable(replica, timeout, now) and now - replica.replication_changed_at > timeout:
                self._send(replica, "+fix-slave-config", now)

    def _send(self, replica: Replica, channel: str, now: Millis) -> None:
        if not replica.link.commands_up:
            return
        address: Address = replica.master.address
        # Restart its clock, so that the order is not repeated sooner than after the same period.
        replica.role_reported_at = replica.replication_changed_at = now
        if not may_be_ordered(self._state, self._registry, replica):
            return
        self._switching.await_info(replica, now)
        self._state.emit(self._switching.role_change(replica, address))
        self._switching.record_follow_order(replica, address, now)
        self._state.announce(channel, replica)

    def _is_correctable(self, replica: Replica, period: Millis, now: Millis) -> bool:
        """Whether the master is up with recent INFO, and the replica has not gone down within ``period``."""
        master = replica.master
        refreshed = master.info_refreshed_at
        if master.role_reported is not Role.MASTER or master.is_down or refreshed is None:
            return False
        if now - refreshed >= 2 * self._state.timings.info_period:
            return False
        return replica.down_started_at is None or now - replica.down_started_at > period
