"""
How many connections the system lets us have, and saying so where that is too few.

A Sentinel starts all the same. To refuse would be the clearer word while somebody looks, but mostly a machine starts
us, at night and after a crash: then a Sentinel that watches some of its masters and answers for all is worth more to
its quorum than none. What is needed is a guess besides, as replicas, peers and masters are still to come. So the log
says it loudly at the start, and again when the last descriptor is gone.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.task import LoopingCall

from txsentinel.config.configuration import Configuration
from txsentinel.model.events import Level

RESERVED: Final = 64
"""Descriptors that are no client's and no link's: logs, ports, the file being saved, scripts being started."""

MIN_CLIENTS: Final = 32
"""As many are let in however little there is: peers that ask for our vote, and people who look what is wrong."""

SOMAXCONN: Final = "/proc/sys/net/core/somaxconn"
"""Where Linux keeps the longest queue of a port; other systems have no such file."""

CHECK_INTERVAL: Final = 1.0
REPEAT_PERIOD: Final = 60.0
"""Seconds between two looks for a descriptor, and between two lines about there being none."""

EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE}

RAISE_IT: Final = (
    "Raise the limit: 'ulimit -n {needed}' before the start, or LimitNOFILE={needed} in the unit of systemd."
)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a configuration needs descriptors for: so many of each."""

    clients: int
    masters: int
    replicas: int
    peers: int

    @property
    def links(self) -> int:
        """Connections that we make: a server takes two, a peer one."""
        return 2 * (self.masters + self.replicas) + self.peers

    @property
    def total(self) -> int:
        """Descriptors in all."""
        return self.clients + self.links + RESERVED

    @property
    def comfortable(self) -> int:
        """Descriptors with which there is room to grow: for as many links as clients, or twice those of today."""
        return self.total + max(self.clients, self.links)


def demand_of(configuration: Configuration) -> Demand:
    """What is needed for all that is in the file, each master having one replica at least."""
    records = configuration.masters
    return Demand(
        clients=configuration.generic.maxclients,
        masters=len(records),
        replicas=sum(max(1, len(record.replicas)) for record in records),
        peers=len({run_id for record in records for _, _, run_id in record.sentinels}),
    )


def descriptor_limit() -> int:
    """How many files and connections the system lets us open now; a huge number if it does not count."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit(wanted: int) -> int:
    """
    Have the system let us open ``wanted`` files and connections if it can, and never fewer than it does now.

    :returns: how many it lets us open; a huge number if it does not count.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        better = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if better > soft:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (better, hard))
    return descriptor_limit()


def descriptors_for_clients(limit: int, links: int) -> int:
    """Clients that there are descriptors for beside so many connections of our own."""
    return max(MIN_CLIENTS, limit - RESERVED - links)


def shortage(demand: Demand, limit: int) -> str | None:
    """What to tell about a limit of open files that does not meet the demand; ``None`` if it does."""
    if limit >= demand.total:
        return None
    remedy = RAISE_IT.format(needed=demand.total)
    if limit >= demand.links + RESERVED + MIN_CLIENTS:
        available_descriptors = descriptors_for_clients(limit, demand.links)
        return (
            f"WARNING: The limit of open files is {limit}, but maxclients {demand.clients} and {demand.links}"
            f" connections to servers and Sentinels need {demand.total}."
            f" There is room for {available_descriptors} clients. {remedy}"
        )
    return (
        f"WARNING: SERVERS WILL GO UNWATCHED, and look down to this Sentinel: the limit of open files is {limit}, but"
        f" watching {demand.masters} masters, {demand.replicas} replicas and {demand.peers} Sentinels takes"
        f" {demand.links} connections, beside {RESERVED} descriptors for files and ports, and {MIN_CLIENTS} for"
        f" clients at the very least. {remedy}"
    )


def short_queue(backlog: int, path: str = SOMAXCONN) -> str | None:
    """What to tell, in the words of C, if Linux cuts ``tcp-backlog`` off; ``None`` if it does not, or is another."""
    with suppress(OSError, ValueError):
        with open(path, encoding="ascii") as file:
            longest = int(file.read())
        if 0 < longest < backlog:
            return (
                f"WARNING: The TCP backlog setting of {backlog} cannot be enforced because {path} is set to the lower"
                f" value of {longest}."
            )
    return None


def take_one() -> None:
    """
    Take a descriptor as a link would, and give it back.

    :raises OSError: if there is none.
    """
    socket.socket(socket.AF_UNIX).close()


class Capacity(Service):
    """
    Tells at the start what does not suffice, and from then on when nothing is left.

    No error of ``accept`` or ``connect`` is waited for: where those are dealt with, one looks like many clients and the
    other like a server that is down. A look costs some microseconds, once a second.

    :param reactor: whose time it is.
    :param note: writes a line to the log.
    :param take: see :func:`take_one`.
    """

    def __init__(
        self,
        reactor: Any,
        demand: Demand,
        backlog: int,
        note: Callable[[Level, str], None],
        take: Callable[[], None] = take_one,
    ) -> None:
        self._reactor = reactor
        self._demand = demand
        self._backlog = backlog
        self._note = note
        self._take = take
        self._warned_at: float | None = None
        self._over = True
        self._check_loop = LoopingCall(self.check)
        self._check_loop.clock = reactor

    def privilegedStartService(self) -> None:
        """Tell what does not suffice, before anything is opened."""
        for complaint in (shortage(self._demand, descriptor_limit()), short_queue(self._backlog)):
            if complaint is not None:
                self._note(Level.WARNING, complaint)

    def startService(self) -> None:
        """Begin to look."""
        super().startService()  # type: ignore[no-untyped-call]
        self._check_loop.start(CHECK_INTERVAL, now=False)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._check_loop.running:
            self._check_loop.stop()

    def check(self) -> None:
        """Is there a descriptor to be had? Tell if not, at most once a minute, and when there is one again."""
        try:
            self._take()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._exhausted(error)
            return
        if not self._over:
            self._over = True
            self._note(Level.NOTICE, "There are file descriptors again.")

    def _exhausted(self, error: OSError) -> None:
        now = self._reactor.seconds()
        if self._warned_at is not None and now - self._warned_at < REPEAT_PERIOD:
            return
        self._warned_at, self._over = now, False
        if error.errno == errno.EMFILE:
            limit = descriptor_limit()
            whose = f"all {limit} that the limit of open files allows are in use"
            remedy = RAISE_IT.format(needed=max(self._demand.total, 2 * limit))
        else:
            whose, remedy = "the whole system has used up its own", "Raise fs.file-max."
        self._note(
            Level.WARNING,
            f"WARNING: OUT OF FILE DESCRIPTORS ({os.strerror(error.errno or 0)}): {whose}. Clients are turned away, and"
            f" servers whose connection is lost now will look down to this Sentinel. {remedy}",
        )
