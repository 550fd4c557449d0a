"""What a data server itself reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from txsentinel.remote.connection import RemoteConnection
from txsentinel.remote.reports import info_fields, number
from txsentinel.wire.values import Reply


@dataclass(frozen=True)
class ServerReport:
    """The INFO of a server."""

    fields: Mapping[str, str]

    @property
    def role(self) -> str:
        """``master`` or ``slave``."""
        return self.fields.get("role", "")

    @property
    def version(self) -> str:
        """Kind and version."""
        if "valkey_version" in self.fields:
            return f"valkey {self.fields['valkey_version']}"
        return f"redis {self.fields.get('redis_version', 'unknown')}"

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """The version of Redis that it is compatible with."""
        return tuple(number(each, -1) for each in self.fields.get("redis_version", "0").split("."))

    @property
    def replid(self) -> str:
        """The replication ID."""
        return self.fields.get("master_replid", "")

    @property
    def replid2(self) -> str | None:
        """The replication ID of the history that it continues."""
        found = self.fields.get("master_replid2", "")
        return None if not found.strip("0") else found

    @property
    def offset(self) -> int:
        """The offset of its replication stream; of a replica what it has processed."""
        return number(self.fields.get("slave_repl_offset", self.fields.get("master_repl_offset")), -1)

    @property
    def fork_offset(self) -> int | None:
        """The last offset that is the same in the history that it continues."""
        found = number(self.fields.get("second_repl_offset"), -1)
        return found - 1 if found >= 0 else None

    @property
    def link_up(self) -> bool:
        """Whether a replica has a link to its master."""
        return self.fields.get("master_link_status") == "up"

    @property
    def online_replicas(self) -> int:
        """How many replicas are connected and continue to receive the stream."""
        return sum(
            ",state=online" in value
            for name, value in self.fields.items()
            if name.startswith("slave") and name[5:].isdigit()
        )


def server_report(reply: Reply) -> ServerReport:
    """Make a report from an INFO reply."""
    return ServerReport(info_fields(reply))


def read_server(connection: RemoteConnection, *sections: str) -> ServerReport:
    """
    Ask a server for INFO, or for sections of it, one after the other.

    :raises ErrorAnswer: if it refuses.
    """
    if not sections:
        return server_report(connection.call("INFO"))
    fields: dict[str, str] = {}
    for section in sections:
        fields |= info_fields(connection.call("INFO", section))
    return ServerReport(fields)
