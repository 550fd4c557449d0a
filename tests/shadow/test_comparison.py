"""Failures as two sides saw them, and the sentences on what differs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.shadow.comparison import LATE_EVENTS_SECONDS, Failure, FailureComparison

MASTER = "master m 10.0.0.1 6379"
REPLICA = "slave 10.0.0.2:6379 10.0.0.2 6379 @ m 10.0.0.1 6379"
SWITCH = "m 10.0.0.1 6379 10.0.0.2 6379"


class ComparisonTests(SynchronousTestCase):
    """Events of one master."""

    def setUp(self) -> None:
        self.comparison = FailureComparison()

    def own(self, at: float, channel: str, payload: str = MASTER, verdict: str | None = None) -> None:
        """An event of the observer, which would promote 10.0.0.2:6379."""
        self.comparison.own_event(at, channel, payload, "m", ("10.0.0.2:6379", "more data"), verdict)

    def fleet(self, at: float, channel: str, payload: str = MASTER, sentinel: str = "s1") -> None:
        """An event of a Sentinel of the fleet."""
        self.comparison.fleet_event(at, sentinel, channel, payload, "m")

    def only(self, now: float) -> Failure:
        """The failure that is over now."""
        self.assertEqual(self.comparison.due(now - 0.001), [])
        (failure,) = self.comparison.due(now)
        return failure

    def test_both_act(self) -> None:
        """Each side has the times of its first events; the difference is that of the beginnings of the failovers."""
        self.own(100.0, "+sdown")
        self.fleet(100.5, "+sdown")
        self.fleet(100.6, "+sdown", sentinel="s2")
        self.own(100.6, "+odown", MASTER + " #quorum 2/2")
        self.own(100.61, "+try-failover")
        self.fleet(100.7, "+odown", MASTER + " #quorum 2/2", sentinel="s2")
        self.fleet(101.2, "+try-failover", sentinel="s2")
        self.fleet(102.0, "+switch-master", SWITCH, sentinel="s2")
        self.own(102.1, "+switch-master", SWITCH)
        self.fleet(102.2, "+switch-master", SWITCH, sentinel="s1")
        failure = self.only(102.2 + LATE_EVENTS_SECONDS)
        self.assertEqual(
            list(failure.lines()),
            [
                "m: 10.0.0.1:6379 failed, seen first at 1970-01-01T00:01:40.000Z",
                "  txsentinel  +0 ms down, +600 ms agreed, +610 ms failover started, would promote 10.0.0.2:6379"
                " (more data)",
                "  fleet       +500 ms down (s1), +700 ms agreed (s2), +1,200 ms failover started (s2), +2,000 ms"
                " switched (s2)",
                "  promoted    10.0.0.2:6379",
                "  differs     txsentinel would have started the failover 590 ms earlier",
            ],
        )
        record = failure.record()
        self.assertEqual((record["gained_ms"], record["fleet_first"]["+sdown"]), (590, "s1"))
        self.assertEqual(record["txsentinel_ms"], {"+sdown": 0, "+odown": 600, "+try-failover": 610})

    def test_another_replica(self) -> None:
        """Another choice is named with the reason."""
        self.own(1.0, "+sdown")
        self.own(1.1, "+try-failover")
        self.fleet(1.5, "+switch-master", "m 10.0.0.1 6379 10.0.0.3 6379")
        failure = self.only(1.5 + LATE_EVENTS_SECONDS)
        self.assertIn(
            "txsentinel would have promoted 10.0.0.2:6379 (more data), not 10.0.0.3:6379", failure.differences()
        )

    def test_only_the_fleet(self) -> None:
        """Why the observer did not act is the latest reason while the master was down."""
        self.own(1.0, "+sdown", verdict="one")
        self.comparison.explained("m", "the quorum is not reached")
        self.fleet(1.2, "+sdown")
        self.fleet(2.0, "+switch-master", SWITCH)
        failure = self.only(2.0 + LATE_EVENTS_SECONDS)
        self.assertEqual(
            failure.differences(), ["the fleet failed over, and txsentinel would not have: the quorum is not reached"]
        )

    def test_only_the_observer(self) -> None:
        """Without a switch a failure ends when nobody considers the master down any more."""
        self.own(1.0, "+sdown")
        self.own(1.1, "+try-failover")
        self.fleet(1.2, "+sdown")
        self.fleet(1.3, "-failover-abort-not-elected")
        self.own(5.0, "-sdown")
        self.assertEqual(self.comparison.due(60.0), [], "the fleet considers it down")
        self.fleet(60.0, "-sdown")
        failure = self.only(60.0 + LATE_EVENTS_SECONDS)
        self.assertEqual(failure.differences(), ["txsentinel would have failed over, and the fleet did not"])
        self.assertIn("  aborted     -failover-abort-not-elected at s1", list(failure.lines()))

    def test_ordered(self) -> None:
        """A failover that an operator has ordered is no failure of the master."""
        self.fleet(1.0, "+try-failover")
        self.fleet(2.0, "+switch-master", SWITCH)
        failure = self.only(2.0 + LATE_EVENTS_SECONDS)
        self.assertIn("it was ordered", failure.differences()[0])
        self.fleet(30.0, "+switch-master", SWITCH, sentinel="s9")
        self.assertEqual(self.comparison.close(), [], "a Sentinel that was late")

    def test_other_instances(self) -> None:
        """Events about replicas and other Sentinels begin nothing."""
        self.own(1.0, "+sdown", REPLICA)
        self.fleet(1.0, "+sdown", REPLICA)
        self.fleet(1.0, "-sdown")
        self.assertEqual(self.comparison.close(), [])

    def test_summary(self) -> None:
        """The summary counts the failures by who acted."""
        self.assertEqual(self.comparison.summary(), "no master failed")
        self.test_both_act()
        self.own(200.0, "+sdown")
        self.own(200.1, "+try-failover")
        self.comparison.close()
        self.assertEqual(
            self.comparison.summary(),
            "2 failures; 1 failed over by both; txsentinel 590 ms earlier at the median; 0 with another replica;"
            " 0 by the fleet only; 1 by txsentinel only",
        )
