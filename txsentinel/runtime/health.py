"""Whether a Sentinel works, and its state in one line, for service managers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txsentinel.config.store import ConfigStore
from txsentinel.core.durable_records import ALL_MASTERS, RecordKind
from txsentinel.core.instances import Peer
from txsentinel.core.sentinel import SentinelCore
from txsentinel.interfaces import IHost
from txsentinel.model.log_text import excerpt
from txsentinel.model.snapshots import Instant
from txsentinel.runtime.sweeper import SweepLoop

MAX_SAVING_SECONDS: Final = 30.0
"""How long a write may take before the Sentinel counts as not working."""


class SentinelHealth:
    """The state of a running Sentinel; see ``process.systemd.ServiceHealth``."""

    def __init__(self, core: SentinelCore, store: ConfigStore, sweeping: SweepLoop, host: IHost) -> None:
        self._core = core
        self._store = store
        self._sweeping = sweeping
        self._host = host

    def observe(self, swept: Callable[[], None]) -> None:
        """Call ``swept`` after each sweep."""
        self._sweeping.observe(swept)

    def problem(self) -> str:
        """Return why the Sentinel does not work although it sweeps; empty if it works."""
        seconds = self._store.saving_for
        return f"the file is being saved for {seconds:.0f} s" if seconds > MAX_SAVING_SECONDS else ""

    def status(self) -> str:
        """Return the numbers of masters by state and of reachable peers, then pauses, TILT and storage errors."""
        core = self._core
        counts = {"ok": 0, "sdown": 0, "odown": 0}
        peers: dict[str, Peer] = {}
        failovers = 0
        for master in core.registry.masters.values():
            counts["odown" if master.odown_since is not None else "ok" if master.sdown_since is None else "sdown"] += 1
            failovers += master.failover is not None
            peers.update(master.peers)
        parts = [f"{count} {word}" for word, count in counts.items() if count or word == "ok"]
        parts[0] = f"{counts['ok']} master{'' if counts['ok'] == 1 else 's'} ok"
        if failovers:
            parts.append(f"{failovers} failing over")
        up = sum(peer.sdown_since is None for peer in peers.values())
        parts.append(f"{up}/{len(peers)} peers")
        now = self._host.now()
        for held in core.records.in_force(RecordKind.PAUSE, now):
            name = held.record.key.master
            end = Instant(round(self._host.wall_clock() * 1000) + held.until - now)
            parts.append(f"paused {'all masters' if name == ALL_MASTERS else excerpt(name)} until {end}")
        if core.tilt.active:
            parts.append(f"TILT ({core.tilt.report})")
        if core.state.storage_error is not None:
            parts.append(str(core.state.storage_error))
        return ", ".join(parts)
