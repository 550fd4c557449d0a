"""Tests of the slots in which probes are sent."""

from __future__ import annotations

from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from txsentinel.core.alignment import CYCLE, SLOTS, TOLERANCE, aligned, is_in_slot, phase_of, slots_for
from txsentinel.core.effects import Ping, PublishHello, RequestInfo
from txsentinel.model.timings import Millis


class SlotTests(SynchronousTestCase):
    """Tests of slots."""

    def test_number(self) -> None:
        """A few instances share one slot; with many there are more, whose distance is a whole number."""
        self.assertEqual([slots_for(count) for count in (0, 5, 127, 128, 400, 4_000, 40_000)], [1, 1, 1, 2, 5, 50, 100])
        self.assertEqual([CYCLE % number for number in SLOTS], [0] * len(SLOTS))

    def test_phase(self) -> None:
        """Sentinels with different IDs have different phases; any text is an ID."""
        phases = {phase_of(f"{number:040x}") for number in range(100)}
        self.assertGreater(len(phases), 50)
        self.assertTrue(all(0 <= phase < CYCLE for phase in (*phases, phase_of(""), phase_of("é"))))


class ProbeTests(SynchronousTestCase):
    """Tests of the times of probes of healthy instances."""

    def setUp(self) -> None:
        """Set up a stable group whose masters and replicas have the same down-after as in production."""
        self.fixture = Fixture(down_after=5_000)
        self.fixture.wait(15_000)
        self.state = self.fixture.core.state

    def times(self, kind: type[Ping] | type[RequestInfo] | type[PublishHello]) -> dict[object, list[Millis]]:
        """Return the times at which effects of a kind were sent, by the address of the link."""
        found: dict[object, list[Millis]] = {}
        for at, effect in self.fixture.sent:
            if isinstance(effect, kind):
                found.setdefault(effect.link.address, []).append(at)
        return found

    def test_one_wake_up_a_second(self) -> None:
        """All probes of all instances are sent at one time in a second, at the periods of C Sentinels."""
        self.fixture.sent.clear()
        began = self.fixture.now
        self.fixture.wait(20_000)
        sent = {at for at, effect in self.fixture.sent if isinstance(effect, Ping | RequestInfo | PublishHello)}
        self.assertLessEqual(len(sent), 21)
        self.assertEqual({at % CYCLE for at in sent}, {min(sent) % CYCLE})
        self.assertLess(min(sent), began + CYCLE)
        periods = ((Ping, 1_000), (RequestInfo, 10_000))
        for kind, period in periods:
            for address, times in self.times(kind).items():
                gaps = {after - before for before, after in pairwise(times)}
                self.assertEqual(gaps, {period}, (kind, address))
        hellos = self.times(PublishHello)[MASTER]
        self.assertEqual({after - before for before, after in pairwise(hellos)}, {2_000})

    def test_back_in_the_slot(self) -> None:
        """A probe that was sent out of its slot is followed by one in it, after one period at most."""
        for late in (1, 130, 500, 800):
            self.fixture.wait(2_000)
            while (self.fixture.now - self.state.probe_phase) % CYCLE != late:
                self.fixture.wait(1)
            self.fixture.reset_connections(MASTER, self.fixture.master.link.kinds[0])
            self.fixture.wait(4_000)
            link = self.fixture.master.link
            assert link.ping_sent_at is not None
            # Time advances in steps here.
            self.assertLessEqual((link.ping_sent_at - self.state.probe_phase) % CYCLE, 10, late)

    def test_spread(self) -> None:
        """With several slots, the links are distributed among them, and each is in its own at any time."""
        self.state.probe_slots = 4
        master = self.fixture.master
        instances = (master, *master.replicas.values())
        now = self.fixture.now
        found = {aligned(each, now + 5_000, now, self.state) for each in instances}
        self.assertEqual(len(found), len(instances))
        for instance in instances:
            due = aligned(instance, now + 5_000, now, self.state)
            self.assertTrue(now + 4_000 < due <= now + 5_000)
            self.assertTrue(is_in_slot(instance, due, self.state))
            self.assertFalse(is_in_slot(instance, due - 1, self.state))
            self.assertFalse(is_in_slot(instance, due + TOLERANCE, self.state))

    def test_deadlines_without_a_slot(self) -> None:
        """What is due soon does not wait for a slot that is too late."""
        phase, master = self.state.probe_phase, self.fixture.master
        now = phase + 1_000_000 * CYCLE
        self.assertEqual(aligned(master, now + 400, now, self.state), -(-(now + 400) // 10) * 10)
        self.assertEqual(aligned(master, now + 950, now, self.state), now + 1_000)
        self.assertEqual(aligned(master, now + 1_900, now, self.state), now + 1_000)
