"""What every part of the core shares: epochs, hellos, a way to speak."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER_PLACE, ME, Fixture
from txsentinel.core.options import SentinelOptions
from txsentinel.core.state import SentinelState
from txsentinel.model.timings import Limits, Timings
from txsentinel.wire.hello import Hello


class EpochTests(SynchronousTestCase):
    """Which epochs are taken, and which are believed."""

    def setUp(self) -> None:
        """Begin at epoch 5."""
        self.state = SentinelState(SentinelOptions(), Timings(), Limits(), lambda n: 0)
        self.state.current_epoch = 5

    def test_fresh(self) -> None:
        """A fresh epoch is above the current one, and hard state."""
        self.assertEqual(6, self.state.fresh_epoch(0, above=0, shared=False))
        self.assertEqual((6, 1), (self.state.current_epoch, self.state.outbox.generation))

    def test_above_votes(self) -> None:
        """It is above votes that we know of, too."""
        self.assertEqual(10, self.state.fresh_epoch(0, above=9, shared=False))

    def test_shared(self) -> None:
        """Those who fail together share one, for half a second."""
        epochs = [self.state.fresh_epoch(now, above=0, shared=True) for now in (0, 10, 499, 500)]
        self.assertEqual([6, 6, 6, 7], epochs)

    def test_not_shared_with_ourselves(self) -> None:
        """Whoever voted in the shared epoch already needs a new one."""
        self.state.fresh_epoch(0, above=0, shared=True)
        self.assertEqual(7, self.state.fresh_epoch(1, above=6, shared=True))
        self.assertEqual(7, self.state.fresh_epoch(2, above=6, shared=True))

    def test_not_shared_behind_others(self) -> None:
        """Once anybody moved the current epoch, the shared one is lost."""
        self.state.fresh_epoch(0, above=0, shared=True)
        self.state.raise_epoch(8)
        self.assertEqual(9, self.state.fresh_epoch(1, above=0, shared=True))

    def test_forced_ones_are_not_shared(self) -> None:
        """An epoch that is not stood for in the ordinary way is nobody else's."""
        first = self.state.fresh_epoch(0, above=0, shared=False)
        self.assertLess(first, self.state.fresh_epoch(0, above=0, shared=True))

    def test_sane(self) -> None:
        """Any step is sane that failovers explain: not back below zero, not a million on."""
        sane = [epoch for epoch in (-1, 0, 4, 5, 6, 5 + 2**20, 6 + 2**20, 2**64 - 1) if self.state.sane_epoch(epoch, 0)]
        self.assertEqual([0, 4, 5, 6, 5 + 2**20], sane)

    def test_reach(self) -> None:
        """A million a second, however many take part in it; our own steps do not count."""
        master = Fixture().master
        leap = Limits().epoch_leap
        self.state.adopt_epoch(5 + leap, master, 1_000)
        self.assertEqual(5 + leap, self.state.reach(1_000))
        self.assertEqual(5 + leap + leap // 2, self.state.reach(1_500))
        self.assertEqual(5 + 2 * leap, self.state.reach(2_000))
        self.assertEqual(5 + 2 * leap, self.state.reach(900_000))
        for step in range(1, 4):
            self.state.adopt_epoch(5 + leap + step, master, 2_000)
        self.assertEqual(5 + 2 * leap, self.state.reach(2_000))
        self.state.raise_epoch(5 + leap + 4)
        self.assertEqual(6 + 2 * leap, self.state.reach(2_000))

    def test_reach_ends(self) -> None:
        """At the highest epoch that there is."""
        self.state.current_epoch = Limits().highest_epoch - 3
        self.assertEqual(Limits().highest_epoch, self.state.reach(0))

    def test_following(self) -> None:
        """As far as may be, and no further than failovers explain if we are not connected to whoever names it."""
        master, limits = Fixture().master, Limits()
        self.state.follow_epoch(1 << 52, master, 0, connected=False)
        self.assertEqual(5 + limits.epoch_step, self.state.current_epoch)
        self.state.follow_epoch(1 << 52, master, 0, connected=True)
        self.assertEqual(5 + limits.epoch_leap, self.state.current_epoch)
        self.state.follow_epoch(7, master, 9_000, connected=True)
        self.assertEqual(5 + limits.epoch_leap, self.state.current_epoch)


class SpeechTests(SynchronousTestCase):
    """Hellos and events."""

    def test_hello(self) -> None:
        """Eight fields that every Sentinel reads, with the mark of our kind in a leading zero."""
        fixture = Fixture()
        fixture.core.state.current_epoch = 7
        payload = fixture.core.state.hello(fixture.master, "10.0.9.9")
        self.assertEqual(f"10.0.9.9,26379,{ME},07,mymaster,10.0.0.1,6379,0".encode(), payload)
        self.assertEqual(7, Hello.parse(payload).current_epoch)

    def test_announced_address(self) -> None:
        """announce-ip and announce-port go before what the connection shows."""
        fixture = Fixture()
        fixture.options.announce_ip, fixture.options.announce_port = "192.0.2.1", 5000
        hello = Hello.parse(fixture.core.state.hello(fixture.master, "10.0.9.9"))
        self.assertEqual(("192.0.2.1", 5000), (hello.sentinel_ip, hello.sentinel_port))

    def test_long_payloads(self) -> None:
        """An event is cut to what C's line buffer holds."""
        fixture = Fixture()
        fixture.core.state.announce_text("+set", "x" * 5_000, fixture.master)
        fixture.finish()
        self.assertEqual(1023, len(fixture.heard()[-1].removeprefix("event ")))

    def test_waits_for_what_went_before(self) -> None:
        """An effect carries the generation of the latest change, a probe carries none."""
        fixture = Fixture()
        fixture.disk_slow = True
        fixture.core.state.changed(fixture.master)
        fixture.core.state.announce_text("+set", "x", fixture.master)
        fixture.finish()
        self.assertEqual([], fixture.heard())
        fixture.commit()
        self.assertEqual(["event +set x"], fixture.heard())
        self.assertEqual(MASTER_PLACE, fixture.master.address)

    def test_stagger(self) -> None:
        """The more masters fail together, the longer candidates wait for those before them; then it is over."""
        state = Fixture().core.state
        alone = state.stagger(0)
        for _ in range(100):
            state.went_odown(1_000)
        self.assertEqual(alone * 11, state.stagger(1_000))
        self.assertEqual(alone, state.stagger(20_000))
