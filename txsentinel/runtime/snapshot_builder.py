"""
Makes the frozen copies of masters from the state of the core.

A snapshot has no ages, so it stays valid until something happens. Few of its fields change by the passing of time
alone: whether replicas are fit, and the number of voters. :class:`Assessment` has these, and until when they are valid.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from txsentinel.config.guards import guard_fields
from txsentinel.core import deadlines
from txsentinel.core.durable_records import ALL_MASTERS, HeldRecord
from txsentinel.core.instances import Instance, Master, Peer, Replica, Server
from txsentinel.core.options import MasterOptions
from txsentinel.core.pause_guarantee import Guarantee
from txsentinel.core.pause_rules import pause_of, scope_of
from txsentinel.core.quorum import reachable_sentinels, usable_sentinels, votes_needed
from txsentinel.core.selection import (
    MAX_INFO_PERIODS,
    MAX_INFO_PERIODS_DOWN,
    MAX_SILENT_PERIODS,
    order_of_promotion,
    unfit_because,
)
from txsentinel.core.sentinel import SentinelCore
from txsentinel.model.address import Address
from txsentinel.model.explanation import UnfitCode, VerdictCode
from txsentinel.model.failure import LinkFailure
from txsentinel.model.snapshots import (
    Endpoint,
    FailoverSnapshot,
    FailureReport,
    Instant,
    MasterSettings,
    MasterSnapshot,
    PausedSentinel,
    PauseSnapshot,
    PeerSnapshot,
    ProbeTimes,
    ReplicaSnapshot,
)
from txsentinel.model.timings import Millis, Timings
from txsentinel.server.reports import flags, master_status

NEVER: Final[Millis] = sys.maxsize

UNFIT_TEXTS: Final = {
    UnfitCode.DOWN: "it is down",
    UnfitCode.DISCONNECTED: "it is not connected",
    UnfitCode.PING_REFUSED: "it answers PING with an error",
    UnfitCode.SILENT: "it gives no sign of life",
    UnfitCode.SILENT_SINCE_FAILURE: "it has not answered since its master went down",
    UnfitCode.PRIORITY_ZERO: "its priority is 0",
    UnfitCode.PROMOTION_REFUSED: "it refused its promotion",
    UnfitCode.NO_INFO: "it has not answered INFO yet",
    UnfitCode.STALE_INFO: "its INFO is too old",
    UnfitCode.MASTER_LINK_DOWN_TOO_LONG: "it was without its master for too long",
    UnfitCode.FOREIGN_LINEAGE: "its replication history is not that of its master",
    UnfitCode.PARKED: "it is parked",
    UnfitCode.EMPTY_AFTER_REBOOT: "it copied the data set of its master, which restarted without data",
}
"""The reasons without ages; explanations have those."""

_ENDED_BY_INPUT: Final = frozenset(
    {
        UnfitCode.DOWN,
        UnfitCode.DISCONNECTED,
        UnfitCode.PING_REFUSED,
        UnfitCode.PRIORITY_ZERO,
        UnfitCode.NO_INFO,
        UnfitCode.FOREIGN_LINEAGE,
        UnfitCode.EMPTY_AFTER_REBOOT,
    }
)
"""Reasons that end only with an input that the core reports as a change; replies to PING are none."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What changes by the passing of time; two with the same values may differ in ``valid_until``."""

    unfit: tuple[UnfitCode | None, ...]
    """For each replica why it is unfit, ``None`` for fit ones."""

    would_promote: str | None
    voters: int
    voters_needed: int
    verdict: VerdictCode
    pause: tuple[HeldRecord, Guarantee] | None
    valid_until: Millis
    """The values cannot change before then without a reported change of the master."""

    def same_as(self, other: Assessment) -> bool:
        """Whether the values are the same."""
        return (
            self.unfit == other.unfit
            and self.would_promote == other.would_promote
            and self.voters == other.voters
            and self.voters_needed == other.voters_needed
            and self.verdict is other.verdict
            and self._pause_shown() == other._pause_shown()
        )

    def _pause_shown(self) -> object:
        return None if self.pause is None else (self.pause[0], self.pause[1].shown)


def verdict_of(core: SentinelCore, master: Master, now: Millis) -> tuple[VerdictCode, Millis]:
    """
    Return the verdict on a master in one word, and until when it is valid unless a change is reported.

    For nearly every master few fields show that it is healthy. That a failover would be delayed for a moment, because
    the whole group was unreachable, is not looked for while the master is up.
    """
    if core.tilt.active:
        return VerdictCode.TILT, NEVER
    if master.sdown_since is not None or master.failover is not None:
        # It depends on what changes with each probe.
        return core.verdict(master, now), now
    if not master.link.refusals and not len(core.records) and now > deadlines.next_attempt(master):
        return VerdictCode.HEALTHY, NEVER
    code, until = core.verdict_until(master, now)
    return code, NEVER if until is None else until


