"""All modules with commands. Importing this module fills the table."""

from __future__ import annotations

from txsentinel.server.commands import acl as acl_commands
from txsentinel.server.commands import client as client_commands
from txsentinel.server.commands import command as command_commands
from txsentinel.server.commands import connection as connection_commands
from txsentinel.server.commands import pubsub as pubsub_commands
from txsentinel.server.commands import sentinel_changes, sentinel_queries, sentinel_settings
from txsentinel.server.commands import server as server_commands
from txsentinel.server.commands import tracking as tracking_commands
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
"""The modules with commands, in the order in which COMMAND lists them."""

__all__ = ["MODULES", "TABLE"]
