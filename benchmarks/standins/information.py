"""
INFO as a Redis 7.0 server prints it, at full length, since Sentinels must read all of it.

The sections around ``# Replication`` carry the values of an idle server. Some of them change from one reply to the
next, as in reality, so that caching of identical texts has no unrealistic advantage.
"""

from __future__ import annotations

from typing import Final

_SERVER: Final = """\
# Server
redis_version:7.0.15
redis_git_sha1:00000000
redis_git_dirty:0
redis_build_id:0000000000000000
redis_mode:standalone
os:Linux 6.1.0 x86_64
arch_bits:64
monotonic_clock:POSIX clock_gettime
multiplexing_api:epoll
atomicvar_api:c11-builtin
gcc_version:12.2.0
process_id:{pid}
process_supervised:no
run_id:{run_id}
tcp_port:{port}
server_time_usec:{now}000000
uptime_in_seconds:{uptime}
uptime_in_days:0
hz:10
configured_hz:10
lru_clock:{clock}
executable:/usr/bin/redis-server
config_file:/etc/redis/redis.conf
io_threads_active:0
"""

_CLIENTS: Final = """\
# Clients
connected_clients:1
cluster_connections:0
maxclients:10000
client_recent_max_input_buffer:20480
client_recent_max_output_buffer:0
blocked_clients:0
tracking_clients:0
clients_in_timeout_table:0
"""

_MEMORY: Final = """\
# Memory
used_memory:993408
used_memory_human:970.12K
used_memory_rss:12333056
used_memory_rss_human:11.76M
used_memory_peak:993408
used_memory_peak_human:970.12K
used_memory_peak_perc:100.47%
used_memory_overhead:876380
used_memory_startup:876176
used_memory_dataset:117028
used_memory_dataset_perc:99.83%
allocator_allocated:1785056
allocator_active:1937408
allocator_resident:4608000
total_system_memory:25276514304
total_system_memory_human:23.54G
used_memory_lua:32768
used_memory_vm_eval:32768
used_memory_lua_human:32.00K
used_memory_scripts_eval:0
number_of_cached_scripts:0
number_of_functions:0
number_of_libraries:0
used_memory_vm_functions:33792
used_memory_vm_total:66560
used_memory_vm_total_human:65.00K
used_memory_functions:200
used_memory_scripts:200
used_memory_scripts_human:200B
maxmemory:0
maxmemory_human:0B
maxmemory_policy:noeviction
allocator_frag_ratio:1.09
allocator_frag_bytes:152352
allocator_rss_ratio:2.38
allocator_rss_bytes:2670592
rss_overhead_ratio:2.68
rss_overhead_bytes:7725056
mem_fragmentation_ratio:12.94
mem_fragmentation_bytes:11380280
mem_not_counted_for_evict:0
mem_replication_backlog:4
mem_total_replication_buffers:0
mem_clients_slaves:0
mem_clients_normal:0
mem_cluster_links:0
mem_aof_buffer:0
mem_allocator:jemalloc-5.3.0
active_defrag_running:0
lazyfree_pending_objects:0
lazyfreed_objects:0
"""

_PERSISTENCE: Final = """\
# Persistence
loading:0
async_loading:0
current_cow_peak:0
current_cow_size:0
current_cow_size_age:0
current_fork_perc:0.00
current_save_keys_processed:0
current_save_keys_total:0
rdb_changes_since_last_save:0
rdb_bgsave_in_progress:0
rdb_last_save_time:1795250690
rdb_last_bgsave_status:ok
rdb_last_bgsave_time_sec:-1
rdb_current_bgsave_time_sec:-1
rdb_saves:0
rdb_last_cow_size:0
rdb_last_load_keys_expired:0
rdb_last_load_keys_loaded:0
aof_enabled:0
aof_rewrite_in_progress:0
aof_rewrite_scheduled:0
aof_last_rewrite_time_sec:-1
aof_current_rewrite_time_sec:-1
aof_last_bgrewrite_status:ok
aof_rewrites:0
aof_rewrites_consecutive_failures:0
aof_last_write_status:ok
aof_last_cow_size:0
module_fork_in_progress:0
module_fork_last_cow_size:0
"""

