"""Builds the service of a Sentinel from its options, with everything that its process needs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from txsentinel.cli.extensions import ExtensionUse, UnusableExtension, extension_services
from txsentinel.cli.refusing import refuse
from txsentinel.config.configuration import Configuration
from txsentinel.process.collector import frozen_collector
from txsentinel.process.descriptors import (
    Capacity,
    demand_of,
    descriptor_limit,
    descriptors_for_clients,
    raise_descriptor_limit,
)
from txsentinel.process.files import FileLock
from txsentinel.process.logs import SentinelLog, note, note_event
from txsentinel.process.resolver import DaemonThreadResolver
from txsentinel.process.state_directory import StateDirectory
from txsentinel.process.supervision import PidFile, ProcessService
from txsentinel.process.systemd import inherited_sockets
from txsentinel.process.termination import TerminationSignals
from txsentinel.reactor.priority import PriorityReactor
from txsentinel.runtime.event_plugins import EventPlugins, installed_event_plugins
from txsentinel.runtime.group_questions import MonitoredGroups
from txsentinel.runtime.health import SentinelHealth
from txsentinel.runtime.host import PROGRAM, ISystemReactor, RealHost
from txsentinel.runtime.listeners import CannotStart
from txsentinel.runtime.quorum_log import QuorumLog
from txsentinel.runtime.reloading import Reload
from txsentinel.runtime.restoring import load_users
from txsentinel.runtime.secrets import SecretRenewal
from txsentinel.runtime.service import SentinelService

if TYPE_CHECKING:
    from twisted.application.service import IService


class ProcessOptions(Protocol):
    """What the command line and the configuration determine."""

    configuration: Configuration
    lock: FileLock | None

    @property
    def extensions(self) -> Sequence[ExtensionUse]:
        """The selected extensions."""

    @property
    def verify_hostnames(self) -> bool:
        """Whether certificates must name the host that was connected to."""

    @property
    def log_file(self) -> str:
        """The absolute path of the log file; empty if there is none."""

    def log(self) -> SentinelLog:
        """Return the log observer."""

    def state_directory(self, saved_path: str) -> str:
        """Return the directory of extensions and of the history."""


def build_process(options: ProcessOptions, reactor: ISystemReactor) -> IService:
    """
    Build the service and what its process needs, without starting anything.

    The reactor's clock is replaced by the monotonic clock before anything is scheduled on it. The original one is the
    wall clock: when it is set back by an hour, no call that was scheduled before is made for an hour, and a Sentinel
    would not monitor in that time and then report all instances as down.
    """
    setattr(reactor, "seconds", time.monotonic)  # noqa: B010 - an attribute that mypy takes for a method
    reactor.installNameResolver(DaemonThreadResolver(reactor))
    generic = options.configuration.generic

    def change_loglevel(word: str) -> None:
        generic.loglevel = word

    priority_reactor = cast(ISystemReactor, PriorityReactor(reactor))
    locks = {} if options.lock is None else {options.configuration.saved_path: options.lock}
    host = RealHost(priority_reactor, locks, lambda: process.failing())
    title = generic.process_title(PROGRAM, options.configuration.path) if generic.set_proc_title else ""
    state = StateDirectory(options.state_directory(options.configuration.saved_path), note)
    sentinel = SentinelService(
        host,
        options.configuration,
        note=note,
        note_event=note_event,
        listeners=EventPlugins(installed_event_plugins()),
        shutdown=reactor.stop,
        change_loglevel=change_loglevel,
        verify_hostnames=options.verify_hostnames,
        # Each server needs two connections, also if it is down at present. The limit can be raised from outside while
        # the process runs.
        available_descriptors=lambda links: descriptors_for_clients(descriptor_limit(), 2 * links),
        inherited_sockets=inherited_sockets(os.environ),
        state_dir=state.path,
        reload=lambda: process.reload(),
    )
    secrets = SecretRenewal(
        options.configuration.secrets,
        os.environ,
        host,
        sentinel.core,
        sentinel.context.access,
        generic,
        note,
    )
    demand = demand_of(options.configuration)
    raise_descriptor_limit(demand.with_reserve)
    process = ProcessService(
        reactor,
        sentinel,
        log=options.log(),
        directory=generic.dir if generic.dir != os.getcwd() else None,
        pidfile=PidFile(generic.located(generic.pidfile)) if generic.pidfile else None,
        supervised=generic.supervised,
        hangup=Reload(secrets, sentinel.tls, sentinel.context.access, generic, note),
        health=SentinelHealth(sentinel.core, sentinel.store, sentinel.sweeping, sentinel.host),
        serving=sentinel.serving,
        termination=TerminationSignals(reactor),
        set_process_title=partial(host.set_process_title, title) if title else lambda: None,
        log_file=options.log_file,
    )
    capacity = Capacity(host.slack_clock, demand, generic.tcp_backlog, note)
    capacity.setServiceParent(process)  # type: ignore[no-untyped-call]
    frozen_collector(host.slack_clock).setServiceParent(process)  # type: ignore[no-untyped-call]
    surface = sentinel.surface
    # The view is for extensions only: with one, the core reports each change.
    quorum_log = QuorumLog(reactor, MonitoredGroups(sentinel.context), lambda: sentinel.core.timings.info_period, note)
    quorum_log.setServiceParent(process)  # type: ignore[no-untyped-call]
    if options.extensions:
        try:
            load_users(sentinel.context.access, options.configuration, note)
            for service in extension_services(options.extensions, surface.view, surface.operator, state, reactor):
                service.setServiceParent(process)  # type: ignore[no-untyped-call]
        except (CannotStart, UnusableExtension) as error:
            refuse(str(error))
    return process
