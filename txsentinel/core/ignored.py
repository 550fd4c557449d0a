"""Addresses that others announce and that cannot be used: each is named once in the log."""

from __future__ import annotations

from typing import Final

from txsentinel.core.instances import Master
from txsentinel.core.state import SentinelState
from txsentinel.model.address import HOST_NAME, canonical_ip
from txsentinel.model.events import Level
from txsentinel.model.log_text import excerpt

MAX_WARNINGS: Final = 32
"""Ignored addresses that are named per master; one more line says that there are others."""

NAMES_NOT_RESOLVED: Final = "it is a name, and names are not resolved without 'sentinel resolve-hostnames yes'"
NO_ADDRESS: Final = "it is neither an IP address nor the name of a host"


def warn_ignored(state: SentinelState, master: Master, subject: str, host: str, port: int) -> None:
    """
    Warn that ``subject`` is ignored because of its address, unless that was done before.

    :param subject: part of the line, such as ``a replica of mymaster``.
    :param host: the text that was announced, which may be of any length and hold any character.
    """
    shown = f"'{excerpt(host)}'"
    place = f"{subject} at {shown} port {port}"
    warned = master.ignored_addresses
    if place in warned or len(warned) > MAX_WARNINGS:
        return
    warned[place] = None
    if len(warned) > MAX_WARNINGS:
        state.note(Level.WARNING, f"Ignored more addresses announced for {master.name}, which are not named any more")
        return
    named = HOST_NAME.fullmatch(host) is not None and canonical_ip(host) is None
    reason = NAMES_NOT_RESOLVED if named and not state.options.resolve_hostnames else NO_ADDRESS
    state.note(Level.WARNING, f"Ignored {place}: {reason}")
