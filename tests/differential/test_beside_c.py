"""Every line of the tables has the same result with the C Sentinels and with ours."""

from __future__ import annotations

from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from tests.differential.comparing import Comparison
from tests.differential.deliberate import DELIBERATE
from tests.differential.fleet import OURS, THEIRS, outcomes, starts
from tests.servers import available, missing

MIN_COMMANDS = 2600
MIN_STARTS = 180


@cache
def compare_commands(server: str) -> Comparison:
    """Return the comparison of replies and events with one kind of Sentinel."""
    results = outcomes()
    return Comparison(server).compare_all(results[server], results[OURS])


@cache
def compare_starts(server: str) -> Comparison:
    """Return the comparison of configurations with one kind of Sentinel."""
    tried = starts()
    return Comparison(server).compare_all(tried[server], tried[OURS])


class ComparisonTests:
    """Tests for every C Sentinel."""

    server: str

    def test_commands(self) -> None:
        """Replies and their types, events and their order: all differences are listed."""
        compared = compare_commands(self.server)
        assert not compared.unexplained, compared.report()
        assert compared.cases > MIN_COMMANDS, compared.cases

    def test_configurations(self) -> None:
        """A configuration is refused with the same errors, or accepted and rewritten with the same contents."""
        compared = compare_starts(self.server)
        assert not compared.unexplained, compared.report()
        assert compared.cases > MIN_STARTS, compared.cases


class ValkeyTests(ComparisonTests, SynchronousTestCase):
    """Valkey 9."""

    server = "valkey"
    if missing(server):
        skip = missing(server)


class RedisTests(ComparisonTests, SynchronousTestCase):
    """The installed Redis."""

    server = "redis"
    if missing(server):
        skip = missing(server)


class AcceptedDifferencesTests(SynchronousTestCase):
    """The list itself."""

    def test_every_entry_is_needed(self) -> None:
        """Every entry has its difference; entries about servers that are not installed are not checked."""
        here = {server for server in THEIRS if available(server)}
        if not here:
            self.skipTest("no C Sentinel on this machine")
        needed = set().union(
            *(
                set(compared(server).used)
                for server in here
                for compared in (
                    compare_commands,
                    compare_starts,
                )
            )
        )
        idle = [each for each in DELIBERATE if each not in needed and here.issuperset(each.servers.split())]
        self.assertEqual(idle, [], "\n".join(f"{each.reason}: {each.case}" for each in idle))
