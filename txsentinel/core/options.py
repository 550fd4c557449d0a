"""Settings of each master and of the Sentinel itself, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from txsentinel.model.timings import Millis


class FailureClasses(Enum):
    """The setting ``failure-classes``: whether the class of a failure affects S_DOWN."""

    ON = "on"
    """Faults of configuration, and our own, do not begin S_DOWN while there is another proof of life."""

    AS_C = "as-c"
    """Every failure counts for S_DOWN, as in C Sentinels."""


class Lineage(Enum):
    """The setting ``lineage``: what a foreign replication history of a newly announced address causes."""

    WARN = "warn"
    """The address is adopted after at most ``down-after``; a foreign history is logged."""

    STRICT = "strict"
    """The address is never adopted before the replication history of its server was seen to fit."""


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """
    The settings of one master that C Sentinels do not have; times are in milliseconds.

    Each is off, or neutral, by default, unless its description differs. They are saved as comments,
    ``#: txsentinel <setting> <master> <value>``.
    """

    crash_failover: bool = False
    """``crash-failover``: whether evidence of a crash begins S_DOWN before ``down-after`` has passed."""

    crash_confirm: Millis = 60
    """``crash-confirm``: minimum time from the loss of a connection to the refused attempt that confirms a crash."""

    failure_classes: FailureClasses = FailureClasses.ON
    """``failure-classes``."""

    empty_restart_failover: bool = False
    """
    ``empty-restart-failover``: whether a master that restarted without data that a replica holds counts as down.

    Off by default, as C Sentinels do no such thing: it fails over a master that answers, and pauses the writes of a
    restarted master while the replicas are asked.
    """

    data_lost_event: bool = False
    """``data-lost-event``: whether ``+data-lost`` is published; the log has it regardless."""

    lineage: Lineage = Lineage.WARN
    """``lineage``."""

    fence_isolated: bool = False
    """``fence-isolated``: whether writes to a master that only a minority can reach are paused."""

    fence_after: Millis | None = None
    """``fence-after``: time without a majority before writes are paused; ``None`` for half of ``down-after``."""

    forget_sentinels_after: Millis | None = None
    """``forget-sentinels-after``: how long a Sentinel must be dead to be removed; ``None`` for never."""

    forget_replicas_after: Millis | None = None
    """``forget-replicas-after``: how long a replica must be dead to be removed; ``None`` for never."""

    failover_block_period: Millis | None = None
    """
    ``failover-block-period``: how long after an automatic failover the next one must be acknowledged; ``None`` if it
    need not be.
    """

    pause_events: bool = False
    """``pause-events``: whether ``+pause`` and ``-pause`` are published; the log has them regardless."""

    def fence_delay(self, down_after: Millis) -> Millis:
        """Return the effective ``fence-after`` of a master with this ``down-after``, which it is always less than."""
        wanted = down_after // 2 if self.fence_after is None else self.fence_after
        return min(wanted, down_after - 1)


NEUTRAL_GUARDS: Final = GuardOptions()
"""The defaults."""


@dataclass(slots=True)
class MasterOptions:
    """The settings of one master; times are in milliseconds, texts are ``None`` if unset."""

    quorum: int
    down_after: Millis = 30_000
    failover_timeout: Millis = 180_000
    parallel_syncs: int = 1
    notification_script: str | None = None
    client_reconfig_script: str | None = None
    auth_pass: str | None = field(default=None, repr=False)
    auth_user: str | None = None
    reboot_down_after: Millis = 0
    renamed_commands: dict[str, str] = field(default_factory=dict)
    """Command in upper case → its name on the servers."""

    rename_spellings: dict[str, str] = field(default_factory=dict)
    """Command in upper case → the operator's spelling, which is saved."""

    guards: GuardOptions = NEUTRAL_GUARDS
    """The settings that C Sentinels do not have. Replace the object to change one."""

    next_auth_pass: str | None = field(default=None, repr=False)
    """The password that is tried when ``auth_pass`` is refused, while the passwords of the servers are changed."""

    auth_pass_source: str = ""
    """Where ``auth_pass`` was read from, if it does not stand in the configuration file (``config.secrets``)."""

    next_auth_pass_source: str = ""

    @property
    def directive_auth_pass(self) -> str | None:
        """
        The password that stands in the configuration file; beside a reference it is the second one.

        A C Sentinel that takes the file over ignores the reference, and may write the directive.
        """
        if self.auth_pass_source:
            return None if self.next_auth_pass_source else self.next_auth_pass
        return self.auth_pass


def copied(options: MasterOptions) -> MasterOptions:
    """Return an independent copy of ``options``."""
    return replace(
        options,
        renamed_commands=dict(options.renamed_commands),
        rename_spellings=dict(options.rename_spellings),
    )


@dataclass(slots=True)
class SentinelOptions:
    """The settings of the Sentinel itself that the core uses."""

    my_id: str = ""
    announce_ip: str | None = None
    announce_port: int = 0
    port: int = 26379
    tls_port: int = 0
    tls_replication: bool = False
    resolve_hostnames: bool = False
    announce_hostnames: bool = False
    deny_scripts_reconfig: bool = True
    sentinel_user: str | None = None
    sentinel_pass: str | None = field(default=None, repr=False)
    next_sentinel_pass: str | None = field(default=None, repr=False)
    """The password that is tried when a peer refuses ``sentinel_pass``."""

    sentinel_pass_source: str = ""
    """Where ``sentinel_pass`` was read from, if it does not stand in the configuration file."""

    next_sentinel_pass_source: str = ""

    requirepass: str | None = field(default=None, repr=False)
    next_requirepass: str | None = field(default=None, repr=False)
    """The second password of ours, which is also tried when a peer refuses ``requirepass``."""

    @property
    def directive_sentinel_pass(self) -> str | None:
        """The password for peers that stands in the configuration file; beside a reference it is the second one."""
        if self.sentinel_pass_source:
            return None if self.next_sentinel_pass_source else self.next_sentinel_pass
        return self.sentinel_pass

    @property
    def hello_port(self) -> int:
        """The port in our hellos."""
        if self.announce_port:
            return self.announce_port
        if self.tls_replication and self.tls_port:
            return self.tls_port
        return self.port


SECRET_OPTIONS: Final = frozenset(("auth-pass",))
"""The options of ``SENTINEL SET`` whose values are not shown."""

OptionSetter = Callable[[MasterOptions, str, Sequence[str], SentinelOptions], object]
"""``(options of the master, option, values, options of the Sentinel)``: validate and set, or raise."""

OptionChanges = Sequence[tuple[str, Sequence[str]]]
"""``(option, values)`` in order."""
