"""Restores the state of the core from the configuration file."""

from __future__ import annotations

from txsentinel.config.configuration import Configuration
from txsentinel.core.sentinel import SentinelCore
from txsentinel.interfaces import IHost
from txsentinel.model.timings import Millis


def new_id(host: IHost) -> str:
    """Return a random ID of 40 hexadecimal digits."""
    return f"{host.random.getrandbits(160):040x}"


def ensure_id(core: SentinelCore, host: IHost) -> bool:
    """Give the Sentinel an ID if the file has none; return whether it got a new one."""
    if core.options.my_id:
        return False
    core.options.my_id = new_id(host)
    return True


def restore_state(core: SentinelCore, configuration: Configuration, now: Millis) -> None:
    """Restore epochs, masters, replicas and other Sentinels of the file into a new ``core``."""
    core.state.current_epoch = max(core.current_epoch, configuration.current_epoch)
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
