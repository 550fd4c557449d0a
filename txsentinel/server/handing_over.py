"""What Sentinels that are about to be stopped do for others is handed over, before a host counts as drained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from txsentinel.core.fan_out import PeerAnswer
from txsentinel.core.instances import Master, Peer
from txsentinel.model.timings import Millis
from txsentinel.server.fan_out import ask_peers
from txsentinel.server.membership_orders import MembershipServices, wall_now
from txsentinel.wire.resp import data

LEASE_TIMEOUT: Final[Millis] = 6_000
"""How long it is waited for leases that another Sentinel takes over."""

CHECK_SECONDS: Final = 0.1
"""Interval at which that is looked for."""


async def hand_over(
    services: MembershipServices, leaving: Sequence[str], masters: Sequence[Master], period: Millis
) -> list[str]:
    """
    Have what Sentinels do taken over by those that stay.

    :param leaving: IDs of those that are about to be stopped; nothing is done if there is none.
    :param period: for how long that counts; with 0 they stay after all.
    :returns: what was not taken over, one sentence for each.
    """
    core, host = services.core, services.host
    if not leaving:
        return []
    began_at = host.now()
    peers: dict[str, Peer] = {}
    for master in masters:
        if not master.gone:
            peers.update({peer.name: peer for peer in core.fan_out.peers(master.name)})
    words = [b"TXSENTINEL", b"LEAVING", b"%d" % period, *(data(each) for each in leaving)]
    core.leaving.announced(leaving, period, began_at, wall_now(services))
    await ask_peers(services, list(peers.values()), words)
    services.turn()
    if not period:
        return []
    kept: list[str] = []
    if core.options.my_id in leaving:
        answers = await _records_sent(services)
        staying = [each for each in answers if each.peer_id not in leaving and each.kind == "txsentinel"]
        failed = {f"{each.address.joined()} has not stored all records: {each.error}" for each in staying if each.error}
        kept += sorted(failed)
    while core.leaving.leases_to_hand_over(began_at, host.now()) and host.now() - began_at < LEASE_TIMEOUT:
        core.pauses.peer_connected(host.now())
        services.turn()
        await deferLater(host.reactor, CHECK_SECONDS)
    for name in core.leaving.leases_to_hand_over(began_at, host.now()):
        kept.append(f"{name}: no other Sentinel has taken over the votes of the C Sentinels")
    return kept


async def _records_sent(services: MembershipServices) -> list[PeerAnswer]:
    """Send all records to the others once more, and return their answers."""
    core, host = services.core, services.host
    found: list[PeerAnswer] = []
    all_answered: Deferred[None] = Deferred()
    missing = 0

    def answered(answers: Sequence[PeerAnswer]) -> None:
        nonlocal missing
        found.extend(answers)
        missing -= 1
        if not missing and not all_answered.called:
            all_answered.callback(None)

    missing = core.leaving.send_records(host.now(), wall_now(services), answered)
    services.turn()
    if missing:
        await all_answered
    return found
