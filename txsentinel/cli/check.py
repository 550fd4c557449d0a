"""Validates a configuration as the start of the service does, without changing anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Final

from txsentinel.cli.extensions import ExtensionUse, UnusableExtension, extension_services
from txsentinel.cli.refusing import refuse
from txsentinel.cli.tap import Options, read_configuration, read_guards
from txsentinel.config.configuration import Configuration
from txsentinel.config.disk import LocalDisk
from txsentinel.config.generic import GenericOptions
from txsentinel.config.guards import guard_lines
from txsentinel.config.statements import MasterRecord
from txsentinel.process.state_directory import StateDirectory
from txsentinel.runtime.host import ISystemReactor, RealHost
from txsentinel.runtime.listeners import NO_LISTENERS, CannotStart
from txsentinel.runtime.restoring import load_users
from txsentinel.runtime.service import SentinelService
from txsentinel.server.access_control import AccessControl, UnusableUsers
from txsentinel.server.all_commands import TABLE
from txsentinel.tls.activation import wants_tls
from txsentinel.tls.errors import BadTls

NO_MASTERS: Final = (
    "warning: it monitors no master; add 'sentinel monitor NAME IP PORT QUORUM', or use SENTINEL MONITOR"
)


class UnchangedDisk(LocalDisk):
    """This machine, on which no file is created."""

    def check_appendable(self, path: str) -> None:
        """
        See :class:`~txsentinel.config.disk.Disk`; a missing log file is not created.

        :raises OSError: with the reason.
        """
        # Created by root, it would shut out the user of the service.
        if os.path.exists(path):
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
        else:
            check_creatable(path)


class CheckOptions(Options):
    """The command line after ``txsentinel check``; parsing it takes no locks and removes no leftover files."""

    def postOptions(self) -> None:
        """Read the configuration, which a running Sentinel may be using."""
        guards = read_guards(self)
        self.configuration = read_configuration(self["config"], self._overrides, disk=UnchangedDisk(), guards=guards)


def check_creatable(path: str) -> None:
    """
    Check that a file that does not exist could be created.

    :raises OSError: with the reason.
    """
    directory = os.path.dirname(path)
    os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(13, os.strerror(13), directory)


def check(configuration: Configuration, reactor: ISystemReactor) -> list[str]:
    """
    Check what the start would check after the configuration was read, and describe what would run.

    :return: lines of text.
    :raises SystemExit: with the reason why the start would be refused.
    """
    generic = configuration.generic
    try:
        if not os.path.exists(configuration.saved_path):
            check_creatable(configuration.saved_path)
    except OSError as error:
        refuse(f"Sentinel config file {configuration.saved_path} is not writable: {error.strerror}. Exiting...")
    if not (generic.unixsocket or (generic.bind and (generic.port or generic.tls_port))):
        refuse(NO_LISTENERS)
    check_users(configuration, reactor)
    check_tls(generic)
    return [*describe(configuration)]


def describe_extensions(
    uses: Sequence[ExtensionUse], configuration: Configuration, directory: str, reactor: ISystemReactor
) -> list[str]:
    """
    Return lines about the extensions that would run, and about ``directory``, where they keep their files.

    :raises SystemExit: if an extension refuses its argument or a setting.
    """
    if not uses:
        return []
    sentinel = SentinelService(RealHost(reactor), configuration, note=lambda level, line: None, shutdown=lambda: None)
    state = StateDirectory(directory, lambda level, line: None)
    try:
        load_users(sentinel.context.access, configuration, lambda level, line: None)
        # The services are built as before a start; they open nothing, and are not started.
        list(extension_services(uses, sentinel.surface.view, sentinel.surface.operator, state, reactor))
    except (CannotStart, UnusableExtension) as error:
        refuse(str(error))
    return [*(use.describe() for use in uses), f"extensions keep their files in {directory}"]


def check_users(configuration: Configuration, reactor: ISystemReactor) -> None:
    """
    Check the ``user`` lines or the ACL file.

    :raises SystemExit: if they are unusable.
    """
    host = RealHost(reactor)
    try:
        AccessControl(configuration.generic, host, TABLE).start((), lambda level, line: None)
    except UnusableUsers as refusal:
        refuse("\n".join(refusal.lines))


def check_tls(generic: GenericOptions) -> None:
    """
    Load the certificates and keys, if TLS is wanted.

    :raises SystemExit: if they are unusable.
    """
    if not wants_tls(generic):
        return
    # OpenSSL is not loaded where TLS is not used.
    from txsentinel.tls.contexts import load_contexts

    try:
        load_contexts(generic)
    except BadTls as error:
        refuse(f"Failed to configure TLS: {error}")


def describe(configuration: Configuration) -> Iterator[str]:
    """Yield lines about what a configuration would run, one for each setting."""
    generic = configuration.generic
    yield f"{configuration.path}: valid"
    yield f"state is saved in {configuration.saved_path}"
    ports = [f"{generic.port}"] if generic.port else []
    ports += [f"{generic.tls_port} (TLS)"] if generic.tls_port else []
    if ports and generic.bind:
        yield f"clients connect to port {' and '.join(ports)} on {' '.join(generic.bind)}"
    if generic.unixsocket:
        yield f"clients connect to the socket {generic.located(generic.unixsocket)}"
    yield f"links to servers and other Sentinels use {'TLS' if generic.tls_replication else 'plain TCP'}"
    log = generic.located(generic.logfile) or "standard output"
    yield f"the log goes to {log}{' and the system log' if generic.syslog_enabled else ''}"
    if generic.set_proc_title and find_spec("setproctitle") is None:
        yield "the process title stays, as setproctitle is not installed (extra: txsentinel[title])"
    yield f"the ID is {configuration.sentinel.my_id or 'generated by the first start'}"
    for record in configuration.masters:
        yield from describe_master(record)
    for reference in configuration.secrets:
        yield f"{'the second ' * reference.upcoming}{reference.subject} is read from {reference.source}"
    if not configuration.masters:
        yield NO_MASTERS
    for warning in configuration.warnings:
        yield f"warning: {warning}"


def describe_master(record: MasterRecord) -> Iterator[str]:
    """One line for a master, and one for a quorum that the known Sentinels cannot reach."""
    options = record.options
    known = len(record.sentinels) + 1
    yield (
        f"master {record.name} at {record.host} {record.port}: quorum {options.quorum},"
        f" down-after-milliseconds {options.down_after}, failover-timeout {options.failover_timeout};"
        f" knows {count(len(record.replicas), 'replica')} and {count(known - 1, 'other Sentinel')}"
    )
    guards = guard_lines(record.name, options.guards)
    if guards:
        yield f"master {record.name} also has {', '.join(f'{line.kind} {line.text.split()[-1]}' for line in guards)}"
    if 1 < known < options.quorum:
        yield f"warning: the quorum of {record.name} is {options.quorum}, but only {known} Sentinels are known"


def count(number: int, noun: str) -> str:
    """``2 replicas``, ``1 replica``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
