"""Events: which master they are about, and how equal ones are merged."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.events import EventMerger, ReceivedEvent, master_of

FIRST, SECOND = Endpoint("10.0.0.11", 26379), Endpoint("10.0.0.12", 26379)


class MasterTests(SynchronousTestCase):
    """The name in the payload."""

    def test_payloads(self) -> None:
        """Each form of payload."""
        for channel, payload, name in [
            ("+sdown", "master mymaster 10.0.0.2 6379", "mymaster"),
            ("+odown", "master mymaster 10.0.0.2 6379 #quorum 2/2", "mymaster"),
            ("+slave", "slave 10.0.0.1:6379 10.0.0.1 6379 @ mymaster 10.0.0.2 6379", "mymaster"),
            ("-role-change", "slave a 10.0.0.1 6379 @ m 10.0.0.2 6379 new reported role is master", "m"),
            ("+switch-master", "mymaster 10.0.0.2 6379 10.0.0.1 6379", "mymaster"),
            ("+new-epoch", "5", None),
            ("+vote-for-leader", "ab 5", None),
            ("+tilt", "#tilt mode entered", None),
            ("+sdown", "master ", ""),
        ]:
            self.assertEqual(master_of(channel, payload), name, payload)


class MergerTests(SynchronousTestCase):
    """Equal events within half a second."""

    def setUp(self) -> None:
        self.merger = EventMerger(0.5)

    def add(self, at: float, sentinel: Endpoint, payload: str = "a") -> None:
        """Add an event."""
        self.merger.add(ReceivedEvent(at, sentinel, "+sdown", payload))

    def due(self, now: float) -> list[tuple[float, str, int, int]]:
        """Return time, payload, number of Sentinels and repetitions."""
        return [(each.at, each.payload, len(each.sentinels), each.repeated) for each in self.merger.due(now)]

    def test_merged(self) -> None:
        """The first one counts for the time; a repetition by the same Sentinel is counted apart."""
        self.add(1.0, FIRST)
        self.add(1.1, SECOND, "b")
        self.add(1.2, SECOND)
        self.add(1.3, FIRST)
        self.assertEqual(self.due(1.49), [])
        self.assertEqual(self.due(1.5), [(1.0, "a", 2, 1)])
        self.assertEqual(self.due(9.0), [(1.1, "b", 1, 0)])

    def test_later_ones_are_new(self) -> None:
        """After the time an equal event is another one."""
        self.add(1.0, FIRST)
        self.assertEqual(len(self.due(2.0)), 1)
        self.add(2.1, SECOND)
        self.assertEqual(self.due(3.0), [(2.1, "a", 1, 0)])
