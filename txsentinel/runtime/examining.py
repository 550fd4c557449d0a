"""
The checks of the doctor, from inside a Sentinel.

They read all Sentinels and servers of a group over connections of their own, with the logins that the links have. That
blocks, so it is done in a thread, for one group at a time. A result is returned again for a while.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from txsentinel.interfaces import Busy
from txsentinel.model.doctor import GroupHealth
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.process.threads import DaemonThreads
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.connection import ConnectionSettings, TlsFiles
from txsentinel.remote.doctor.all_checks import CHECKS, findings
from txsentinel.remote.doctor.gathering import examine, global_drifts
from txsentinel.remote.fleet import read_fleet

if TYPE_CHECKING:
    from txsentinel.config.generic import GenericOptions
    from txsentinel.core.options import MasterOptions, SentinelOptions
    from txsentinel.core.sentinel import SentinelCore
    from txsentinel.interfaces import IHost

CONNECTION_TIMEOUT: Final = 2.0
"""Seconds for each connection and each answer."""

KEPT_SECONDS: Final = 10.0
"""How long a result is returned again."""

MAX_WAITING: Final = 8
"""How many examinations may wait for the one that runs."""

MAX_KEPT: Final = 100
"""Number of results that are kept."""

ANY_HOST: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
"""A host that a port is bound to → where to connect to it."""


def examine_group(
    name: str, seed: Endpoint, settings: ConnectionSettings, servers: ConnectionSettings, active: bool, at: Instant
) -> GroupHealth:
    """
    Read the group of a master, and check it. It blocks.

    :raises LookupError: if no Sentinel monitors the master.
    """
    fleet = read_fleet([seed], settings, [name])
    agreement = agreement_on(fleet, name)
    if agreement.endpoint is None:
        problems = "; ".join(f"{each.endpoint}: {each.problem}" for each in fleet.sentinels if each.problem)
        raise LookupError(f"the group of {name} cannot be read: {problems or 'no Sentinel monitors it'}")
    found = examine(agreement, settings, servers, global_drifts(fleet.reachable, settings), active)
    return GroupHealth(
        name,
        at,
        active,
        findings(found),
        len(CHECKS),
        agreement.known,
        len(found.reports),
        len(found.servers),
        sum(each.report is not None for each in found.servers.values()),
    )


class GroupExaminer:
    """
    Examines groups, one after the other.

    :param listens: see ``ServiceState.listens``.
    :param run: calls a function in a thread; by default in one of its own.
    """

    def __init__(
        self,
        host: IHost,
        core: SentinelCore,
        options: GenericOptions,
        listens: Callable[[], Sequence[str]],
        run: Callable[..., Deferred[GroupHealth]] | None = None,
    ) -> None:
        self._host = host
        self._core = core
        self._options = options
        self._listens = listens
        threads: Any = DaemonThreads()
        self._run = run or (lambda *call: deferToThreadPool(host.reactor, threads, *call))
        self._waiting: dict[tuple[str, bool], list[Deferred[GroupHealth]]] = {}
        """Who waits for which examination; the first one runs."""

        self._kept: dict[tuple[str, bool], tuple[float, GroupHealth]] = {}

    def examine(self, name: str, active: bool) -> Deferred[GroupHealth]:
        """
        Check the group of a master.

        :param active: also test the rights of the users, which adds entries to ``ACL LOG``, and measure round trips.
        :returns: fails with ``Busy``, or with a ``LookupError`` if the group cannot be read.
        """
        key = name, active
        kept = self._kept.get(key)
        if kept is not None and self._host.reactor.seconds() - kept[0] < KEPT_SECONDS:
            return succeed(kept[1])
        waiting = self._waiting.get(key)
        if waiting is None and len(self._waiting) > MAX_WAITING:
            return fail(Busy(f"{MAX_WAITING} examinations wait already"))
        done: Deferred[GroupHealth] = Deferred()
        if waiting is not None:
            waiting.append(done)
            return done
        self._waiting[key] = [done]
        if len(self._waiting) == 1:
            self._start(key)
        return done

    def _start(self, key: tuple[str, bool]) -> None:
        name, active = key
        master = self._core.registry.masters.get(name)
        if master is None:
            self._finish(key, Failure(LookupError(f"no master of the name {name!r} is monitored")))
            return
        tls = tls_files(self._options)
        at = Instant(round(self._host.wall_clock() * 1000))
        call = (sentinel_login(self._core.options, tls), server_login(master.options, tls), active, at)
        seed = own_endpoint(self._listens(), encrypted=tls is not None)
        if seed is None:
            self._finish(key, Failure(LookupError("this Sentinel has no port that it can connect to itself")))
            return
        self._run(examine_group, name, seed, *call).addBoth(lambda result: self._finish(key, result))

    def _finish(self, key: tuple[str, bool], result: GroupHealth | Failure) -> None:
        if not isinstance(result, Failure):
            self._kept[key] = self._host.reactor.seconds(), result
            while len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        for done in self._waiting.pop(key):
            done.callback(result)
        following = next(iter(self._waiting), None)
        if following is not None:
            self._start(following)


def own_endpoint(listens: Sequence[str], *, encrypted: bool) -> Endpoint | None:
    """Return where this Sentinel can connect to itself; ``None`` if it has no such port."""
    for place in listens:
        bare = place.removeprefix("tls://")
        if place.startswith("/") or (bare != place) is not encrypted:
            continue
        host, _, port = bare.rpartition(":")
        if port.isdigit():
            host = host.strip("[]")
            return Endpoint(ANY_HOST.get(host, host), int(port))
    return None


def tls_files(options: GenericOptions) -> TlsFiles | None:
    """Return the files for connections if links use TLS, ``None`` if not."""
    if not options.tls_replication:
        return None
    certificate = options.tls_client_cert_file or options.tls_cert_file
    key = options.tls_client_key_file or options.tls_key_file
    password = options.tls_client_key_file_pass if options.tls_client_key_file else options.tls_key_file_pass
    return TlsFiles(
        _path(options, options.tls_ca_cert_file),
        _path(options, certificate),
        _path(options, key),
        ca_directory=_path(options, options.tls_ca_cert_dir),
        key_password=password or None,
    )


def _path(options: GenericOptions, path: str) -> str | None:
    return options.located(path) if path else None


def sentinel_login(options: SentinelOptions, tls: TlsFiles | None) -> ConnectionSettings:
    """Return how to connect to Sentinels, with the login that the links to them have."""
    if options.sentinel_pass is not None:
        return ConnectionSettings(options.sentinel_user, options.sentinel_pass, tls, CONNECTION_TIMEOUT)
    return ConnectionSettings(None, options.requirepass, tls, CONNECTION_TIMEOUT)


def server_login(options: MasterOptions, tls: TlsFiles | None) -> ConnectionSettings:
    """Return how to connect to the servers of a master, with the login that the links to them have."""
    return ConnectionSettings(options.auth_user, options.auth_pass, tls, CONNECTION_TIMEOUT)
