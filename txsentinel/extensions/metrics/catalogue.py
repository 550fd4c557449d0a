"""All metrics: their names, types, labels and meaning."""

from __future__ import annotations

from typing import Final

from txsentinel.extensions.metrics.format import Family, Kind
from txsentinel.model.timings import Millis

PHASE_BOUNDS: Final[tuple[Millis, ...]] = (
    *(5, 10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 180_000),
)
"""Upper bounds of the buckets for phases of failovers, in milliseconds."""


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(f"txsentinel_{name}", Kind.GAUGE, text, labels)


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(f"txsentinel_{name}", Kind.COUNTER, text, labels)


def _histogram(name: str, text: str, *labels: str) -> Family:
    return Family(f"txsentinel_{name}", Kind.HISTOGRAM, text, labels)


# The Sentinel itself.

BUILD: Final = Family(
    "txsentinel_build", Kind.INFO, "Version of txsentinel and of Python.", ("version", "python", "compiled")
)
MASTERS: Final = _gauge("masters", "Monitored masters.")
EPOCH: Final = _gauge("current_epoch", "Highest known epoch.")
TILT_ACTIVE: Final = _gauge("tilt_active", "1 in TILT, in which the Sentinel decides nothing.")
STORAGE_FAILING: Final = _gauge("storage_failing", "1 if the last attempt to save the state failed.")
LAST_SWEEP: Final = _gauge("last_sweep_timestamp_seconds", "When time-dependent rules were last evaluated.")
CLIENTS: Final = _gauge("clients", "Connected clients.")
LINKS: Final = _gauge("links", "Links to servers and to other Sentinels.")
SCRIPTS_RUNNING: Final = _gauge("scripts_running", "Running scripts.")
SCRIPTS_WAITING: Final = _gauge("scripts_waiting", "Waiting scripts.")
COMMANDS: Final = _counter("commands", "Executed commands of clients.")
REJECTED: Final = _counter(
    "rejected_clients", "Connections that were rejected for lack of descriptors or by maxclients."
)
SCHEDULED: Final = _gauge("scheduled_operations", "Switchovers that are ordered for a later time.")
EVENTS: Final = _counter("events", "Events.", "channel")
TILTS: Final = _counter("tilt", "Entries into TILT, and extensions of it.", "cause")
TILT_SECONDS: Final = _counter("tilt_seconds", "Time spent in TILT, counted when TILT ends.", "cause")
COMMITS: Final = _counter("commits", "Successful writes of the state.")
COMMIT_FAILURES: Final = _counter("commit_failures", "Failed writes of the state.")
COMMIT_SECONDS: Final = _histogram("commit_seconds", "Duration of writes of the state, from rendering to fsync.")
LOOP_LAG: Final = _histogram("loop_lag_seconds", "How late periodic sweeps began.")
PING_SECONDS: Final = _histogram("ping_round_trip_seconds", "Time from PING to its reply.", "kind")
VOTE_SECONDS: Final = _histogram("vote_round_trip_seconds", "Time from a vote request to its reply.")
VOTES: Final = _counter("votes", "Answers to vote requests of other Sentinels.", "answer", "reason")
LINK_FAILURES: Final = _counter(
    "link_failures", "Lost connections, failed attempts, and beginnings of refusals.", "kind", "cause"
)
PUBLISHED: Final = _counter("publish", "Attempts of publishers that ended.", "publisher", "outcome")
PUBLISH_LAG: Final = _histogram(
    "publish_lag_seconds", "Time from the change of a master to its publication.", "publisher"
)
PUBLISH_PENDING: Final = _gauge("publish_pending", "Masters whose newest address is not published.", "publisher")

# Failovers.

FAILOVERS: Final = _counter("failovers", "Finished failovers.", "master", "kind", "outcome", "role")
PHASE_SECONDS: Final = _histogram("failover_phase_seconds", "Duration of the phases of successful failovers.", "phase")
RECEIPTS: Final = _counter(
    "switchover_receipts", "Ordered failovers, by whether it is proven that no write was lost.", "verdict"
)
WRITE_HOLD: Final = _histogram(
    "switchover_write_hold_seconds", "How long switchovers held the writes of the old master.", "method"
)
LOST_BYTES: Final = _counter(
    "lost_bytes", "Bytes of the replication stream that a former master had and its successor never received.", "master"
)
RECORDS: Final = _counter("history_records", "Records of failovers made by this process.")

