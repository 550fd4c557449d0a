"""How many Sentinels agree that a master is down, can be reached, and are needed; the rules that decide use these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from txsentinel.core.instances import Master, Peer
from txsentinel.model.explanation import VerdictCode
from txsentinel.model.timings import Millis

MAX_NAMED_PEERS: Final = 5
"""Maximum number of missing peers that one sentence names."""

GHOST_AGE: Final[Millis] = 3_600_000
"""How long a peer that was seen must be down to be taken for one that does not exist any more."""


def agreeing_sentinels(master: Master) -> int:
    """Return how many Sentinels consider a master down that is S_DOWN here, as of their latest valid opinions."""
    return 1 + sum(peer.reports_master_down for peer in master.peers.values())


def unasked_peers(master: Master) -> int:
    """Return how many peers can be asked but have not answered since the master went down here."""
    since = master.sdown_since
    if since is None:
        return 0
    return sum(1 for each in master.peers.values() if is_reachable(each) and each.opinion_at < since)


def usable_sentinels(master: Master) -> int:
    """Return how many Sentinels can agree and vote: this one, and the peers that are not down."""
    return 1 + sum(1 for peer in master.peers.values() if not peer.is_down)


def is_reachable(peer: Peer) -> bool:
    """Whether a peer can be asked now."""
    return peer.link.commands_up and not peer.is_down


def reachable_sentinels(master: Master) -> int:
    """Return how many Sentinels can be asked now, this one included."""
    return 1 + sum(1 for peer in master.peers.values() if is_reachable(peer))


def votes_needed(master: Master) -> int:
    """Return how many votes make a leader: the greater of majority and quorum."""
    return max(master.majority, master.options.quorum)


def is_ghost(peer: Peer, now: Millis) -> bool:
    """
    Whether a peer may not exist any more, but still counts for the majority.

    It is down, and has not answered since this Sentinel started or for ``GHOST_AGE``.
    """
    if peer.sdown_since is None:
        return False
    answered = peer.link.last_reply_at > peer.link.created_at
    return not answered or now - peer.sdown_since >= GHOST_AGE


def unreachable(master: Master, available: int, now: Millis) -> Iterator[tuple[VerdictCode, str]]:
    """
    Yield that the quorum or the votes that make a leader cannot be reached, as a code and a clause.

    :param available: number of Sentinels that can agree and vote.
    """
    quorum, voters, needed = master.options.quorum, master.voters, votes_needed(master)
    missing = "".join(f"; {clause}" for clause in _describe_missing(master, now))
    if quorum > voters:
        known = f"{voters} Sentinel{'s are' if voters > 1 else ' is'} known"
        yield VerdictCode.QUORUM_UNREACHABLE, f"the quorum is {quorum} and only {known}{missing}"
    elif available < quorum:
        text = f"the quorum is {quorum} and only {available} of {voters} Sentinels can be reached{missing}"
        yield VerdictCode.QUORUM_UNREACHABLE, text
    if available < master.majority:
        ghosts = sum(1 for peer in master.peers.values() if is_ghost(peer, now))
        if available < quorum:
            # They are named already.
            missing = ""
        text = f"{available} of {voters} Sentinels can be reached, {needed} are needed{missing}"
        if ghosts and available >= max((voters - ghosts) // 2 + 1, quorum):
            text += f"; {ghosts} of them may not exist any more, but count for the majority"
            yield VerdictCode.MAJORITY_COUNTS_GHOSTS, text
        else:
            yield VerdictCode.MAJORITY_UNREACHABLE, text


def _describe_missing(master: Master, now: Millis) -> list[str]:
    """Return a clause for each peer that is down: since when, and why; at most ``MAX_NAMED_PEERS`` and one more."""
    missing = [peer for peer in master.peers.values() if peer.sdown_since is not None]
    clauses = []
    for peer in missing[:MAX_NAMED_PEERS]:
        down_for = (now - (peer.sdown_since or now)) // 1000
        failure = peer.link.failure
        why = "" if failure is None else f": {failure}"
        clauses.append(f"the Sentinel at {peer.address.joined()} is down for {down_for} s{why}")
    if len(missing) > MAX_NAMED_PEERS:
        clauses.append(f"{len(missing) - MAX_NAMED_PEERS} more are down")
    return clauses
