"""Selection of the replica to promote, and the reasons of unfit ones."""

from __future__ import annotations

from dataclasses import astuple

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import Fixture
from txsentinel.core.instances import Replica
from txsentinel.core.link import LinkKind
from txsentinel.core.selection import REFUSAL_LIFE, choose, order_of_promotion, unfit_because
from txsentinel.model.explanation import Unfit, UnfitCode


class SelectionTests(SynchronousTestCase):
    """The rules of fitness."""

    def setUp(self) -> None:
        """Set up a healthy master with a healthy replica."""
        self.fixture = Fixture()
        self.fixture.add_replica(2)
        self.fixture.wait(2_000, 50)
        replica = self.fixture.replica(2)
        assert isinstance(replica, Replica)
        self.replica = replica

    def unfit(self) -> Unfit | None:
        """Return why the replica is unfit."""
        return unfit_because(self.replica, self.fixture.master, self.fixture.core.timings, self.fixture.now)

    def reason(self) -> str | None:
        """Return the clause on why the replica is unfit."""
        unfit = self.unfit()
        return None if unfit is None else unfit.text

    def test_fit(self) -> None:
        """A healthy replica is fit."""
        self.assertIsNone(self.reason())

    def test_down(self) -> None:
        """A replica that is S_DOWN is unfit."""
        self.replica.sdown_since = 1
        self.assertEqual("it is down", self.reason())

    def test_disconnected(self) -> None:
        """A replica without a command connection is unfit; a missing subscription does not matter."""
        self.replica.link.pubsub_since = None
        self.assertIsNone(self.reason())
        self.replica.link.commands_since = None
        self.assertEqual("it is not connected", self.reason())

    def test_refuses_ping(self) -> None:
        """A replica that answers PING with an error is unfit at once; LOADING and its like are acceptable."""
        core, link, now = self.fixture.core, self.replica.link, self.fixture.now
        core.ping_reply(link, LinkKind.COMMANDS, b"NOPERM this user has no permissions", now)
        self.assertEqual("it answers PING with NOPERM", self.reason())
        core.ping_reply(link, LinkKind.COMMANDS, b"gone\tmad", now)
        self.assertEqual("it answers PING with an error", self.reason())
        for reply in (b"LOADING", b"MASTERDOWN", b"PONG"):
            core.ping_reply(link, LinkKind.COMMANDS, reply, now)
            self.assertIsNone(self.reason(), reply)

    def test_silent(self) -> None:
        """A replica that was silent for five PING periods is unfit."""
        self.replica.link.available_at = self.fixture.now - 5_000
        self.assertIsNone(self.reason())
        self.replica.link.available_at -= 1
        self.assertEqual("it gave no sign of life for 5001 ms", self.reason())

    def test_priority(self) -> None:
        """A replica of priority 0 is unfit."""
        self.replica.priority = 0
        self.assertEqual("its priority is 0", self.reason())

    def test_old_info(self) -> None:
        """INFO may be five seconds old while the master is down, three periods while it is up."""
        self.replica.info_refreshed_at = self.fixture.now - 30_001
        self.assertEqual("its INFO is 30001 ms old", self.reason())
        self.replica.info_refreshed_at = self.fixture.now - 30_000
        self.assertIsNone(self.reason())
        self.fixture.master.sdown_since = self.fixture.now
        self.assertEqual("its INFO is 30000 ms old", self.reason())
        self.replica.info_refreshed_at = None
        self.assertEqual("it has not answered INFO yet", self.reason())

    def test_lost_its_master_long_ago(self) -> None:
        """It may have lost its master ten down-after periods before this Sentinel did."""
        self.replica.master_link_down_for = 10_001
        self.assertEqual("it was without its master for 10001 ms", self.reason())
        self.fixture.master.sdown_since = self.fixture.now - 1
        self.assertIsNone(self.reason())

    def test_never_had_its_master(self) -> None:
        """A replica whose link was never up reports −1 seconds, and is fit."""
        self.replica.master_link_down_for = -1_000
        self.assertIsNone(self.reason())

    def test_order(self) -> None:
        """Lower priority, then more data, then the smaller run ID in any letter case, then those without one."""
        rows = [(1, 0, "f"), (2, 9, "b"), (2, 5, "A"), (2, 5, "b"), (2, 5, "C"), (2, 5, None), (3, 99, "a")]
        made = []
        for number, (priority, offset, run_id) in enumerate(rows, 10):
            self.fixture.add_replica(number)
            each = self.fixture.replica(number)
            assert isinstance(each, Replica)
            each.priority, each.repl_offset, each.run_id = priority, offset, run_id
            made.append(each)
        self.assertEqual(made, sorted([*made[3:], *made[:3]], key=order_of_promotion))
        self.assertIs(made[0], choose(self.fixture.master, self.fixture.core.timings, self.fixture.now)[0])

    def test_reasons(self) -> None:
        """Unfit replicas are listed with reasons; without a fit one there is no choice."""
        self.replica.priority = 0
        chosen, refused = choose(self.fixture.master, self.fixture.core.timings, self.fixture.now)
        self.assertIsNone(chosen)
        unfit = Unfit(UnfitCode.PRIORITY_ZERO, "its priority is 0", 0)
        self.assertEqual([("10.0.0.2:6379", unfit)], refused)

    def test_silent_since_the_failure(self) -> None:
        """A replica that has not answered since its master went down is unfit."""
        self.replica.link.available_at = self.fixture.now - 300
        self.fixture.master.sdown_since = self.fixture.now - 200
        text = "it has not answered since its master went down"
        self.assertEqual(Unfit(UnfitCode.SILENT_SINCE_FAILURE, text, 300, 200), self.unfit())

    def test_measured_and_limit(self) -> None:
        """What exceeds a limit comes with both figures, which follow the settings."""
        timings, now = self.fixture.core.timings, self.fixture.now
        self.replica.master_link_down_for = 10_001
        unfit = self.unfit()
        assert unfit is not None
        self.assertEqual((UnfitCode.MASTER_LINK_DOWN_TOO_LONG, 10_001, 10_000), astuple(unfit)[:1] + astuple(unfit)[2:])
        self.fixture.master.options.down_after *= 2
        self.assertIsNone(self.unfit())
        self.replica.info_refreshed_at = now - 30_001
        unfit = self.unfit()
        assert unfit is not None
        self.assertEqual((UnfitCode.STALE_INFO, 30_001, 30_000), astuple(unfit)[:1] + astuple(unfit)[2:])
        timings.info_period = 10_001
        self.assertIsNone(self.unfit())
        self.replica.link.available_at = now - 5_001
        unfit = self.unfit()
        assert unfit is not None
        self.assertEqual((UnfitCode.SILENT, 5_001, 5_000), astuple(unfit)[:1] + astuple(unfit)[2:])
        timings.ping_period = 1_001
        self.assertIsNone(self.unfit())
        self.replica.promotion_refusal, self.replica.promotion_refused_at = "SLAVEOF with NOPERM no", now - 1
        unfit = self.unfit()
        text = "it answered SLAVEOF with NOPERM no"
        self.assertEqual(Unfit(UnfitCode.PROMOTION_REFUSED, text, 1, REFUSAL_LIFE), unfit)
