"""PAUSE, RESUME, PAUSED and ADMIT of TXSENTINEL."""

from __future__ import annotations

from typing import Any

from tests.server.harness import PEER_ID
from tests.server.test_sentinel_queries import ReportTestCase
from txsentinel.core.durable_records import ALL_MASTERS
from txsentinel.core.pause_rules import pause_of, withholds_vote
from txsentinel.core.pauses import MAX_PAUSE
from txsentinel.model.address import Address

BEST_EFFORT = ("REQUIRE", "best-effort")


class PauseTests(ReportTestCase):
    """One master with three C Sentinels, which do not answer."""

    def setUp(self) -> None:
        """Use maps."""
        super().setUp()
        self.client.ask("HELLO", 3)
        self.core = self.harness.core
        for number, letter in enumerate("cd"):
            address = Address.literal("127.0.0.1", 26_381 + number)
            peer = self.core.registry.add_peer(self.master, 40 * letter, address, self.harness.host.now())
            self.harness.bring_up(peer.link)
        for peer in self.master.peers.values():
            peer.kind_known = True
        self.harness.commit_all()

    def sweep(self, seconds: int) -> None:
        """Let the time pass."""
        for _ in range(10 * seconds):
            self.harness.host.reactor.advance(0.1)
            now = self.harness.host.now()
            self.core.sweep(now, now)
            self.harness.context.turn()
            self.harness.save()

    def pause(self, *words: str | int) -> Any:
        """Pause, save, and return the reply."""
        self.client.send("TXSENTINEL", "PAUSE", "mymaster", "FOR", *words)
        self.harness.save()
        self.sweep(4)
        (reply,) = self.client.replies()
        return reply

    def in_force(self, name: str = "mymaster") -> bool:
        """Whether failovers are paused."""
        return pause_of(self.core.state, name, self.harness.host.now()) is not None

    def test_pause(self) -> None:
        """The reply, after the pause is durable, has the pause and what is guaranteed."""
        self.client.send("TXSENTINEL", "PAUSE", "mymaster", "FOR", 60_000, "reason", "new kernel", *BEST_EFFORT)
        self.assertEqual(self.client.replies(), [])
        self.harness.save()
        self.sweep(4)
        (found,) = self.client.replies()
        assert isinstance(found, dict)
        self.assertEqual(
            (found[b"master"], found[b"reason"], found[b"scope"]), (b"mymaster", b"new kernel", b"failover")
        )
        self.assertTrue(found[b"by"].startswith(b"default from "))
        self.assertIs(found[b"guaranteed"], False)
        (master,) = found[b"masters"]
        self.assertEqual([each[b"state"] for each in master[b"sentinels"]], [b"free"] * 3)
        self.assertTrue(self.in_force())

    def test_shown_and_ended(self) -> None:
        """PAUSED shows what is in force, RESUME ends it."""
        self.assertEqual(self.client.reply("TXSENTINEL", "PAUSED"), [])
        self.pause(60_000, *BEST_EFFORT)
        shown = self.client.reply("TXSENTINEL", "PAUSED", "mymaster")
        assert isinstance(shown, list)
        self.assertEqual([each[b"master"] for each in shown], [b"mymaster"])
        self.client.send("TXSENTINEL", "RESUME", "mymaster")
        self.assertEqual(self.client.replies(), [])
        self.harness.save()
        self.sweep(2)
        (reply,) = self.client.replies()
        assert isinstance(reply, dict)
        self.assertEqual((reply[b"resumed"], reply[b"residual_until"]), (1, None))
        self.assertEqual(reply[b"sentinels"][0][b"id"], PEER_ID.encode())
        self.assertFalse(self.in_force())
        self.client.ask("TXSENTINEL", "RESUME", "mymaster")
        self.assertEqual(self.client.reply("TXSENTINEL", "PAUSED"), [])

    def test_all_masters(self) -> None:
        """A star stands for all masters; one of them cannot be resumed alone."""
        self.client.send("TXSENTINEL", "PAUSE", ALL_MASTERS, "FOR", 60_000, *BEST_EFFORT)
        self.harness.save()
        self.sweep(4)
        self.client.replies()
        self.assertTrue(self.in_force())
        self.refused("ERR All masters are paused. TXSENTINEL RESUME * ends that", "TXSENTINEL", "RESUME", "mymaster")

    def test_no_guarantee(self) -> None:
        """If the others do not confirm it in time, the pause is ended again, and the reply is an error."""
        reply = self.pause(60_000)
        self.assertIn("CANNOTGUARANTEE a failover would still be possible, so the pause was ended again", str(reply))
        self.assertFalse(self.in_force())

    def test_impossible(self) -> None:
        """If it cannot be guaranteed whatever the others answer, nothing is done at once."""
        for peer in self.master.peers.values():
            peer.kind_known = False
        self.refused_with("CANNOTGUARANTEE a failover of mymaster would still be possible, so nothing was done")
        self.assertFalse(self.in_force())

    def refused_with(self, text: str) -> None:
        """Pause, and expect an error at once."""
        self.assertIn(text, self.client.ask("TXSENTINEL", "PAUSE", "mymaster", "FOR", 60_000).decode())

    def test_not_saved(self) -> None:
        """If it cannot be saved, the reply is an error and nothing is paused."""
        self.client.send("TXSENTINEL", "PAUSE", "mymaster", "FOR", 60_000, *BEST_EFFORT)
        self.harness.fail()
        self.assertIn("Failed to save config file", str(self.client.replies()))
        self.assertFalse(self.in_force())

    def test_forwarded(self) -> None:
        """What a peer passes on is stored with its time and ID, and answered when it is durable with what is stored."""
        words = ("SCOPE", "failover", "AT", 1_000, "ID", "abc", "BY", "alice", "REASON", "")
        self.client.send("TXSENTINEL", "PAUSE", "mymaster", "FOR", 60_000, *words)
        self.assertEqual(self.client.replies(), [])
        self.harness.save()
        (found,) = self.client.replies()
        assert isinstance(found, dict)
        self.assertEqual((found[b"id"], found[b"at"], found[b"withdrawn"]), (b"abc", b"1000", b"0"))
        self.assertEqual((found[b"leases"], found[b"in-progress"]), ([], []))
        older = ("AT", 999, "ID", "abd", "BY", "bob")
        found = self.client.reply("TXSENTINEL", "RESUME", "mymaster", "FOR", 60_000, *older)
        assert isinstance(found, dict)
        self.assertEqual((found[b"id"], self.in_force()), (b"abc", True))
        self.client.send("TXSENTINEL", "RESUME", "mymaster", "FOR", MAX_PAUSE + 60_000, "AT", 1_001, "ID", "abe")
        self.harness.save()
        (found,) = self.client.replies()
        assert isinstance(found, dict)
        self.assertEqual((found[b"id"], found[b"withdrawn"], self.in_force()), (b"abe", b"1", False))

    def test_admit(self) -> None:
        """A candidate may be voted for in one epoch, for a minute at most."""
        self.pause(60_000, *BEST_EFFORT)
        state, now = self.core.state, self.harness.host.now()
        self.assertIsNotNone(withholds_vote(state, "mymaster", PEER_ID, 7, now))
        self.assertEqual(self.client.ask("TXSENTINEL", "ADMIT", "mymaster", PEER_ID, 7, 60_000), b"+OK\r\n")
        self.assertIsNone(withholds_vote(state, "mymaster", PEER_ID, 7, now))
        self.assertIsNotNone(withholds_vote(state, "mymaster", PEER_ID, 8, now))
        for words in ((PEER_ID, -1, 1), (PEER_ID, 7, 60_001), (PEER_ID, 7, 0), (PEER_ID, "x", 1), ("a b", 7, 1)):
            self.assertIn(b"-ERR", self.client.ask("TXSENTINEL", "ADMIT", "mymaster", *words), words)

    def test_invalid(self) -> None:
        """Each error names what is wrong, and nothing is paused."""
        name = ("TXSENTINEL", "PAUSE", "mymaster")
        for words, problem in (
            (("SCOPE", "failover"), "a pause must have an end"),
            (("FOR", "soon"), "the time after FOR is not an integer"),
            (("FOR", "0"), "a pause lasts from 1 to"),
            (("FOR", MAX_PAUSE + 1), "a pause lasts from 1 to"),
            (("FOR", 5, "SCOPE"), "syntax error"),
            (("FOR", 5, "FOR", 6), "syntax error"),
            (("FOR", 5, "UNTIL", 6), "syntax error"),
            (("FOR", 5, "SCOPE", "all"), "SCOPE must be one of failover, hands-off"),
            (("FOR", 5, "REQUIRE", "all"), "REQUIRE must be one of guaranteed, best-effort"),
            (("FOR", 5, "REASON", "x" * 501), "the reason is longer than 500 bytes"),
            (("FOR", 5, "AT", 5, "ID", "a/b"), "AT must be a time and ID the ID of an order"),
            (("FOR", 5, "ID", "a"), "not an integer"),
        ):
            self.assertIn(problem, self.client.ask(*name, *words).decode(), words)
        self.assertIn(b"No such master", self.client.ask("TXSENTINEL", "PAUSE", "x", "FOR", 5, *BEST_EFFORT))
        self.assertIn(b"No such master", self.client.ask("TXSENTINEL", "RESUME", "x"))
        self.assertIn(b"No such master", self.client.ask("TXSENTINEL", "PAUSED", "x"))
        self.assertIn(b"syntax error", self.client.ask("TXSENTINEL", "PAUSED", "x", "y"))
        self.assertFalse(self.in_force())
