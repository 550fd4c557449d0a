"""The role of a server in replication."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """The role that a server reports; the value is the word of the protocol."""

    MASTER = "master"
    REPLICA = "slave"
