"""Warnings about announced addresses that cannot be used; each address is logged once."""

from __future__ import annotations

from typing import Final

from txsentinel.core.instances import Master
from txsentinel.core.state import SentinelState
from txsentinel.model.address import HOST_NAME, canonical_ip
from txsentinel.model.events import Level
from txsentinel.model.log_text import excerpt

MAX_WARNINGS: Final = 32
"""Maximum number of ignored addresses that are logged per master; one more line reports that there are others."""

NAMES_NOT_RESOLVED: Final = "it is a name, and names are not resolved without 'sentinel resolve-hostnames yes'"
NO_ADDRESS: Final = "it is neither an IP address nor the name of a host"


def warn_ignored(state: SentinelState, master: Master, subject: str, host: str, port: int) -> None:
    """
    Log a warning that ``subject`` is ignored because of its address, unless it was logged before.

    :param subject: part of the line, such as ``a replica of mymaster``.
    :param host: the announced text; it may have any length and contain any character.
    """
    shown = f"'{excerpt(host)}'"
    place = f"{subject} at {shown} port {port}"
    warned = master.ignored_addresses
    if place in warned or len(warned) > MAX_WARNINGS:
        return
    warned[place] = None
    if len(warned) > MAX_WARNINGS:
        state.note(Level.WARNING, f"Ignored further addresses announced for {master.name}; they are no longer logged")
        return
    named = HOST_NAME.fullmatch(host) is not None and canonical_ip(host) is None
    reason = NAMES_NOT_RESOLVED if named and not state.options.resolve_hostnames else NO_ADDRESS
    state.note(Level.WARNING, f"Ignored {place}: {reason}")
