"""
The installation that an operator's ``sentinel.conf`` describes: its Sentinels and servers, and their places.

The production reader reads the file, which is never written. Names that only a resolver knows get addresses of their
own. Assumptions beyond the file are recorded as text.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Final

from txsentinel.config.configuration import Configuration, load
from txsentinel.config.disk import LocalDisk
from txsentinel.config.errors import CannotOpen
from txsentinel.config.statements import MasterRecord
from txsentinel.core.options import MasterOptions
from txsentinel.model.address import canonical_ip
from txsentinel.server.acl.users import check_declaration
from txsentinel.server.all_commands import TABLE
from txsentinel.tls.activation import wants_tls

MADE_UP: Final = "198.18.0."
"""Addresses of machines whose address is unknown; the network is reserved for tests."""

MAX_MACHINES: Final = 200
"""Number of machines of unknown address, and so of additional Sentinels and servers."""

MIN_SENTINELS: Final = 3
USUAL_REPLICAS: Final = 2
"""What is assumed of a file that no Sentinel has written to yet."""

SENTINEL_PORT: Final = 26379
LOOPBACK: Final = "127.0.0.1"


class BadTopology(Exception):
    """The description of the installation is invalid; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a process listens: the host as the file writes it, the address of its machine, and the port."""

    host: str
    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SentinelTopology:
    """One Sentinel; number 1 is the one whose file this is."""

    number: int
    place: ListenAddress
    announced: str | None
    """The host that it announces; ``None`` if it announces the address of its connections."""
    run_id: str
    """Empty if it is new and will choose one."""
    masters: tuple[str, ...]

    @property
    def name(self) -> str:
        """``s1``, ``s2``, …"""
        return f"s{self.number}"


@dataclass(frozen=True, slots=True)
class GroupTopology:
    """One monitored master with its replicas; the first place is the master's."""

    name: str
    options: MasterOptions
    servers: tuple[ListenAddress, ...]


@dataclass(slots=True)
class Topology:
    """Everything that the file describes."""

    path: str
    """Directory of the file, absolute; simulated Sentinels use it too."""
    contents: bytes
    disk: ReadOnlyDisk
    title: str
    """The path as the operator wrote it."""
    sentinels: list[SentinelTopology] = field(default_factory=list)
    groups: list[GroupTopology] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """What every resolver knows: host name to address."""
    assumed: list[str] = field(default_factory=list)
    """The assumptions, as text."""
    acl: dict[str, bytes] = field(default_factory=dict)
    """The ``aclfile``, by its path, if there is one."""
    announces_hostnames: bool = False
    password: str | None = None
    user: str | None = None
    """How clients log in to the Sentinels."""

    @property
    def places(self) -> dict[str, ListenAddress]:
        """The places of all processes: ``s1``, …, ``mymaster/1``, …"""
        found = {sentinel.name: sentinel.place for sentinel in self.sentinels}
        for group in self.groups:
            found.update({f"{group.name}/{number}": place for number, place in enumerate(group.servers, 1)})
        return found

    def machine(self, host: str) -> str:
        """The address of the machine that is called ``host``."""
        return self.names.get(host.lower(), host)

    def configuration(self, sentinel: SentinelTopology, contents: bytes) -> Configuration:
        """
        Parse the present contents of the file of ``sentinel`` as it would on its simulated machine.

        TLS, Unix sockets and renamed commands are removed; options that belong to the first Sentinel are replaced.

        :raises ConfigError: if a Sentinel would refuse the file.
        """
        configuration = read(self.path, contents, self.disk)
        generic, options = configuration.generic, configuration.sentinel
        generic.port = options.port = sentinel.place.port
        generic.tls_port = options.tls_port = options.announce_port = 0
        generic.tls_replication = options.tls_replication = generic.tls_cluster = False
        generic.bind, generic.unixsocket = ["*"], ""
        if not self.acl:
            generic.aclfile = ""
        options.announce_ip = sentinel.announced
        for record in configuration.masters:
            record.options.renamed_commands.clear()
            record.options.rename_spellings.clear()
        if contents == self.contents:
            self._set_identity(configuration, sentinel)
        return configuration

    def _set_identity(self, configuration: Configuration, sentinel: SentinelTopology) -> None:
        configuration.sentinel.my_id = sentinel.run_id
        configuration.masters = [record for record in configuration.masters if record.name in sentinel.masters]
        for record in configuration.masters:
            record.sentinels = [
                (other.place.host, other.place.port, other.run_id)
                for other in self.sentinels
                if other is not sentinel and other.run_id and record.name in other.masters
            ]
            group = next(group for group in self.groups if group.name == record.name)
            known = {(place.host, place.port) for place in group.servers[1:]}
            record.replicas = [replica for replica in record.replicas if replica in known]


