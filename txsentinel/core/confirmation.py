"""
Confirmation of Sentinels that a hello named: each must report its ID before it becomes a peer.

Any client that can connect to this Sentinel, or may publish on a server, can announce a Sentinel in a hello. C
Sentinels register and count each of them: a few hundred forged ones displace the real ones and raise the majority until
no failover is possible. Here an ID at an address is registered only after the process at that address answered
``SENTINEL MYID`` with that ID, on a connection that this Sentinel made. The same applies to a known ID at another
address and to another ID at a known address. A hello has no effect before that. The last one for each master is kept
and processed as soon as its sender is confirmed, so discovery takes one more round trip.

Answers other than an ID:

- Sentinels before Redis 6.2 do not support the subcommand, and an ACL may forbid it (``NOPERM``). Both show that a
  Sentinel listens at the address (other servers do not support the command), but not which one. It is registered under
  the ID of its hello if no other peer is registered at that address, or if the one there has sent no hello for some
  hello periods. A forged ID thus displaces at most one peer and never increases their number.
- Another ID, or an unknown command: the hello is discarded.
- Any other reply confirms nothing, and the next hello causes another attempt. ``NOAUTH`` is one of these, as Valkey 9
  also sends it for unknown commands. A Sentinel whose password is not configured here could not be asked anyway.

**The majority.** It must never be smaller than the true majority, or two Sentinels can each be elected in one epoch by
disjoint sets of voters. Consider a group of five whose firewall blocks the port of the Sentinels between two sites:
the two on one site confirm only each other, and with a quorum of two they would elect a leader beside the one that the
other three elect. The hellos of those three, however, arrive through the servers every two seconds. Therefore a
Sentinel counts for the majority without being confirmed (:class:`Unconfirmed`, ``Master.voters``), as with C
Sentinels, if at least two hellos of it, a hello period apart, arrived through a monitored server. Only confirmed
Sentinels are asked and can vote.

Clients that can reach only this Sentinel's port cannot make it count anything. Clients that may publish on a monitored
server can, up to ``MAX_COUNTED``: if there are more unconfirmed Sentinels than that, which no real group has, none is
counted. They count only while their hellos continue: one whose last hello is more than ``UNCONFIRMED_EXPIRY``
milliseconds older than the last message on the master's subscription no longer counts. That clock stops while the
subscription is silent, so a Sentinel on the minority side of a partition does not forget the other side if the master
is there. If the master is on its own side it does: where ports are blocked, only a file that names all Sentinels helps.

Peers in the configuration file were confirmed when they were written there, by a Sentinel or by an operator; they are
registered from the start and stay.

**Bounds.** Sentinels announced by a direct PUBLISH and Sentinels announced through a server have ``MAX_WAITING``
entries each and ``MAX_CONNECTIONS_PER_SECOND`` connection attempts each, so that neither source can displace the other.
When all entries are taken, the oldest one is discarded: it had more time than a round trip takes, and a real Sentinel
repeats its hello.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from txsentinel.core.effects import RequestId
from txsentinel.core.instances import InstanceLink, Master
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.model.address import Address
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine, Status

MAX_WAITING: Final = 32
"""Maximum number of Sentinels of each source that wait for confirmation."""

MAX_CONNECTIONS_PER_SECOND: Final = 50
"""Maximum number of new connections per second to unconfirmed Sentinels of each source."""

ANSWER_TIMEOUT: Final[Millis] = 3_000
"""Timeout for connecting and answering together; after it the connection is closed until the next hello."""

EXPIRY_PERIODS: Final = 5
"""Number of hello periods without a hello after which an unconfirmed Sentinel is discarded."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A Sentinel that a hello announced and whose ID is not confirmed."""

    peer_id: str
    address: Address
    through_server: bool
    received_at: Millis
    tried_at: Millis = 0
    link: InstanceLink | None = None
    """The link over which its ID is requested; ``None`` between two attempts."""

    logged: bool = False
    """Whether it was logged that it cannot be reached."""

    failure: str = ""
    """Why its ID could not be requested at the last attempt; empty if it was not tried, or answered."""

    hellos: dict[str, bytes] = field(default_factory=dict)
    """Master name → the last hello about it."""


