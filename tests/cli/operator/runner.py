"""Runs verbs over canned fleets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.cli.operator import command, options
from txsentinel.remote.fleet import FleetReport


@dataclass(frozen=True)
class Outcome:
    """What a verb printed, and its status."""

    stdout: str
    stderr: str
    status: int


class VerbCase(SynchronousTestCase):
    """A fleet that the verbs read instead of connecting."""

    fleet: FleetReport

    def setUp(self) -> None:
        self.patch(options, "read_fleet", self._read)

    def _read(self, seeds: object, settings: object, names: Collection[str] | None, *flags: bool) -> FleetReport:
        wanted: Callable[[str], bool] = lambda name: names is None or name in names  # noqa: E731
        return FleetReport(
            tuple(
                replace(each, masters={name: report for name, report in each.masters.items() if wanted(name)})
                for each in self.fleet.sentinels
            )
        )

    def run_verb(self, *words: str, fed: str | None = None, environment: dict[str, str] | None = None) -> Outcome:
        """Run a verb; its standard output is no terminal."""
        found: list[int] = []
        runner = CliRunner()
        homes = {"XDG_CONFIG_HOME": "/nonexistent", "XDG_STATE_HOME": self.mktemp()}
        with runner.isolation(fed, homes | (environment or {})) as (out, err, *_):
            found.append(command.run(words))
            sys.stdout.flush()
            sys.stderr.flush()
            return Outcome(out.getvalue().decode(), err.getvalue().decode(), found[0])
