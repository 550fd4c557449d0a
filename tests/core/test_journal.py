"""The journal: which records rare events leave, their texts, and the limits of the rings."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, ME, Fixture, identity
from txsentinel.core.journal import (
    MANY_MASTERS,
    MAX_RECORDS,
    MAX_RECORDS_OF_MANY,
    MIN_RECORDS,
    VERY_MANY_MASTERS,
    Journal,
)
from txsentinel.core.journal_texts import sentence
from txsentinel.model.address import Address
from txsentinel.model.history import JournalKind
from txsentinel.model.snapshots import Instant

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)


class RecordingTests(SynchronousTestCase):
    """What the core writes."""

    def group(self, **options: int) -> Fixture:
        """Set up a master with two replicas and two peers that agree that it is down."""
        fixture = Fixture(options)
        fixture.add_replica(2, offset=200)
        fixture.add_replica(3)
        fixture.add_peer("b", reports_down=True)
        fixture.add_peer("z", reports_down=True)
        fixture.wait(3_000)
        return fixture

    def kinds(self, fixture: Fixture) -> list[str]:
        """Return the kinds of all records of the master."""
        return [entry.kind.value for entry in fixture.core.journal.entries("mymaster")]

    def test_peace(self) -> None:
        """Nothing is written about a healthy master."""
        fixture = self.group()
        fixture.wait(20_000, 100)
        self.assertEqual([], self.kinds(fixture))
        self.assertEqual(0, fixture.core.journal.sequence)

    def test_leader(self) -> None:
        """A failover that this Sentinel leads leaves one record for each step, in order."""
        fixture = self.group()
        fixture.kill(MASTER)
        fixture.wait(4_000)
        entries = fixture.core.journal.entries("mymaster")
        votes = (JournalKind.VOTE_REQUESTED, JournalKind.VOTE_RECEIVED, JournalKind.VOTE_GIVEN)
        steps = [each.kind.value for each in entries if each.kind not in votes]
        expected = ["sdown", "odown", "campaign", "elected", "selected", "promotion-ordered", "promoted"]
        expected += ["follow-ordered"]
        # The servers of the fixture answer before the new address is saved. The last is the old master, now a replica.
        expected += ["replicas-done", "switched", "durable", "announced", "sdown"]
        self.assertEqual(expected, steps)
        by_kind = {entry.kind: entry for entry in entries}
        selected = by_kind[JournalKind.SELECTED].servers
        assert selected is not None and selected.new is not None
        self.assertEqual(("10.0.0.2:6379", 200), (selected.new.name, selected.new.offset))
        self.assertEqual(["10.0.0.2:6379", "10.0.0.3:6379"], [each.server.name for each in selected.candidates])
        self.assertEqual([True, True], [each.unfit is None for each in selected.candidates])
        self.assertEqual((("votes", 3), ("needed", 2)), by_kind[JournalKind.ELECTED].data)
        answers = [(each.code, each.subject) for each in entries if each.kind is JournalKind.VOTE_RECEIVED]
        self.assertEqual([("granted", identity("b")), ("granted", identity("z"))], answers)
        self.assertEqual(1, len([1 for name, _ in fixture.core.journal.finished if name == "mymaster"]))

    def test_records(self) -> None:
        """Records have points in time on the wall clock and a sentence; ``after`` leaves out older ones."""
        fixture = self.group()
        fixture.kill(MASTER)
        fixture.wait(4_000)
        records = fixture.core.journal.records("mymaster", 0, 1_000_000)
        first = fixture.core.journal.entries("mymaster")[0]
        self.assertEqual(Instant(first.at + 1_000_000), records[0].at)
        self.assertEqual("sdown", records[0].what)
        self.assertTrue(records[0].text.startswith("mymaster is down here: "), records[0].text)
        texts = [each.text for each in records]
        self.assertIn("Elected in epoch 1 with 3 votes of 2 needed", texts)
        self.assertIn("Switched from 10.0.0.1:6379 to 10.0.0.2:6379", texts)
        selected = next(each for each in records if each.what == "selected")
        self.assertEqual("offset 100, priority 100, fit", dict(selected.data)["replica 10.0.0.3:6379"])
        later = fixture.core.journal.records("mymaster", records[3].sequence, 0)
        self.assertEqual([each.sequence for each in records[4:]], [each.sequence for each in later])

    def test_unelected(self) -> None:
        """An election without a majority ends in an abort with its reason."""
        fixture = self.group(failover_timeout=3_000)
        for letter in "bz":
            server = fixture.servers[fixture.peer(letter).address]
            server.grants, server.answer = False, (identity("q"), 1)
        fixture.kill(MASTER)
        fixture.wait(5_000)
        entries = fixture.core.journal.entries("mymaster")
        aborted = [entry for entry in entries if entry.kind is JournalKind.ABORTED]
        self.assertEqual(["not_elected"], [entry.code for entry in aborted])
        votes = {entry.code for entry in entries if entry.kind is JournalKind.VOTE_RECEIVED}
        self.assertEqual({"other"}, votes)
        requested = [entry for entry in entries if entry.kind is JournalKind.VOTE_REQUESTED]
        self.assertEqual(len({(entry.subject, entry.epoch) for entry in requested}), len(requested))

    def test_no_good_replica(self) -> None:
        """A selection without a result has the reasons of all replicas."""
        fixture = self.group()
        for letter in "bz":
            fixture.servers[fixture.peer(letter).address].unresponsive = True
        fixture.kill(MASTER)
        fixture.core.administration.failover("mymaster", fixture.now)
        fixture.finish()
        for replica in fixture.master.replicas.values():
            replica.priority = 0
        fixture.wait(15_000, 100)
        aborted = [entry for entry in fixture.core.journal.entries("mymaster") if entry.kind is JournalKind.ABORTED]
        self.assertEqual(["no_good_replica"], [entry.code for entry in aborted[:1]])
        servers = aborted[0].servers
        assert servers is not None
        self.assertEqual(
            ["its priority is 0"] * 2, [each.unfit.text for each in servers.candidates if each.unfit is not None]
        )
        self.assertIsNone(servers.new)

    def test_follower(self) -> None:
        """A configuration that another Sentinel announces is recorded with both servers and our vote."""
        fixture = self.group()
        fixture.kill(MASTER)
        fixture.wait(1_010)
        fixture.core.vote_requested("10.0.0.1", 6379, 4, identity("b"), fixture.now)
        fixture.finish()
        fixture.hello("b", SECOND, 4)
        entries = {entry.kind: entry for entry in fixture.core.journal.entries("mymaster")}
        given, adopted = entries[JournalKind.VOTE_GIVEN], entries[JournalKind.CONFIG_ADOPTED]
        self.assertEqual((identity("b"), 4), (given.subject, given.epoch))
        self.assertEqual((identity("b"), 4), (adopted.subject, adopted.epoch))
        assert adopted.servers is not None and adopted.servers.new is not None
        self.assertEqual(("10.0.0.1", "10.0.0.2"), (adopted.servers.old.host, adopted.servers.new.host))
        self.assertEqual(200, adopted.servers.new.offset)

    def test_refused_vote_requests_are_limited(self) -> None:
        """A client that repeats a refused request leaves one record a second, and none of its text as the subject."""
        fixture = self.group()
        for epoch in range(10, 60):
            fixture.core.vote_requested("10.0.0.1", 6379, epoch, "x" * 40, fixture.now)
        fixture.wait(1_100)
        fixture.core.vote_requested("10.0.0.1", 6379, 70, "y" * 40, fixture.now)
        refused = fixture.core.journal.entries("mymaster")
        self.assertEqual(
            [(10, None, "unknown_candidate"), (70, None, "unknown_candidate")],
            [(entry.epoch, entry.subject, entry.code) for entry in refused],
        )

    def test_storage(self) -> None:
        """A failed save and its end are shown with the records of every master."""
        fixture = self.group()
        fixture.core.commit_failed(1, fixture.now)
        fixture.core.commit_failed(2, fixture.now)
        fixture.core.committed(99, fixture.now)
        self.assertEqual(["save-failed", "save-recovered"], self.kinds(fixture))

    def test_tilt(self) -> None:
        """TILT is recorded with its cause, and its end."""
        fixture = self.group()
        fixture.core.sweep(fixture.now + 50_000, fixture.now + 50_000)
        fixture.core.sweep(fixture.now + 90_000, fixture.now + 90_000)
        entries = fixture.core.journal.entries("mymaster")
        self.assertEqual([("tilt", "loop-late")], [(each.kind.value, each.code) for each in entries[:1]])

    def test_operator(self) -> None:
        """An order of an operator is recorded before its campaign."""
        fixture = self.group()
        fixture.core.administration.failover("mymaster", fixture.now)
        self.assertEqual(["operator", "campaign"], self.kinds(fixture)[:2])
        self.assertEqual("An operator ordered FAILOVER", fixture.core.journal.records("mymaster")[0].text)

    def test_follow_orders(self) -> None:
        """Orders to follow the new master are recorded, and those that a server refuses."""
        fixture = self.group()
        fixture.kill(MASTER)
        fixture.wait(4_000)
        replica = fixture.replica(3)
        fixture.core.follow_order_refused(replica.link, "SLAVEOF 10.0.0.2 6379", "NOPERM no", fixture.now)
        texts = [each.text for each in fixture.core.journal.records("mymaster")]
        self.assertIn("Ordered 10.0.0.3:6379 to follow 10.0.0.2:6379", texts)
        self.assertEqual("10.0.0.3:6379 refused SLAVEOF 10.0.0.2 6379: NOPERM no", texts[-1])
        fixture.wait(12_000, 50)
        fixture.revive(MASTER)
        fixture.wait(15_000, 50)
        last = [each for each in fixture.core.journal.records("mymaster") if each.what == "follow-ordered"][-1]
        self.assertEqual("Ordered 10.0.0.1:6379 to follow 10.0.0.2:6379", last.text)

    def test_removed_master(self) -> None:
        """A master that is not monitored any more has no records."""
        fixture = self.group()
        fixture.kill(MASTER)
        fixture.wait(4_000)
        self.assertTrue(self.kinds(fixture))
        fixture.core.administration.remove("mymaster", fixture.now)
        self.assertEqual([], self.kinds(fixture))

    def test_own_id(self) -> None:
        """Our own vote is recorded under our own ID."""
        fixture = self.group()
        fixture.kill(MASTER)
        fixture.wait(4_000)
        given = [e for e in fixture.core.journal.entries("mymaster") if e.kind is JournalKind.VOTE_GIVEN]
        self.assertEqual([ME], [entry.subject for entry in given])


class TextTests(SynchronousTestCase):
    """Sentences."""

    def test_every_kind(self) -> None:
        """Each kind of record has a sentence, also if fields are missing, and nothing of the template remains."""
        for kind in JournalKind:
            text = sentence(kind, "mymaster", None, None, None, {})
            self.assertTrue(text and "{" not in text, text)
            self.assertNotIn("{", sentence(kind, "m", "a {b}", "c", 1, {"reason": "x"}).replace("a {b}", ""))

    def test_who(self) -> None:
        """Who ordered a failover is named if it is known; a candidate that is no peer is not named."""
        by = {"by": "alice from 10.0.0.9:5"}
        self.assertEqual(
            "alice from 10.0.0.9:5 ordered FAILOVER", sentence(JournalKind.OPERATOR, "m", None, "FAILOVER", None, by)
        )
        self.assertEqual(
            "An operator ordered FAILOVER", sentence(JournalKind.OPERATOR, "m", None, "FAILOVER", None, {"by": None})
        )
        refused = {"reason": "it is not a Sentinel that we know"}
        self.assertEqual(
            "No vote for unknown in epoch 3: it is not a Sentinel that we know",
            sentence(JournalKind.VOTE_REFUSED, "m", None, "unknown_candidate", 3, refused),
        )


class RingTests(SynchronousTestCase):
    """The limits."""

    def test_length(self) -> None:
        """The oldest records of a master are discarded."""
        journal = Journal()
        for number in range(MAX_RECORDS + 10):
            journal.write(JournalKind.SDOWN, "a", number)
        entries = journal.entries("a")
        self.assertEqual((MAX_RECORDS, 10), (len(entries), entries[0].at))

    def test_many_masters(self) -> None:
        """With many masters each has fewer records, including those written before."""
        journal = Journal()
        for number in range(MAX_RECORDS):
            journal.write(JournalKind.SDOWN, "m0", number)
        for number in range(1, MANY_MASTERS + 1):
            journal.write(JournalKind.SDOWN, f"m{number}", number)
        self.assertEqual(MAX_RECORDS_OF_MANY, len(journal.entries("m0")))
        for number in range(MANY_MASTERS + 1, VERY_MANY_MASTERS + 1):
            journal.write(JournalKind.SDOWN, f"m{number}", 1)
        latest = [entry.sequence for entry in journal.entries("m0")]
        self.assertEqual(MIN_RECORDS, len(latest))
        self.assertEqual(list(range(MAX_RECORDS - MIN_RECORDS + 1, MAX_RECORDS + 1)), latest)

    def test_announced_after_durable(self) -> None:
        """A hello that was sent before the change, or is accepted before it is durable, does not announce it."""
        journal = Journal()
        journal.moved("a", 5)
        journal.announcing("a", 100)
        journal.hello_accepted("a", "p", 90, 110)
        journal.hello_accepted("a", "p", 100, 110)
        journal.committed(4, 115)
        journal.committed(5, 120)
        journal.hello_accepted("a", "p", 99, 125)
        journal.hello_accepted("a", "q", 100, 130)
        journal.hello_accepted("a", "r", 130, 140)
        found = [(entry.kind, entry.at, entry.subject) for entry in journal.entries("a")]
        self.assertEqual([(JournalKind.DURABLE, 120, None), (JournalKind.ANNOUNCED, 130, "q")], found)
        self.assertFalse(journal.awaits_hello)
