"""
Removal of a member at C Sentinels, which forget one only by ``SENTINEL RESET``.

They are reset one after the other. One that was reset knows no other Sentinel for about a second, and no replica for up
to ten. Meanwhile it votes for others, but cannot lead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from twisted.internet.task import deferLater

from txsentinel.core.fan_out import PeerAnswer, kind_of
from txsentinel.core.instances import Master, Peer
from txsentinel.core.quorum import is_reachable, reachable_sentinels, votes_needed
from txsentinel.core.selection import unfit_because
from txsentinel.model.timings import Millis
from txsentinel.server.fan_out import ask_peers
from txsentinel.server.membership_orders import MembershipServices
from txsentinel.wire.resp import data

RESET_DISTANCE: Final[Millis] = 30_000
"""Shortest time between the resets of two Sentinels."""

RECOVERY_TIMEOUT: Final[Millis] = 60_000
"""How long a Sentinel may take to discover the group again."""

CHECK_SECONDS: Final = 0.5

REMOVED: Final = "removed by a reset"

_SPECIAL: Final = re.compile(r"([\\*?\[\]])")
"""Characters of a pattern."""


async def reset_in_turn(services: MembershipServices, master: Master, leaving: str) -> dict[str, str]:
    """
    Reset the C Sentinels of ``master`` one after the other.

    :param leaving: the name of the member that they are to forget.
    :returns: by the ID of each C Sentinel, what was done; the first failure ends it.
    """
    host, outcomes, problem = services.host, dict[str, str](), ""
    waiting = [peer for peer in master.peers.values() if kind_of(peer) == "c" and peer.name != leaving]
    last: Millis | None = None
    for peer in waiting:
        if last is not None and not problem:
            await deferLater(host.reactor, max(0, last + RESET_DISTANCE - host.now()) / 1000)
        problem = problem or _obstacle(services, master, peer)
        if not problem:
            last = host.now()
            problem = await _reset(services, master, peer)
        outcomes[peer.name] = f"keeps it: {problem}" if problem else REMOVED
    return outcomes


def _obstacle(services: MembershipServices, master: Master, peer: Peer) -> str:
    """Return why a Sentinel must not be reset now; empty if it may be."""
    now = services.host.now()
    if master.gone:
        return "the master is not monitored any more"
    if master.is_down or master.failover is not None:
        return "the master is down, or being failed over"
    if not is_reachable(peer):
        return "it is not connected"
    reachable, needed = reachable_sentinels(master), votes_needed(master)
    if reachable < needed:
        return f"only {reachable} of {master.voters} Sentinels can be reached, {needed} are needed for a failover"
    timings = services.core.timings
    if all(unfit_because(replica, master, timings, now) is not None for replica in master.replicas.values()):
        return "no replica could be promoted meanwhile"
    return ""


async def _reset(services: MembershipServices, master: Master, peer: Peer) -> str:
    """Reset one Sentinel, and wait until it knows the group again; return what failed, empty if nothing."""
    name = master.name
    answer = await _ask(services, peer, b"RESET", data(_SPECIAL.sub(r"\\\1", name)))
    if answer.error is not None:
        return answer.error
    deadline = services.host.now() + RECOVERY_TIMEOUT
    while True:
        await deferLater(services.host.reactor, CHECK_SECONDS)
        missing = await _missing(services, master, peer)
        if not missing:
            return ""
        if services.host.now() > deadline:
            return f"it was reset, but {missing} after {RECOVERY_TIMEOUT // 1000} s"


async def _missing(services: MembershipServices, master: Master, peer: Peer) -> str:
    """Return what a Sentinel lacks after its reset; empty if nothing."""
    quorum = await _ask(services, peer, b"CKQUORUM", data(master.name))
    if quorum.error is not None:
        return f"answers {quorum.error}"
    listed = await _ask(services, peer, b"REPLICAS", data(master.name))
    known = len(listed.reply) if isinstance(listed.reply, list) else 0
    expected = sum(1 for replica in master.replicas.values() if not replica.is_down)
    return "" if known >= expected else f"knows {known} of {expected} replicas"


async def _ask(services: MembershipServices, peer: Peer, *words: bytes) -> PeerAnswer:
    command = (b"SENTINEL", *words)
    asked = ask_peers(services, [peer], command, for_c=command)
    services.turn()
    answers: Sequence[PeerAnswer] = await asked
    return answers[0]
