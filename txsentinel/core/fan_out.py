"""
TXSENTINEL commands to the peers of our kind, over the links to them, and their answers within a time limit.

A peer executes such a command with the rights of the user that ``sentinel-user`` names, like that of any client. C
Sentinels are not sent one: the marker in its hellos shows what a peer is. They may be sent another command instead.

Right after a restart no hello of a peer has arrived. It is sent the command then, and the reply shows what it is: a C
Sentinel does not know the command, and is not sent a second one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from txsentinel.core.effects import ReportAnswers, SendCommand
from txsentinel.core.instances import InstanceLink, Peer
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.model.address import Address
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine

FAN_OUT_TIMEOUT: Final[Millis] = 1_000
"""How long answers are waited for by default."""

MAX_FAN_OUTS: Final = 1_000
"""Maximum number of commands whose answers are awaited at the same time."""


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """
    The answer of one peer.

    ``kind`` is ``txsentinel``, ``c`` or ``unknown``; ``sent_at`` is when the command was sent. ``error`` is an error
    reply, or why there is no reply; ``reply`` is the reply as it was parsed, where a map is a flat list.
    """

    peer_id: str
    address: Address
    kind: str
    sent_at: Millis
    reply: Any = None
    error: str | None = None


AnswersReceiver: TypeAlias = Callable[[Sequence[PeerAnswer]], None]
"""Receives the answers, one for each peer, in the order of their IDs."""


@dataclass(slots=True, eq=False)
class _Request:
    """A command that was sent to several peers. ``waiting`` has the peers that have not answered, by link."""

    sent_at: Millis
    until: Millis
    receiver: AnswersReceiver
    answers: list[PeerAnswer] = field(default_factory=list)
    waiting: dict[InstanceLink, Peer] = field(default_factory=dict)


class FanOut:
    """Sends commands to peers, and collects the answers."""

    def __init__(self, state: SentinelState, registry: Registry) -> None:
        self._state = state
        self._registry = registry
        self._requests: dict[int, _Request] = {}
        self._last = 0

    def __len__(self) -> int:
        """Return the number of requests that wait for answers."""
        return len(self._requests)

    def peers(self, name: str | None = None) -> list[Peer]:
        """
        Return the peers of a master, or of all masters, in the order of their IDs; each Sentinel once.

        :raises NoSuchMaster: if no master of that name is monitored.
        """
        masters = self._registry.masters.values() if name is None else [self._registry.master(name)]
        found = {peer.name: peer for master in masters for peer in master.peers.values()}
        return [found[peer_id] for peer_id in sorted(found)]

    def send(
        self,
        peers: Iterable[Peer],
        words: Sequence[bytes],
        now: Millis,
        receiver: AnswersReceiver,
        timeout: Millis = FAN_OUT_TIMEOUT,
        for_c: Sequence[bytes] | None = None,
    ) -> None:
        """
        Send one command to those of ``peers`` that are of our kind, and another one to the C Sentinels if wanted.

        The command must be one that is answered at once or when its change is durable, as answers to other questions on
        the same link wait for it.

        :param peers: see :meth:`peers`; those of another kind are in the answers, too, with an error.
        :param receiver: called once, not from within this call.
        :param for_c: a command that C Sentinels have; without it they are sent none.
        """
        self._last += 1
        request = _Request(now, now + timeout, receiver)
        full = len(self._requests) >= MAX_FAN_OUTS
        for peer in peers:
            problem = "too many commands to other Sentinels are unanswered" if full else _obstacle(peer, for_c)
            if problem is None and peer.link in request.waiting:
                problem = "another Sentinel has the same address"
            if problem is not None:
                request.answers.append(_answer(request, peer, None, problem))
                continue
            request.waiting[peer.link] = peer
            chosen = for_c if for_c is not None and kind_of(peer) == "c" else words
            self._state.emit(SendCommand(peer.link, self._last, tuple(chosen)), probe=True)
        self._requests[self._last] = request
        self._finish_if_complete(self._last, request)

    def replied(self, link: InstanceLink, number: int, reply: object) -> None:
        """Handle a reply to the command of that number."""
        request = self._requests.get(number)
        peer = None if request is None else request.waiting.pop(link, None)
        if request is None or peer is None:
            return
        error = text(reply) if isinstance(reply, ErrorLine) else None
        if kind_of(peer) == "unknown":
            error = self._reveals_kind(link, error)
        request.answers.append(_answer(request, peer, None if error is not None else reply, error))
        self._finish_if_complete(number, request)

    @staticmethod
    def _reveals_kind(link: InstanceLink, error: str | None) -> str | None:
        """Take what a peer is from its reply to a command of TXSENTINEL; return the error of its answer."""
        is_c = error is not None and error.startswith("ERR unknown command")
        if error is not None and not is_c:
            # It may be a missing right, or a C Sentinel that requires a password.
            return error
        for each in link.instances:
            if isinstance(each, Peer) and not each.kind_known:
                each.is_txsentinel, each.kind_known = not is_c, True
        return "it is a C Sentinel" if is_c else None

    def link_down(self, link: InstanceLink, reason: str) -> None:
        """Handle the loss of a connection, with the commands that were unanswered on it."""
        for number, request in list(self._requests.items()):
            peer = request.waiting.pop(link, None)
            if peer is not None:
                request.answers.append(_answer(request, peer, None, f"the connection was lost: {reason}"))
                self._finish_if_complete(number, request)

    def expire(self, now: Millis) -> None:
        """Stop waiting for answers whose time limit has passed."""
        for number, request in list(self._requests.items()):
            if request.until <= now:
                for peer in request.waiting.values():
                    request.answers.append(_answer(request, peer, None, "no answer in time"))
                request.waiting.clear()
                self._finish_if_complete(number, request)

    def _finish_if_complete(self, number: int, request: _Request) -> None:
        if not request.waiting:
            del self._requests[number]
            answers = sorted(request.answers, key=_id_of)
            self._state.emit(ReportAnswers(lambda: request.receiver(answers)), probe=True)


def _id_of(answer: PeerAnswer) -> str:
    return answer.peer_id


def _obstacle(peer: Peer, for_c: Sequence[bytes] | None) -> str | None:
    """Return why a peer is not sent a command; ``None`` if it is."""
    kind = kind_of(peer)
    if kind == "unknown" and for_c is not None:
        return "no hello of it has arrived yet, so its kind is unknown"
    if kind == "c" and for_c is None:
        return "it is a C Sentinel"
    return None if peer.link.commands_up else "it is not connected"


def kind_of(peer: Peer) -> str:
    """Return what a peer is, also according to its hellos about other masters."""
    if peer.kind_known:
        return peer.kind
    ours = peer.link.is_txsentinel
    return "unknown" if ours is None else "txsentinel" if ours else "c"


def _answer(request: _Request, peer: Peer, reply: object, error: str | None) -> PeerAnswer:
    return PeerAnswer(peer.name, peer.address, kind_of(peer), request.sent_at, reply, error)
