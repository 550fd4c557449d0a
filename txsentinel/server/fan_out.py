"""Commands of TXSENTINEL that a Sentinel passes on to the others of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from txsentinel.core.fan_out import FAN_OUT_TIMEOUT, PeerAnswer
from txsentinel.core.instances import Peer
from txsentinel.core.sentinel import SentinelCore
from txsentinel.interfaces import IHost
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import Value


class FanOutServices(Protocol):
    """What sending commands to peers needs."""

    core: SentinelCore
    host: IHost


def ask_peers(
    services: FanOutServices,
    peers: Sequence[Peer],
    words: Sequence[bytes],
    timeout: Millis = FAN_OUT_TIMEOUT,
    for_c: Sequence[bytes] | None = None,
) -> Deferred[Sequence[PeerAnswer]]:
    """
    Send one command to those of ``peers`` that are of our kind.

    :param peers: usually ``services.core.fan_out.peers(name)``.
    :param words: the command from ``TXSENTINEL`` on. It must be answered at once, or when its change is durable.
    :param for_c: a command for C Sentinels; without it they are sent none.
    :returns: fires with one answer for each of ``peers``, in the order of their IDs, after ``timeout`` at most.
    """
    answered: Deferred[Sequence[PeerAnswer]] = Deferred()
    services.core.fan_out.send(peers, words, services.host.now(), answered.callback, timeout, for_c)
    return answered


def peer_table(answers: Sequence[PeerAnswer], *, by_hostname: bool) -> list[Value]:
    """Return answers as the rows of a reply: ID, address, kind, and ``result``, ``ok`` or an error."""
    return [
        {
            "id": answer.peer_id,
            "address": answer.address.joined(by_hostname),
            "kind": answer.kind,
            "result": "ok" if answer.error is None else answer.error,
        }
        for answer in answers
    ]
