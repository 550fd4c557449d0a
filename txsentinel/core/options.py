"""Settings of each master and of the Sentinel itself, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from txsentinel.model.timings import Millis


@dataclass(slots=True)
class MasterOptions:
    """The settings of one master; times are in milliseconds, texts are ``None`` if unset."""

    quorum: int
    down_after: Millis = 30_000
    failover_timeout: Millis = 180_000
    parallel_syncs: int = 1
    notification_script: str | None = None
    client_reconfig_script: str | None = None
    auth_pass: str | None = None
    auth_user: str | None = None
    reboot_down_after: Millis = 0
    renamed_commands: dict[str, str] = field(default_factory=dict)
    """Command in upper case → its name on the servers."""

    rename_spellings: dict[str, str] = field(default_factory=dict)
    """Command in upper case → the operator's spelling, which is saved."""


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
    sentinel_pass: str | None = None
    requirepass: str | None = None

    @property
    def hello_port(self) -> int:
        """The port in our hellos."""
        if self.announce_port:
            return self.announce_port
        if self.tls_replication and self.tls_port:
            return self.tls_port
        return self.port


OptionSetter = Callable[[MasterOptions, str, Sequence[str], SentinelOptions], object]
"""``(options of the master, option, values, options of the Sentinel)``: validate and set, or raise."""

OptionChanges = Sequence[tuple[str, Sequence[str]]]
"""``(option, values)`` in order."""
