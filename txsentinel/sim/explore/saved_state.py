"""What the configuration file of a Sentinel has."""

from __future__ import annotations

from typing import NamedTuple

from txsentinel.sim.explore.topology import PEERS


class Saved(NamedTuple):
    """The durable state of a Sentinel: what the configuration file has."""

    epoch: int
    place: int
    config_epoch: int
    leader_epoch: int
    replicas: tuple[int, ...]
    peers: tuple[int, ...]


def initial_file(sentinel: int) -> Saved:
    """Return the file of a Sentinel that knows its group."""
    return Saved(0, 0, 0, 0, (1, 2), PEERS[sentinel])
