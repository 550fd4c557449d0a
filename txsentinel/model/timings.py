"""Every period and limit in one place, with the names that ``SENTINEL DEBUG`` gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

Millis: TypeAlias = int
"""Whole milliseconds: a duration, or a point on the monotonic clock of the host."""

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

    They are never persisted. One mutable instance is shared by everything that waits.
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
    """INFO interval for replicas while their master is down or being failed over; fixed upstream."""

    sweep_period: Millis = 100
    """Longest gap between two sweeps of the core."""

    probe_grain: Millis = 10
    """Probes to those about whom nothing is in doubt are due at multiples of this, by our own clock."""

    candidate_stagger: Millis = 20
    """How much longer each live peer of lower id makes us wait before we stand for election."""

    candidate_backoff: Millis = 50
    """Base of the random wait before standing again in a new epoch, doubled on each lost epoch."""

    hint_period: Millis = 100
    """How often, at most, a peer is asked again for its opinion while agreement is being sought."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of queues and messages; each names what gives way when it is reached."""

    pending_commands: int = 100
    """Unanswered commands per link and sharer; further probes are not sent."""

    inline_request: int = 64 * 1024
    """Bytes of a request without a line end, then the client is told off and closed."""

    bulk_length: int = 512 * 1024 * 1024
    multibulk_count: int = 2_147_483_647
    unauthenticated_multibulk_count: int = 10
    unauthenticated_bulk_length: int = 16_384

    query_buffer: int = 32 * 1024 * 1024
    """Bytes of one unfinished request that we keep; larger ones lose the connection."""

    clients_memory: int = 256 * 1024 * 1024
    """Bytes that all clients together may make us hold; beyond that those who hold most lose their connection."""

    word_length: int = 64 * 1024
    """Bytes of one word of a request that any command has a use for; a request with a longer one is refused."""

    kept_word: int = 1024 * 1024
    """Bytes of one word of a request that are kept at all; a longer one is passed over, and the request refused."""

    name_length: int = 1024
    """Bytes of what a client calls itself, or its library; longer ones are refused."""

    user_rules: int = 1024
    """Rules that describe one user; ``ACL SETUSER`` refuses to make it more."""

    users: int = 10_000
    """Users; ``ACL SETUSER`` makes no more."""

    subscription_memory: int = 128 * 1024
    """Bytes of channels and patterns that one client may be subscribed to; further ones are refused."""

    reply_buffer: int = 4 * 1024 * 1024
    """Bytes of one reply from a server or peer; larger ones lose the connection. An INFO has some ten thousand."""

    info_text: int = 128 * 1024
    """Bytes of an INFO that are read and kept; that of a master with a thousand replicas has ninety thousand."""

    info_texts: int = 64 * 1024 * 1024
    """Bytes of all INFO texts that are kept together; beyond that the new one is not kept for ``INFO-CACHE``."""

    host_names: int = 4096
    """Host names whose addresses are remembered; beyond that those that no instance has are forgotten."""

    replicas: int = 1_000
    """Replicas of one master; what its INFO names beyond that is not watched."""

    new_replicas: int = 100
    """Replicas that one INFO may add; the others have to wait for the next one."""

    peers: int = 250
    """Other Sentinels of one master; hellos of further ones are not believed."""

    script_queue: int = 256
    """Jobs kept; beyond that the oldest one that is not running gives way."""

    running_scripts: int = 16
    script_attempts: int = 10

    epoch_leap: int = 1 << 20
    """How far the current epoch may rise in a second because of what others name; beyond that they are not followed."""

    epoch_step: int = 1 << 10
    """How far above our own an epoch may be that a peer names to which we are not connected."""

    highest_epoch: int = 1 << 53

    votes_in_flight: int = 200
    """Vote requests outstanding towards one peer; the others wait for answers."""

    evaluations: int = 256
    """Instances that one sweep looks at; the others wait for the next one, some milliseconds later."""

    questions: int = 8
    """Requests for an opinion or a vote on one master that one peer may leave unanswered; it is asked no more then."""

    mass_failure: int = 10
    """Masters that fail within some seconds and are a storm: their elections take each other into account."""

    candidacies: int = 8
    """Epochs that one failover attempt may lose before it gives up until the next attempt is due."""
