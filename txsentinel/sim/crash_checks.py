"""
Invariants of the evidence that a master is down, checked on the network and on the servers themselves.

======= ==============================================================================================
crash   a master is taken for crashed only if two attempts of this Sentinel to connect were refused since it lost its
        connection, the last one ``crash-confirm`` later, and each was refused because no process listened
classes a master that answers a Sentinel with ``-NOAUTH`` or ``-NOPERM`` is not S_DOWN to it
======= ==============================================================================================
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import Final

from txsentinel.core.instances import Master
from txsentinel.core.options import FailureClasses
from txsentinel.sim.fleet import SimSentinel
from txsentinel.sim.records import Records
from txsentinel.sim.simulation import SECOND

KEPT_SECONDS: Final = 10.0
"""How long refused attempts are kept."""

MIN_REFUSALS: Final = 2
ROUNDING: Final = 0.002

RESTORED_SECONDS: Final = 5
"""Seconds after which nothing arrives late any more that was sent before a path was restored."""

MIN_SILENCE: Final = 0.9
"""The part of ``down-after-milliseconds`` that must have passed since a server refused a command."""


class CrashChecker:
    """Check the verdicts of one fleet."""

    def __init__(self, records: Records) -> None:
        self._fleet = records.fleet
        self._expect = records.expect
        self._records = records
        self._refusals: dict[tuple[str, str], list[tuple[float, bool]]] = {}
        """Source and target → time of each refused attempt, and whether the machine ran no server then."""

        self._checked: dict[tuple[str, str], int] = {}
        """Sentinel and master → time of its last verdict that was checked, by the clock of that Sentinel."""

        self.verdicts = 0
        """The number of times that a master was taken for crashed."""

        self._fleet.network.refused = self._refused

    def _refused(self, source: str, target: str) -> None:
        now = self._fleet.simulation.seconds()
        server = next((each for each in self._fleet.servers if each.host.ip == target), None)
        if server is not None:
            kept = [each for each in self._refusals.get((source, target), ()) if now - each[0] <= KEPT_SECONDS]
            self._refusals[source, target] = [*kept, (now, not server.host.running)]

    def decided_down(self, sentinel: SimSentinel, master: Master) -> None:
        """A Sentinel began to hold a master down."""
        if master.crash.confirmed_at is not None:
            self.check(sentinel, master)
        elif master.data_missing_since is None and master.rebooting_since is None:
            self._check_class(sentinel, master)

    def check(self, sentinel: SimSentinel, master: Master) -> None:
        """Check the verdict of a Sentinel on a master, if it has a new one, even if it already holds it down."""
        evidence, key = master.crash, (sentinel.name, master.name)
        if evidence.confirmed_at is None or evidence.confirmed_at == self._checked.get(key):
            return
        self._checked[key] = evidence.confirmed_at
        self.verdicts += 1
        who = f"{sentinel.name} takes {master.name} at {master.address.ip} for crashed"
        now = self._fleet.simulation.seconds()
        age = (evidence.confirmed_at - (evidence.lost_at or 0)) / 1000
        since = now - age - ROUNDING
        found = [each for each in self._refusals.get((sentinel.host.ip, master.address.ip), ()) if each[0] >= since]
        self._expect(len(found) >= MIN_REFUSALS, "crash", f"{who} after {len(found)} refused attempts")
        confirm = master.options.guards.crash_confirm / 1000
        # The answer to the last attempt arrives later than it was given.
        late = bool(found) and found[-1][0] - since >= confirm / 2
        self._expect(late, "crash", f"{who} without a refused attempt long enough after the loss")
        self._expect(all(dead for _, dead in found), "crash", f"{who}, but a server was running there")

    def _check_class(self, sentinel: SimSentinel, master: Master) -> None:
        """Check that a master that is held down does not refuse the commands of this Sentinel."""
        server = self._fleet.server_at(master.address)
        refused_at = None if server is None else server.refused_at.get(sentinel.host.ip)
        if server is None or refused_at is None or master.options.guards.failure_classes is not FailureClasses.ON:
            return
        network, source, target = self._fleet.network, sentinel.host.ip, server.host.ip
        restored = self._fleet.simulation.time - RESTORED_SECONDS * SECOND
        slow = any(path.degraded or path.restored_at > restored for path in network.route(source, target))
        if slow or (source, target) in network.rejecting:
            # The answer may not have arrived, or the Sentinel lost the connection that it came on.
            return
        age = self._fleet.simulation.seconds() - refused_at
        fine = not server.host.running or age >= MIN_SILENCE * master.down_after / 1000
        self._expect(fine, "classes", f"{sentinel.name} holds {master.name} down, which answered {age:.2f} s ago")
