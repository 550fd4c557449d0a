"""Each reason for which a replica is unfit is reached, with its measured value and its limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from tests.core.test_empty_restart import NEW, NEWER, hold
from tests.core.test_explaining import SECOND, THIRD, explain, group
from txsentinel.core import selection
from txsentinel.core.membership_state import MembershipRequest
from txsentinel.core.options import GuardOptions, Lineage
from txsentinel.core.selection import REFUSAL_LIFE
from txsentinel.model.explanation import Unfit, UnfitCode


def of_second(fixture: Fixture) -> Unfit:
    """Return why the first replica is unfit, as an explanation states it."""
    found = next(each for each in explain(fixture).replicas if each.name == "10.0.0.2:6379")
    assert found.unfit is not None
    return found.unfit


def is_down() -> Unfit:
    """It is S_DOWN."""
    fixture = group()
    fixture.kill(SECOND)
    fixture.wait(1_500, 50)
    return of_second(fixture)


def is_disconnected() -> Unfit:
    """Its connection was lost a moment ago."""
    fixture = group()
    fixture.kill(SECOND)
    return of_second(fixture)


def refuses_ping() -> Unfit:
    """It answers PING with an error."""
    fixture = group()
    fixture.servers[SECOND].ping_text = b"NOAUTH Authentication required."
    fixture.wait(1_500, 50)
    return of_second(fixture)


def is_silent() -> Unfit:
    """It hangs, with a long down-after."""
    fixture = group()
    fixture.master.options.down_after = 60_000
    fixture.servers[SECOND].hung = True
    fixture.wait(7_000, 100)
    return of_second(fixture)


def is_silent_since_failure() -> Unfit:
    """It hangs since its master went down."""
    fixture = group()
    fixture.kill(MASTER)
    fixture.wait(500, 50)
    fixture.servers[SECOND].hung = True
    fixture.wait(700, 50)
    return of_second(fixture)


def has_priority_zero() -> Unfit:
    """Its priority is 0."""
    return of_second(group(priority=0))


def refused_promotion() -> Unfit:
    """It refused its promotion."""
    fixture = group()
    link = fixture.master.replicas["10.0.0.2:6379"].link
    fixture.core.promotion_refused(link, "SLAVEOF NO ONE", "NOPERM no", fixture.now)
    fixture.now += 7
    return of_second(fixture)


def has_no_info() -> Unfit:
    """It never answered INFO."""
    fixture = Fixture()
    fixture.add_replica(2, refuses=True)
    fixture.wait(2_000, 50)
    return of_second(fixture)


def has_stale_info() -> Unfit:
    """It has not answered INFO for long."""
    fixture = group()
    fixture.servers[SECOND].refuses = True
    fixture.wait(32_000, 200)
    return of_second(fixture)


def lost_its_master() -> Unfit:
    """It has had no link to its master for long."""
    fixture = group()
    fixture.servers[SECOND].link_status, fixture.servers[SECOND].down_for = "down", 11
    fixture.wait(11_000, 100)
    return of_second(fixture)


def is_foreign() -> Unfit:
    """It has the data of another group."""
    fixture = group()
    fixture.master.options.guards = replace(fixture.master.options.guards, lineage=Lineage.STRICT)
    for address in (MASTER, THIRD):
        hold(fixture.servers[address], 10)
    hold(fixture.servers[SECOND], 10, "f" * 40)
    fixture.servers[SECOND].link_status, fixture.servers[SECOND].down_for = "down", -1
    fixture.wait(11_000, 100)
    return of_second(fixture)


def copied_a_loss() -> Unfit:
    """It copied the data set of a master that restarted without data."""
    fixture = Fixture()
    fixture.master.options.guards = GuardOptions(empty_restart_failover=True)
    servers = [fixture.servers[MASTER], fixture.add_replica(2), fixture.add_replica(3)]
    for letter in "xy":
        fixture.add_peer(letter, reports_down=True)
    for server in servers:
        hold(server, 1_000)
    fixture.core.timings.info_period = 1_000
    fixture.wait(3_000, 100)
    hold(servers[0], 0, NEW, offset=0)
    hold(servers[1], 0, NEWER, offset=0)
    servers[0].run_id = "9" * 40
    for server in servers[1:]:
        server.link_status = "down"
    fixture.reset_connections(MASTER)
    fixture.wait(300)
    return dict(fixture.master.last_refusals)["10.0.0.2:6379"]


def is_parked() -> Unfit:
    """Its host is about to be stopped."""
    fixture = group()
    request = MembershipRequest(60_000, fixture.now + 60_000, fixture.now, "r1", "alice")
    fixture.core.parking.park(fixture.master, SECOND, request, fixture.now)
    return of_second(fixture)


CASES: Final[Mapping[UnfitCode, Callable[[], Unfit]]] = {
    UnfitCode.DOWN: is_down,
    UnfitCode.DISCONNECTED: is_disconnected,
    UnfitCode.PING_REFUSED: refuses_ping,
    UnfitCode.SILENT: is_silent,
    UnfitCode.SILENT_SINCE_FAILURE: is_silent_since_failure,
    UnfitCode.PRIORITY_ZERO: has_priority_zero,
    UnfitCode.PROMOTION_REFUSED: refused_promotion,
    UnfitCode.NO_INFO: has_no_info,
    UnfitCode.STALE_INFO: has_stale_info,
    UnfitCode.MASTER_LINK_DOWN_TOO_LONG: lost_its_master,
    UnfitCode.FOREIGN_LINEAGE: is_foreign,
    UnfitCode.EMPTY_AFTER_REBOOT: copied_a_loss,
    UnfitCode.PARKED: is_parked,
}
"""How each code is reached; a new code needs a case."""


class UnfitCodeTests(SynchronousTestCase):
    """All codes."""

    def test_every_code(self) -> None:
        """Each case has its code."""
        self.assertEqual(set(CASES), set(UnfitCode))
        self.assertEqual({code: make().code for code, make in CASES.items()}, {code: code for code in CASES})

    def test_figures(self) -> None:
        """What exceeds a limit has both figures, with the measured one above the limit."""
        for code in (UnfitCode.SILENT, UnfitCode.STALE_INFO, UnfitCode.MASTER_LINK_DOWN_TOO_LONG):
            unfit = CASES[code]()
            assert unfit.measured is not None and unfit.limit is not None
            self.assertGreater(unfit.measured, unfit.limit, code)
            self.assertIn(f"{unfit.measured} ms", unfit.text)
        refused = refused_promotion()
        self.assertEqual((refused.measured, refused.limit), (7, REFUSAL_LIFE))

    def test_ping_before_down(self) -> None:
        """A replica that answers PING with an error is not called down, even if it is S_DOWN."""
        fixture = group()
        fixture.servers[SECOND].ping_text = b"BUSY a script"
        fixture.wait(4_000, 50)
        self.assertTrue(fixture.master.replicas["10.0.0.2:6379"].is_down)
        self.assertEqual(of_second(fixture).text, "it answers PING with BUSY")


class LimitTests(SynchronousTestCase):
    """A changed limit changes the decision, and with it the explanation."""

    def test_limits(self) -> None:
        """Each limit of the selection is the one that is shown."""
        cases = (
            ("MAX_SILENT_PERIODS", 6, is_silent, 5_000, 6_000),
            ("MAX_INFO_PERIODS", 2, has_stale_info, 30_000, 20_000),
            ("LINK_DOWN_FACTOR", 9, lost_its_master, 10_000, 9_000),
            ("REFUSAL_LIFE", 1_000, refused_promotion, 30_000, 1_000),
        )
        for name, value, make, before, after in cases:
            self.assertEqual(make().limit, before, name)
            patch = self.patch(selection, name, value)
            self.assertEqual(make().limit, after, name)
            patch.restore()
