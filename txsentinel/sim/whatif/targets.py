"""The targets of a fault, as operators name them: masters, servers, Sentinels, machines, groups of these."""

from __future__ import annotations

import re
from typing import Final

from txsentinel.sim.whatif.environment import CLIENT, CLIENT_IP, FaultTarget, Fixture
from txsentinel.sim.whatif.topology import Topology

ALL_MASTERS: Final = "all-masters"
ALL_REPLICAS: Final = "all-replicas"
ALL_SENTINELS: Final = "all-sentinels"
MAJORITY: Final = "majority"
OTHERS: Final = "others"

_SENTINEL: Final = re.compile(r"(?:s|sentinel-?)?(\d+)", re.IGNORECASE)


class BadTarget(Exception):
    """An unknown target; the text lists the known ones."""


def check_target(word: str, topology: Topology) -> None:
    """
    Check that ``word`` names a target.

    :raises BadTarget: listing the possible targets.
    """
    if word in (ALL_MASTERS, ALL_REPLICAS, ALL_SENTINELS, MAJORITY, OTHERS, CLIENT):
        return
    groups = {group.name: group for group in topology.groups}
    name, _, number = word.rpartition("/")
    if word in groups:
        return
    if name in groups:
        servers = len(groups[name].servers)
        if number == "replicas" or (number.isdecimal() and 1 <= int(number) <= servers):
            return
        raise BadTarget(
            f"{name} has the servers {name}/1 (the master in the file) to {name}/{servers}; there is no {word}"
        )
    match = _SENTINEL.fullmatch(word)
    if match is not None:
        if 1 <= int(match[1]) <= len(topology.sentinels):
            return
        raise BadTarget(f"there are the Sentinels 1 to {len(topology.sentinels)}; there is no {word}")
    if not _at(word, topology):
        raise BadTarget(
            f"nobody is called {word!r}. There are the masters {', '.join(groups)}, their servers such as "
            f"{topology.groups[0].name}/2, the Sentinels 1 to {len(topology.sentinels)}, {ALL_MASTERS}, "
            f"{ALL_REPLICAS}, "
            f"{ALL_SENTINELS}, {MAJORITY} (of the Sentinels), {CLIENT}, and addresses from the file"
        )


def resolve(word: str, fixture: Fixture) -> list[FaultTarget]:
    """
    The processes that ``word`` names at this moment: the master of a group is the one published now.

    :param word: one that :func:`check_target` accepts, and not ``others``.
    """
    by_name = {process.name: process for process in fixture.processes}
    if word in by_name:
        return [by_name[word]]
    if word == ALL_MASTERS:
        return [by_name[fixture.master_of(group).name] for group in fixture.groups]
    if word == ALL_SENTINELS:
        return [by_name[sentinel.name] for sentinel in fixture.sentinels]
    if word == MAJORITY:
        # Not the one of the file, so that the effects are seen from it.
        return [by_name[sentinel.name] for sentinel in fixture.sentinels[-(len(fixture.sentinels) // 2 + 1) :]]
    replicas = [
        by_name[server.name]
        for group in fixture.groups
        if word in (ALL_REPLICAS, f"{group.name}/replicas")
        for server in group.servers
        if server is not fixture.master_of(group)
    ]
    if replicas or word == ALL_REPLICAS or word.endswith("/replicas"):
        return replicas
    for group in fixture.groups:
        if group.name == word:
            return [by_name[fixture.master_of(group).name]]
    match = _SENTINEL.fullmatch(word)
    if match is not None:
        return [by_name[f"s{int(match[1])}"]]
    return [by_name[name] for name in _at(word, fixture.topology)]


def server_names(word: str, topology: Topology) -> list[str]:
    """
    The servers that a word names before the first fault, when the master is the one in the file.

    :raises BadTarget: if it names none.
    """
    check_target(word, topology)
    found: list[str] = []
    for group in topology.groups:
        names = [f"{group.name}/{number}" for number in range(1, len(group.servers) + 1)]
        if word in (group.name, ALL_MASTERS):
            found.append(names[0])
        elif word in (ALL_REPLICAS, f"{group.name}/replicas"):
            found += names[1:]
        else:
            found += [name for name in names if name == word or name in _at(word, topology)]
    if not found:
        raise BadTarget(f"{word} is no Redis server")
    return found


def machines(word: str, topology: Topology) -> list[str]:
    """Addresses of the machines that a word names before the first fault; none for ``others``."""
    if word == CLIENT:
        return [CLIENT_IP]
    places = topology.places
    if word == ALL_SENTINELS:
        names = [sentinel.name for sentinel in topology.sentinels]
    elif word == MAJORITY:
        names = [sentinel.name for sentinel in topology.sentinels[-(len(topology.sentinels) // 2 + 1) :]]
    elif _SENTINEL.fullmatch(word) and word not in {group.name for group in topology.groups}:
        names = [f"s{int(word.lower().removeprefix('sentinel').lstrip('-s'))}"]
    elif word == OTHERS:
        names = []
    else:
        names = server_names(word, topology) if not _at(word, topology) else _at(word, topology)
    return [*dict.fromkeys(places[name].ip for name in names)]


def _at(word: str, topology: Topology) -> list[str]:
    """Names of the processes at an address, with or without a port."""
    places = topology.places
    exact = [name for name, place in places.items() if word in (str(place), f"{place.ip}:{place.port}")]
    return exact or [name for name, place in places.items() if word.lower() in (place.host.lower(), place.ip)]
