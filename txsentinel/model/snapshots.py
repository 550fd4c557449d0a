"""
Frozen copies of the state of a Sentinel, for extensions, HTTP, metrics and the command line.

No object of the core leaves the Sentinel. Durations are in milliseconds and end in ``_ms``; points in time are
:class:`Instant`. ``None`` stands for what is not known, or does not apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from txsentinel.model.timings import Millis


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """A point in time on the wall clock, in milliseconds since 1970-01-01 UTC."""

    unix_ms: int

    def rfc3339(self) -> str:
        """Return the time in UTC as RFC 3339 with milliseconds."""
        moment = datetime.fromtimestamp(self.unix_ms // 1000, timezone.utc)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{self.unix_ms % 1000:03}Z"

    def __str__(self) -> str:
        """Return :meth:`rfc3339`."""
        return self.rfc3339()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Host and port as clients get them: a name with ``announce-hostnames yes``, else the IP."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``, with an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class FailureReport:
    """The latest failure of a link; ``failure_class`` is a word of ``FailureClass``."""

    failure_class: str
    error: str
    at: Instant


@dataclass(frozen=True, slots=True)
class TiltState:
    """TILT: ``cause`` and ``until`` are ``None`` outside of it; ``total`` counts since the start."""

    active: bool
    since: Instant | None
    until: Instant | None
    cause: str | None
    total: int


@dataclass(frozen=True, slots=True)
class StorageState:
    """
    Whether hard state can be saved.

    ``state`` is ``ok`` or ``failing``; ``pending`` the number of generations that are not durable yet.
    """

    state: str
    last_error: str | None
    generation: int
    durable_generation: int
    pending: int


@dataclass(frozen=True, slots=True)
class SentinelSnapshot:
    """This Sentinel itself."""

    version: str
    build: str
    """``compiled`` or ``pure``."""

    run_id: str
    sentinel_id: str
    pid: int
    started_at: Instant
    uptime_ms: Millis
    listens: tuple[str, ...]
    """``host:port`` of each port, or the path of a socket; ``tls://`` in front of TLS ports."""

    current_epoch: int
    tilt: TiltState
    storage: StorageState
    masters: int
    stopping: bool


@dataclass(frozen=True, slots=True)
class MasterSettings:
    """The settings of a master as plain values; secrets only as ``auth_pass_set``."""

    quorum: int
    down_after_ms: Millis
    failover_timeout_ms: Millis
    parallel_syncs: int
    reboot_down_after_ms: Millis
    notification_script: str | None
    client_reconfig_script: str | None
    auth_user: str | None
    auth_pass_set: bool
    renamed_commands: tuple[tuple[str, str], ...]
    guards: tuple[tuple[str, str], ...]
    """Setting and value as ``SENTINEL SET`` takes them."""


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """One replica of a master."""

    name: str
    address: Endpoint
    run_id: str | None
    flags: tuple[str, ...]
    """The words of ``flags`` in ``SENTINEL REPLICAS``."""

    sdown_since: Instant | None
    connected: bool
    failure: FailureReport | None
    role_reported: str
    master_address: Endpoint | None
    """The master that it reports to follow."""

    master_link_up: bool
    master_link_down_ms: Millis | None
    """``None`` if it never had the link."""

    priority: int
    offset: int
    lag_bytes: int | None
    """Bytes of the replication stream behind its master, by the latest INFO of both; ``None`` if not comparable."""

    replid: str | None
    announced: bool
    fit: bool
    unfit_code: str | None
    """A word of ``UnfitCode``."""

    unfit_text: str | None
    would_be_promoted: bool


@dataclass(frozen=True, slots=True)
class PeerSnapshot:
    """Another Sentinel of a master."""

    sentinel_id: str
    address: Endpoint
    kind: str
    """``txsentinel`` or ``c``."""

    flags: tuple[str, ...]
    sdown_since: Instant | None
    connected: bool
    failure: FailureReport | None
    reports_master_down: bool
    voted_leader: str | None
    voted_epoch: int
    acknowledges: bool | None
    """Whether it has our address and config epoch; ``None`` if that is not known, as of C Sentinels."""


@dataclass(frozen=True, slots=True)
class FailoverSnapshot:
    """A failover that this Sentinel leads or campaigns to lead."""

    state: str
    epoch: int
    started_at: Instant
    forced: bool
    coordinated: bool
    promoted: str | None
    """The name of the selected replica."""