class ReadOnlyDisk(LocalDisk):
    """
    The local file system, read-only; what it lacks is added to ``missing`` and not reported as an error.

    The file may have been copied here from another machine.
    """

    def __init__(self) -> None:
        self.missing: dict[str, None] = {}

    def executable(self, path: str) -> bool:
        """Every script is assumed to be executable."""
        if not super().executable(path):
            self.missing[f"the script {path}"] = None
        return True

    def check_directory(self, path: str) -> None:
        """Every directory is assumed to exist."""
        if not os.path.isdir(path):
            self.missing[f"the directory {path}"] = None

    def check_appendable(self, path: str) -> None:
        """Every log is assumed to be writable; a check would create it."""


def read(path: str, contents: bytes, disk: ReadOnlyDisk) -> Configuration:
    """
    Read a configuration as ``twistd sentinel`` does.

    :raises ConfigError: as it would refuse it.
    """
    known_commands = [word.decode("ascii") for word in TABLE.by_word]
    return load(path, contents, disk=disk, known_commands=known_commands, check_user=partial(check_declaration, TABLE))


def read_topology(
    path: str,
    *,
    sentinels: int | None = None,
    replicas: int | None = None,
    this_host: str | None = None,
    hosts: dict[str, str] | None = None,
) -> Topology:
    """
    Read the installation that the file at ``path`` describes.

    :param sentinels: how many Sentinels there are, in place of the number in the file.
    :param replicas: how many replicas each master has, in place of the number in the file.
    :param this_host: the address of the machine that the file is from.
    :param hosts: addresses of machines by name.
    :raises ConfigError: if a Sentinel would refuse the file.
    :raises BadTopology: if it contains nothing to simulate.
    """
    try:
        with open(path, "rb") as file:
            contents = file.read()
    except OSError as error:
        raise CannotOpen(path, error.strerror or str(error)) from None
    disk = ReadOnlyDisk()
    configuration = read(os.path.abspath(path), contents, disk)
    if not configuration.masters:
        raise BadTopology(f"{path} monitors no master: nothing can fail")
    return _Inventory(Topology(os.path.abspath(path), contents, disk, path), configuration, this_host, hosts or {}).all(
        sentinels, replicas
    )


