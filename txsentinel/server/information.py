"""The text of INFO: five sections in a fixed order, whatever the order in the request."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from txsentinel.server.process_info import REDIS_VERSION
from txsentinel.server.reports import master_status
from txsentinel.server.steps import portions
from txsentinel.wire.resp import data

if TYPE_CHECKING:
    from txsentinel.server.services import InformationServices

Fields: TypeAlias = Iterator["tuple[str, object] | None"]
"""Yields names with values; ``None`` marks a step without a result."""

EVERYTHING: Final = frozenset({b"all", b"default", b"everything"})
MILLIS_PER_DAY: Final = 86_400_000
CRASH_BITS: Final = {"crash-after-election": 1, "crash-after-promotion": 2}
LRU_CLOCK_BITS: Final = 24


def information(services: InformationServices, request: Sequence[bytes]) -> Generator[bytes, None, bytes]:
    """
    Return the named sections, or all without a name. Works in steps.

    Names match in any letter case. Unknown names are ignored.
    """
    names: set[bytes] = set()
    for portion in portions(request, 1):
        names.update(name for name in map(bytes.lower, portion) if name in EVERYTHING or name in TITLES)
        yield b""
    whole = len(request) == 1 or not names.isdisjoint(EVERYTHING)
    texts = []
    for title, fields in SECTIONS:
        if whole or title.lower().encode() in names:
            lines = []
            for field in fields(services):
                if field is not None:
                    lines.append(f"{field[0]}:{field[1]}\r\n")
                yield b""
            texts.append(f"# {title}\r\n{''.join(lines)}")
    return data("\r\n".join(texts))


def server_fields(services: InformationServices) -> Fields:
    """Yield the fields of the section about the process and the machine."""
    options, process_info, host = services.options, services.process_info, services.host
    up_for = host.now() - services.started_at
    wall = host.wall_clock()
    yield "redis_version", REDIS_VERSION
    yield "server_name", "txsentinel"
    yield "txsentinel_version", process_info.version
    yield "txsentinel_build", process_info.build
    yield "redis_git_sha1", "00000000"
    yield "redis_git_dirty", 0
    yield "redis_build_id", "0"
    yield "redis_mode", "sentinel"
    yield "os", process_info.system
    yield "arch_bits", process_info.word_size
    yield "monotonic_clock", "POSIX clock_gettime"
    yield "multiplexing_api", type(host.reactor).__name__.lower().removesuffix("reactor")
    yield "atomicvar_api", "none"
    yield "gcc_version", process_info.compiler
    yield "process_id", host.pid
    yield "process_supervised", options.supervised
    yield "run_id", process_info.run_id
    yield "tcp_port", options.port or options.tls_port
    yield "server_time_usec", int(wall * 1_000_000)
    yield "uptime_in_seconds", up_for // 1000
    yield "uptime_in_days", up_for // MILLIS_PER_DAY
    yield "hz", 10
    yield "configured_hz", 10
    yield "lru_clock", int(wall) & ((1 << LRU_CLOCK_BITS) - 1)
    yield "executable", process_info.executable
    yield "config_file", services.config_path
    yield "io_threads_active", 0
    yield "availability_zone", options.availability_zone
    yield from _listeners(services)


def _listeners(services: InformationServices) -> Fields:
    options = services.options
    addresses = "".join(f",bind={address}" for address in options.bind)
    if options.port:
        yield "listener0", f"name=tcp{addresses},port={options.port}"
    if options.unixsocket:
        yield "listener1", f"name=unix,bind={options.located(options.unixsocket)}"
    if options.tls_port:
        yield "listener2", f"name=tls{addresses},port={options.tls_port}"


def clients_fields(services: InformationServices) -> Fields:
    """Yield the fields of the section about clients."""
    count = max_input = max_output = paused = tracking = subscribed = 0
    for client in services.clients:
        count += 1
        max_input = max(max_input, client.connection.buffered)
        max_output = max(max_output, client.connection.unsent)
        paused += client.paused
        tracking += client.tracking is not None
        subscribed += client.subscriptions > 0
        yield None
    yield "connected_clients", count
    yield "cluster_connections", 0
    yield "maxclients", services.options.maxclients
    yield "client_recent_max_input_buffer", max_input
    yield "client_recent_max_output_buffer", max_output
    yield "blocked_clients", paused
    yield "tracking_clients", tracking
    yield "pubsub_clients", subscribed
    for name in (
        "watching_clients",
        "clients_in_timeout_table",
        "total_watched_keys",
        "total_blocking_keys",
        "total_blocking_keys_on_nokey",
    ):
        yield name, 0


_STATS = """
    total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes
    total_net_output_bytes total_net_repl_input_bytes total_net_repl_output_bytes instantaneous_input_kbps
    instantaneous_output_kbps instantaneous_input_repl_kbps instantaneous_output_repl_kbps rejected_connections
    sync_full sync_partial_ok sync_partial_err expired_subkeys expired_keys expired_stale_perc
    expired_time_cap_reached_count expire_cycle_cpu_milliseconds evicted_keys evicted_clients evicted_scripts
    total_eviction_exceeded_time current_eviction_exceeded_time keyspace_hits keyspace_misses pubsub_channels
    pubsub_patterns pubsubshard_channels latest_fork_usec total_forks migrate_cached_sockets
    slave_expires_tracked_keys active_defrag_hits active_defrag_misses active_defrag_key_hits
    active_defrag_key_misses total_active_defrag_time current_active_defrag_time tracking_total_keys
    tracking_total_items tracking_total_prefixes unexpected_error_replies total_error_replies
    dump_payload_sanitizations total_reads_processed total_writes_processed io_threaded_reads_processed
    io_threaded_writes_processed client_query_buffer_limit_disconnections
    client_output_buffer_limit_disconnections reply_buffer_shrinks reply_buffer_expands eventloop_cycles
    eventloop_duration_sum eventloop_duration_cmd_sum instantaneous_eventloop_cycles_per_sec
    instantaneous_eventloop_duration_usec acl_access_denied_auth acl_access_denied_cmd acl_access_denied_key
    acl_access_denied_channel acl_access_denied_tls_cert acl_access_denied_db