# Masters.

MASTER: Final = Family(
    "txsentinel_master", Kind.INFO, "Address and run ID, to be joined by the name.", ("master", "address", "runid")
)
UP: Final = _gauge("master_up", "1 if this Sentinel considers the master up.", "master")
ODOWN: Final = _gauge("master_odown", "1 if the quorum of Sentinels agrees that the master is down.", "master")
PAUSED: Final = _gauge("master_paused", "1 if an operator has paused automatic failovers.", "master")
PAUSE_UNTIL: Final = _gauge("pause_until_timestamp_seconds", "When the pause ends.", "master")
PAUSE_GUARANTEED: Final = _gauge("pause_guaranteed", "1 if no failover is possible in the pause.", "master")
IN_PROGRESS: Final = _gauge("master_failover_in_progress", "1 if this Sentinel leads or begins a failover.", "master")
SWITCHED: Final = _gauge(
    "master_switched_timestamp_seconds",
    "When the master last moved to another address, seen by this process.",
    "master",
)
MASTER_EPOCH: Final = _gauge("master_config_epoch", "Config epoch of the master's address.", "master")
REPLICAS: Final = _gauge("replicas", "Known replicas.", "master")
REPLICAS_FIT: Final = _gauge("replicas_fit", "Replicas that could be promoted now.", "master")
REPLICA_UNFIT: Final = _gauge("replica_unfit", "Replicas that could not be promoted now.", "master", "reason")
REPLICA_LAG: Final = _gauge("replica_lag_bytes", "Bytes behind the master, by the latest INFO.", "master", "replica")
VOTERS: Final = _gauge("voters", "Known Sentinels, this one included.", "master")
REACHABLE: Final = _gauge("voters_reachable", "Sentinels that this one can reach, itself included.", "master")
NEEDED: Final = _gauge("voters_needed", "Sentinels needed for a failover: quorum or majority.", "master")
SURVIVABLE: Final = _gauge(
    "failures_survivable", "Sentinels that may fail with enough left for a failover; negative if too few.", "master"
)
DISAGREEING: Final = _gauge(
    "peers_disagreeing",
    "Other Sentinels that have something of the master differently.",
    "master",
    "about",
)

# The names of redis_exporter.

REDIS_MASTERS: Final = Family("redis_sentinel_masters", Kind.GAUGE, "Monitored masters.")
REDIS_TILT: Final = Family("redis_sentinel_tilt", Kind.GAUGE, "1 in TILT.")
REDIS_RUNNING: Final = Family("redis_sentinel_running_scripts", Kind.GAUGE, "Running scripts.")
REDIS_QUEUE: Final = Family("redis_sentinel_scripts_queue_length", Kind.GAUGE, "Running and waiting scripts.")
REDIS_SIMULATED: Final = Family("redis_sentinel_simulate_failure_flags", Kind.GAUGE, "Bits of simulated failures.")

_REDIS_LABELS: Final = ("master_name", "master_address")


def _redis(name: str, text: str, *labels: str) -> Family:
    return Family(f"redis_sentinel_master_{name}", Kind.GAUGE, text, labels or _REDIS_LABELS)


REDIS_STATUS: Final = _redis("status", "1 if the master is ok.", *_REDIS_LABELS, "master_status")
REDIS_SLAVES: Final = _redis("slaves", "Known replicas.")
REDIS_SENTINELS: Final = _redis("sentinels", "Known Sentinels, this one included.")
REDIS_OK_SLAVES: Final = _redis("ok_slaves", "Replicas that are not down.")
REDIS_OK_SENTINELS: Final = _redis("ok_sentinels", "Sentinels that are not down, this one included.")
REDIS_CKQUORUM: Final = _redis("ckquorum_status", "1 if SENTINEL CKQUORUM answers OK.", "master_name", "message")
REDIS_QUORUM: Final = _redis("setting_ckquorum", "The quorum.")
REDIS_FAILOVER_TIMEOUT: Final = _redis("setting_failover_timeout", "failover-timeout in milliseconds.")
REDIS_PARALLEL_SYNCS: Final = _redis("setting_parallel_syncs", "parallel-syncs.")
REDIS_DOWN_AFTER: Final = _redis("setting_down_after_milliseconds", "down-after-milliseconds.")
REDIS_EPOCH: Final = _redis("config_epoch", "Config epoch of the master's address.")
REDIS_REPLY_AGE: Final = _redis("last_ok_ping_reply_seconds", "Time since the last acceptable reply.")
REDIS_PEER: Final = Family(
    "redis_sentinel_peer",
    Kind.INFO,
    "Another Sentinel of the master.",
    (*_REDIS_LABELS, "name", "ip", "port", "runid", "flags"),
)

