"""
The generic directives of Redis 5 to 8 and Valkey 7.2 to 9, by the kind of their value.

Most have no effect on a Sentinel. Those with one simple value are validated all the same, as by C Sentinels, so that a
file which is accepted here is accepted there, too. Where versions differ, the widest range applies. Lists of names are
strings that are split at whitespace.
"""

from __future__ import annotations

from typing import Final

from txsentinel.model.events import LOG_LEVELS

INT32_MAX: Final = (1 << 31) - 1
UINT32_MAX: Final = (1 << 32) - 1
INT64_MAX: Final = (1 << 63) - 1

YES_NO: Final = """
    activedefrag activerehashing always-show-logo aof-disable-auto-gc aof-load-truncated
    aof-rewrite-incremental-fsync aof-timestamp-enabled aof-use-rdb-preamble appendonly
    cluster-allow-pubsubshard-when-down cluster-allow-reads-when-down cluster-allow-replica-migration
    cluster-enabled cluster-replica-no-failover cluster-require-full-coverage cluster-slave-no-failover
    cluster-slot-stats-enabled crash-log-enabled crash-memcheck-enabled daemonize disable-thp
    dual-channel-replication-enabled dynamic-hz extended-redis-compatibility gopher-enabled
    hide-user-data-from-log import-mode io-threads-do-reads jemalloc-bg-thread latency-tracking
    lazyfree-lazy-eviction lazyfree-lazy-expire lazyfree-lazy-server-del lazyfree-lazy-user-del
    lazyfree-lazy-user-flush lua-enable-insecure-api lua-replicate-commands mptcp no-appendfsync-on-rewrite
    protected-mode rdb-del-sync-files rdb-save-incremental-fsync rdbchecksum rdbcompression
    repl-disable-tcp-nodelay repl-diskless-sync repl-mptcp replica-announced replica-ignore-disk-write-errors
    replica-ignore-maxmemory replica-lazy-flush replica-read-only replica-serve-stale-data set-proc-title
    slave-ignore-maxmemory slave-lazy-flush slave-read-only slave-serve-stale-data stop-writes-on-bgsave-error
    syslog-enabled tls-cluster tls-prefer-server-ciphers tls-replication tls-session-caching use-exit-on-panic
"""

TEXT: Final = """
    aclfile aof-rewrite-cpulist aof_rewrite_cpulist appenddirname appendfilename availability-zone
    bgsave-cpulist bgsave_cpulist bind-source-addr bio-cpulist bio_cpulist cluster-announce-client-ipv4
    cluster-announce-client-ipv6 cluster-announce-hostname cluster-announce-human-nodename cluster-announce-ip
    cluster-config-file dbfilename hash-seed locale-collate logfile masterauth masteruser pidfile primaryauth
    primaryuser proc-title-template replica-announce-ip server-cpulist server_cpulist slave-announce-ip
    syslog-ident tls-ca-cert-dir tls-ca-cert-file tls-cert-file tls-ciphers tls-ciphersuites
    tls-client-cert-file tls-client-key-file tls-client-key-file-pass tls-dh-params-file tls-key-file
    tls-key-file-pass tls-protocols unixsocket unixsocketgroup
"""

