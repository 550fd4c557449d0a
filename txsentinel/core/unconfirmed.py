"""Sentinels whose hellos arrive through servers, but whose ID is not confirmed (see ``confirmation``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from txsentinel.model.timings import Millis

MAX_COUNTED: Final = 8
"""Maximum number of unconfirmed Sentinels that count for the majority of one master; if there are more, none does."""

MAX_UNCONFIRMED: Final = 64
"""Maximum number of unconfirmed Sentinels that are kept for one master; beyond that the oldest one is discarded."""

UNCONFIRMED_EXPIRY: Final[Millis] = 10_000
"""How long an unconfirmed Sentinel counts after its last hello, while the subscription of the master works."""


@dataclass(slots=True)
class Unconfirmed:
    """
    A Sentinel whose hellos arrive through servers, but whose ID is not confirmed (see ``confirmation``).

    It counts for the majority once ``repeated`` is set, by a hello that arrives a hello period after the first.
    """

    first_received_at: Millis
    received_at: Millis
    repeated: bool = False


class UnconfirmedSentinels:
    """The unconfirmed Sentinels of one master, by ID, in the order of their first hello."""

    def __init__(self) -> None:
        self._by_id: dict[str, Unconfirmed] = {}

    def __len__(self) -> int:
        """Return how many there are, counted or not."""
        return len(self._by_id)

    def counted(self, pubsub_active_at: Millis) -> int:
        """
        Return how many of them count for the majority.

        They expire by the time of the last message on the master's subscription, so not while that is silent.

        :param pubsub_active_at: the time of that message.
        """
        oldest = pubsub_active_at - UNCONFIRMED_EXPIRY
        counted = sum(1 for each in self._by_id.values() if each.repeated and each.received_at >= oldest)
        return counted if counted <= MAX_COUNTED else 0

    def note_hello(self, peer_id: str, now: Millis, *, period: Millis, pubsub_active_at: Millis) -> None:
        """Record a hello that arrived through a server; ``period`` is the hello period."""
        known = self._by_id.get(peer_id)
        if known is None:
            oldest = pubsub_active_at - UNCONFIRMED_EXPIRY
            for name in [name for name, each in self._by_id.items() if each.received_at < oldest]:
                del self._by_id[name]
            if len(self._by_id) >= MAX_UNCONFIRMED:
                del self._by_id[next(iter(self._by_id))]
            self._by_id[peer_id] = Unconfirmed(now, now)
            return
        known.received_at = now
        # One hello arrives through several servers within moments, which is no repetition.
        known.repeated = known.repeated or now - known.first_received_at >= period // 2

    def discard(self, peer_id: str) -> None:
        """Forget a Sentinel, which was confirmed."""
        self._by_id.pop(peer_id, None)
