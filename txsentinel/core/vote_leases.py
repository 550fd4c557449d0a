"""
Leases of the votes of C Sentinels, which keep them from starting a failover for a time that ends by itself.

A C Sentinel that votes for another one starts no failover of that master for twice its ``failover-timeout``. So while
failovers are paused, one Sentinel of ours requests the vote of each C Sentinel in a fresh epoch, under its own ID, and
again after half of that time. If it dies, another one continues; if all do, the lease ends by itself. A lease does not
keep a C Sentinel from voting for others, nor from a failover that is ordered by ``SENTINEL FAILOVER`` there.

The lease is counted from when the request was sent, so it is over here before it is over there. A C Sentinel that was
restarted, or that has switched the master, may start a failover at once. So a lease does not count if the connection is
younger, or if the master was switched since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from txsentinel.core.fan_out import FanOut, PeerAnswer
from txsentinel.core.instances import Master, Peer
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.model.timings import Millis
from txsentinel.wire.numbers import canonical_integer
from txsentinel.wire.resp import data, text

RETRY_PERIOD: Final[Millis] = 1_000
"""How long after a failed request the next one is sent."""

MAX_ATTEMPTS: Final = 8
"""Votes that are requested in a row, each in a higher epoch, until one is given."""


@dataclass(slots=True)
class PeerLease:
    """
    What is known of the vote of one C Sentinel for one master.

    ``period`` is its ``failover-timeout``; ``problem`` is why the last request failed, ``None`` if it did not.
    """

    until: Millis = 0
    began_at: Millis = 0
    """When the request was sent that ``until`` is counted from, by whichever Sentinel."""

    asked_at: Millis | None = None
    """When its vote was last requested by this Sentinel."""

    pending: bool = False
    period: Millis = 0
    problem: str | None = None
    in_progress: bool = False
    """Whether it reports a failover in progress."""

    renew: bool = False
    """Whether the holder is to renew it at once, as the former one is about to be stopped."""


class VoteLeases:
    """The leases by name of the master and ID of the C Sentinel."""

    def __init__(self, state: SentinelState, registry: Registry, fan_out: FanOut) -> None:
        self._state = state
        self._registry = registry
        self._fan_out = fan_out
        self._leases: dict[tuple[str, str], PeerLease] = {}

    def get(self, name: str, peer_id: str) -> PeerLease | None:
        """Return the lease of a C Sentinel, held or not."""
        return self._leases.get((name, peer_id))

    def is_held(self, master: Master, peer: Peer, now: Millis) -> bool:
        """Whether a C Sentinel starts no failover of the master now."""
        lease = self._leases.get((master.name, peer.name))
        if lease is None or now >= lease.until or lease.in_progress:
            return False
        connected_at, switched_at = peer.link.commands_since, master.switched_at
        if connected_at is None or connected_at > lease.began_at:
            return False
        return switched_at is None or switched_at <= lease.began_at

    def residual(self, name: str, now: Millis) -> Millis | None:
        """Return when the last lease for a master ends; ``None`` if none is held."""
        return max(
            (each.until for (master, _), each in self._leases.items() if master == name and each.until > now),
            default=None,
        )

    def learn(self, name: str, peer_id: str, began_at: Millis, until: Millis) -> None:
        """Take over that another Sentinel of ours holds a lease."""
        lease = self._leases.setdefault((name, peer_id), PeerLease())
        if until > lease.until:
            lease.until, lease.began_at, lease.problem, lease.in_progress = until, began_at, None, False

    def known(self, master: Master, now: Millis) -> list[tuple[str, PeerLease]]:
        """Return the IDs of the C Sentinels that are held for a master, with their leases."""
        held = [peer for peer in master.peers.values() if self.is_held(master, peer, now)]
        return [(peer.name, self._leases[master.name, peer.name]) for peer in held]

    def renew_all(self) -> None:
        """Have the holder renew all leases at once."""
        for lease in self._leases.values():
            lease.renew = True

    def forget_ended(self, paused: frozenset[str], now: Millis) -> None:
        """Drop the leases of masters that are not paused any more, once they have ended."""
        for key, lease in list(self._leases.items()):
            if key[0] not in paused and lease.until <= now:
                del self._leases[key]

    def is_due(self, master: Master, peer: Peer, now: Millis, *, holder: bool, waited: Millis) -> bool:
        """
        Whether this Sentinel is to request the vote of a C Sentinel now.

        :param holder: whether it holds the leases; otherwise it does so only if the holder does not renew them.
        :param waited: how long the pause has been in force here.
        """
        lease = self._leases.get((master.name, peer.name))
        period = master.options.failover_timeout
        if lease is None:
            return holder or waited > min(3_000, period)
        if lease.pending:
            return False
        period = lease.period or period
        if lease.asked_at is not None and now - lease.asked_at < min(RETRY_PERIOD, period):
            return False
        if lease.renew and holder:
            return True
        if not self.is_held(master, peer, now):
            return holder or lease.until > 0 or waited > min(3_000, period)
        return now >= lease.until - (period if holder else period * 3 // 4)

    def request(self, master: Master, peer: Peer, now: Millis) -> None:
        """Read the ``failover-timeout`` of a C Sentinel, and request its vote."""
        lease = self._leases.setdefault((master.name, peer.name), PeerLease())
        lease.asked_at, lease.pending = now, True
        words = (b"SENTINEL", b"MASTER", data(master.name))
        self._fan_out.send([peer], words, now, partial(self._described, master.name, now), for_c=words)

    def _described(self, name: str, now: Millis, answers: Sequence[PeerAnswer]) -> None:
        """Handle the reply to ``SENTINEL MASTER``; if it is refused, the ``failover-timeout`` is taken to be ours."""
        (answer,) = answers
        lease, master = self._leases.get((name, answer.peer_id)), self._registry.masters.get(name)
        if lease is None or master is None:
            return
        fields = flat_map(answer.reply)
        period = canonical_integer(fields.get("failover-timeout", b""))
        lease.period = period if period is not None and period > 0 else master.options.failover_timeout
        lease.in_progress = b"failover_in_progress" in fields.get("flags", b"")
        if answer.error is not None and not answer.error.startswith(("NOPERM", "ERR")):
            lease.pending, lease.problem = False, answer.error
        elif lease.in_progress:
            lease.pending, lease.problem = False, "it has a failover in progress"
        else:
            self._request_vote(master, answer.peer_id, lease, now, master.leader_epoch, 1)

    def _request_vote(
        self, master: Master, peer_id: str, lease: PeerLease, now: Millis, above: int, attempt: int
    ) -> None:
        peer = master.peers.get(peer_id)
        if peer is None:
            lease.pending, lease.problem = False, "it is not known any more"
            return
        epoch = self._state.fresh_epoch(now, above=above, shared=True)
        host = master.address.announced(self._state.options.announce_hostnames)
        fields = ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", host, master.address.port, epoch, self._state.options.my_id)
        words = [data(str(field)) for field in fields]
        receiver = partial(self._voted, master.name, epoch, attempt)
        self._fan_out.send([peer], words, now, receiver, for_c=words)

    def _voted(self, name: str, epoch: int, attempt: int, answers: Sequence[PeerAnswer]) -> None:
        """Handle the reply to the request for a vote."""
        (answer,) = answers
        lease, master = self._leases.get((name, answer.peer_id)), self._registry.masters.get(name)
        if lease is None or master is None:
            return
        reply, now = answer.reply, answer.sent_at
        lease.pending = False
        if answer.error is not None or not isinstance(reply, list) or len(reply) != 3:
            lease.problem = answer.error or "a malformed answer to a request for a vote"
            return
        leader, voted = reply[1], reply[2]
        if leader == data(self._state.options.my_id) and voted == epoch:
            lease.until, lease.began_at, lease.problem, lease.renew = now + 2 * lease.period, now, None, False
            self._state.touch(master)
            return
        lease.problem = f"it voted for {text(leader) if isinstance(leader, bytes) else '?'}"
        above = max(epoch, voted if isinstance(voted, int) else 0)
        if attempt < MAX_ATTEMPTS and self._state.is_acceptable_epoch(above + 1, now):
            lease.pending = True
            self._request_vote(master, answer.peer_id, lease, now, above, attempt + 1)


def flat_map(reply: object) -> Mapping[str, bytes]:
    """Return a reply that is a flat list of names and texts as a mapping; what is neither is left out."""
    if not isinstance(reply, list):
        return {}
    pairs = zip(reply[::2], reply[1::2], strict=False)
    return {text(name): value for name, value in pairs if isinstance(name, bytes) and isinstance(value, bytes)}
