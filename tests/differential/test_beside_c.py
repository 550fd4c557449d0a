"""Every line of the tables comes to the same with the C Sentinels and with ours."""

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
def commands_beside(server: str) -> Comparison:
    """What was answered and published, beside one kind of Sentinel."""
    played = outcomes()
    return Comparison(server).compare_all(played[server], played[OURS])


@cache
def starts_beside(server: str) -> Comparison:
    """What became of the configurations, beside one kind of Sentinel."""
    tried = starts()
    return Comparison(server).compare_all(tried[server], tried[OURS])


class BesideC:
    """What holds beside every C Sentinel."""

    server: str

    def test_commands(self) -> None:
        """Replies and their types, events and their order: whatever differs is on the list of what should."""
        compared = commands_beside(self.server)
        assert not compared.unexplained, compared.report()
        assert compared.cases > MIN_COMMANDS, compared.cases

    def test_configurations(self) -> None:
        """A configuration is refused with the same words, or accepted, and rewritten to say the same."""
        compared = starts_beside(self.server)
        assert not compared.unexplained, compared.report()
        assert compared.cases > MIN_STARTS, compared.cases


class ValkeyTests(BesideC, SynchronousTestCase):
    """Valkey 9."""

    server = "valkey"
    if missing(server):
        skip = missing(server)


class RedisTests(BesideC, SynchronousTestCase):
    """The installed Redis."""

    server = "redis"
    if missing(server):
        skip = missing(server)


class DeliberateTests(SynchronousTestCase):
    """The list itself."""

    def test_every_entry_is_needed(self) -> None:
        """No entry outlives its difference; those about servers that are not here cannot be told."""
        here = {server for server in THEIRS if available(server)}
        if not here:
            self.skipTest("no C Sentinel on this machine")
        needed = set().union(
            *(
                set(compared(server).used)
                for server in here
                for compared in (
                    commands_beside,
                    starts_beside,
                )
            )
        )
        idle = [each for each in DELIBERATE if each not in needed and here.issuperset(each.servers.split())]
        self.assertEqual(idle, [], "\n".join(f"{each.reason}: {each.case}" for each in idle))
