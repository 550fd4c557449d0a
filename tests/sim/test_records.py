"""The invariant checker's view of durable addresses."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape


class ReportedAddressTests(SynchronousTestCase):
    """The addresses that a Sentinel may report."""

    def test_overtaking_changes(self) -> None:
        """An address of an older epoch than the durable one may be reported; a newer one may not."""
        fleet = Fleet(1, Shape())
        records = InvariantChecker(fleet).records
        fleet.start()
        self.assertTrue(fleet.converge())
        record = records.sentinels["s1"]
        first, then, last = (("10.1.0.9", 6379), ("10.1.0.8", 6379), ("10.1.0.7", 6379))
        record.persisted.masters["m1"].config_epoch = 44
        fleet.sentinels[0].alive.core.registry.masters["m1"].config_epoch = 45
        record.master("m1").held.update({first: 42, then: 44, last: 45})
        printed = [records.may_publish(record, "m1", place) for place in (first, then, last, ("10.1.0.6", 6379))]
        self.assertEqual(printed, [True, True, False, False])
