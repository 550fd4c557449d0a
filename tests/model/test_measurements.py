"""Histograms and copies of measurements."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.measurements import Histogram, Measurements


class HistogramTests(SynchronousTestCase):
    """Durations in buckets."""

    def test_buckets(self) -> None:
        """A bucket includes its upper bound; the last one has what is above all bounds."""
        histogram = Histogram((1, 5, 10))
        for duration in (0, 1, 2, 5, 10, 11, 999):
            histogram.observe(duration)
        state = histogram.state()
        self.assertEqual((state.bounds, state.counts), ((1, 5, 10), (2, 2, 1, 2)))
        self.assertEqual((state.count, state.sum_ms), (7, 1_028))

    def test_copies(self) -> None:
        """A copy does not change with what is measured later."""
        measurements = Measurements()
        before = measurements.state()
        measurements.commits.observe(3)
        measurements.events["+sdown"] += 1
        measurements.link_failures["peer", "refused"] += 1
        self.assertEqual((before.commits.count, before.events, before.link_failures), (0, {}, {}))
        after = measurements.state()
        self.assertEqual(after.commits.count, 1)
        self.assertEqual((after.events, after.link_failures), ({"+sdown": 1}, {("peer", "refused"): 1}))
