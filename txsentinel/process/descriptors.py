"""
The limit of file descriptors: raises it, and warns if it is too low.

A Sentinel starts even if the limit is too low. A service manager starts it, often after a crash, and a Sentinel
that monitors some of its masters and answers for all of them helps its quorum more than none. The demand is also
an estimate, because replicas, peers and masters may be added later. So the log has a warning at the start, and another
one when no descriptor is left.
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
"""Descriptors for other purposes than clients and links: logs, ports, the file being saved, scripts being started."""

MIN_CLIENTS: Final = 32
"""Minimum number of clients that are accepted whatever the limit: peers that request votes, and operators."""

SOMAXCONN: Final = "/proc/sys/net/core/somaxconn"
"""The file with the maximum backlog on Linux; other systems have no such file."""

CHECK_INTERVAL: Final = 1.0
REPEAT_PERIOD: Final = 60.0
"""Seconds between two checks for a free descriptor, and between two log lines about the lack of one."""

EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE}

RAISE_LIMIT: Final = (
    "Raise the limit: 'ulimit -n {needed}' before the start, or LimitNOFILE={needed} in the unit of systemd."
)


@dataclass(frozen=True, slots=True)
class Demand:
    """The numbers of clients and instances for which a configuration needs descriptors."""

    clients: int
    masters: int
    replicas: int
    peers: int

    @property
    def links(self) -> int:
        """Number of outgoing connections: two for each server, one for each peer."""
        return 2 * (self.masters + self.replicas) + self.peers

    @property
    def total(self) -> int:
        """Number of descriptors in all."""
        return self.clients + self.links + RESERVED

    @property
    def with_reserve(self) -> int:
        """Number of descriptors with a reserve for growth: for as many links as clients, or twice the present links."""
        return self.total + max(self.clients, self.links)


def demand_of(configuration: Configuration) -> Demand:
    """Return the demand of a configuration, with at least one replica for each master."""
    records = configuration.masters
    return Demand(
        clients=configuration.generic.maxclients,
        masters=len(records),
        replicas=sum(max(1, len(record.replicas)) for record in records),
        peers=len({run_id for record in records for _, _, run_id in record.sentinels}),
    )


def descriptor_limit() -> int:
    """Return the soft limit of open descriptors; ``sys.maxsize`` if there is none."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit(wanted: int) -> int:
    """
    Raise the soft limit of open descriptors to ``wanted``, as far as the hard limit allows. Never lower it.

    :returns: the limit afterwards; ``sys.maxsize`` if there is none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        better = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if better > soft:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (better, hard))
    return descriptor_limit()


def descriptors_for_clients(limit: int, links: int) -> int:
    """Return the number of clients for which there are descriptors beside so many links."""
    return max(MIN_CLIENTS, limit - RESERVED - links)


def shortage(demand: Demand, limit: int) -> str | None:
    """Return the log line about a limit that does not meet the demand; ``None`` if it does."""
    if limit >= demand.total:
        return None
    remedy = RAISE_LIMIT.format(needed=demand.total)
    if limit >= demand.links + RESERVED + MIN_CLIENTS:
        available_descriptors = descriptors_for_clients(limit, demand.links)
        return (
            f"WARNING: The limit of open files is {limit}, but maxclients {demand.clients} and {demand.links}"
            f" connections to servers and Sentinels need {demand.total}."
            f" Descriptors are left for {available_descriptors} clients. {remedy}"
        )
    return (
        f"WARNING: SOME SERVERS CANNOT BE MONITORED, and will be considered down: the limit of open files is {limit},"
        f" but monitoring {demand.masters} masters, {demand.replicas} replicas and {demand.peers} Sentinels needs"
        f" {demand.links} connections, {RESERVED} descriptors for files and ports, and at least {MIN_CLIENTS} for"
        f" clients. {remedy}"
    )


def short_queue(backlog: int, path: str = SOMAXCONN) -> str | None:
    """Return the log line of C if Linux limits the backlog to less than ``tcp-backlog``; ``None`` otherwise."""
    with suppress(OSError, ValueError):
        with open(path, encoding="ascii") as file:
            longest = int(file.read())
        if 0 < longest < backlog:
            return (
                f"WARNING: The TCP backlog setting of {backlog} cannot be enforced because {path} is set to the lower"
                f" value of {longest}."
            )
    return None


def try_descriptor() -> None:
    """
    Open a descriptor as a link does, and close it.

    :raises OSError: if none is available.
    """
    socket.socket(socket.AF_UNIX).close()


class Capacity(Service):
    """
    Warns at the start about limits that are too low, and later when no descriptor is available.

    It does not wait for errors of ``accept`` or ``connect``, because where these are handled they look like
    many clients or like a server that is down. A check takes some microseconds, once a second.

    :param reactor: the reactor with the clock.
    :param note: writes a line to the log.
    :param take: see :func:`try_descriptor`.
    """

    def __init__(
        self,
        reactor: Any,
        demand: Demand,
        backlog: int,
        note: Callable[[Level, str], None],
        take: Callable[[], None] = try_descriptor,
    ) -> None:
        self._reactor = reactor
        self._demand = demand
        self._backlog = backlog
        self._note = note
        self._take = take
        self._warned_at: float | None = None
        self._was_available = True
        self._check_loop = LoopingCall(self.check)
        self._check_loop.clock = reactor

    def privilegedStartService(self) -> None:
        """Log the limits that are too low, before anything is opened."""
        for warning in (shortage(self._demand, descriptor_limit()), short_queue(self._backlog)):
            if warning is not None:
                self._note(Level.WARNING, warning)

    def startService(self) -> None:
        """Start the periodic check."""
        super().startService()  # type: ignore[no-untyped-call]
        self._check_loop.start(CHECK_INTERVAL, now=False)

    def stopService(self) -> None:
        """Stop the periodic check."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._check_loop.running:
            self._check_loop.stop()

    def check(self) -> None:
        """Log if no descriptor is available, at most once a minute, and when one is available again."""
        try:
            self._take()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._exhausted(error)
            return
        if not self._was_available:
            self._was_available = True
            self._note(Level.NOTICE, "File descriptors are available again.")

    def _exhausted(self, error: OSError) -> None:
        now = self._reactor.seconds()
        if self._warned_at is not None and now - self._warned_at < REPEAT_PERIOD:
            return
        self._warned_at, self._was_available = now, False
        if error.errno == errno.EMFILE:
            limit = descriptor_limit()
            reason = f"all {limit} that the limit of open files allows are in use"
            remedy = RAISE_LIMIT.format(needed=max(self._demand.total, 2 * limit))
        else:
            reason, remedy = "all that the whole system allows are in use", "Raise fs.file-max."
        self._note(
            Level.WARNING,
            f"WARNING: OUT OF FILE DESCRIPTORS ({os.strerror(error.errno or 0)}): {reason}. Clients are rejected, and"
            f" servers reason connection is lost now will be considered down. {remedy}",
        )
