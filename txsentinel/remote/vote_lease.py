"""
Holds up the failovers of C Sentinels from outside, for a time that ends by itself.

A C Sentinel that votes for another one starts no failover of that master for twice the ``failover-timeout``. A request
for its vote in a fresh epoch, for a candidate that does not exist, is a lease: it must be renewed, and if the holder
dies, failovers are possible again. It does not outlive a restart of the Sentinel, which saves its vote but not when it
gave it. So the holder keeps a connection to each, and requests the votes anew as soon as one was lost or is back. A
restarted Sentinel takes ``down-after-milliseconds`` to consider the master down.

Each renewal costs an epoch, a rewrite of ``sentinel.conf`` and the events ``+new-epoch`` and ``+vote-for-leader``.
Sentinels of txsentinel refuse such a vote.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import AddressAgreement
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.fleet import in_parallel
from txsentinel.remote.reports import as_text
from txsentinel.wire.values import Reply

MAX_ATTEMPTS: Final = 16
"""Votes that are requested of one Sentinel until one is given; each doubles the step of the epoch."""

MAX_CHECK_SECONDS: Final = 1.0
"""Longest interval at which the connections are checked; it is shorter if ``down-after-milliseconds`` is short."""

MAX_EPOCH_STEP: Final = 1024
"""The current epoch of a C Sentinel is not readable; it is found by trying higher ones."""


@dataclass(frozen=True)
class Lease:
    """What one Sentinel answered; it is held until ``until`` of the monotonic clock, ``None`` if it is not held."""

    sentinel: Endpoint
    epoch: int
    until: float | None
    problem: str | None = None


@dataclass(frozen=True)
class Holding:
    """All leases of one renewal, and whether any failover is still possible."""

    leases: tuple[Lease, ...]
    free: tuple[Endpoint, ...]
    """Sentinels that are not held: ours, and those that did not answer or did not vote."""

    needed: int
    """Votes that a failover needs."""

    @property
    def guaranteed(self) -> bool:
        """Whether no failover can start: nobody is free, or too few vote for one that is."""
        held = sum(each.until is not None for each in self.leases)
        return not self.free or len(self.free) + held < self.needed

    @property
    def until(self) -> float | None:
        """When the first lease ends; ``None`` if there is none."""
        return min((each.until for each in self.leases if each.until is not None), default=None)


class VoteLease:
    """
    The leases of one pause.

    :param connect: makes connections; called from several threads.
    :param monotonic: the clock in seconds.
    """

    def __init__(
        self,
        agreement: AddressAgreement,
        settings: ConnectionSettings,
        connect: Callable[[Endpoint, ConnectionSettings], RemoteConnection] = RemoteConnection,
        monotonic: Callable[[], float] = time.monotonic,
        candidate: str | None = None,
    ) -> None:
        report = agreement.report()
        if report is None:
            raise ValueError(f"no Sentinel monitors {agreement.name}")
        self._name = agreement.name
        self._address = report.endpoint
        self._settings = settings
        self._connect = connect
        self._monotonic = monotonic
        self._candidate = candidate or secrets.token_hex(20)
        self._holdable = [
            each
            for each in agreement.members
            if each.identity is not None and each.identity.is_c and agreement.name in each.masters
        ]
        self._others = tuple(each.endpoint for each in agreement.members if each not in self._holdable)
        self._unknown = agreement.known - len(agreement.members)
        self._needed = max(agreement.majority, agreement.quorum)
        self._timeouts = {
            each.endpoint: each.masters[agreement.name].master.number("failover-timeout") for each in self._holdable
        }
        self._down_after = min(
            (each.masters[agreement.name].master.number("down-after-milliseconds") for each in self._holdable),
            default=0,
        )
        self._watching: dict[Endpoint, RemoteConnection | None] = {}
        """The connections by which a restart is noticed; ``None`` for one that was lost."""

        epochs = [each.masters[agreement.name].epoch for each in self._holdable]
        epochs += [
            peer.number("voted-leader-epoch") for each in self._holdable for peer in each.masters[agreement.name].peers
        ]
        self._epoch = max(epochs, default=0)

    @property
    def possible(self) -> Holding:
        """What would be held if all that can be held were."""
        leases = tuple(Lease(each.endpoint, 0, float("inf")) for each in self._holdable)
        return Holding(leases, self._free(()), self._needed)

    @property
    def renewal_seconds(self) -> float:
        """How often to renew: half of the time that the shortest lease lasts."""
        return min(self._timeouts.values(), default=0) / 1000

    @property
    def check_seconds(self) -> float:
        """How often to call :meth:`changed`."""
        return max(min(MAX_CHECK_SECONDS, self._down_after / 5000), 0.1)

    def changed(self) -> bool:
        """Whether a C Sentinel was lost or is back since the last call, so that the votes must be renewed at once."""
        endpoints = [each.endpoint for each in self._holdable]
        return any(in_parallel(self._check, endpoints))

    def close(self) -> None:
        """Close the connections."""
        for connection in self._watching.values():
            if connection is not None:
                connection.close()
        self._watching.clear()

    def _check(self, sentinel: Endpoint) -> bool:
        known = sentinel in self._watching
        connection = self._watching.get(sentinel)
        try:
            if connection is None:
                connection = self._connect(sentinel, self._settings)
                connection.call("PING")
                self._watching[sentinel] = connection
                return known
            connection.call("PING")
        except (ConnectionFailed, ErrorAnswer):
            self._watching[sentinel] = None
            if connection is None:
                return not known
            connection.close()
            return True
        return False

    def _free(self, failed: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        return (*self._others, *failed, *(Endpoint("?", 0) for _ in range(self._unknown)))

    def renew(self) -> Holding:
        """Request the vote of every C Sentinel in a fresh epoch."""
        self._epoch += 1
        leases = tuple(in_parallel(self._request, [each.endpoint for each in self._holdable]))
        self._epoch = max((each.epoch for each in leases), default=self._epoch)
        return Holding(leases, self._free([each.sentinel for each in leases if each.until is None]), self._needed)

    def _request(self, sentinel: Endpoint) -> Lease:
        """Request votes in higher and higher epochs until the Sentinel votes for our candidate."""
        epoch, step = self._epoch, 1
        try:
            with self._connect(sentinel, self._settings) as connection:
                for _ in range(MAX_ATTEMPTS):
                    reply = connection.call(
                        "SENTINEL",
                        "IS-MASTER-DOWN-BY-ADDR",
                        self._address.host,
                        self._address.port,
                        epoch,
                        self._candidate,
                    )
                    leader, voted = _vote(reply)
                    if leader == self._candidate and voted >= epoch:
                        return Lease(sentinel, voted, self._monotonic() + 2 * self._timeouts[sentinel] / 1000)
                    epoch = max(epoch + step, voted + 1)
                    step = min(2 * step, MAX_EPOCH_STEP)
        except (ConnectionFailed, ErrorAnswer) as problem:
            return Lease(sentinel, self._epoch, None, str(problem))
        return Lease(sentinel, self._epoch, None, "it does not vote for an unknown Sentinel")


def _vote(reply: Reply) -> tuple[str, int]:
    """
    Return candidate and epoch of an answer.

    :raises ErrorAnswer: if it is malformed.
    """
    if isinstance(reply, list) and len(reply) == 3 and isinstance(reply[2], int):
        return as_text(reply[1]), reply[2]
    raise ErrorAnswer("a malformed answer to a request for a vote")
