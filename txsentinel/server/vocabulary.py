"""Every command there is: importing this module fills the table."""

from __future__ import annotations

from txsentinel.server import (
    acl_commands,
    client_commands,
    command_commands,
    connection_commands,
    pubsub_commands,
    sentinel_changes,
    sentinel_queries,
    sentinel_settings,
    server_commands,
    tracking_commands,
)
from txsentinel.server.table import TABLE

MODULES = (
    connection_commands,
    server_commands,
    pubsub_commands,
    client_commands,
    tracking_commands,
    command_commands,
    acl_commands,
    sentinel_queries,
    sentinel_changes,
    sentinel_settings,
)
"""The modules that hold commands, in the order in which COMMAND lists them."""

__all__ = ["MODULES", "TABLE"]