# The process, as client libraries name it.

CPU_SECONDS: Final = Family("process_cpu_seconds", Kind.COUNTER, "User and system CPU time.")
RESIDENT: Final = Family("process_resident_memory_bytes", Kind.GAUGE, "Resident memory.")
VIRTUAL: Final = Family("process_virtual_memory_bytes", Kind.GAUGE, "Virtual memory.")
OPEN_FDS: Final = Family("process_open_fds", Kind.GAUGE, "Open file descriptors.")
MAX_FDS: Final = Family("process_max_fds", Kind.GAUGE, "Limit of open file descriptors.")
START_TIME: Final = Family("process_start_time_seconds", Kind.GAUGE, "Start of the process.")

SENTINEL_FAMILIES: Final = (
    *(
        BUILD,
        MASTERS,
        EPOCH,
        TILT_ACTIVE,
        STORAGE_FAILING,
        LAST_SWEEP,
        CLIENTS,
        LINKS,
        SCRIPTS_RUNNING,
        SCRIPTS_WAITING,
    ),
    *(COMMANDS, REJECTED, SCHEDULED, EVENTS, TILTS, TILT_SECONDS, COMMITS, COMMIT_FAILURES, COMMIT_SECONDS, LOOP_LAG),
    *(PING_SECONDS, VOTE_SECONDS, VOTES, LINK_FAILURES, PUBLISHED, PUBLISH_LAG, PUBLISH_PENDING),
)
FAILOVER_FAMILIES: Final = (FAILOVERS, PHASE_SECONDS, RECEIPTS, WRITE_HOLD, LOST_BYTES, RECORDS)
MASTER_FAMILIES: Final = (
    *(
        MASTER,
        UP,
        ODOWN,
        PAUSED,
        PAUSE_UNTIL,
        PAUSE_GUARANTEED,
        IN_PROGRESS,
        SWITCHED,
        MASTER_EPOCH,
        REPLICAS,
        REPLICAS_FIT,
    ),
    *(REPLICA_UNFIT, REPLICA_LAG, VOTERS, REACHABLE, NEEDED, SURVIVABLE),
)
PEER_FAMILIES: Final = (DISAGREEING,)
REDIS_MASTER_FAMILIES: Final = (
    *(REDIS_STATUS, REDIS_SLAVES, REDIS_SENTINELS, REDIS_OK_SLAVES, REDIS_OK_SENTINELS, REDIS_CKQUORUM, REDIS_QUORUM),
    *(REDIS_FAILOVER_TIMEOUT, REDIS_PARALLEL_SYNCS, REDIS_DOWN_AFTER, REDIS_EPOCH, REDIS_PEER),
)
"""Those that change with the snapshot of the master; ``REDIS_REPLY_AGE`` changes with every reply."""

REDIS_SENTINEL_FAMILIES: Final = (REDIS_MASTERS, REDIS_TILT, REDIS_RUNNING, REDIS_QUEUE, REDIS_SIMULATED)
PROCESS_FAMILIES: Final = (CPU_SECONDS, RESIDENT, VIRTUAL, OPEN_FDS, MAX_FDS, START_TIME)

CATALOGUE: Final = (
    *SENTINEL_FAMILIES,
    *FAILOVER_FAMILIES,
    *PROCESS_FAMILIES,
    *PEER_FAMILIES,
    *MASTER_FAMILIES,
    *REDIS_SENTINEL_FAMILIES,
    *REDIS_MASTER_FAMILIES,
    REDIS_REPLY_AGE,
)
"""Every metric, in the order of the page."""
