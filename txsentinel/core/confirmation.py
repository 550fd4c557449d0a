"""
Sentinels that somebody named and that have not told their ID themselves yet.

Anybody who reaches our port, or may publish on a server, can name a Sentinel in a hello. C Sentinels file and count
each of them: some hundred invented ones crowd out the real ones and raise the majority until no failover is possible.
Here an ID at an address is filed only after whoever listens there answered ``SENTINEL MYID`` with that ID, on a
connection that we made. The same holds for a known ID at another address and for another ID at a known address.
Nothing that a hello says is believed before that; the last one of each master is kept and processed as soon as its
sender is confirmed, so that discovery takes one round trip more.

Answers other than an ID:

- Sentinels before Redis 6.2 do not know the subcommand, and an ACL may forbid it (``NOPERM``). Both show that a
  Sentinel listens at the address (other servers do not know the command), but not which one. It is filed under the ID
  of its hello if nobody else is filed at that address, or if whoever is has not been named for some hello periods. An
  invented ID thus displaces one at most and never adds to their number.
- Another ID, or an unknown command: the hello is dropped.
- Anything else confirms nothing, and the next hello is another attempt. ``NOAUTH`` is such an answer, as Valkey 9
  gives it to unknown commands, too. A Sentinel whose password we do not have could not be asked or vote anyway.

**The majority.** It must never be smaller than the true one, or two Sentinels can each be elected in one epoch by
disjoint sets of voters. Consider a group of five whose firewall blocks the port of the Sentinels between two sites:
two of them confirm each other only, and with a quorum of two they would elect a leader beside the one that the other
three elect. What shows the absent three is that their hellos arrive through the servers, every two seconds. So
whoever is named at least twice, a hello period apart, through a server that we monitor counts for the majority
without being confirmed (:class:`Unconfirmed`, ``Master.voters``), as with C Sentinels. Only confirmed ones are asked
and can vote.

Strangers who reach only our port cannot have themselves counted at all. Strangers who may publish on a monitored
server can, but not beyond ``MAX_COUNTED``: if there are more than that many, which no group has, none is counted. And
they count only while the hellos go on. One that was not heard for ``UNHEARD`` milliseconds before the last sign on
the subscription of the master counts no more. That clock stands still while the master is silent, so a Sentinel on
the minor side of a partition does not forget the other side by waiting.

Peers in the configuration file were confirmed when they were written there, by us or by an operator's hand; they are
filed from the start and stay.

**Bounds.** Sentinels named by direct PUBLISH and Sentinels named through a server have ``MAX_WAITING`` places each and
``MAX_CONNECTIONS_PER_SECOND`` connection attempts each, so that neither source can displace the other. If there is no
place, the Sentinel that has waited longest gives way: it had more time than a round trip takes, and a real one repeats
its hello.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from txsentinel.core.effects import RequestId
from txsentinel.core.instances import Master
from txsentinel.core.link import InstanceLink
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.model.address import Address
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine, Status

MAX_WAITING: Final = 32
"""Unconfirmed Sentinels that we try to reach at a time, of each source."""

MAX_CONNECTIONS_PER_SECOND: Final = 50
"""New connections per second to unconfirmed Sentinels, of each source."""

ANSWER_TIMEOUT: Final[Millis] = 3_000
"""How long connecting and answering may take together; then the connection is closed until the next hello."""

FORGET_PERIODS: Final = 5
"""Hello periods without a hello after which an unconfirmed Sentinel is not tried any more."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A Sentinel that was named and is to tell its ID."""

    peer_id: str
    address: Address
    through_server: bool
    received_at: Millis
    tried_at: Millis = 0
    link: InstanceLink | None = None
    """The connection to ask over; ``None`` between two attempts."""

    hellos: dict[str, bytes] = field(default_factory=dict)
    """Master name → the last hello about it."""