def assess(core: SentinelCore, master: Master, now: Millis) -> Assessment:
    """Determine what changes by the passing of time."""
    timings = core.timings
    verdict, valid_until = verdict_of(core, master, now)
    if master.unconfirmed:
        valid_until = now
    unfit: list[UnfitCode | None] = []
    best: Replica | None = None
    for replica in master.replicas.values():
        reason = unfit_because(replica, master, timings, now)
        if reason is None:
            unfit.append(None)
            valid_until = min(valid_until, _fit_until(replica, master, timings))
            if best is None or order_of_promotion(replica) < order_of_promotion(best):
                best = replica
        else:
            unfit.append(reason.code)
            if reason.code not in _ENDED_BY_INPUT:
                valid_until = now
    held = pause_of(core.state, master.name, now)
    if held is not None:
        valid_until = now
    return Assessment(
        tuple(unfit),
        None if best is None else best.name,
        master.voters,
        votes_needed(master),
        verdict,
        None if held is None else (held, core.pauses.guarantee(master, now)),
        valid_until,
    )


def _fit_until(replica: Replica, master: Master, timings: Timings) -> Millis:
    """Return when a replica that is fit ceases to be, unless it answers or something else changes before."""
    silence = MAX_SILENT_PERIODS * timings.ping_period
    freshness = MAX_INFO_PERIODS * timings.info_period
    if master.sdown_since is not None:
        freshness = MAX_INFO_PERIODS_DOWN * timings.ping_period
    refreshed = replica.info_refreshed_at or 0
    return min(replica.link.available_at + silence, refreshed + freshness) + 1


def valid_until_now(core: SentinelCore, master: Master, assessment: Assessment, now: Millis) -> Millis:
    """
    Return until when an assessment is valid, given the replies that have arrived since it was made.

    It must be called only if no change of the master was reported meanwhile.

    :returns: ``now`` if the assessment must be made anew.
    """
    if master.unconfirmed or assessment.verdict is not VerdictCode.HEALTHY:
        return now
    valid_until = NEVER
    for replica, unfit in zip(master.replicas.values(), assessment.unfit, strict=True):
        if unfit is None:
            valid_until = min(valid_until, _fit_until(replica, master, core.timings))
        elif unfit not in _ENDED_BY_INPUT:
            return now
    return max(valid_until, now)