class _Inventory:
    """Assigns a place to each process."""

    def __init__(
        self, topology: Topology, configuration: Configuration, this_host: str | None, hosts: dict[str, str]
    ) -> None:
        self._topology = topology
        self._configuration = configuration
        self._fresh = not configuration.sentinel.my_id
        self._taken: dict[tuple[str, int], str] = {}
        self._made_up = 0
        for host, ip in hosts.items():
            if canonical_ip(ip) is None:
                raise BadTopology(f"{ip!r} is no IP address of {host}")
            topology.names[host.lower()] = ip
        self._this_host = this_host
        self._own_ip = ""

    def all(self, sentinels: int | None, replicas: int | None) -> Topology:
        """The complete topology."""
        topology, configuration = self._topology, self._configuration
        options, generic = configuration.sentinel, configuration.generic
        topology.announces_hostnames = options.announce_hostnames
        topology.password = generic.requirepass or options.sentinel_pass
        topology.user = None if generic.requirepass else options.sentinel_user
        self._own_ip = self._own_machine()
        own = ListenAddress(options.announce_ip or self._this_host or self._own_ip, self._own_ip, options.hello_port)
        self._take(own, "this Sentinel")
        for record in configuration.masters:
            self._group(record, replicas)
        self._sentinels(own, sentinels)
        self._warn()
        return topology

    def _own_machine(self) -> str:
        """The address of this Sentinel: announced, given on the command line, bound, or a new one."""
        options, generic = self._configuration.sentinel, self._configuration.generic
        announced = options.announce_ip or self._this_host
        if announced:
            return self._lookup(announced)
        for word in generic.bind:
            ip = canonical_ip(word.removeprefix("-"))
            if ip is not None and not (ip_address(ip).is_loopback or ip_address(ip).is_unspecified):
                return ip
        known = [record.host for record in self._configuration.masters]
        for record in self._configuration.masters:
            known += [host for host, _ in record.replicas] + [host for host, _, _ in record.sentinels]
        if all(self._is_loopback(host) for host in known):
            return LOOPBACK
        self._topology.assumed.append("the file does not name its machine: s1 gets one of its own (see --this-host)")
        return self._new_machine()

    def _group(self, record: MasterRecord, replicas: int | None) -> None:
        places = [self._place(record.host, record.port, f"the master {record.name}")]
        known = record.replicas
        wanted = replicas if replicas is not None else USUAL_REPLICAS if self._fresh and not known else len(known)
        for host, port in known[:wanted]:
            places.append(self._place(host, port, f"a replica of {record.name}"))
        if replicas is None and len(known) < wanted:
            self._topology.assumed.append(
                f"no Sentinel has written to the file yet: {record.name} gets {wanted} replicas (see --replicas)"
            )
        while len(places) <= wanted:
            places.append(self._new_place(record.port, f"a replica of {record.name}"))
        self._topology.groups.append(GroupTopology(record.name, record.options, tuple(places)))

    def _sentinels(self, own: ListenAddress, wanted: int | None) -> None:
        topology, options = self._topology, self._configuration.sentinel
        records = self._configuration.masters
        everything = tuple(record.name for record in records)
        topology.sentinels.append(SentinelTopology(1, own, options.announce_ip, options.my_id, everything))
        known: dict[str, tuple[str, int, list[str]]] = {}
        for record in records:
            for host, port, run_id in record.sentinels:
                known.setdefault(run_id, (host, port, []))[2].append(record.name)
        known.pop(options.my_id, None)
        if wanted is None:
            wanted = 1 + len(known)
            if self._fresh and not known:
                wanted = max(MIN_SENTINELS, *(2 * record.options.quorum - 1 for record in records))
                topology.assumed.append(
                    f"no Sentinel has written to the file yet: there are {wanted} of them (see --sentinels)"
                )
        for run_id, (host, port, masters) in [*known.items()][: wanted - 1]:
            number = len(topology.sentinels) + 1
            place = self._place(host, port, f"the Sentinel {run_id}")
            announced = host if canonical_ip(host) is None else None
            topology.sentinels.append(SentinelTopology(number, place, announced, run_id, tuple(masters)))
        while len(topology.sentinels) < wanted:
            place = self._new_place(SENTINEL_PORT, "a Sentinel")
            topology.sentinels.append(SentinelTopology(len(topology.sentinels) + 1, place, None, "", everything))

    def _warn(self) -> None:
        """Record the other assumptions of the simulation."""
        topology, generic = self._topology, self._configuration.generic
        if wants_tls(generic):
            topology.assumed.append("TLS works: the simulated links are plain ones")
        if any(record.options.renamed_commands for record in self._configuration.masters):
            topology.assumed.append("rename-command is obeyed: the simulated servers take the usual names")
        if generic.aclfile:
            path = generic.located(generic.aclfile)
            try:
                topology.acl[path] = topology.disk.read(path)
            except OSError as error:
                topology.assumed.append(f"all users may do everything: {path} cannot be read ({error.strerror})")
        for what in topology.disk.missing:
            topology.assumed.append(f"{what} is where it will be needed; here it is not")

    # Places

    def _place(self, host: str, port: int, what: str) -> ListenAddress:
        place = ListenAddress(host, self._lookup(host), port)
        self._take(place, what)
        return place

    def _take(self, place: ListenAddress, what: str) -> None:
        holder = self._taken.setdefault((place.ip, place.port), what)
        if holder is not what:
            raise BadTopology(f"{what} and {holder} cannot both be at {place}")

    def _lookup(self, host: str) -> str:
        """The machine called ``host``; a new one for a new name. Loopback is the machine of this Sentinel."""
        if self._is_loopback(host):
            return self._own_ip or LOOPBACK
        ip = canonical_ip(host)
        if ip is None:
            ip = self._topology.names.get(host.lower()) or self._new_machine()
            self._topology.names[host.lower()] = self._topology.names[host] = ip
        return ip

    @staticmethod
    def _is_loopback(host: str) -> bool:
        ip = canonical_ip(host)
        return ip is not None and ip_address(ip).is_loopback

    def _new_machine(self) -> str:
        self._made_up += 1
        if self._made_up > MAX_MACHINES:
            raise BadTopology(f"more than {MAX_MACHINES} machines of unknown address cannot be simulated")
        return f"{MADE_UP}{self._made_up}"

    def _new_place(self, port: int, what: str) -> ListenAddress:
        """A place for a process that the file does not name; on the one machine, if all are on one."""
        if self._own_ip != LOOPBACK:
            ip = self._new_machine()
        else:
            ip = LOOPBACK
            while (ip, port) in self._taken:
                port += 1
        place = ListenAddress(ip, ip, port)
        self._taken[ip, port] = what
        return place