"""

STATS: Final = _STATS.split()
"""All fields of the section in order; those that a Sentinel does not count are zero."""


def stats_fields(services: InformationServices) -> Fields:
    """Yield the counters since the start."""
    counted = services.statistics
    live = {
        "total_connections_received": counted.connections_received,
        "total_commands_processed": counted.commands_processed,
        "instantaneous_ops_per_sec": counted.commands_per_second,
        "total_net_input_bytes": counted.input_bytes,
        "total_net_output_bytes": counted.output_bytes,
        "instantaneous_input_kbps": f"{counted.input_kilobytes_per_second:.2f}",
        "instantaneous_output_kbps": f"{counted.output_kilobytes_per_second:.2f}",
        "rejected_connections": counted.connections_rejected,
        "evicted_clients": counted.evicted_clients,
        "pubsub_channels": services.hub.channels,
        "pubsub_patterns": services.hub.patterns,
        "total_error_replies": counted.error_replies,
        "total_reads_processed": counted.reads,
        "total_writes_processed": counted.writes,
        "client_query_buffer_limit_disconnections": counted.query_limit_disconnections,
        "client_output_buffer_limit_disconnections": counted.output_limit_disconnections,
        "acl_access_denied_auth": counted.denied_logins,
        "acl_access_denied_cmd": counted.denied_commands,
        "acl_access_denied_channel": counted.denied_channels,
        "acl_access_denied_tls_cert": counted.denied_certificates,
    }
    for name in STATS:
        yield name, live.get(name, "0.00" if name.endswith(("_kbps", "_perc")) else 0)


def cpu_fields(services: InformationServices) -> Fields:
    """Yield the processor times, in seconds."""
    used = services.process_info.processor_time()
    yield "used_cpu_sys", f"{used.system:.6f}"
    yield "used_cpu_user", f"{used.user:.6f}"
    yield "used_cpu_sys_children", f"{used.children_system:.6f}"
    yield "used_cpu_user_children", f"{used.children_user:.6f}"
    yield "used_cpu_sys_main_thread", f"{used.main_system:.6f}"
    yield "used_cpu_user_main_thread", f"{used.main_user:.6f}"


def sentinel_fields(services: InformationServices) -> Fields:
    """Yield the fields of the Sentinel, and one for each master."""
    core = services.core
    masters = core.registry.masters.values()
    tilt_for = -1 if core.tilt.since is None else (services.host.now() - core.tilt.since) // 1000
    yield "sentinel_masters", len(masters)
    yield "sentinel_tilt", int(core.tilt.active)
    yield "sentinel_tilt_since_seconds", tilt_for
    yield "sentinel_total_tilt", core.tilt.total
    if core.tilt.report is not None:
        yield "sentinel_tilt_cause", core.tilt.report.cause.value
        yield "sentinel_tilt_cause_ms", core.tilt.report.milliseconds
    yield "sentinel_running_scripts", services.scripts.running
    yield "sentinel_scripts_queue_length", len(services.scripts.jobs)
    yield "sentinel_simulate_failure_flags", sum(CRASH_BITS[word] for word in core.simulate_crash)
    storage_error = core.state.storage_error
    yield "sentinel_storage", "ok" if storage_error is None else storage_error.code
    if storage_error is not None:
        yield "sentinel_storage_error", str(storage_error)
    blocked = []
    for number, master in enumerate(list(masters)):
        host = master.address.announced(core.options.announce_hostnames)
        yield (
            f"master{number}",
            f"name={master.name},status={master_status(master)},address={host}:{master.address.port},"
            f"slaves={len(master.replicas)},sentinels={len(master.peers) + 1}",
        )
        reasons = core.blockers(master, services.host.now())
        if reasons:
            blocked.append((master.name, reasons))
    yield "sentinel_blocked_masters", len(blocked)
    for number, (name, reasons) in enumerate(blocked):
        yield f"blocked{number}", f"name={name},reasons={'+'.join(reason.kind.value for reason in reasons)}"


SECTIONS: Final[tuple[tuple[str, Callable[[InformationServices], Fields]], ...]] = (
    ("Server", server_fields),
    ("Clients", clients_fields),
    ("Stats", stats_fields),
    ("CPU", cpu_fields),
    ("Sentinel", sentinel_fields),
)

TITLES: Final = frozenset(title.lower().encode() for title, _ in SECTIONS)