class SnapshotBuilder:
    """
    Makes snapshots of the masters of one core.

    :param offset: milliseconds from the host's monotonic clock to the wall clock.
    """

    def __init__(self, core: SentinelCore, offset: Millis) -> None:
        self._core = core
        self._offset = offset

    @property
    def offset(self) -> Millis:
        """Milliseconds from the monotonic clock to the wall clock."""
        return self._offset

    def instant(self, at: Millis) -> Instant:
        """Return a time of the monotonic clock as one of the wall clock."""
        return Instant(at + self._offset)

    def instant_or_none(self, at: Millis | None) -> Instant | None:
        """Return the same for a time that may be unknown."""
        return None if at is None else Instant(at + self._offset)

    def master(self, master: Master, assessment: Assessment, revision: int) -> MasterSnapshot:
        """Return a snapshot of a master with its replicas and peers; address and epoch are those that are durable."""
        state, link = self._core.state, master.link
        address = state.durable_address(master)
        data_set = master.data_set
        peers = tuple(self._peer(peer) for peer in master.peers.values())
        return MasterSnapshot(
            name=master.name,
            revision=revision,
            address=self.endpoint(address),
            run_id=master.run_id,
            flags=_flags(master),
            status=master_status(master),
            sdown_since=self.instant_or_none(master.sdown_since),
            odown_since=self.instant_or_none(master.odown_since),
            connected=link.commands_up,
            failure=self._failure(link.failure),
            role_reported=master.role_reported.value,
            config_epoch=state.durable_config_epoch(master),
            switched_at=self.instant_or_none(master.switched_at),
            offset=None if data_set is None else data_set.offset,
            replid=None if data_set is None else data_set.replid,
            voters=assessment.voters,
            voters_reachable=reachable_sentinels(master),
            voters_needed=assessment.voters_needed,
            ok_replicas=sum(not replica.is_down for replica in master.replicas.values()),
            ok_sentinels=usable_sentinels(master),
            failover=self._failover(master),
            settings=_settings(master.options),
            replicas=tuple(
                self._replica(replica, unfit, assessment.would_promote)
                for replica, unfit in zip(master.replicas.values(), assessment.unfit, strict=True)
            ),
            peers=peers,
            verdict=assessment.verdict.value,
            pause=None if assessment.pause is None else self._pause(master, *assessment.pause),
        )

    def _pause(self, master: Master, held: HeldRecord, guarantee: Guarantee) -> PauseSnapshot:
        record, free = held.record, {each.sentinel_id: each.why for each in guarantee.free}
        leased = {peer_id for peer_id, _ in guarantee.leased}
        return PauseSnapshot(
            until=self.instant(held.until),
            scope=scope_of(held),
            by=record.by,
            reason=record.reason,
            requested_at=Instant(record.requested_unix),
            request_id=record.request_id,
            all_masters=record.key.master == ALL_MASTERS,
            guaranteed=guarantee.guaranteed,
            obstacle=guarantee.obstacle,
            sentinels=tuple(
                PausedSentinel(
                    sentinel_id=peer.name,
                    address=self.endpoint(peer.address),
                    state="leased" if peer.name in leased else "free" if peer.name in free else "paused",
                    why=free.get(peer.name),
                )
                for peer in master.peers.values()
            ),
        )

    def endpoint(self, address: Address) -> Endpoint:
        """Return an address as clients get it; a name that is not resolved as the name."""
        return Endpoint(address.announced(self._core.options.announce_hostnames) or address.hostname, address.port)

    def probe_times(self, master: Master) -> Mapping[str, ProbeTimes]:
        """Return the times of the last answers of a master, its replicas and its peers, by name."""
        instances: list[Instance] = [master, *master.replicas.values(), *master.peers.values()]
        return {instance.name: self._times(instance) for instance in instances}

    def _times(self, instance: Instance) -> ProbeTimes:
        link, started = instance.link, instance.link.created_at
        return ProbeTimes(
            # The core starts both clocks when the link is made.
            last_ok_ping_at=None if link.available_at <= started else self.instant(link.available_at),
            last_reply_at=None if link.last_reply_at <= started else self.instant(link.last_reply_at),
            info_at=self.instant_or_none(instance.info_refreshed_at) if isinstance(instance, Server) else None,
            last_hello_at=(
                self.instant(instance.hello_received_at)
                if isinstance(instance, Peer) and instance.hello_received_at > instance.created_at
                else None
            ),
        )

    def _failure(self, failure: LinkFailure | None) -> FailureReport | None:
        if failure is None:
            return None
        return FailureReport(failure.failure_class.value, failure.error, self.instant(failure.at))

    def _failover(self, master: Master) -> FailoverSnapshot | None:
        failover = master.failover
        if failover is None:
            return None
        return FailoverSnapshot(
            failover.state.value,
            failover.epoch,
            self.instant(failover.started_at),
            failover.forced and not failover.coordinated,
            failover.coordinated,
            None if failover.promoted is None else failover.promoted.name,
        )

    def _replica(self, replica: Replica, unfit: UnfitCode | None, would_promote: str | None) -> ReplicaSnapshot:
        link = replica.link
        down_for = replica.master_link_down_for
        return ReplicaSnapshot(
            name=replica.name,
            address=self.endpoint(replica.address),
            run_id=replica.run_id,
            flags=_flags(replica),
            sdown_since=self.instant_or_none(replica.sdown_since),
            connected=link.commands_up,
            failure=self._failure(link.failure),
            role_reported=replica.role_reported.value,
            master_address=None if replica.master_host is None else Endpoint(replica.master_host, replica.master_port),
            master_link_up=replica.master_link_up,
            master_link_down_ms=None if down_for < 0 else down_for,
            priority=replica.priority,
            offset=replica.repl_offset,
            lag_bytes=lag_of(replica),
            replid=None if replica.data_set is None else replica.data_set.replid,
            announced=replica.announced,
            fit=unfit is None,
            unfit_code=None if unfit is None else unfit.value,
            unfit_text=None if unfit is None else UNFIT_TEXTS[unfit],
            would_be_promoted=replica.name == would_promote,
        )

    def _peer(self, peer: Peer) -> PeerSnapshot:
        link = peer.link
        return PeerSnapshot(
            sentinel_id=peer.name,
            address=self.endpoint(peer.address),
            kind="txsentinel" if peer.is_txsentinel else "c",
            flags=_flags(peer),
            sdown_since=self.instant_or_none(peer.sdown_since),
            connected=link.commands_up,
            failure=self._failure(link.failure),
            reports_master_down=peer.reports_master_down,
            voted_leader=peer.voted_leader,
            voted_epoch=peer.voted_leader_epoch,
            acknowledges=peer.acknowledges if peer.is_txsentinel else None,
        )


def _flags(instance: Instance) -> tuple[str, ...]:
    return tuple(flags(instance).split(","))


def lag_of(replica: Replica) -> int | None:
    """
    Return by how many bytes a replica is behind its master, according to the latest INFO of both.

    ``None`` if one of them has not reported its replication history, or if they have different ones.
    """
    ours, theirs = replica.data_set, replica.master.data_set
    if ours is None or theirs is None or theirs.replid not in (ours.replid, ours.replid2):
        return None
    # The INFO of the replica may be the later one.
    return max(0, theirs.offset - replica.repl_offset)


def _settings(options: MasterOptions) -> MasterSettings:
    return MasterSettings(
        quorum=options.quorum,
        down_after_ms=options.down_after,
        failover_timeout_ms=options.failover_timeout,
        parallel_syncs=options.parallel_syncs,
        reboot_down_after_ms=options.reboot_down_after,
        notification_script=options.notification_script,
        client_reconfig_script=options.client_reconfig_script,
        auth_user=options.auth_user,
        auth_pass_set=options.auth_pass is not None,
        renamed_commands=tuple(sorted(options.renamed_commands.items())),
        guards=tuple((word, str(value)) for word, value in guard_fields(options.guards, options.down_after).items()),
    )
