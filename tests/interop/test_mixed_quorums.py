"""Sentinels of ours and C Sentinels in one quorum, with real servers; ``tests.interop.rounds`` runs more of them."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.rounds import Disruption, Summary, double_votes, kinds_of, run_mix
from tests.servers import RecordedEvent, missing


class MixedQuorumTests(SynchronousTestCase):
    """Real processes and real time: some ten to thirty seconds per test."""

    def run_mix_or_skip(self, mix: str, disruptions: Sequence[Disruption]) -> Summary:
        """Run all rounds of a mix, or skip if a binary is missing."""
        reason = missing("redis", *sorted(set(kinds_of(mix))))
        if reason:
            raise SkipTest(reason)
        summary = run_mix(mix, disruptions)
        self.assertEqual([each.disruption for each in summary.rounds], list(disruptions))
        return summary

    def test_majority_of_ours_beside_redis(self) -> None:
        """Two of ours and one redis-sentinel agree after a crash and after a manual failover."""
        self.run_mix_or_skip("redis:1,txsentinel:2", [Disruption.KILL, Disruption.MANUAL])

    def test_minority_of_ours_beside_redis(self) -> None:
        """One of ours follows and votes with two redis-sentinels, through a crash and a silent hang."""
        self.run_mix_or_skip("redis:2,txsentinel:1", [Disruption.KILL, Disruption.FREEZE])

    def test_majority_of_ours_beside_valkey(self) -> None:
        """Two of ours and one valkey-sentinel agree after a crash and after an orderly shutdown."""
        self.run_mix_or_skip("valkey:1,txsentinel:2", [Disruption.KILL, Disruption.SHUTDOWN])

    def test_minority_of_ours_beside_valkey(self) -> None:
        """One of ours follows and votes with two valkey-sentinels."""
        self.run_mix_or_skip("valkey:2,txsentinel:1", [Disruption.KILL])

    def test_five_of_three_kinds(self) -> None:
        """A group of five, of which only a majority of three may decide, agrees although one is absent."""
        self.run_mix_or_skip("redis:1,valkey:1,txsentinel:3", [Disruption.KILL, Disruption.KILL, Disruption.KILL])


class DoubleVoteTests(SynchronousTestCase):
    """The check that the rounds rely on."""

    def vote(self, sentinel: str, candidate: str, epoch: int) -> RecordedEvent:
        """Return an event as the recorder stores it."""
        return RecordedEvent(0.0, sentinel, "+vote-for-leader", f"{candidate} {epoch}")

    def test_rising_epochs(self) -> None:
        """Votes of one Sentinel in rising epochs, and of several in the same epoch, are permitted."""
        votes = [self.vote("a", "x", 1), self.vote("b", "y", 1), self.vote("a", "y", 2)]
        self.assertEqual(double_votes(votes), [])

    def test_second_vote_is_reported(self) -> None:
        """A second vote in the same epoch is reported with both candidates."""
        votes = [self.vote("a", "x", 3), self.vote("a", "y", 3)]
        self.assertEqual(double_votes(votes), ["a voted for x 3, then for y 3"])


class MixTests(SynchronousTestCase):
    """The notation for mixes."""

    def test_kinds(self) -> None:
        """Each part has the number of its Sentinels."""
        self.assertEqual(kinds_of("redis:1,txsentinel:2"), ["redis", "txsentinel", "txsentinel"])

    def test_invalid_mix(self) -> None:
        """A part without a number is invalid."""
        self.assertRaises(ValueError, kinds_of, "redis")
