"""What an operator can set: per master and for the Sentinel as a whole. Plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from txsentinel.model.timings import Millis


@dataclass(slots=True)
class MasterOptions:
    """The per-master settings of ``sentinel.conf``; times in milliseconds, texts ``None`` when unset."""

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
    """Command word in upper case → the name that the servers know it by."""

    rename_spellings: dict[str, str] = field(default_factory=dict)
    """Command word in upper case → the spelling that the operator used, for writing it back."""


def copied(options: MasterOptions) -> MasterOptions:
    """A copy that does not change with ``options``."""
    return replace(
        options,
        renamed_commands=dict(options.renamed_commands),
        rename_spellings=dict(options.rename_spellings),
    )


@dataclass(slots=True)
class SentinelOptions:
    """The settings of the Sentinel itself that its decisions depend on."""

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
        """The port that peers are told to connect to."""
        if self.announce_port:
            return self.announce_port
        if self.tls_replication and self.tls_port:
            return self.tls_port
        return self.port
