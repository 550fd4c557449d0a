"""A second reader of a Sentinel's file, so that the checker does not depend on the parser under test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class PersistedMaster:
    """One master in the file."""

    place: tuple[str, int]
    quorum: int
    config_epoch: int = 0
    leader_epoch: int = 0
    peers: set[str] = field(default_factory=set)
    options: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class PersistedState:
    """The state in one file."""

    my_id: str = ""
    current_epoch: int = 0
    masters: dict[str, PersistedMaster] = field(default_factory=dict)


def read_persisted(contents: bytes, names: Mapping[str, str]) -> PersistedState:
    """Read a file. Lines without state are skipped; host names in ``names`` are replaced by their IP."""
    found = PersistedState()
    for line in contents.decode().splitlines():
        words = line.split()
        if words[:1] != ["sentinel"]:
            continue
        kind = words[1]
        if kind == "myid":
            found.my_id = words[2]
        elif kind == "current-epoch":
            found.current_epoch = int(words[2])
        elif kind == "monitor":
            found.masters[words[2]] = PersistedMaster((names.get(words[3], words[3]), int(words[4])), int(words[5]))
        elif len(words) > 3 and words[2] in found.masters:
            master = found.masters[words[2]]
            if kind == "config-epoch":
                master.config_epoch = int(words[3])
            elif kind == "leader-epoch":
                master.leader_epoch = int(words[3])
            elif kind == "known-sentinel":
                master.peers.add(words[5])
            else:
                master.options[kind] = words[3]
    return found
