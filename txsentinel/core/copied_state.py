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
from txsentinel.core.options import copied
from txsentinel.core.state import SentinelState
from txsentinel.core.tilt import TiltGuard
from txsentinel.core.vote_count import VoteCounter
from txsentinel.model.explanation import VerdictCode
from txsentinel.model.timings import Millis


@dataclass(slots=True)
class CopiedState:
    """
    One master with all that the rules read, at one moment.

    Links, options, replicas and peers are copies, too; what none of the changes concerns is shared.
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


def copied_state(state: SentinelState, tilt: TiltGuard, master: Master, now: Millis) -> CopiedState:
    """Return a copy of the present state of ``master``."""
    state_twin: SentinelState = copy.copy(state)
    # Counting recent failures discards old ones.
    state_twin.recent_failures = deque(state.recent_failures)
    tilt_twin: TiltGuard = copy.copy(tilt)
    votes = VoteCounter(state_twin)
    return CopiedState(state_twin, tilt_twin, _twin_of(master), now, votes, StartRules(state_twin, votes))


def _twin_of(master: Master) -> Master:
    twin: Master = copy.copy(master)
    twin.options = copied(master.options)
    twin.link = _link_twin(master.link)
    twin.replicas = {}
    for name, replica in master.replicas.items():
        replica_twin: Replica = copy.copy(replica)
        replica_twin.of, replica_twin.link = twin, _link_twin(replica.link)
        twin.replicas[name] = replica_twin
    twin.peers = {}
    for name, peer in master.peers.items():
        peer_twin: Peer = copy.copy(peer)
        peer_twin.of, peer_twin.link = twin, _link_twin(peer.link)
        twin.peers[name] = peer_twin
    return twin


def _link_twin(link: InstanceLink) -> InstanceLink:
    twin: InstanceLink = copy.copy(link)
    return twin