class Confirmations:
    """
    Has new Sentinels tell their ID.

    :param confirmed: called once somebody has, with the connection over which it was told.
    """

    def __init__(
        self, state: SentinelState, registry: Registry, confirmed: Callable[[Waiting, InstanceLink, Millis], None]
    ) -> None:
        self._state = state
        self._registry = registry
        self._confirmed = confirmed
        self._waiting: dict[tuple[str, str, int], Waiting] = {}
        """By ID, host and port; in the order in which they were first named."""

        self._dials: dict[bool, tuple[Millis, int]] = {}
        """Through a server or not → since when connections are counted, and how many there were."""

    def __len__(self) -> int:
        """How many are waiting."""
        return len(self._waiting)

    def named(
        self, peer_id: str, address: Address, master: Master, payload: bytes, now: Millis, *, through_server: bool
    ) -> None:
        """A hello names ``peer_id`` at ``address``, which is not filed so."""
        key = (peer_id, address.hostname.casefold(), address.port)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = Waiting(peer_id, address, through_server, now)
            self._evict(through_server)
            self._waiting[key] = waiting
        waiting.received_at = now
        waiting.through_server = waiting.through_server or through_server
        waiting.hellos[master.name] = payload
        if address.resolved:
            waiting.address = address
        self._try(waiting, now)

    def resolved(self, address: Address, ip: str, now: Millis) -> None:
        """A name was looked up that somebody may have announced."""
        name = address.hostname.casefold()
        for waiting in list(self._waiting.values()):
            if waiting.link is None and not waiting.address.ip and waiting.address.hostname.casefold() == name:
                waiting.address = Address(waiting.address.hostname, ip, waiting.address.port)
                self._try(waiting, now)

    def link_up(self, link: InstanceLink, now: Millis) -> None:
        """A connection is there; ask if somebody waits for it."""
        if any(waiting.link is link for waiting in self._waiting.values()):
            self._state.emit(RequestId(link), probe=True)

    def link_down(self, link: InstanceLink) -> None:
        """A connection was lost, or an attempt failed: try again with the next hello."""
        for waiting in list(self._waiting.values()):
            if waiting.link is link:
                self._leave(waiting)

    def answered(self, link: InstanceLink, reply: object, now: Millis) -> None:
        """Take in the answer to SENTINEL MYID."""
        concerned = [waiting for waiting in self._waiting.values() if waiting.link is link]
        if not concerned:
            return
        if isinstance(reply, ErrorLine):
            if _from_a_sentinel(reply):
                self._confirm_by_hello(concerned, now)
                return
            if not reply.startswith(b"ERR unknown command"):
                for waiting in concerned:
                    self._log_failure(waiting, text(reply))
                    self._leave(waiting)
                return
        answer = text(reply) if isinstance(reply, bytes) and not isinstance(reply, (Status, ErrorLine)) else None
        for waiting in concerned:
            if waiting.peer_id == answer:
                self._confirm(waiting, now)
            else:
                self._drop(waiting)

    def sweep(self, now: Millis) -> None:
        """Give up whoever does not answer, or is named no more."""
        if not self._waiting:
            return
        forget = FORGET_PERIODS * self._state.timings.publish_period
        for waiting in list(self._waiting.values()):
            if now - waiting.received_at > forget:
                self._drop(waiting)
            elif waiting.link is not None and now - waiting.tried_at > ANSWER_TIMEOUT:
                self._leave(waiting)

    def forget(self, master: Master) -> None:
        """``master`` is not monitored any more, or begins anew."""
        for waiting in list(self._waiting.values()):
            waiting.hellos.pop(master.name, None)
            if not waiting.hellos:
                self._drop(waiting)

    def _try(self, waiting: Waiting, now: Millis) -> None:
        """Ask, over the connection that there is to that address or a new one."""
        if waiting.link is not None:
            return
        if not waiting.address.resolved:
            self._registry.resolve_later(waiting.address)
            return
        if waiting.tried_at and now - waiting.tried_at < self._state.timings.ping_period:
            return
        link = self._link_to(waiting.address)
        if link is None:
            if not self._may_connect(waiting.through_server, now):
                return
            link = self._registry.open_peer_link(waiting.address, now)
        waiting.link, waiting.tried_at = link, now
        if link.commands_up:
            self._state.emit(RequestId(link), probe=True)

    def _link_to(self, address: Address) -> InstanceLink | None:
        for waiting in self._waiting.values():
            if waiting.link is not None and not waiting.link.closed and waiting.link.address.same(address):
                return waiting.link
        filed = self._registry.peer_at(address)
        return None if filed is None else filed.link

    def _may_connect(self, through_server: bool, now: Millis) -> bool:
        since, count = self._dials.get(through_server, (now, 0))
        if now - since >= 1_000:
            since, count = now, 0
        if count >= MAX_CONNECTIONS_PER_SECOND:
            return False
        self._dials[through_server] = since, count + 1
        return True

    def _evict(self, through_server: bool) -> None:
        same_source = [waiting for waiting in self._waiting.values() if waiting.through_server == through_server]
        if len(same_source) >= MAX_WAITING:
            # Between two attempts nobody loses anything but the throttle of the next.
            self._drop(next((waiting for waiting in same_source if waiting.link is None), same_source[0]))

    def _confirm(self, waiting: Waiting, now: Millis) -> None:
        del self._waiting[self._key(waiting)]
        link, waiting.link = waiting.link, None
        assert link is not None
        self._confirmed(waiting, link, now)
        self._close_if_unused(link)

    def _confirm_by_hello(self, concerned: list[Waiting], now: Millis) -> None:
        """A Sentinel is there and does not tell its ID: take the hello's word for it where that adds nobody."""
        first, *others = concerned
        recent = now - 3 * self._state.timings.publish_period
        filed = self._registry.peer_at(first.address)
        elsewhere = self._registry.peers_known_as(first.peer_id)
        alive = filed is not None and filed.hello_received_at > recent
        if alive or any(peer.link.commands_up for peer in elsewhere):
            self._drop(first)
        else:
            self._confirm(first, now)
        for waiting in others:
            self._drop(waiting)

    def _log_failure(self, waiting: Waiting, error: str) -> None:
        self._state.complain(
            "A Sentinel is not counted before it tells its ID",
            f"Sentinel {waiting.peer_id} at {waiting.address.joined()} cannot be asked for its ID: {error}",
        )

    def _leave(self, waiting: Waiting) -> None:
        """Wait for the next hello."""
        link, waiting.link = waiting.link, None
        self._close_if_unused(link)

    def _drop(self, waiting: Waiting) -> None:
        self._waiting.pop(self._key(waiting), None)
        self._leave(waiting)

    def _close_if_unused(self, link: InstanceLink | None) -> None:
        if link is not None and not any(waiting.link is link for waiting in self._waiting.values()):
            self._registry.close_unused([link])

    @staticmethod
    def _key(waiting: Waiting) -> tuple[str, str, int]:
        return waiting.peer_id, waiting.address.hostname.casefold(), waiting.address.port


def _from_a_sentinel(error: bytes) -> bool:
    """Whether this is how a Sentinel refuses MYID that does not know it, or may not tell us."""
    return error.lower().startswith((b"noperm", b"err unknown subcommand", b"err unknown sentinel subcommand"))
