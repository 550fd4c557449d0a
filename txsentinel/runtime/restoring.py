"""Restores the state of the core, and the users, from the configuration."""

from __future__ import annotations

from collections.abc import Callable

from txsentinel.config.configuration import Configuration
from txsentinel.core.sentinel import SentinelCore
from txsentinel.interfaces import IHost
from txsentinel.model.events import Level
from txsentinel.model.timings import Millis
from txsentinel.runtime.listeners import CannotStart
from txsentinel.server.access_control import AccessControl, UnusableUsers


def new_id(host: IHost) -> str:
    """Return a random ID of 40 hexadecimal digits."""
    return f"{host.random.getrandbits(160):040x}"


def ensure_id(core: SentinelCore, host: IHost) -> bool:
    """Give the Sentinel an ID if the file has none; return whether it got a new one."""
    if core.options.my_id:
        return False
    core.options.my_id = new_id(host)
    return True


def restore_state(core: SentinelCore, configuration: Configuration, now: Millis, wall_now: Millis) -> None:
    """
    Restore epochs, masters, replicas, other Sentinels and records of the file into a new ``core``.

    :param wall_now: the wall clock in milliseconds since 1970.
    """
    core.state.current_epoch = max(core.current_epoch, configuration.current_epoch)
    core.records.restore(configuration.records, now, wall_now)
    core.operation_records.restore(now, wall_now)
    for record in configuration.masters:
        core.administration.restore(
            record.name,
            core.registry.address_or_name(record.host, record.port),
            record.options,
            now,
            config_epoch=record.config_epoch,
            leader_epoch=record.leader_epoch,
            replicas=[core.registry.address_or_name(host, port) for host, port in record.replicas],
            peers=[(core.registry.address_or_name(h, p), run_id) for h, p, run_id in record.sentinels],
        )


def load_users(access: AccessControl, configuration: Configuration, note: Callable[[Level, str], None]) -> None:
    """
    Create the users of the ACL, unless that was done before the start, because extensions need them.

    :param note: writes a line to the log.
    :raises CannotStart: if the users are invalid.
    """
    if access.started:
        return
    try:
        access.start(configuration.users_elsewhere(), note)
    except UnusableUsers as refusal:
        for line in refusal.lines:
            note(Level.WARNING, line)
        raise CannotStart(refusal.lines[-1]) from refusal
