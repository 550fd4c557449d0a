"""Every line of the tables gets the same answer from the C Sentinels and from ours."""

from __future__ import annotations

from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from tests.differential.comparing import Comparison
from tests.differential.fleet import OURS, outcomes
from tests.servers import missing


@cache
def comparison(server: str) -> Comparison:
    """All cases beside one kind of Sentinel."""
    played = outcomes()
    compared = Comparison(server)
    for case, lines in played[server].items():
        compared.compare(case, lines, played[OURS][case])
    return compared


class SameAnswersAs:
    """What holds beside every C Sentinel."""

    server: str

    def test_no_unwanted_difference(self) -> None:
        """Replies and their types, events and their order: whatever differs is on the list of what should."""
        unexplained = comparison(self.server).unexplained
        assert not unexplained, f"{len(unexplained)} differences\n" + "\n".join(unexplained)


class ValkeyTests(SameAnswersAs, SynchronousTestCase):
    """Valkey 9."""

    server = "valkey"
    if missing(server):
        skip = missing(server)


class RedisTests(SameAnswersAs, SynchronousTestCase):
    """The installed Redis."""

    server = "redis"
    if missing(server):
        skip = missing(server)
