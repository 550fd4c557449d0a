"""Each rule that depends on time applies at the deadline for which it schedules an evaluation, and no sooner."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import Fixture, identity
from txsentinel.core import deadlines
from txsentinel.core.instances import Master
from txsentinel.core.role import Role
from txsentinel.model.explanation import VerdictCode
from txsentinel.model.timings import Millis

MAX_STEPS = 100
"""Maximum number of evaluations until the master must be S_DOWN."""


class DownDeadlineTests(SynchronousTestCase):
    """S_DOWN: judging and scheduling agree."""

    def setUp(self) -> None:
        """Monitor a master with one replica that is up."""
        self.fixture = Fixture()
        self.fixture.wait(100)
        self.master = self.fixture.master
        # The rules are compared with the deadlines that are derived from them.
        self.availability = self.fixture.core._availability

    def check(self, prepare: Callable[[Master, Millis], None]) -> None:
        """Check that the master enters S_DOWN exactly when its next evaluation is due."""
        now = self.fixture.now
        prepare(self.master, now)
        # Its half-dead connections have deadlines of their own.
        self.master.link.pubsub_since = self.master.link.silent_since = None
        for _ in range(MAX_STEPS):
            due = self.availability.next_due(self.master, now)
            self.availability.check_sdown(self.master, due - 1)
            self.assertIsNone(self.master.sdown_since)
            self.availability.check_sdown(self.master, due)
            if self.master.sdown_since is not None:
                self.assertEqual(due, self.master.sdown_since)
                return
            now = due
        self.fail("it is never S_DOWN")

    def test_silence(self) -> None:
        """An unanswered PING."""

        def prepare(master: Master, now: Millis) -> None:
            master.link.unanswered_ping_at = now - 10

        self.check(prepare)
        self.assertEqual(self.master.sdown_since, self.fixture.now - 10 + self.master.options.down_after + 1)

    def test_lost_connection(self) -> None:
        """No connection and no PING that could be answered."""

        def prepare(master: Master, now: Millis) -> None:
            master.link.commands_since = master.link.unanswered_ping_at = None
            master.link.available_at = now - 10

        self.check(prepare)

    def test_wrong_role(self) -> None:
        """The role of a replica, and of no known replica of its own."""

        def prepare(master: Master, now: Millis) -> None:
            master.role_reported, master.role_reported_at = Role.REPLICA, now - 10

        self.check(prepare)

    def test_restart(self) -> None:
        """A restart that takes longer than ``master-reboot-down-after-period``."""

        def prepare(master: Master, now: Millis) -> None:
            master.options.reboot_down_after = 700
            master.rebooting_since = now - 10

        self.check(prepare)
        self.assertEqual(self.master.sdown_since, self.fixture.now - 10 + 700 + 1)


class OpinionDeadlineTests(SynchronousTestCase):
    """The opinion of a peer is valid for five ask periods."""

    def test_expiry(self) -> None:
        """It counts for O_DOWN until then and not a millisecond longer."""
        fixture = Fixture()
        fixture.add_peer("a")
        master = fixture.master
        peer = master.peers[identity("a")]
        # The rules are compared with the deadlines that are derived from them.
        availability = fixture.core._availability
        now = fixture.now
        master.sdown_since = now
        peer.reports_master_down, peer.opinion_at = True, now
        period = fixture.core.timings.ask_period
        availability.check_odown(master, now + 5 * period)
        self.assertIsNotNone(master.odown_since)
        availability.check_odown(master, now + 5 * period + 1)
        self.assertIsNone(master.odown_since)
        self.assertFalse(peer.reports_master_down)


class AttemptDeadlineTests(SynchronousTestCase):
    """The distance of two attempts, and the time that each state may take."""

    def setUp(self) -> None:
        """Monitor a master."""
        self.fixture = Fixture()
        self.master = self.fixture.master

    def may_attempt(self, now: int) -> bool:
        """Return whether the distance to the last attempt is kept."""
        # The rules are compared with the deadlines that are derived from them.
        rules = self.fixture.core._failovers._start_rules
        return VerdictCode.ATTEMPT_TOO_RECENT not in [each.code for each in rules.hindrances(self.master, now)]

    def test_next_attempt(self) -> None:
        """Two failover timeouts after the last one."""
        self.assertLess(deadlines.next_attempt(self.master), 0)
        self.master.attempt_started_at = self.fixture.now
        # The rules are compared with the deadlines that are derived from them.
        start = self.fixture.core._failovers._start_rules
        allowed = self.fixture.now + 2 * self.master.options.failover_timeout
        self.assertEqual(
            [self.may_attempt(allowed - 1), self.may_attempt(allowed)],
            [False, True],
        )
        self.master.odown_since = self.master.campaign_at = self.fixture.now
        self.assertEqual(start.next_due(self.master, self.fixture.now), allowed)
