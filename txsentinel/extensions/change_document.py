"""A change of a master as the JSON document that stores of keys get."""

from __future__ import annotations

from typing import Any

from txsentinel.model.plain import plain
from txsentinel.model.snapshots import MasterChange


def change_document(change: MasterChange) -> dict[str, Any]:
    """Return the document; bytes of the name that are no UTF-8 are replaced."""
    return {
        "master": change.master.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        "address": str(change.address),
        "host": change.address.host,
        "port": change.address.port,
        "previous": None if change.previous is None else str(change.previous),
        "config_epoch": change.config_epoch,
        "kind": change.kind,
        "at": plain(change.at),
        "trace_id": change.trace_id,
    }
