"""All periods and limits, with the names that ``SENTINEL DEBUG`` uses for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

Millis: TypeAlias = int
"""Whole milliseconds: a duration, or a point in time on the host's monotonic clock."""


def wall_offset(wall_clock: float, monotonic: float) -> Millis:
    """
    Return what must be added to a point in time to get milliseconds since 1970.

    The difference of two clocks that are cut to milliseconds first would change by one from call to call.

    :param wall_clock: seconds since 1970.
    :param monotonic: the host's monotonic clock at the same time, in seconds.
    """
    return round((wall_clock - monotonic) * 1000)


TIMING_NAMES: Final = (
    ("info-period", "info_period"),
    ("ping-period", "ping_period"),
    ("ask-period", "ask_period"),
    ("publish-period", "publish_period"),
    ("default-down-after", "default_down_after"),
    ("default-failover-timeout", "default_failover_timeout"),
    ("tilt-trigger", "tilt_trigger"),
    ("tilt-period", "tilt_period"),
    ("slave-reconf-timeout", "replica_reconf_timeout"),
    ("min-link-reconnect-period", "min_link_reconnect_period"),
    ("election-timeout", "election_timeout"),
    ("script-max-runtime", "script_max_runtime"),
    ("script-retry-delay", "script_retry_delay"),
)
"""``(word of SENTINEL DEBUG, attribute of Timings)`` in the order in which the command lists them."""


@dataclass(slots=True)
class Timings:
    """
    The periods that ``SENTINEL DEBUG`` shows and changes at run time; all in milliseconds, above zero.

    They are never saved. All components share one mutable instance.
    """

    info_period: Millis = 10_000
    ping_period: Millis = 1_000
    ask_period: Millis = 1_000
    publish_period: Millis = 2_000
    default_down_after: Millis = 30_000
    default_failover_timeout: Millis = 180_000
    tilt_trigger: Millis = 2_000
    tilt_period: Millis = 30_000
    replica_reconf_timeout: Millis = 10_000
    min_link_reconnect_period: Millis = 15_000
    election_timeout: Millis = 10_000
    script_max_runtime: Millis = 60_000
    script_retry_delay: Millis = 30_000

    fast_info_period: Millis = 1_000
    """INFO interval for replicas while their master is down or being failed over; a constant upstream."""

    sweep_period: Millis = 100
    """Longest interval between two sweeps of the core while it has timed work besides its deadlines."""

    idle_period: Millis = 1_000
    """Longest interval between two sweeps of the core at all."""

    probe_grain: Millis = 10
    """Probes to stable instances are due at multiples of this on our own clock, so that they share wake-ups."""

    candidate_stagger: Millis = 20
    """Delay that each live peer with a lower ID adds before this Sentinel campaigns."""

    candidate_backoff: Millis = 50
    """Base of the random delay before another campaign in a new epoch; doubled with each lost epoch."""

    hint_period: Millis = 100
    """Minimum interval between two questions to a peer about a master that is S_DOWN but not yet O_DOWN."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of queues and messages; each documents what happens when it is reached."""

    pending_commands: int = 100
    """Unanswered commands per link and instance on it; further probes are not sent."""

    inline_request: int = 64 * 1024
    """Bytes of a line without a line end; a longer one gets an error, and the connection is closed."""

    bulk_length: int = 512 * 1024 * 1024
    multibulk_count: int = 2_147_483_647
    unauthenticated_multibulk_count: int = 10
    unauthenticated_bulk_length: int = 16_384

    query_buffer: int = 32 * 1024 * 1024
    """Bytes of one incomplete request that are buffered; a larger one closes the connection."""

    clients_memory: int = 256 * 1024 * 1024
    """Bytes that all clients together may occupy; beyond that the connections that occupy most are closed."""

    word_length: int = 64 * 1024
    """Bytes of one word of a request that any command can use; a request with a longer word is refused."""

    kept_word: int = 1024 * 1024
    """Bytes of one word of a request that are buffered; a longer word is skipped, and the request is refused."""

    name_length: int = 1024
    """Bytes of the name of a client or of its library; longer names are refused."""

    user_rules: int = 1024
    """Rules of one user; ``ACL SETUSER`` refuses to add more."""

    users: int = 10_000
    """Users; ``ACL SETUSER`` refuses to create more."""

    subscription_memory: int = 128 * 1024
    """Bytes of channels and patterns that one client may be subscribed to; further ones are refused."""

    reply_buffer: int = 4 * 1024 * 1024
    """Bytes of one reply from a server or peer; a larger one closes the connection. An INFO has about 10,000."""

    unfinished_replies: int = 64 * 1024 * 1024
    """Bytes of all replies together that have arrived in part; beyond that the connection with the longest is lost."""

    info_text: int = 128 * 1024
    """Bytes of an INFO that are parsed and kept; that of a master with 1,000 replicas has about 90,000."""

    info_texts: int = 64 * 1024 * 1024
    """Bytes of all INFO texts that are kept; beyond that a new one is not kept for ``INFO-CACHE``."""

    host_names: int = 4096
    """Host names whose addresses are cached; beyond that the names that no instance has are discarded."""

    replicas: int = 1_000
    """Replicas of one master; further ones that its INFO lists are not monitored."""

    new_replicas: int = 100
    """Replicas that one INFO may add; the others are added by the next INFO."""

    peers: int = 250
    """Peers of one master; hellos of further ones are ignored."""

    script_queue: int = 256
    """Script runs in the queue; beyond that the oldest one that is not running is discarded."""

    running_scripts: int = 16
    script_attempts: int = 10

    epoch_rise_per_second: int = 1 << 20
    """How far epochs received from others may raise the current epoch within a second; higher ones are not adopted."""

    unconfirmed_epoch_rise: int = 1 << 10
    """How far above the current epoch the epoch of a peer may be to which there is no connection."""

    highest_epoch: int = 1 << 53

    votes_in_flight: int = 200
    """Unanswered vote requests to one peer; further ones are sent as replies arrive."""

    evaluations: int = 256
    """Instances that one sweep evaluates; the others are evaluated by the next one, some milliseconds later."""

    questions: int = 8
    """Unanswered questions to one peer about one master; further ones are not sent."""

    mass_failure: int = 10
    """Number of masters that fail within ten seconds from which on their elections share epochs."""

    candidacies: int = 8
    """Epochs that one failover attempt may lose before it is given up until the next attempt is due."""
