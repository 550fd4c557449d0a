"""All commands of a Sentinel."""

from __future__ import annotations

from typing import Final

from txsentinel.server.commands import (
    acl,
    client,
    command,
    connection,
    pubsub,
    sentinel_changes,
    sentinel_container,
    sentinel_queries,
    sentinel_settings,
    server,
    tracking,
    txsentinel,
    txsentinel_membership,
    txsentinel_pauses,
    txsentinel_switchovers,
)
from txsentinel.server.table import build_table

MODULES: Final = (
    acl.COMMANDS,
    connection.COMMANDS,
    client.COMMANDS,
    tracking.COMMANDS,
    command.COMMANDS,
    pubsub.COMMANDS,
    sentinel_container.COMMANDS,
    sentinel_changes.COMMANDS,
    sentinel_queries.COMMANDS,
    sentinel_settings.COMMANDS,
    server.COMMANDS,
    txsentinel.COMMANDS,
    txsentinel_membership.COMMANDS,
    txsentinel_switchovers.COMMANDS,
    txsentinel_pauses.COMMANDS,
)
"""The commands with their handlers, in the order in which COMMAND lists them."""

TABLE: Final = build_table(*MODULES)
"""The table of all commands, before ``rename-command``."""
