"""Log lines on what would keep a master that is up from being failed over, or would lose data."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture
from txsentinel.core.readiness import DISCOVERY_PERIOD

OTHER = "b" * 40
OURS = "a" * 40
NONE = "0" * 40


class ReadinessTests(SynchronousTestCase):
    """A master with a replica and two other Sentinels, all up."""

    def setUp(self) -> None:
        """Start a healthy group."""
        self.fixture = Fixture(quorum=2, down_after=5_000)
        self.replica = self.fixture.add_replica(2)
        for letter in "bz":
            self.fixture.add_peer(letter)
        self.fixture.wait(DISCOVERY_PERIOD + 10_000, 100)
        self.assertEqual(self.notes(), [])

    def notes(self) -> list[str]:
        """Return the new log lines about the master."""
        before = "note mymaster at 10.0.0.1:6379: "
        return [line.removeprefix(before) for line in self.fixture.output() if line.startswith(before)]

    def wait(self) -> list[str]:
        """Return the new log lines of half a minute, in which each condition is evaluated several times."""
        self.fixture.wait(30_000, 100)
        return self.notes()

    def journal(self) -> list[str]:
        """Return the sentences of the conditions in the journal."""
        records = self.fixture.core.journal.records("mymaster")
        return [each.text for each in records if each.what.startswith("condition")]

    def test_quorum(self) -> None:
        """A quorum above the number of Sentinels is logged once, and that it no longer is."""
        self.fixture.master.options.quorum = 4
        first = (
            "its quorum is 4 and only 3 Sentinels are known, so it can never be failed over. Start the missing "
            "Sentinels, or lower the quorum with SENTINEL SET mymaster quorum"
        )
        self.assertEqual(self.wait(), [first])
        self.assertEqual(self.wait(), [])
        self.fixture.add_peer("c")
        self.assertEqual(self.wait(), ["no longer: its quorum is above the number of Sentinels"])
        self.assertEqual(self.wait(), [])

    def test_priority(self) -> None:
        """A replica of priority 0, if there is no other one."""
        self.replica.priority = 0
        text = "No replica can be promoted (10.0.0.2:6379: its priority is 0), so it could not be failed over now"
        self.assertEqual(self.wait(), [text])
        self.fixture.add_replica(3)
        self.assertEqual(self.wait(), ["no longer: no replica can be promoted"])
        self.assertEqual(self.journal(), [text, "No longer: no replica can be promoted"])
        # There is no attempt that could be aborted, and subscribers would take such an event for the end of one.
        self.assertEqual([event for event in self.fixture.events() if "abort" in event], [])

    def test_no_replica(self) -> None:
        """No replica at all, not before there was time to discover one."""
        self.fixture = Fixture(quorum=1)
        self.fixture.wait(DISCOVERY_PERIOD - 100, 100)
        self.assertEqual(self.notes(), [])
        self.assertEqual(self.wait(), ["No replica is known, so it could not be failed over now"])

    def test_stale_replica(self) -> None:
        """A replica without a link to the master for some seconds, with the limit."""
        self.replica.link_status, self.replica.down_for = "down", 4
        self.assertEqual(self.wait(), [])
        self.replica.down_for = 20
        text = (
            "replica 10.0.0.2:6379 has had no link to its master for 20.0 s; after 50.0 s it cannot be promoted, and "
            "what was written meanwhile would be lost with it"
        )
        self.assertEqual(self.wait(), [text])
        self.replica.link_status = "up"
        self.assertEqual(self.wait(), ["no longer: replica 10.0.0.2:6379 has no link to it"])

    def test_writes_refused(self) -> None:
        """A master that lacks replicas for min-replicas-to-write."""
        master = self.fixture.servers[MASTER]
        master.extra = ["min_slaves_good_slaves:0"]
        text = "it refuses writes with NOREPLICAS: min-replicas-to-write is set, and no replica acknowledges in time"
        self.assertEqual(self.wait(), [text])
        master.extra = ["min_slaves_good_slaves:1"]
        self.assertEqual(self.wait(), ["no longer: it refuses writes"])

    def test_not_while_it_is_down(self) -> None:
        """Nothing is logged in TILT or while the master is down: other lines explain that."""
        self.fixture.master.options.quorum = 4
        self.fixture.core.tilt.since = self.fixture.now
        self.fixture.wait(25_000, 100)
        self.assertEqual(self.notes(), [])
        self.fixture.kill(MASTER)
        self.assertEqual(self.wait(), [])

    def test_loss_that_cannot_be_judged(self) -> None:
        """A replica that copied an empty data set of a master that refuses INFO: the loss is logged, once."""
        self.replica.extra = [
            f"master_replid:{OURS}",
            f"master_replid2:{NONE}",
            "# Keyspace",
            "db0:keys=7,expires=0,avg_ttl=0",
        ]
        self.fixture.wait(12_000, 100)
        master = self.fixture.servers[MASTER]
        master.ping_text, master.refuses = b"NOPERM this user has no permissions to run the 'ping' command", True
        self.fixture.wait(12_000, 100)
        error = "NOPERM this user has no permissions to run the 'info' command"
        self.fixture.core.command_refused(self.fixture.master.link, "INFO", error, self.fixture.now)
        self.fixture.output()
        self.replica.extra = [f"master_replid:{OTHER}", f"master_replid2:{NONE}", "# Keyspace"]
        self.fixture.wait(20_000, 100)
        lost = [line for line in self.fixture.output() if "DATA LOST" in line]
        self.assertEqual(len(lost), 1, lost)
        self.assertIn("10.0.0.2:6379 had 7 keys and has copied an empty data set from mymaster at 10.0.0.1", lost[0])
        self.assertIn("cannot judge that master, which answers INFO: ", lost[0])

    def test_master_without_its_data(self) -> None:
        """A master that came back without its data is logged at once, and once for each time."""
        master = self.fixture.servers[MASTER]

        def hold(replid: str, keys: int, loading: int = 0) -> None:
            lines = [f"db0:keys={keys},expires=0,avg_ttl=0"] if keys else []
            master.extra = [f"loading:{loading}", f"master_replid:{replid}", f"master_replid2:{NONE}"]
            master.extra += ["master_repl_offset:50", "second_repl_offset:-1", "# Keyspace", *lines]

        hold(OURS, 7)
        self.assertEqual(self.wait(), [])
        hold(OTHER, 0, loading=1)
        self.assertEqual(self.wait(), [])
        hold(OTHER, 0)
        [line] = self.wait()
        self.assertIn("it came back without its data: it has no keys at offset 50, and had 7 keys at offset 50", line)
        self.assertEqual(self.journal(), [line])
        self.assertEqual(self.wait(), [])
        hold(OTHER, 3)
        self.assertEqual(self.wait(), [])