class Confirmations:
    """
    Requests the IDs of new Sentinels.

    :param confirmed: called for each Sentinel whose ID was confirmed, with the link over which it was requested.
    """

    def __init__(
        self, state: SentinelState, registry: Registry, confirmed: Callable[[Waiting, InstanceLink, Millis], None]
    ) -> None:
        self._state = state
        self._registry = registry
        self._confirmed = confirmed
        self._waiting: dict[tuple[str, str, int], Waiting] = {}
        """By ID, host and port; in the order of their first hello."""

        self._attempts: dict[bool, tuple[Millis, int]] = {}
        """Whether announced through a server → start of the current second, number of connections since then."""

    def __len__(self) -> int:
        """Return the number of Sentinels that wait for confirmation."""
        return len(self._waiting)

    def named(
        self, peer_id: str, address: Address, master: Master, payload: bytes, now: Millis, *, through_server: bool
    ) -> None:
        """Handle a hello that announces ``peer_id`` at ``address``, which is not registered so."""
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
        """Handle the result of a name resolution: Sentinels that wait for it are tried."""
        name = address.hostname.casefold()
        for waiting in list(self._waiting.values()):
            if waiting.link is None and not waiting.address.ip and waiting.address.hostname.casefold() == name:
                waiting.address = Address(waiting.address.hostname, ip, waiting.address.port)
                self._try(waiting, now)

    def link_up(self, link: InstanceLink, now: Millis) -> None:
        """Handle an established connection: request the ID if a Sentinel waits for it."""
        if any(waiting.link is link for waiting in self._waiting.values()):
            self._state.emit(RequestId(link), probe=True)

    def link_down(self, link: InstanceLink, reason: str) -> None:
        """Handle a lost connection or a failed attempt: the next hello causes another attempt."""
        for waiting in list(self._waiting.values()):
            if waiting.link is link:
                self._log_unreachable(waiting, reason)
                self._await_next_hello(waiting)

    def answered(self, link: InstanceLink, reply: object, now: Millis) -> None:
        """Handle the reply to ``SENTINEL MYID``."""
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
                    self._await_next_hello(waiting)
                return
        answer = text(reply) if isinstance(reply, bytes) and not isinstance(reply, (Status, ErrorLine)) else None
        for waiting in concerned:
            if waiting.peer_id == answer:
                self._confirm(waiting, now)
            else:
                self._drop(waiting)

    def sweep(self, now: Millis) -> None:
        """End attempts that have timed out, and discard Sentinels whose hellos have stopped."""
        if not self._waiting:
            return
        expiry = EXPIRY_PERIODS * self._state.timings.publish_period
        for waiting in list(self._waiting.values()):
            if now - waiting.received_at > expiry:
                self._drop(waiting)
            elif waiting.link is not None and now - waiting.tried_at > ANSWER_TIMEOUT:
                self._log_unreachable(waiting, f"no answer within {ANSWER_TIMEOUT} ms")
                self._await_next_hello(waiting)

    def forget(self, master: Master) -> None:
        """Discard all hellos about ``master``, which was removed or reset."""
        for waiting in list(self._waiting.values()):
            waiting.hellos.pop(master.name, None)
            if not waiting.hellos:
                self._drop(waiting)

    def _try(self, waiting: Waiting, now: Millis) -> None:
        """Request the ID, over an existing link to that address or a new one."""
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
        peer = self._registry.peer_at(address)
        return None if peer is None else peer.link

    def _may_connect(self, through_server: bool, now: Millis) -> bool:
        since, count = self._attempts.get(through_server, (now, 0))
        if now - since >= 1_000:
            since, count = now, 0
        if count >= MAX_CONNECTIONS_PER_SECOND:
            return False
        self._attempts[through_server] = since, count + 1
        return True

    def _evict(self, through_server: bool) -> None:
        same_source = [waiting for waiting in self._waiting.values() if waiting.through_server == through_server]
        if len(same_source) >= MAX_WAITING:
            # Prefer one between two attempts: it loses nothing but the delay of its next attempt.
            self._drop(next((waiting for waiting in same_source if waiting.link is None), same_source[0]))

    def _confirm(self, waiting: Waiting, now: Millis) -> None:
        del self._waiting[self._key(waiting)]
        link, waiting.link = waiting.link, None
        assert link is not None
        self._confirmed(waiting, link, now)
        self._close_if_unused(link)

    def _confirm_by_hello(self, concerned: list[Waiting], now: Millis) -> None:
        """A Sentinel listens at the address but does not report its ID: accept the hello's ID if that adds no peer."""
        first, *others = concerned
        recent = now - 3 * self._state.timings.publish_period
        registered = self._registry.peer_at(first.address)
        elsewhere = self._registry.peers_known_as(first.peer_id)
        alive = registered is not None and registered.hello_received_at > recent
        if alive or any(peer.link.commands_up for peer in elsewhere):
            self._drop(first)
        else:
            self._confirm(first, now)
        for waiting in others:
            self._drop(waiting)

    def unconfirmed(self, master: Master) -> list[Waiting]:
        """Return the Sentinels of ``master`` whose ID could not be confirmed, as they do not answer."""
        return [each for each in self._waiting.values() if master.name in each.hellos and each.failure]

    def _log_failure(self, waiting: Waiting, error: str) -> None:
        waiting.failure = error
        self._state.note_throttled(
            "A Sentinel is not counted before its ID is confirmed",
            f"Cannot request the ID of Sentinel {waiting.peer_id} at {waiting.address.joined()}: {error}",
        )

    def _log_unreachable(self, waiting: Waiting, reason: str) -> None:
        """Log once that a Sentinel whose hellos arrive through a server does not answer at its announced address."""
        waiting.failure = reason
        if waiting.through_server and not waiting.logged:
            waiting.logged = True
            hint = "it cannot vote, but counts for the majority; is it a firewall, NAT, or its sentinel announce-port?"
            self._log_failure(waiting, f"{reason.rstrip('.')}. Its hellos arrive through a server, so {hint}")

    def _await_next_hello(self, waiting: Waiting) -> None:
        """End the attempt; the next hello causes another one."""
        link, waiting.link = waiting.link, None
        self._close_if_unused(link)

    def _drop(self, waiting: Waiting) -> None:
        self._waiting.pop(self._key(waiting), None)
        self._await_next_hello(waiting)

    def _close_if_unused(self, link: InstanceLink | None) -> None:
        if link is not None and not any(waiting.link is link for waiting in self._waiting.values()):
            self._registry.close_unused([link])

    @staticmethod
    def _key(waiting: Waiting) -> tuple[str, str, int]:
        return waiting.peer_id, waiting.address.hostname.casefold(), waiting.address.port


def _from_a_sentinel(error: bytes) -> bool:
    """Whether this is the error of a Sentinel that does not support ``MYID``, or whose ACL forbids it."""
    return error.lower().startswith((b"noperm", b"err unknown subcommand", b"err unknown sentinel subcommand"))
