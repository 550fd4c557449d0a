"""Whether the Sentinels of a master agree: on its address, on the config epoch and on the settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.fleet import FleetReport
from txsentinel.remote.reports import MasterReport, SentinelReport

SETTINGS: Final = ("quorum", "down-after-milliseconds", "failover-timeout", "parallel-syncs")
"""Settings that every Sentinel shows in ``SENTINEL MASTER`` and that must not differ."""

SCRIPTS: Final = ("notification-script", "client-reconfig-script")
"""Settings that are only shown if they are set."""


@dataclass(frozen=True)
class Drift:
    """
    A setting with several values.

    ``values`` has the value of each Sentinel; ``usual`` that of more than half of them, ``None`` if there is none.
    """

    setting: str
    values: Mapping[Endpoint, str]
    usual: str | None

    @property
    def different(self) -> tuple[Endpoint, ...]:
        """The Sentinels that have another value than the usual one; all if there is none."""
        return tuple(endpoint for endpoint, value in self.values.items() if value != self.usual)


@dataclass(frozen=True)
class AddressAgreement:
    """
    What the Sentinels of one master answer.

    ``endpoint`` is the address with the highest config epoch; ``None`` if no Sentinel monitors the master.
    """

    name: str
    endpoint: Endpoint | None
    epoch: int
    quorum: int
    naming: tuple[SentinelReport, ...]
    """The Sentinels that answer with that address."""

    members: tuple[SentinelReport, ...]
    """All Sentinels of the master."""

    known: int
    """How many Sentinels the group has: the most that one of them counts, but at least those that are members."""

    drifts: tuple[Drift, ...]

    @property
    def majority(self) -> int:
        """More than half of the known Sentinels."""
        return self.known // 2 + 1

    @property
    def agreed(self) -> bool:
        """Whether a majority of the known Sentinels answers with the address."""
        return len(self.naming) >= self.majority

    @property
    def complete(self) -> bool:
        """Whether every Sentinel answers, with the same address and epoch, and considers the master up."""
        return len(self.naming) == self.known and all(
            each.masters[self.name].epoch == self.epoch and each.masters[self.name].master.usable
            for each in self.naming
        )

    def report(self) -> MasterReport | None:
        """Return the most useful report on the master: of a Sentinel of ours if there is one."""
        naming = sorted(self.naming, key=lambda each: each.identity is None or each.identity.is_c)
        return naming[0].masters[self.name] if naming else None

    def held_for_ms(self) -> int | None:
        """
        Return for how long the master has its role, as far as is known.

        Each Sentinel counts from its start or from the latest change of the role, so the longest time is used.
        """
        times = [each.masters[self.name].master.number("role-reported-time") for each in self.naming]
        return max(times, default=None)


def agreement_on(fleet: FleetReport, name: str) -> AddressAgreement:
    """Compare the answers about one master."""
    members = fleet.of_master(name)
    monitoring = [each for each in members if name in each.masters]
    known = max([len(members), *(len(each.masters[name].peers) + 1 for each in monitoring)])
    if not monitoring:
        return AddressAgreement(name, None, 0, 0, (), members, known, ())
    votes = Counter((each.masters[name].epoch, each.masters[name].endpoint) for each in monitoring)
    # Two addresses in one epoch are possible after a reset; the one that more Sentinels name counts.
    epoch, endpoint = max(votes, key=lambda key: (key[0], votes[key], key[1].host, key[1].port))
    naming = tuple(each for each in monitoring if each.masters[name].endpoint == endpoint)
    quorum = Counter(each.masters[name].quorum for each in monitoring).most_common(1)[0][0]
    return AddressAgreement(name, endpoint, epoch, quorum, naming, members, known, drifts_of(monitoring, name))


def drifts_of(monitoring: Sequence[SentinelReport], name: str) -> tuple[Drift, ...]:
    """Return the settings of a master that differ between Sentinels."""
    found = []
    for setting in (*SETTINGS, *SCRIPTS):
        values = {each.endpoint: each.masters[name].master.fields.get(setting, "") for each in monitoring}
        if len(set(values.values())) > 1:
            found.append(Drift(setting, values, usual_value(values.values())))
    return tuple(found)


def usual_value(values: Collection[str]) -> str | None:
    """Return the value that more than half have, ``None`` if there is none."""
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None