@dataclass(frozen=True, slots=True)
class PausedSentinel:
    """
    What a pause means for another Sentinel.

    ``state`` is ``paused``; ``leased`` for a C Sentinel that starts no failover because of its vote; or ``free``.
    """

    sentinel_id: str
    address: Endpoint
    state: str
    why: str | None
    """Why it is free."""


@dataclass(frozen=True, slots=True)
class PauseSnapshot:
    """A pause of the automatic failovers of a master."""

    until: Instant
    scope: str
    """``failover``, or ``hands-off`` if no server is reconfigured either."""

    by: str
    reason: str
    requested_at: Instant
    request_id: str
    all_masters: bool
    """Whether it was ordered for all masters."""

    guaranteed: bool
    """Whether no failover is possible, except one that an operator orders."""

    obstacle: str | None
    """Why one is possible although too few Sentinels are free; ``None`` if that is not so."""

    sentinels: tuple[PausedSentinel, ...]


@dataclass(frozen=True, slots=True)
class MasterSnapshot:
    """
    One monitored master.

    Two snapshots with the same ``revision`` are equal. What changes with each probe, such as the age of the last PING
    reply, is not part of it; see ``ISentinelView.probe_times``.
    """

    name: str
    revision: int
    address: Endpoint
    """The address that clients get: durable, as of ``GET-MASTER-ADDR-BY-NAME``."""

    run_id: str | None
    flags: tuple[str, ...]
    status: str
    """``ok``, ``sdown`` or ``odown``."""

    sdown_since: Instant | None
    odown_since: Instant | None
    connected: bool
    failure: FailureReport | None
    role_reported: str
    config_epoch: int
    switched_at: Instant | None
    """When it last moved to another address, seen by this process."""

    offset: int | None
    replid: str | None
    voters: int
    """Known Sentinels, this one included."""

    voters_reachable: int
    voters_needed: int
    """The greater of majority and quorum."""

    ok_replicas: int
    ok_sentinels: int
    """Sentinels that are not down, this one included."""

    failover: FailoverSnapshot | None
    settings: MasterSettings
    replicas: tuple[ReplicaSnapshot, ...]
    peers: tuple[PeerSnapshot, ...]
    verdict: str
    """The code of the explanation of now; a word of ``VerdictCode``."""

    pause: PauseSnapshot | None = None


@dataclass(frozen=True, slots=True)
class ProbeTimes:
    """When an instance last answered; ``None`` if it never did, or does not answer that."""

    last_ok_ping_at: Instant | None
    last_reply_at: Instant | None
    info_at: Instant | None
    last_hello_at: Instant | None = None
    """When the last hello of another Sentinel arrived."""


@dataclass(frozen=True, slots=True)
class LoadState:
    """How busy the Sentinel is."""

    swept_at: Instant | None
    sweep_period_ms: Millis
    clients: int
    commands_processed: int
    rejected_connections: int
    pending_scripts: int
    running_scripts: int
    links: int
    simulated_failures: int
    """The bits of ``sentinel_simulate_failure_flags``."""

    scheduled_operations: int
    """Switchovers that are ordered for a later time."""


@dataclass(frozen=True, slots=True)
class MasterChange:
    """A new address of a master, delivered when it is durable."""

    master: str
    address: Endpoint
    previous: Endpoint | None
    config_epoch: int
    kind: str
    """``initial``, ``switch``, ``config-update`` or ``resync``."""

    at: Instant
    durable_generation: int
    trace_id: str
    """32 hexadecimal digits, equal on all Sentinels for one master and epoch."""


@dataclass(frozen=True, slots=True)
class ViewChange:
    """
    What a subscriber of ``ISentinelView`` gets.

    ``event`` is a published event of the Sentinel, ``master`` the name of the master whose snapshot changed. Either may
    be ``None``, not both.
    """

    master: str | None
    event: Any = None
    """A ``SentinelEvent``, or ``None`` for a change without an event."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who orders an operation: ``user`` is a user of the ACL."""

    user: str
    method: str
    """How the user logged in: ``none``, ``password``, ``token``, ``certificate``, ``local-socket`` or ``internal``."""

    origin: str
    """The address, or the name of the extension; for the log."""


@dataclass(frozen=True, slots=True)
class CommandRefusal:
    """
    Why a command is not executed.

    ``code`` is the first word of the error reply, such as ``NOPERM``; ``text`` the whole.
    """

    code: str
    text: str
