"""What the witness takes for durable."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape


class TellingTests(SynchronousTestCase):
    """Which addresses a Sentinel may tell."""

    def test_moves_that_overtake_each_other(self) -> None:
        """What was held in an older epoch than the disk's may be told, whatever is held by now; nothing newer may."""
        fleet = Fleet(1, Shape())
        records = InvariantChecker(fleet).records
        fleet.start()
        self.assertTrue(fleet.converge())
        record = records.sentinels["s1"]
        first, then, last = (("10.1.0.9", 6379), ("10.1.0.8", 6379), ("10.1.0.7", 6379))
        record.persisted.masters["m1"].config_epoch = 44
        fleet.sentinels[0].alive.core.registry.masters["m1"].config_epoch = 45
        record.master("m1").held.update({first: 42, then: 44, last: 45})
        told = [records.may_publish(record, "m1", place) for place in (first, then, last, ("10.1.0.6", 6379))]
        self.assertEqual(told, [True, True, False, False])
