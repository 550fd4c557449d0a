"""What must hold before a switchover: all conditions are evaluated, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterator

from txsentinel.core.handover import MAX_PAUSE
from txsentinel.core.instances import InstanceLink, Master, Replica
from txsentinel.core.pause_rules import is_hands_off
from txsentinel.core.quorum import reachable_sentinels, votes_needed
from txsentinel.core.role import Role
from txsentinel.core.selection import select, unfit_because
from txsentinel.core.server_rights import NEEDED
from txsentinel.core.state import SentinelState
from txsentinel.core.switchover_state import Operation, SwitchoverOrder
from txsentinel.core.tilt import TiltGuard
from txsentinel.core.write_holding import FINAL_HOLD, MIN_FENCE, fence_period, hold_limit
from txsentinel.core.write_rejection import WriteRejections
from txsentinel.model.operations import Precondition, SwitchoverMethod, SwitchoverPlan
from txsentinel.model.snapshots import Endpoint
from txsentinel.model.timings import Millis


class SwitchoverConditions:
    """Evaluates the conditions of switchovers, and plans them."""

    def __init__(self, state: SentinelState, tilt: TiltGuard, rejections: WriteRejections) -> None:
        self._state = state
        self._rejections = rejections
        self._tilt = tilt

    def candidate(self, master: Master, order: SwitchoverOrder, now: Millis) -> Replica | None:
        """Return the replica that was named, else the best one; ``None`` if there is none."""
        if order.candidate is None:
            return select(master, self._state.timings, now)
        host, port = order.candidate
        for replica in master.replicas.values():
            address = replica.address
            if address.port == port and host.casefold() in (address.ip.casefold(), address.hostname.casefold()):
                return replica
        return None

    def unmet(self, master: Master, operation: Operation, now: Millis) -> list[Precondition]:
        """Return all conditions that are not met."""
        candidate = self.candidate(master, operation.order, now)
        found = [
            *self._of_sentinel(now),
            *self._of_group(master, operation, now),
            *self._of_candidate(master, candidate, operation.order, now),
        ]
        if candidate is not None:
            method, why = self.method(master, candidate, operation.order)
            if method is None:
                found.append(Precondition("not_permitted_on_server", why, master.address.joined()))
            elif method is SwitchoverMethod.FENCE and fence_period(master.options.down_after) < MIN_FENCE:
                period = fence_period(master.options.down_after)
                text = f"down-after-milliseconds permits to hold writes for {period} ms only, {MIN_FENCE} are needed"
                found.append(Precondition("down_after_too_short", text, None, period, MIN_FENCE))
        for server in (master, candidate):
            problem = None if server is None else self._rejections.problem(server, now)
            if server is not None and problem is not None:
                found.append(Precondition("rejects_writes", problem, server.address.joined()))
        return found

    def plan(self, master: Master, operation: Operation, now: Millis) -> SwitchoverPlan | None:
        """Return what the switchover would do; ``None`` if there is no candidate or no method."""
        order = operation.order
        candidate = self.candidate(master, order, now)
        if candidate is None:
            return None
        method, why = self.method(master, candidate, order)
        if method is None:
            return None
        by_hostname, down_after = self._state.options.announce_hostnames, master.options.down_after
        fence = method is SwitchoverMethod.FENCE
        rejected = order.max_pause + FINAL_HOLD
        return SwitchoverPlan(
            method,
            why,
            Endpoint(master.address.announced(by_hostname), master.address.port),
            Endpoint(candidate.address.announced(by_hostname), candidate.address.port),
            lag(master, candidate),
            hold_limit(order.max_pause, down_after) if fence else order.max_pause,
            FINAL_HOLD if fence else rejected if method is SwitchoverMethod.REJECT else order.max_pause + MAX_PAUSE,
            votes_needed(master),
            reachable_sentinels(master),
        )

    def method(self, master: Master, candidate: Replica, order: SwitchoverOrder) -> tuple[SwitchoverMethod | None, str]:
        """Return the method and why; ``None`` if no method is supported and permitted."""
        obstacles = {each: _obstacle(each, master, candidate) for each in NEEDED}
        wanted = order.method
        if wanted is not None:
            problem = obstacles.get(wanted, "this method is not supported")
            return (wanted, "it was named") if problem is None else (None, f"{wanted.value}: {problem}")
        reason = "it holds writes for the shortest time"
        if fence_period(master.options.down_after) < MIN_FENCE:
            period = fence_period(master.options.down_after)
            obstacles[SwitchoverMethod.FENCE] = f"down-after-milliseconds leaves {period} ms for it only"
        for method in (SwitchoverMethod.FENCE, SwitchoverMethod.HANDOVER):
            if obstacles[method] is None:
                return method, reason
            reason = f"{method.value} is not possible: {obstacles[method]}"
        possible = obstacles.pop(SwitchoverMethod.REJECT) is None
        text = "; ".join(f"{each.value}: {problem}" for each, problem in obstacles.items())
        return None, f"{text}; reject is possible if it is named" if possible else text

    def _of_sentinel(self, now: Millis) -> Iterator[Precondition]:
        if self._tilt.active:
            left = self._tilt.left(now)
            yield Precondition("tilt", f"this Sentinel is in TILT for another {left} ms", None, left, 0)
        if self._state.storage_error is not None:
            yield Precondition("storage_failing", str(self._state.storage_error))

    def _of_group(self, master: Master, operation: Operation, now: Millis) -> Iterator[Precondition]:
        expect = operation.order.expect
        if expect is not None:
            address = master.published_address
            host = address.announced(self._state.options.announce_hostnames)
            found = (host, address.port, master.config_epoch)
            same = address.port == expect.port and expect.host.casefold() in (
                address.ip.casefold(),
                address.hostname.casefold(),
            )
            if not same or master.config_epoch != expect.epoch:
                text = f"the master is {found[0]}:{found[1]} in config epoch {found[2]}"
                expected = f"{text}, not {expect.host}:{expect.port} in {expect.epoch}"
                yield Precondition("expectation_failed", expected, None, master.config_epoch, expect.epoch)
        if master.failover is not None and not master.failover.republish:
            state = master.failover.state.value
            yield Precondition("failover_in_progress", f"a failover is in progress here: {state}")
        other = self._state.operations.pending.get(master.name)
        if other is not None and other is not operation:
            yield Precondition("operation_pending", f"operation {other.order.operation_id} has not ended")
        if is_hands_off(self._state, master.name, now):
            yield Precondition("paused", "a pause with the scope hands-off is in force: no server is reconfigured")
        down_since = master.sdown_since
        if down_since is not None:
            down = now - down_since
            yield Precondition("master_not_healthy", f"the master is down here for {down} ms", None, down, 0)
        if master.role_reported is not Role.MASTER:
            text = f"the master reports the role {master.role_reported.value}"
            yield Precondition("master_not_healthy", text, master.address.joined())
        if not master.link.commands_up:
            yield Precondition("master_not_healthy", "the master is not connected", master.address.joined())
        elsewhere = sum(1 for peer in master.peers.values() if peer.reports_master_down)
        if elsewhere:
            text = f"{elsewhere} other Sentinels report the master down"
            yield Precondition("master_not_healthy", text, None, elsewhere, 0)
        reachable, needed = reachable_sentinels(master), votes_needed(master)
        if reachable < needed:
            text = f"{reachable} of {master.voters} Sentinels can be reached, {needed} votes are needed"
            yield Precondition("no_majority", text, None, reachable, needed)

    def _of_candidate(
        self, master: Master, candidate: Replica | None, order: SwitchoverOrder, now: Millis
    ) -> Iterator[Precondition]:
        if candidate is None:
            if order.candidate is not None:
                host, port = order.candidate
                yield Precondition("candidate_unfit", "it is no replica of this master", f"{host}:{port}")
                return
            if not master.replicas:
                yield Precondition("candidate_unfit", "the master has no replica")
            for replica in master.replicas.values():
                reason = unfit_because(replica, master, self._state.timings, now)
                if reason is not None:
                    yield Precondition("candidate_unfit", reason.text, replica.name, reason.measured, reason.limit)
            return
        reason = unfit_because(candidate, master, self._state.timings, now)
        if reason is not None:
            yield Precondition("candidate_unfit", reason.text, candidate.name, reason.measured, reason.limit)
        if not candidate.master_link_up:
            text = f"its link to the master is down for {candidate.master_link_down_for} ms"
            yield Precondition("candidate_unfit", text, candidate.name, candidate.master_link_down_for, 0)
        elif not candidate.follows(master.address):
            text = f"it follows {candidate.master_host}:{candidate.master_port}"
            yield Precondition("candidate_unfit", text, candidate.name)
        ours, theirs = candidate.data_set, master.data_set
        if ours is None or theirs is None:
            yield Precondition("candidate_unfit", "the replication IDs are not known yet", candidate.name)
        elif ours.replid != theirs.replid:
            text = f"its replication ID is {ours.replid}, that of the master {theirs.replid}"
            yield Precondition("candidate_unfit", text, candidate.name)
        behind = lag(master, candidate)
        if behind > order.max_lag:
            text = f"it is {behind} bytes behind, {order.max_lag} are permitted"
            yield Precondition("lag", text, candidate.name, behind, order.max_lag)


def lag(master: Master, candidate: Replica) -> int:
    """Return how many bytes the candidate lacks, as of the latest INFO of both."""
    return 0 if master.data_set is None else max(0, master.data_set.offset - candidate.repl_offset)


def _obstacle(method: SwitchoverMethod, master: Master, candidate: Replica) -> str | None:
    """Return why ``method`` cannot be used; ``None`` if it can."""
    if method is SwitchoverMethod.HANDOVER and master.server_failover is None:
        return "the master does not support FAILOVER"
    if method is not SwitchoverMethod.REJECT and master.server_failover is None and (master.major_version or 0) < 7:
        return "the master does not support CLIENT PAUSE WRITE, which needs version 6.2"
    needed_of_old, needed_of_new = NEEDED[method]
    denied = [*_denied(master.link, needed_of_old), *_denied(candidate.link, needed_of_new)]
    return "; ".join(denied) if denied else None


def _denied(link: InstanceLink, needed: tuple[str, ...]) -> Iterator[str]:
    """Yield the commands that the server of ``link`` denies according to its last test."""
    if link.rights is not None:
        for command in needed:
            error = link.rights.denied.get(command)
            if error is not None:
                yield f"{link.address.joined()} answers {command} with {error}"
