"""The block of further automatic failovers after the last one."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from tests.core.test_explaining import SECOND, THIRD, agreed, explain, group
from txsentinel.model.address import Address
from txsentinel.model.explanation import VerdictCode
from txsentinel.model.history import JournalKind, failover_group
from txsentinel.model.timings import Millis

PERIOD: Millis = 600_000


def failed_over(period: Millis | None = PERIOD) -> Fixture:
    """Return a group in which the master died and was failed over to the first replica."""
    fixture = group(offset=100)
    guards = fixture.master.options.guards
    fixture.master.options.guards = replace(guards, failover_block_period=period)
    fixture.servers[SECOND].offset = 200
    fixture.wait(11_000, 100)
    agreed(fixture)
    fixture.kill(MASTER)
    fixture.wait(5_000, 50)
    assert fixture.master.address == SECOND, fixture.master.address
    fixture.servers[THIRD].follows = SECOND
    # The peers adopt the new configuration, and consider the old master down all the time.
    fixture.wait(12_000, 100)
    return fixture


def kill_again(fixture: Fixture, milliseconds: Millis = 25_000) -> Fixture:
    """Kill the new master, which the peers consider down, too."""
    fixture.kill(SECOND)
    fixture.wait(milliseconds, 50)
    return fixture


class BlockTests(SynchronousTestCase):
    """When a block begins, and what ends it."""

    def group_id(self, fixture: Fixture) -> str:
        """Return the ID of the failover that blocks."""
        return failover_group("mymaster", fixture.master.block.failover_epoch)

    def test_off(self) -> None:
        """By default nothing is blocked, and nothing is recorded."""
        fixture = kill_again(failed_over(None))
        self.assertEqual(fixture.master.address, THIRD)
        self.assertIsNone(fixture.master.block.began_at)
        self.assertEqual(len(fixture.core.records), 0)

    def test_blocked(self) -> None:
        """The second failover does not begin, and the explanation names the way out."""
        fixture = kill_again(failed_over())
        self.assertEqual(fixture.master.address, SECOND)
        explained = explain(fixture)
        self.assertEqual(explained.verdict.code, VerdictCode.RECENTLY_FAILED_OVER)
        self.assertIn("or when that one is acknowledged", explained.verdict.text)
        self.assertIn("failover_block_ends", [each.what for each in explained.timers])
        self.assertEqual(explained.unblock[0].command, f"TXSENTINEL ACK {self.group_id(fixture)}")
        kinds = [each.kind for each in fixture.core.journal.entries("mymaster")]
        self.assertIn(JournalKind.BLOCKED, kinds)

    def test_acknowledged(self) -> None:
        """An acknowledgement of that failover ends the block; that of another one does not."""
        fixture = kill_again(failed_over())
        blocks, masters = fixture.core.failover_blocks, [fixture.master]
        self.assertFalse(blocks.acknowledge(masters, failover_group("mymaster", 99), fixture.now, "alice"))
        bound = explain(fixture).unblock[0].bound_ms
        self.assertTrue(blocks.acknowledge(masters, self.group_id(fixture), fixture.now, "alice"))
        fixture.finish()
        self.assertEqual(len(fixture.core.records), 0)
        fixture.wait(bound, 50)
        self.assertEqual(fixture.master.address, THIRD)

    def test_end(self) -> None:
        """The block ends with its period."""
        fixture = failed_over(60_000)
        kill_again(fixture, 20_000)
        self.assertEqual(fixture.master.address, SECOND)
        fixture.wait(50_000, 100)
        self.assertEqual(fixture.master.address, THIRD)

    def test_order(self) -> None:
        """A failover that is ordered is not blocked, and does not block."""
        fixture = kill_again(failed_over())
        epoch = fixture.master.block.failover_epoch
        fixture.core.administration.failover("mymaster", fixture.now)
        fixture.finish()
        fixture.wait(12_000, 50)
        self.assertEqual(fixture.master.address, THIRD)
        self.assertEqual(fixture.master.block.failover_epoch, epoch)

    def test_restart(self) -> None:
        """The block is saved, and is in force after a restart until its end."""
        fixture = failed_over()
        began_at = fixture.master.block.began_at
        assert began_at is not None
        removed = fixture.core.administration.remove("mymaster", fixture.now)
        removed.master.block.began_at = None
        fixture.now += 1_000
        fixture.core.administration.readmit(removed, fixture.now)
        self.assertEqual(fixture.core.master("mymaster").block.began_at, began_at)

    def adopted(self, *, down: bool) -> Fixture:
        """Return a group that adopted the result of another Sentinel."""
        fixture = group()
        guards = fixture.master.options.guards
        fixture.master.options.guards = replace(guards, failover_block_period=PERIOD)
        if down:
            fixture.kill(MASTER)
        fixture.servers[SECOND].role = "master"
        fixture.wait(1_500, 50)
        fixture.hello("b", SECOND, 5)
        fixture.wait(2_000, 50)
        fixture.hello("b", SECOND, 5)
        address: Address = fixture.master.address
        self.assertEqual(address, SECOND)
        return fixture

    def test_led_by_another(self) -> None:
        """The failover of another Sentinel blocks if the old master was down here, and not if it was up."""
        self.assertEqual(self.adopted(down=True).master.block.failover_epoch, 5)
        self.assertIsNone(self.adopted(down=False).master.block.began_at)