_STATS: Final = """\
# Stats
total_connections_received:{connections}
total_commands_processed:{commands}
instantaneous_ops_per_sec:0
total_net_input_bytes:167
total_net_output_bytes:17
total_net_repl_input_bytes:0
total_net_repl_output_bytes:0
instantaneous_input_kbps:0.00
instantaneous_output_kbps:0.00
instantaneous_input_repl_kbps:0.00
instantaneous_output_repl_kbps:0.00
rejected_connections:0
sync_full:1
sync_partial_ok:0
sync_partial_err:0
expired_keys:0
expired_stale_perc:0.00
expired_time_cap_reached_count:0
expire_cycle_cpu_milliseconds:0
evicted_keys:0
evicted_clients:0
total_eviction_exceeded_time:0
current_eviction_exceeded_time:0
keyspace_hits:0
keyspace_misses:0
pubsub_channels:0
pubsub_patterns:0
pubsubshard_channels:0
latest_fork_usec:0
total_forks:0
migrate_cached_sockets:0
slave_expires_tracked_keys:0
active_defrag_hits:0
active_defrag_misses:0
active_defrag_key_hits:0
active_defrag_key_misses:0
total_active_defrag_time:0
current_active_defrag_time:0
tracking_total_keys:0
tracking_total_items:0
tracking_total_prefixes:0
unexpected_error_replies:0
total_error_replies:0
dump_payload_sanitizations:0
total_reads_processed:5
total_writes_processed:3
io_threaded_reads_processed:0
io_threaded_writes_processed:0
reply_buffer_shrinks:1
reply_buffer_expands:0
"""

_CPU: Final = """\
# CPU
used_cpu_sys:0.006477
used_cpu_user:0.006728
used_cpu_sys_children:0.000000
used_cpu_user_children:0.000000
used_cpu_sys_main_thread:0.006557
used_cpu_user_main_thread:0.006557
"""

_MODULES: Final = """\
# Modules

"""

_ERRORSTATS: Final = """\
# Errorstats

"""

_CLUSTER: Final = """\
# Cluster
cluster_enabled:0
"""

_KEYSPACE: Final = """\
# Keyspace

"""

_STILL: Final = {
    "clients": _CLIENTS,
    "memory": _MEMORY,
    "persistence": _PERSISTENCE,
    "cpu": _CPU,
    "modules": _MODULES,
    "errorstats": _ERRORSTATS,
    "cluster": _CLUSTER,
    "keyspace": _KEYSPACE,
}
_LAST: Final = ("cpu", "modules", "errorstats", "cluster", "keyspace")
_MOVING: Final = {"server": _SERVER, "stats": _STATS}
_ORDER: Final = ("server", *("clients", "memory", "persistence"), "stats", "replication", *_LAST)
_ALL: Final = {"", "all", "default", "everything"}


def _wire(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


_BETWEEN: Final = _wire("\n" + "\n".join(_STILL[name] for name in ("clients", "memory", "persistence")) + "\n")
_BEHIND: Final = _wire("\n" + "\n".join(_STILL[name] for name in _LAST))
_SERVER_WIRE: Final = _SERVER.replace("\n", "\r\n")
_STATS_WIRE: Final = _STATS.replace("\n", "\r\n")


def whole(fields: dict[str, object], replication: bytes) -> bytes:
    """
    The text of a plain ``INFO``.

    :param fields: ``run_id``, ``port``, ``pid``, ``uptime``, ``now``, ``clock``, ``connections`` and ``commands``.
    :param replication: the section of that name, without an empty line around it.
    """
    head, stats = _SERVER_WIRE.format_map(fields).encode(), _STATS_WIRE.format_map(fields).encode()
    return b"%b%b%b\r\n%b%b" % (head, _BETWEEN, stats, replication, _BEHIND)


def sections(names: list[str], fields: dict[str, object], replication: bytes) -> bytes:
    """The text of ``INFO name ...``; an unknown name contributes nothing."""
    wanted = {name.lower() for name in names}
    if wanted & _ALL or not wanted:
        return whole(fields, replication)
    chosen = []
    for name in _ORDER:
        if name not in wanted:
            continue
        if name == "replication":
            chosen.append(replication)
        else:
            chosen.append(_wire(_MOVING[name].format_map(fields) if name in _MOVING else _STILL[name]))
    return b"\r\n".join(chosen)
