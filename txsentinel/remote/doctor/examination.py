"""What the checks look at: the answers of all Sentinels, and of the servers as far as they can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from txsentinel.model.explanation import ReplicaFitness
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import AddressAgreement, Drift
from txsentinel.remote.explaining import Situation, situation_of
from txsentinel.remote.reports import InstanceReport, MasterReport, SentinelReport
from txsentinel.remote.servers import ServerReport


@dataclass(frozen=True)
class ExaminedServer:
    """One data server; either ``report`` or ``problem`` is ``None``."""

    endpoint: Endpoint
    report: ServerReport | None = None
    later: ServerReport | None = None
    """A second report."""

    apart_ms: float = 0.0
    """The time between the two."""

    settings: Mapping[str, str] | None = None
    """What ``CONFIG GET`` returns; ``None`` if it is not permitted."""

    denied: Mapping[str, str] | None = None
    """Commands that the user may not execute; ``None`` if not tested."""

    ping_ms: float | None = None
    """The longest of a few round trips; ``None`` if not measured."""

    problem: str | None = None
    """Why it was not read."""


@dataclass(frozen=True)
class Certificate:
    """What matters of a certificate: when it ends, and the names and addresses in it."""

    ends: datetime
    names: tuple[str, ...]


@dataclass(frozen=True)
class Examination:
    """Everything that is known about one master and its Sentinels."""

    agreement: AddressAgreement
    servers: Mapping[Endpoint, ExaminedServer] = field(default_factory=dict)
    own: Mapping[Endpoint, Mapping[str, Any]] = field(default_factory=dict)
    """What Sentinels of ours report about themselves, by ``TXSENTINEL DOCTOR``."""

    open_sentinels: frozenset[Endpoint] = frozenset()
    """Sentinels that answer without a login."""

    own_drifts: tuple[Drift, ...] = ()
    """Settings of the Sentinels themselves that differ."""

    certificates: Mapping[Endpoint, Certificate] = field(default_factory=dict)
    now: datetime | None = None
    """The wall clock, with a zone."""

    @property
    def name(self) -> str:
        """The name of the master."""
        return self.agreement.name

    @property
    def members(self) -> tuple[SentinelReport, ...]:
        """All Sentinels."""
        return self.agreement.members

    @cached_property
    def situation(self) -> Situation:
        """What decides about a failover."""
        return situation_of(self.agreement)

    @property
    def replicas(self) -> tuple[ReplicaFitness, ...]:
        """The replicas, fit ones first."""
        return self.situation.replicas

    @cached_property
    def report(self) -> MasterReport:
        """
        The report that counts.

        :raises ValueError: if no Sentinel monitors the master.
        """
        found = self.agreement.report()
        if found is None:
            raise ValueError(f"no Sentinel monitors {self.name}")
        return found

    @property
    def reports(self) -> Mapping[Endpoint, MasterReport]:
        """The report of each Sentinel that monitors the master."""
        return {each.endpoint: each.masters[self.name] for each in self.members if self.name in each.masters}

    @property
    def instances(self) -> tuple[InstanceReport, ...]:
        """Master and replicas."""
        return (self.report.master, *self.report.replicas)

    @property
    def has_c(self) -> bool:
        """Whether a Sentinel is a C one."""
        return any(each.identity is not None and each.identity.is_c for each in self.members)
