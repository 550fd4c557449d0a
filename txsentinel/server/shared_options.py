"""The options of a master that should be equal on all Sentinels; passwords and paths of scripts are not among them."""

from __future__ import annotations

import hashlib
from typing import Final

from txsentinel.config.guards import guard_fields
from txsentinel.core.instances import Master

HASH_DIGITS: Final = 16
"""Hexadecimal digits of the hash of the options."""


def shared_options(master: Master) -> dict[str, str]:
    """Return the options by their names in ``sentinel.conf``; a renamed command has its own name."""
    options = master.options
    rows = [
        ("quorum", options.quorum),
        ("down-after-milliseconds", options.down_after),
        ("failover-timeout", options.failover_timeout),
        ("parallel-syncs", options.parallel_syncs),
        ("master-reboot-down-after-period", options.reboot_down_after),
        ("auth-user", options.auth_user or ""),
        *sorted(options.renamed_commands.items()),
        *guard_fields(options.guards, options.down_after).items(),
    ]
    return {name: str(value) for name, value in rows}


def options_hash(master: Master) -> str:
    """Return a hash of these options."""
    lines = "\n".join(f"{name} {value}" for name, value in shared_options(master).items())
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:HASH_DIGITS]
