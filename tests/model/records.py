"""Snapshots and the record of a failover for tests, of which each test replaces what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from txsentinel.model.history import (
    Acknowledgement,
    DataLoss,
    FailoverKind,
    FailoverRecord,
    LossVerdict,
    ObserverRole,
    Outcome,
    PhaseTime,
    ReplicaRecord,
    Resyncs,
    ServerRecord,
    VoterRecord,
    failover_group,
)
from txsentinel.model.snapshots import (
    Endpoint,
    FailureReport,
    Instant,
    MasterSettings,
    MasterSnapshot,
    PeerSnapshot,
    ReplicaSnapshot,
)

EPOCH: Final = Instant(1_760_000_000_000)
"""When everything in these snapshots happens."""

SETTINGS: Final = MasterSettings(2, 5000, 60_000, 1, 0, None, None, None, False, (), ())

REPLICA: Final = ReplicaSnapshot(
    name="10.0.0.2:6379",
    address=Endpoint("10.0.0.2", 6379),
    run_id="b" * 40,
    flags=("slave",),
    sdown_since=None,
    connected=True,
    failure=None,
    role_reported="slave",
    master_address=Endpoint("10.0.0.1", 6379),
    master_link_up=True,
    master_link_down_ms=0,
    priority=100,
    offset=5_215_869,
    lag_bytes=0,
    replid="c" * 40,
    announced=True,
    fit=True,
    unfit_code=None,
    unfit_text=None,
    would_be_promoted=True,
)

PEER: Final = PeerSnapshot(
    sentinel_id="1234567890" * 4,
    address=Endpoint("10.0.0.12", 26379),
    kind="c",
    flags=("sentinel",),
    sdown_since=None,
    connected=True,
    failure=None,
    reports_master_down=False,
    voted_leader=None,
    voted_epoch=0,
    acknowledges=None,
)

MASTER: Final = MasterSnapshot(
    name="mymaster",
    revision=1,
    address=Endpoint("10.0.0.1", 6379),
    run_id="a" * 40,
    flags=("master",),
    status="ok",
    sdown_since=None,
    odown_since=None,
    connected=True,
    failure=None,
    role_reported="master",
    config_epoch=7,
    switched_at=None,
    offset=5_215_869,
    replid="c" * 40,
    voters=2,
    voters_reachable=2,
    voters_needed=2,
    ok_replicas=1,
    ok_sentinels=2,
    failover=None,
    settings=SETTINGS,
    replicas=(REPLICA,),
    peers=(PEER,),
    verdict="healthy",
)

BEGIN: Final = 1_790_000_000_123
"""When the failover of the record began, in milliseconds since 1970."""

UNKNOWN: Final = DataLoss(LossVerdict.UNKNOWN, None, None, None, "not back")

RECORD: Final = FailoverRecord(
    record_id="01JE0000000000000000000000",
    group=failover_group("mymaster", 7),
    master="mymaster",
    kind=FailoverKind.AUTOMATIC,
    outcome=Outcome.SWITCHED,
    observer="a" * 40,
    observer_role=ObserverRole.LEADER,
    leader="a" * 40,
    cause="down",
    failure_class="refused",
    from_server=ServerRecord(Endpoint("10.0.0.1", 6379), "1" * 40, "2" * 40, 500, None),
    to_server=ServerRecord(Endpoint("fe80::2", 6379), "3" * 40, "2" * 40, 490, 100),
    epoch=7,
    config_epoch=7,
    phases=(PhaseTime("sdown", Instant(BEGIN), None), PhaseTime("switched", Instant(BEGIN + 1_900), 1_900)),
    voters=(VoterRecord("b" * 40, "c", Instant(BEGIN), None, None, None, "it gave no vote"),),
    replicas=(ReplicaRecord(Endpoint("10.0.0.3", 6379), 5, 495, 0, None, "priority_zero", "its priority is 0"),),
    chosen_because="it is the only fit replica",
    loss=UNKNOWN,
    resyncs=Resyncs(1, 0),
    clients_closed=3,
    operator=None,
    ack=Acknowledgement("alice", Instant(BEGIN), "disk"),
)


def replica(number: int, **changes: object) -> ReplicaSnapshot:
    """Return the replica ``10.0.0.<number>:6379``."""
    address = Endpoint(f"10.0.0.{number}", 6379)
    return replace(REPLICA, name=str(address), address=address, would_be_promoted=False, **changes)  # type: ignore[arg-type]


def down_master() -> MasterSnapshot:
    """Return a master that is down, with a chain of replicas, one of which is gone, and a Sentinel that voted."""
    return replace(
        MASTER,
        status="odown",
        sdown_since=EPOCH,
        odown_since=EPOCH,
        connected=False,
        failure=FailureReport("refused", "Connection refused", EPOCH),
        flags=("master", "s_down", "o_down", "disconnected"),
        replicas=(
            REPLICA,
            replica(3, lag_bytes=1_234_567, master_link_up=False, fit=False, unfit_text="priority 0", priority=0),
            replica(4, master_address=Endpoint("10.0.0.2", 6379), lag_bytes=17),
            replica(5, connected=False, sdown_since=EPOCH, fit=False, unfit_text="it is down", lag_bytes=None),
        ),
        peers=(
            replace(PEER, reports_master_down=True, voted_leader="f" * 40, voted_epoch=8),
            replace(PEER, address=Endpoint("::1", 26379), sentinel_id="9" * 40, connected=False, sdown_since=EPOCH),
        ),
    )
