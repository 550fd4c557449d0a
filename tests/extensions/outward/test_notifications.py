"""Tests of ``txsentinel.extensions.notifications``: what is looked up for an event."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import FakeView, healthy_master
from txsentinel.extensions.notifications import NotificationMaker
from txsentinel.model.events import SentinelEvent


class StateTests(SynchronousTestCase):
    """The state of the master in a notification."""

    def setUp(self) -> None:
        self.maker = NotificationMaker(FakeView(healthy_master()), lambda: 1_800_000_000.0)

    def test_with_state(self) -> None:
        """It is there if it is wanted; a switch has it in any case."""
        event = SentinelEvent("+sdown", "master mymaster 10.0.0.1 6379", "mymaster")
        self.assertEqual(self.maker.event(event).data["config_epoch"], 7)
        self.assertNotIn("config_epoch", self.maker.event(event, with_state=False).data)
        switch = SentinelEvent("+switch-master", "mymaster 10.0.0.9 6379 10.0.0.1 6379", "mymaster")
        self.assertEqual(self.maker.event(switch, with_state=False).data["config_epoch"], 7)

    def test_removed_master(self) -> None:
        """The last event of a master that is not monitored any more has no state."""
        event = SentinelEvent("-monitor", "master gone 10.0.0.1 6379", "gone")
        data = self.maker.event(event).data
        self.assertEqual((data["master"], "address" in data), ("gone", False))