INTEGER: Final[dict[tuple[int, int], str]] = {
    (0, INT64_MAX): """
        acllog-max-len busy-reply-threshold cluster-node-timeout cluster-slot-migration-log-max-len
        commandlog-large-reply-max-len commandlog-large-request-max-len commandlog-slow-execution-max-len
        hash-max-listpack-entries hash-max-ziplist-entries latency-monitor-threshold lua-time-limit repl-backlog-ttl
        set-max-intset-entries set-max-listpack-entries set-max-listpack-value slowlog-max-len
        stream-node-max-entries tracking-table-max-keys zset-max-listpack-entries zset-max-ziplist-entries
        """,
    (1, 99): """
        active-defrag-cycle-max active-defrag-cycle-min
        """,
    (0, 100_000): """
        active-defrag-cycle-us
        """,
    (1, INT64_MAX): """
        active-defrag-max-scan-fields
        """,
    (0, 1_000): """
        active-defrag-threshold-lower active-defrag-threshold-upper
        """,
    (1, 10): """
        active-expire-effort
        """,
    (0, INT32_MAX): """
        auto-aof-rewrite-percentage cluster-migration-barrier cluster-replica-validity-factor
        cluster-slave-validity-factor hz lfu-decay-time lfu-log-factor list-compress-depth min-replicas-max-lag
        min-replicas-to-write min-slaves-max-lag min-slaves-to-write repl-diskless-sync-delay
        repl-diskless-sync-max-replicas replica-priority shutdown-timeout slave-priority tcp-backlog tcp-keepalive
        timeout tls-auto-reload-interval tls-session-cache-size tls-session-cache-timeout
        """,
    (0, 65_535): """
        cluster-announce-bus-port cluster-announce-client-port cluster-announce-client-tls-port
        cluster-announce-port cluster-announce-tls-port cluster-port port rdma-port replica-announce-port
        slave-announce-port tls-port
        """,
    (1, INT32_MAX): """
        cluster-databases cluster-manual-failover-timeout databases maxmemory-samples
        repl-ping-replica-period repl-ping-slave-period repl-timeout
        """,
    (-1, INT64_MAX): """
        commandlog-execution-slower-than commandlog-reply-larger-than commandlog-request-larger-than
        slowlog-log-slower-than
        """,
    (1, 256): """
        io-threads
        """,
    (-INT32_MAX - 1, INT32_MAX): """
        key-load-delay list-max-listpack-size list-max-ziplist-size rdb-key-save-delay
        """,
    (1, 1_000): """
        max-new-connections-per-cycle max-new-tls-connections-per-cycle
        """,
    (1, UINT32_MAX): """
        maxclients
        """,
    (0, 100): """
        maxmemory-eviction-tenacity
        """,
    (0, 128): """
        prefetch-batch-max-size
        """,
    (-1, 1024): """
        rdma-completion-vector
        """,
    (65_536, 16_777_216): """
        rdma-rx-size
        """,
    (0, UINT32_MAX): """
        socket-mark-id
        """,
}
"""Range, both ends inclusive → directives."""

MEMORY: Final = """
    active-defrag-ignore-bytes auto-aof-rewrite-min-size cluster-link-sendbuf-limit hash-max-listpack-value
    hash-max-ziplist-value hll-sparse-max-bytes maxmemory repl-backlog-size stream-node-max-bytes
    zset-max-listpack-value zset-max-ziplist-value
"""

ONE_OF: Final[dict[str, tuple[str, ...]]] = {
    "acl-pubsub-default": ("allchannels", "resetchannels"),
    "appendfsync": ("everysec", "always", "no"),
    "cluster-config-save-behavior": ("sync", "best-effort"),
    "cluster-preferred-endpoint-type": ("ip", "hostname", "unknown-endpoint"),
    "enable-debug-command": ("no", "yes", "local"),
    "enable-module-command": ("no", "yes", "local"),
    "enable-protected-configs": ("no", "yes", "local"),
    "log-format": ("legacy", "logfmt", "json"),
    "log-timestamp-format": ("legacy", "iso8601", "milliseconds"),
    "loglevel": tuple(LOG_LEVELS),
    "maxmemory-policy": (
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "noeviction",
    ),
    "oom-score-adj": ("no", "yes", "relative", "absolute"),
    "propagation-error-behavior": ("ignore", "panic", "panic-on-replicas"),
    "rdb-version-check": ("strict", "relaxed"),
    "repl-diskless-load": ("disabled", "on-empty-db", "swapdb", "flush-before-load"),
    "sanitize-dump-payload": ("no", "yes", "clients"),
    "supervised": ("upstart", "systemd", "auto", "no"),
    "syslog-facility": (
        "user",
        "local0",
        "local1",
        "local2",
        "local3",
        "local4",
        "local5",
        "local6",
        "local7",
    ),
    "tls-auth-clients": ("no", "yes", "optional"),
    "tls-auth-clients-user": ("CN", "URI", "off"),
}
"""Directive → its permitted words, in the order of the error text."""

FREE_FORM: Final[dict[str, int]] = {
    "cluster-blacklist-ttl": 1,
    "cluster-compatibility-sample-ratio": 1,
    "enable-debug-assert": 1,
    "events-per-io-thread": 1,
    "hash-max-zipmap-entries": 1,
    "hash-max-zipmap-value": 1,
    "ignore-warnings": 1,
    "io-threads-always-active": 1,
    "latency-tracking-info-percentiles": 0,
    "list-max-ziplist-entries": 1,
    "list-max-ziplist-value": 1,
    "loadmodule": 1,
    "lookahead": 1,
    "notify-keyspace-events": 1,
    "oom-score-adj-values": 1,
    "rdma-bind": 0,
    "replica-full-sync-buffer-limit": 1,
    "replicaof": 2,
    "save": 1,
    "shutdown-on-sigint": 1,
    "shutdown-on-sigterm": 1,
    "slaveof": 2,
    "slot-migration-max-failover-repl-bytes": 1,
    "vset-force-single-threaded-execution": 1,
    "watchdog-period": 1,
}
"""Directive whose value is not validated → minimum number of its words."""
