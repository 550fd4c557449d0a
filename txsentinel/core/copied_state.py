"""
The state on which a failover of one master depends, as a copy that may be changed.

Explanations apply the rules that decide to a copy, and to copies that differ in one fact, to find out what would let a
failover start. The state of the Sentinel is never changed.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass

from txsentinel.core.failover_start import StartRules
from txsentinel.core.instances import InstanceLink, Master, Peer, Replica
from txsentinel.core.options import copied as options_copied
from txsentinel.core.state import SentinelState
from txsentinel.core.tilt import TiltGuard
from txsentinel.core.vote_count import VoteCounter
from txsentinel.model.explanation import VerdictCode
from txsentinel.model.timings import Millis


@dataclass(slots=True)
class CopiedState:
    """
    One master with all that the rules read, at one moment.

    What is changed is copied before: the master by :func:`copied_state`, its replicas and peers by :meth:`replica` and
    :meth:`peer`. The rest is shared with the state of the Sentinel.
    """

    state: SentinelState
    tilt: TiltGuard
    master: Master
    now: Millis
    votes: VoteCounter
    rules: StartRules
    assumed: frozenset[VerdictCode] = frozenset()
    """Hindrances that a change is assumed to remove, as what it brings is unknown: permissions, new replicas."""

    @property
    def down(self) -> bool:
        """Whether this Sentinel considers the master down."""
        return self.master.sdown_since is not None

    def replica(self, name: str) -> Replica:
        """Return a copy of a replica, with a link of its own, that takes its place in the copy of the master."""
        twin: Replica = copy.copy(self.master.replicas[name])
        twin.of, twin.link = self.master, _link_twin(twin.link)
        self.master.replicas[name] = twin
        return twin

    def peer(self, name: str) -> Peer:
        """Return a copy of a peer, with a link of its own, that takes its place in the copy of the master."""
        twin: Peer = copy.copy(self.master.peers[name])
        twin.of, twin.link = self.master, _link_twin(twin.link)
        self.master.peers[name] = twin
        return twin


def present_state(state: SentinelState, tilt: TiltGuard, master: Master, now: Millis) -> CopiedState:
    """Return the present state of ``master``, which must not be changed; only the shared state is a copy."""
    state_twin: SentinelState = copy.copy(state)
    # Counting recent failures discards old ones.
    state_twin.recent_failures = deque(state.recent_failures)
    votes = VoteCounter(state_twin)
    return CopiedState(state_twin, tilt, master, now, votes, StartRules(state_twin, votes))


def copied_state(state: SentinelState, tilt: TiltGuard, master: Master, now: Millis) -> CopiedState:
    """Return a copy of the present state of ``master`` that may be changed."""
    copied = present_state(state, tilt, master, now)
    copied.tilt = copy.copy(tilt)
    twin: Master = copy.copy(master)
    twin.options = options_copied(master.options)
    twin.link = _link_twin(master.link)
    twin.replicas, twin.peers = dict(master.replicas), dict(master.peers)
    copied.master = twin
    return copied


def _link_twin(link: InstanceLink) -> InstanceLink:
    twin: InstanceLink = copy.copy(link)
    return twin
