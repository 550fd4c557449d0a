"""
An installation in which all processes reach each other through proxies.

Each process has an address of its own, 127.0.0.N: it connects from there and announces it, with its own port. At that
address the proxies listen, while the process itself listens on the same port of 127.0.0.1, which only the tests use.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.outside.control import OwnProcess
from tests.outside.plan import MASTER, Participants
from tests.servers import ChildProcess, EventRecorder, Fleet, Harness, ReplyError, SentinelProcess, free_port, pairs

DOWN_AFTER = 1500
FAILOVER_TIMEOUT = 6000

GUARDS = {
    False: {
        "crash-failover": "off",
        "failure-classes": "as-c",
        "empty-restart-failover": "off",
        "lineage": "warn",
        "fence-isolated": "off",
    },
    True: {
        "crash-failover": "on",
        "failure-classes": "on",
        "empty-restart-failover": "on",
        "lineage": "warn",
        "fence-isolated": "on",
    },
}
"""The settings of our Sentinels that C ones do not have, off or neutral, and on."""

INFO_PERIOD = 1000
"""Milliseconds between two INFO of a Sentinel to a healthy server; ten seconds would only make rounds longer."""

_SERVERS, _SENTINELS, _CLIENTS = 11, 21, 31


def takes_guards(kind: str) -> bool:
    """Whether Sentinels of a kind are ours."""
    return kind in ("txsentinel", "compiled")


@dataclass(frozen=True)
class Setting:
    """The parameters of an installation."""

    sentinels: tuple[str, ...]
    """The kind of each Sentinel."""

    server: str = "redis"
    min_replicas: int = 0
    max_lag: int = 2
    """Seconds; unused without ``min_replicas``."""

    guards: bool = False
    """Which of :data:`GUARDS` our Sentinels have."""

    replicas: int = 2
    writers: int = 3
    readers: int = 1

    @property
    def has_guards(self) -> bool:
        """Whether at least one of the Sentinels is ours, so that ``guards`` makes a difference."""
        return any(map(takes_guards, self.sentinels))

    @property
    def participants(self) -> Participants:
        """The participants of a round."""
        return Participants(self.replicas, len(self.sentinels), self.writers + self.readers)


class Cluster:
    """The installation of one setting, as a context manager inside a harness."""

    def __init__(self, harness: Harness, setting: Setting) -> None:
        self.setting = setting
        self.directory: Path = harness.directory
        self.fleet = Fleet(
            harness,
            setting.sentinels,
            setting.server,
            setting.replicas,
            down_after=DOWN_AFTER,
            failover_timeout=FAILOVER_TIMEOUT,
        )
        self._addresses: dict[ChildProcess, str] = {}
        self._give_addresses()
        self._clients = [f"127.0.0.{_CLIENTS + number}" for number in range(setting.writers + setting.readers)]
        self.proxies = self._proxies()
        self.clients = self._client_process()
        self.hellos = EventRecorder({server.name: server.port for server in self.fleet.servers.values()})

    def __enter__(self) -> Cluster:
        try:
            self.proxies.start()
            self.fleet.start()
            self.fleet.set_info_period(INFO_PERIOD)
            self._set_guards()
            self.clients.start()
            self.hellos.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.hellos.stop()
        self._stop()

    def roles(self) -> dict[str, ChildProcess]:
        """
        Return the present process of each role.

        :raises ReplyError: if the Sentinels do not agree on a master.
        """
        master = self.fleet.master()
        replicas = [server for server in self.fleet.servers.values() if server is not master]
        names = self.setting.participants
        return {
            MASTER: master,
            **dict(zip(names.servers[1:], replicas, strict=True)),
            **dict(zip(names.sentinel_names, self.fleet.sentinels, strict=True)),
        }

    def addresses(self) -> dict[str, str]:
        """Return the present address of each role, clients included; errors as in :meth:`roles`."""
        nodes = {role: self._addresses[process] for role, process in self.roles().items()}
        return {**nodes, **dict(zip(self.setting.participants.client_names, self._clients, strict=True))}

    def problems(self) -> list[str]:
        """Return the reasons why not all agree on one master that all servers follow to the last byte."""
        problems = self.fleet.agreement_problems(list(self.fleet.servers.values()))
        if problems:
            return problems
        try:
            offsets = {
                server.name: int(fields["master_repl_offset" if fields["role"] == "master" else "slave_repl_offset"])
                for server in self.fleet.servers.values()
                for fields in [server.replication()]
            }
        except (OSError, ReplyError, KeyError) as problem:
            return [repr(problem)]
        return [] if len(set(offsets.values())) == 1 else [f"offsets differ: {offsets}"]

    def heal(self) -> list[str]:
        """
        End all faults: open the routes, thaw frozen processes, start killed ones.

        :returns: the processes that had ended without a fault.
        """
        self.proxies.call("HEAL")
        unexpected_exits = []
        processes: Sequence[ChildProcess] = [*self.fleet.servers.values(), *self.fleet.sentinels]
        for process in processes:
            process.thaw()
            if not process.running:
                if process.exit_status != -signal.SIGKILL:
                    unexpected_exits.append(f"{process.name} ended with status {process.exit_status}")
                process.start(keep_config=True, ready=False)
        for process in processes:
            process.wait_ready()
        self.fleet.set_info_period(INFO_PERIOD)
        return unexpected_exits

    def pids(self) -> dict[str, int]:
        """Return the process IDs of all processes, proxies and clients included."""
        everything = [*self.fleet.servers.values(), *self.fleet.sentinels, self.proxies, self.clients]
        return {process.name: process.pid for process in everything if process.running}

    def own_ids(self) -> dict[SentinelProcess, str]:
        """Return the ID of each Sentinel."""
        return {sentinel: str(sentinel.call("SENTINEL", "MYID")) for sentinel in self.fleet.sentinels}

    def _set_guards(self) -> None:
        wanted = GUARDS[self.setting.guards]
        for sentinel in self.fleet.sentinels:
            if not takes_guards(sentinel.kind):
                continue
            words = [word for pair in wanted.items() for word in pair]
            sentinel.call("SENTINEL", "SET", self.fleet.name, *words)
            shown = pairs(sentinel.call("SENTINEL", "MASTER", self.fleet.name))
            if {word: shown.get(word) for word in wanted} != wanted:
                raise RuntimeError(f"{sentinel.name} does not have these settings: {wanted}")

    def _give_addresses(self) -> None:
        for number, server in enumerate(self.fleet.servers.values()):
            self._addresses[server] = f"127.0.0.{_SERVERS + number}"
        first = next(iter(self.fleet.servers.values()))
        for server in self.fleet.servers.values():
            address = self._addresses[server]
            server.extra += [
                f"bind-source-addr {address}",
                f"replica-announce-ip {address}",
                f"replica-announce-port {server.port}",
                # An acknowledged write is in the file before the reply is sent, so a killed process keeps it.
                "appendonly yes",
                "appendfsync no",
                # A silent link is closed after seconds, not after a minute.
                "repl-ping-replica-period 1",
                "repl-timeout 5",
            ]
            if self.setting.min_replicas:
                server.extra += [
                    f"min-replicas-to-write {self.setting.min_replicas}",
                    f"min-replicas-max-lag {self.setting.max_lag}",
                ]
            if server is not first:
                server.replica_of = None
                server.extra.append(f"replicaof {self._addresses[first]} {first.port}")
        for number, sentinel in enumerate(self.fleet.sentinels):
            address = self._addresses[sentinel] = f"127.0.0.{_SENTINELS + number}"
            sentinel.monitor = [
                (name, self._addresses[first], port, quorum) for name, _, port, quorum in sentinel.monitor
            ]
            sentinel.extra += [
                f"bind-source-addr {address}",
                f"sentinel announce-ip {address}",
                f"sentinel announce-port {sentinel.port}",
            ]

    def _proxies(self) -> OwnProcess:
        listeners = [f"--listen={address}:{process.port}" for process, address in self._addresses.items()]
        return OwnProcess("tests.outside.proxies", free_port(), self.directory / "proxies", listeners)

    def _client_process(self) -> OwnProcess:
        words = [f"--master={self.fleet.name}"]
        words += [f"--sentinel={self._addresses[sentinel]}:{sentinel.port}" for sentinel in self.fleet.sentinels]
        words += [f"--writer={address}" for address in self._clients[: self.setting.writers]]
        words += [f"--reader={address}" for address in self._clients[self.setting.writers :]]
        return OwnProcess("tests.outside.clients", free_port(), self.directory / "clients", words)

    def _stop(self) -> None:
        # Sentinels first, so that their logs do not end with a failover caused by the shutdown.
        for process in (*self.fleet.sentinels, *self.fleet.servers.values(), self.clients, self.proxies):
            try:
                process.stop()
            except (OSError, subprocess.SubprocessError) as problem:
                print(f"{process.name} did not stop: {problem}", file=sys.stderr)
