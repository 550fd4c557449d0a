"""Epochs, hellos and events."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, ME, Fixture
from txsentinel.core.options import SentinelOptions
from txsentinel.core.state import SentinelState
from txsentinel.model.timings import Limits, Timings
from txsentinel.wire.hello import Hello


class EpochTests(SynchronousTestCase):
    """Allocation and adoption of epochs."""

    def setUp(self) -> None:
        """Set up a core at epoch 5."""
        self.state = SentinelState(SentinelOptions(), Timings(), Limits(), lambda n: 0)
        self.state.current_epoch = 5

    def test_fresh(self) -> None:
        """A fresh epoch is above the current one, and is hard state."""
        self.assertEqual(6, self.state.fresh_epoch(0, above=0, shared=False))
        self.assertEqual((6, 1), (self.state.current_epoch, self.state.outbox.generation))

    def test_above_votes(self) -> None:
        """A fresh epoch is above known votes, too."""
        self.assertEqual(10, self.state.fresh_epoch(0, above=9, shared=False))

    def test_shared(self) -> None:
        """Masters that fail together share an epoch for half a second."""
        epochs = [self.state.fresh_epoch(now, above=0, shared=True) for now in (0, 10, 499, 500)]
        self.assertEqual([6, 6, 6, 7], epochs)

    def test_not_shared_with_ourselves(self) -> None:
        """A master with a vote in the shared epoch needs a new one."""
        self.state.fresh_epoch(0, above=0, shared=True)
        self.assertEqual(7, self.state.fresh_epoch(1, above=6, shared=True))
        self.assertEqual(7, self.state.fresh_epoch(2, above=6, shared=True))

    def test_not_shared_behind_others(self) -> None:
        """Once the current epoch changes, the shared one is not used any more."""
        self.state.fresh_epoch(0, above=0, shared=True)
        self.state.raise_epoch(8)
        self.assertEqual(9, self.state.fresh_epoch(1, above=0, shared=True))

    def test_forced_ones_are_not_shared(self) -> None:
        """An epoch that must not be shared is not shared."""
        first = self.state.fresh_epoch(0, above=0, shared=False)
        self.assertLess(first, self.state.fresh_epoch(0, above=0, shared=True))

    def test_plausible(self) -> None:
        """An epoch that failovers can explain is plausible: not negative, not a million ahead."""
        sane = [
            epoch
            for epoch in (-1, 0, 4, 5, 6, 5 + 2**20, 6 + 2**20, 2**64 - 1)
            if self.state.is_acceptable_epoch(epoch, 0)
        ]
        self.assertEqual([0, 4, 5, 6, 5 + 2**20], sane)

    def test_reach(self) -> None:
        """A million per second is the limit for all senders together; our own steps do not count."""
        master = Fixture().master
        leap = Limits().epoch_rise_per_second
        self.state.adopt_epoch(5 + leap, master, 1_000)
        self.assertEqual(5 + leap, self.state.highest_acceptable_epoch(1_000))
        self.assertEqual(5 + leap + leap // 2, self.state.highest_acceptable_epoch(1_500))
        self.assertEqual(5 + 2 * leap, self.state.highest_acceptable_epoch(2_000))
        self.assertEqual(5 + 2 * leap, self.state.highest_acceptable_epoch(900_000))
        for step in range(1, 4):
            self.state.adopt_epoch(5 + leap + step, master, 2_000)
        self.assertEqual(5 + 2 * leap, self.state.highest_acceptable_epoch(2_000))
        self.state.raise_epoch(5 + leap + 4)
        self.assertEqual(6 + 2 * leap, self.state.highest_acceptable_epoch(2_000))

    def test_reach_ends(self) -> None:
        """The current epoch never exceeds the highest epoch."""
        self.state.current_epoch = Limits().highest_epoch - 3
        self.assertEqual(Limits().highest_epoch, self.state.highest_acceptable_epoch(0))

    def test_following(self) -> None:
        """An epoch is followed as far as permitted; without a connection, only as far as failovers explain."""
        master, limits = Fixture().master, Limits()
        self.state.follow_epoch(1 << 52, master, 0, connected=False)
        self.assertEqual(5 + limits.unconfirmed_epoch_rise, self.state.current_epoch)
        self.state.follow_epoch(1 << 52, master, 0, connected=True)
        self.assertEqual(5 + limits.epoch_rise_per_second, self.state.current_epoch)
        self.state.follow_epoch(7, master, 9_000, connected=True)
        self.assertEqual(5 + limits.epoch_rise_per_second, self.state.current_epoch)


class HelloTests(SynchronousTestCase):
    """Hellos and events."""

    def test_hello(self) -> None:
        """A hello has eight fields, and the marker of txsentinel is a leading zero."""
        fixture = Fixture()
        fixture.core.state.current_epoch = 7
        payload = fixture.core.state.hello(fixture.master, "10.0.9.9")
        self.assertEqual(f"10.0.9.9,26379,{ME},07,mymaster,10.0.0.1,6379,0".encode(), payload)
        self.assertEqual(7, Hello.parse(payload).current_epoch)

    def test_announced_address(self) -> None:
        """announce-ip and announce-port take precedence over the local address."""
        fixture = Fixture()
        fixture.options.announce_ip, fixture.options.announce_port = "192.0.2.1", 5000
        hello = Hello.parse(fixture.core.state.hello(fixture.master, "10.0.9.9"))
        self.assertEqual(("192.0.2.1", 5000), (hello.sentinel_ip, hello.sentinel_port))

    def test_long_payloads(self) -> None:
        """An event is cut to the length of C's line buffer."""
        fixture = Fixture()
        fixture.core.state.announce_text("+set", "x" * 5_000, fixture.master)
        fixture.finish()
        self.assertEqual(1023, len(fixture.output()[-1].removeprefix("event ")))

    def test_generation_of_effects(self) -> None:
        """An effect has the latest generation, a probe has none."""
        fixture = Fixture()
        fixture.disk_slow = True
        fixture.core.state.changed(fixture.master)
        fixture.core.state.announce_text("+set", "x", fixture.master)
        fixture.finish()
        self.assertEqual([], fixture.output())
        fixture.commit()
        self.assertEqual(["event +set x"], fixture.output())
        self.assertEqual(MASTER, fixture.master.address)

    def test_stagger(self) -> None:
        """The more masters fail together, the longer candidates wait for those before them, until it is over."""
        state = Fixture().core.state
        alone = state.stagger(0)
        for _ in range(100):
            state.went_odown(1_000)
        self.assertEqual(alone * 11, state.stagger(1_000))
        self.assertEqual(alone, state.stagger(20_000))
