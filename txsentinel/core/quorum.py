"""How many Sentinels agree that a master is down, can be reached, and are needed; the rules that decide use these."""

from __future__ import annotations

from txsentinel.core.instances import Master, Peer


def agreeing_sentinels(master: Master) -> int:
    """Return how many Sentinels consider a master down that is S_DOWN here, as of their latest valid opinions."""
    return 1 + sum(peer.reports_master_down for peer in master.peers.values())


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
