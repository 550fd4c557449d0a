"""Whom a fault befalls, as operators name them: masters, servers, Sentinels, machines, groups of these."""

from __future__ import annotations

import re
from typing import Final

from txsentinel.sim.whatif.topology import Site
from txsentinel.sim.whatif.world import CLIENT, CLIENT_IP, Process, Scene

ALL_MASTERS: Final = "all-masters"
ALL_REPLICAS: Final = "all-replicas"
ALL_SENTINELS: Final = "all-sentinels"
MAJORITY: Final = "majority"
OTHERS: Final = "others"

_SENTINEL: Final = re.compile(r"(?:s|sentinel-?)?(\d+)", re.IGNORECASE)


class BadTarget(Exception):
    """There is nobody of that name; the text says who there is."""


def check_target(word: str, site: Site) -> None:
    """
    Complain if ``word`` names nobody.

    :raises BadTarget: saying what could have been meant.
    """
    if word in (ALL_MASTERS, ALL_REPLICAS, ALL_SENTINELS, MAJORITY, OTHERS, CLIENT):
        return
    groups = {group.name: group for group in site.groups}
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
        if 1 <= int(match[1]) <= len(site.sentinels):
            return
        raise BadTarget(f"there are the Sentinels 1 to {len(site.sentinels)}; there is no {word}")
    if not _at(word, site):
        raise BadTarget(
            f"nobody is called {word!r}. There are the masters {', '.join(groups)}, their servers such as "
            f"{site.groups[0].name}/2, the Sentinels 1 to {len(site.sentinels)}, {ALL_MASTERS}, {ALL_REPLICAS}, "
            f"{ALL_SENTINELS}, {MAJORITY} (of the Sentinels), {CLIENT}, and addresses from the file"
        )


def resolve(word: str, scene: Scene) -> list[Process]:
    """
    Everybody whom ``word`` names at this moment: the master of a group is whoever is published as that now.

    :param word: one that :func:`check_target` does not complain about, and not ``others``.
    """
    by_name = {process.name: process for process in scene.processes}
    if word in by_name:
        return [by_name[word]]
    if word == ALL_MASTERS:
        return [by_name[scene.master_of(group).name] for group in scene.groups]
    if word == ALL_SENTINELS:
        return [by_name[sentinel.name] for sentinel in scene.sentinels]
    if word == MAJORITY:
        # The ones that the file is not from, so that what it leads to is seen from here.
        return [by_name[sentinel.name] for sentinel in scene.sentinels[-(len(scene.sentinels) // 2 + 1) :]]
    replicas = [
        by_name[server.name]
        for group in scene.groups
        if word in (ALL_REPLICAS, f"{group.name}/replicas")
        for server in group.servers
        if server is not scene.master_of(group)
    ]
    if replicas or word == ALL_REPLICAS or word.endswith("/replicas"):
        return replicas
    for group in scene.groups:
        if group.name == word:
            return [by_name[scene.master_of(group).name]]
    match = _SENTINEL.fullmatch(word)
    if match is not None:
        return [by_name[f"s{int(match[1])}"]]
    return [by_name[name] for name in _at(word, scene.site)]


def server_names(word: str, site: Site) -> list[str]:
    """
    The servers that a word names before anything has happened, when the master is the one in the file.

    :raises BadTarget: if it names none.
    """
    check_target(word, site)
    found: list[str] = []
    for group in site.groups:
        names = [f"{group.name}/{number}" for number in range(1, len(group.servers) + 1)]
        if word in (group.name, ALL_MASTERS):
            found.append(names[0])
        elif word in (ALL_REPLICAS, f"{group.name}/replicas"):
            found += names[1:]
        else:
            found += [name for name in names if name == word or name in _at(word, site)]
    if not found:
        raise BadTarget(f"{word} is no Redis server")
    return found


def machines(word: str, site: Site) -> list[str]:
    """Addresses of the machines that a word names before anything has happened; none for ``others``."""
    if word == CLIENT:
        return [CLIENT_IP]
    places = site.places
    if word == ALL_SENTINELS:
        names = [sentinel.name for sentinel in site.sentinels]
    elif word == MAJORITY:
        names = [sentinel.name for sentinel in site.sentinels[-(len(site.sentinels) // 2 + 1) :]]
    elif _SENTINEL.fullmatch(word) and word not in {group.name for group in site.groups}:
        names = [f"s{int(word.lower().removeprefix('sentinel').lstrip('-s'))}"]
    elif word == OTHERS:
        names = []
    else:
        names = server_names(word, site) if not _at(word, site) else _at(word, site)
    return [*dict.fromkeys(places[name].ip for name in names)]


def _at(word: str, site: Site) -> list[str]:
    """Names of those at an address, with or without a port."""
    places = site.places
    exact = [name for name, place in places.items() if word in (str(place), f"{place.ip}:{place.port}")]
    return exact or [name for name, place in places.items() if word.lower() in (place.host.lower(), place.ip)]
