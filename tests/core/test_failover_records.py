"""The records of failovers that are made from the journal: phases, voters, replicas, causes, losses."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, ME, Fixture, identity
from txsentinel.core.failover_records import ENDS, chosen_because, failover_record, record_id
from txsentinel.core.failover_state import FailoverState
from txsentinel.core.journal import ComparedReplica, JournalEntry, KnownServer
from txsentinel.model.address import Address
from txsentinel.model.history import (
    FailoverKind,
    FailoverRecord,
    LossVerdict,
    ObserverRole,
    Outcome,
    failover_group,
)
from txsentinel.model.history_json import encode_record
from txsentinel.model.snapshots import Endpoint, Instant

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)
WALL_OFFSET = 1_790_000_000_000
OLD_HISTORY, NEW_HISTORY = "1" * 40, "2" * 40


def history_lines(replid: str, offset: int, replid2: str = "0" * 40, second_offset: int = -1) -> list[str]:
    """Return the lines of INFO about the replication history."""
    return [
        f"master_replid:{replid}",
        f"master_replid2:{replid2}",
        f"master_repl_offset:{offset}",
        f"second_repl_offset:{second_offset}",
    ]


class RecordTests(SynchronousTestCase):
    """Records of whole failovers."""

    def group(self, **options: int) -> Fixture:
        """Set up a master with two replicas, and two peers that agree that it is down."""
        fixture = Fixture(options)
        master = fixture.servers[MASTER]
        master.run_id, master.extra = "d" * 40, history_lines(OLD_HISTORY, 250)
        fixture.add_replica(2, offset=200, run_id="e" * 40, extra=history_lines(OLD_HISTORY, 200))
        fixture.add_replica(3, offset=120, run_id="f" * 40, extra=history_lines(OLD_HISTORY, 120))
        fixture.add_peer("b", reports_down=True)
        fixture.add_peer("z", reports_down=True)
        fixture.wait(12_000)
        return fixture

    def ends(self, fixture: Fixture) -> list[JournalEntry]:
        """Return the records of the journal that end failovers."""
        return [each for each in fixture.core.journal.entries("mymaster") if each.kind in ENDS]

    def record(self, fixture: Fixture, number: int = -1) -> FailoverRecord:
        """Return the record of a failover, the last one by default."""
        entries = fixture.core.journal.entries("mymaster")
        return failover_record(entries, self.ends(fixture)[number], "mymaster", ME, WALL_OFFSET)

    def phases(self, record: FailoverRecord) -> list[str]:
        """Return the names of the phases."""
        return [phase.phase for phase in record.phases]

    def test_golden(self) -> None:
        """The whole record of a failover, as it is written to the file."""
        fixture = self.group()
        fixture.kill(MASTER)
        fixture.wait(4_000)
        record = self.record(fixture)
        found = json.loads(encode_record(record))
        first = record.phases[0].at.unix_ms
        for phase in found["phases"]:
            del phase["at"]
        for voter in found["voters"]:
            asked, answered = voter.pop("asked_at"), voter.pop("answered_at")
            self.assertEqual(voter["kind"] == "self", asked is None)
            self.assertIsNotNone(answered)
        self.assertEqual(
            found,
            {
                "record_id": record_id(ME, "mymaster", self.ends(fixture)[-1].sequence, record.phases[-2].at),
                "group": failover_group("mymaster", 1),
                "master": "mymaster",
                "kind": "automatic",
                "outcome": "switched",
                "observer": ME,
                "observer_role": "leader",
                "leader": ME,
                "cause": "down",
                "failure_class": "reset",
                "from_server": {
                    "address": {"host": "10.0.0.1", "port": 6379, "address": "10.0.0.1:6379"},
                    "run_id": "d" * 40,
                    "replid": OLD_HISTORY,
                    "offset": 250,
                    "priority": None,
                },
                "to_server": {
                    "address": {"host": "10.0.0.2", "port": 6379, "address": "10.0.0.2:6379"},
                    "run_id": "e" * 40,
                    "replid": OLD_HISTORY,
                    "offset": 200,
                    "priority": 100,
                },
                "epoch": 1,
                "config_epoch": 1,
                "phases": [
                    {"phase": "last_ok_ping", "took_ms": None},
                    {"phase": "sdown", "took_ms": 1050},
                    {"phase": "odown", "took_ms": 0},
                    {"phase": "campaign", "took_ms": 20},
                    {"phase": "elected", "took_ms": 0},
                    {"phase": "selected", "took_ms": 0},
                    {"phase": "promotion_ordered", "took_ms": 0},
                    {"phase": "promoted", "took_ms": 0},
                    {"phase": "durable", "took_ms": 0},
                    {"phase": "replicas_done", "took_ms": 0},
                    {"phase": "switched", "took_ms": 0},
                    {"phase": "announced", "took_ms": 270},
                ],
                "voters": [
                    {"sentinel_id": ME, "kind": "self", "vote": ME, "epoch": 1, "reason": None},
                    {"sentinel_id": identity("b"), "kind": "c", "vote": ME, "epoch": 1, "reason": None},
                    {"sentinel_id": identity("z"), "kind": "c", "vote": ME, "epoch": 1, "reason": None},
                ],
                "replicas": [
                    {
                        "address": {"host": "10.0.0.2", "port": 6379, "address": "10.0.0.2:6379"},
                        "offset": 200,
                        "lag_bytes": 50,
                        "priority": 100,
                        "rank": 1,
                        "unfit": None,
                        "unfit_text": None,
                    },
                    {
                        "address": {"host": "10.0.0.3", "port": 6379, "address": "10.0.0.3:6379"},
                        "offset": 120,
                        "lag_bytes": 130,
                        "priority": 100,
                        "rank": 2,
                        "unfit": None,
                        "unfit_text": None,
                    },
                ],
                "chosen_because": "more data: offset 200, 10.0.0.3:6379 has 120",
                "loss": {
                    "verdict": "unknown",
                    "lost_bytes": None,
                    "from_offset": None,
                    "to_offset": None,
                    "text": "the old master has not reported its data yet",
                },
                "resyncs": None,
                "clients_closed": None,
                "operator": None,
                "ack": None,
                "comment": None,
                "operation": None,
                "receipt": None,
            },
        )
        self.assertGreater(first, WALL_OFFSET)

    def test_second_failover(self) -> None:
        """The record of a later failover has nothing of the one before it."""
        fixture = self.group()
        fixture.kill(MASTER)
        fixture.wait(4_000)
        fixture.servers[THIRD].offset = 900
        fixture.wait(200_000, 100)
        fixture.kill(SECOND)
        fixture.wait(4_000)
        record = self.record(fixture)
        self.assertEqual(2, len(self.ends(fixture)))
        self.assertEqual((Endpoint("10.0.0.2", 6379), 2), (record.from_server.address, record.epoch))
        assert record.to_server is not None
        self.assertEqual(Endpoint("10.0.0.3", 6379), record.to_server.address)
        self.assertEqual(1, self.phases(record).count("elected"))
        self.assertEqual("it is the only fit replica", record.chosen_because)
        reasons = [(each.unfit, each.rank) for each in record.replicas]
        self.assertEqual([(None, 1), ("down", None)], reasons)
        self.assertEqual(self.record(fixture, 0).epoch, 1)

    def test_follower(self) -> None:
        """A follower records its vote and what it saw; its leader is the candidate that it voted for."""
        fixture = self.group()
        fixture.kill(MASTER)
        fixture.wait(500)
        fixture.core.vote_requested("10.0.0.1", 6379, 4, identity("b"), fixture.now)
        fixture.finish()
        fixture.wait(1_000)
        fixture.hello("b", SECOND, 4)
        record = self.record(fixture)
        self.assertEqual((ObserverRole.FOLLOWER, Outcome.SWITCHED), (record.observer_role, record.outcome))
        self.assertEqual((identity("b"), 4, 4), (record.leader, record.epoch, record.config_epoch))
        self.assertEqual(failover_group("mymaster", 4), record.group)
        self.assertEqual(["last_ok_ping", "voted", "sdown", "odown", "switched"], self.phases(record)[:5])
        self.assertEqual([(ME, identity("b"))], [(each.sentinel_id, each.vote) for each in record.voters])

    def test_bystander(self) -> None:
        """A Sentinel that did not vote in the epoch does not know the leader."""
        fixture = self.group()
        fixture.hello("b", SECOND, 4)
        record = self.record(fixture)
        self.assertEqual((ObserverRole.BYSTANDER, None), (record.observer_role, record.leader))
        self.assertEqual((FailoverKind.FORCED, "operator"), (record.kind, record.cause))
        self.assertEqual((), record.voters)

    def test_lost_campaign(self) -> None:
        """An own campaign that was lost to another Sentinel is a part of the failover that the other one led."""
        fixture = self.group()
        for letter in "bz":
            server = fixture.servers[fixture.peer(letter).address]
            server.grants, server.answer = False, (identity("b"), 1)
        fixture.kill(MASTER)
        fixture.wait(12_000, 50)
        self.assertEqual([Outcome.NOT_ELECTED], [self.record(fixture).outcome])
        fixture.core.vote_requested("10.0.0.1", 6379, 50, identity("b"), fixture.now)
        fixture.finish()
        fixture.wait(3_000)
        fixture.hello("b", SECOND, 50)
        record = self.record(fixture)
        self.assertIs(ObserverRole.FOLLOWER, record.observer_role)
        self.assertIn("sdown", self.phases(record))

    def test_lost_in_the_same_epoch(self) -> None:
        """A candidate that lost to one of the same epoch records neither itself as leader nor itself as follower."""
        fixture = self.group()
        for letter in "bz":
            server = fixture.servers[fixture.peer(letter).address]
            server.grants, server.answer = False, (identity("b"), 1)
        fixture.kill(MASTER)
        fixture.wait(3_000, 50)
        failover = fixture.master.failover
        assert failover is not None
        fixture.hello("b", SECOND, failover.epoch)
        record = self.record(fixture)
        self.assertEqual((Outcome.SWITCHED, failover.epoch), (record.outcome, record.epoch))
        self.assertEqual((ObserverRole.CANDIDATE, None), (record.observer_role, record.leader))

    def test_overruled(self) -> None:
        """A leader whose promotion was overruled by a higher config epoch records the address that was adopted."""
        fixture = self.group()
        fixture.servers[THIRD].obeys = False
        fixture.core.administration.failover("mymaster", fixture.now)
        fixture.finish()
        fixture.wait(300)
        self.assertIs(FailoverState.RECONF_REPLICAS, fixture.master.failover_state)
        fixture.hello("b", THIRD, 9)
        record = self.record(fixture)
        assert record.to_server is not None
        self.assertEqual((Endpoint("10.0.0.3", 6379), 9), (record.to_server.address, record.config_epoch))
        self.assertEqual(((), None), (record.replicas, record.chosen_because))

    def test_not_elected(self) -> None:
        """A campaign without a majority is recorded with what each peer answered."""
        fixture = self.group(failover_timeout=3_000)
        for letter in "bz":
            server = fixture.servers[fixture.peer(letter).address]
            server.grants, server.answer = False, (identity("q"), 1)
        fixture.kill(MASTER)
        fixture.wait(5_000)
        record = self.record(fixture)
        self.assertEqual((Outcome.NOT_ELECTED, None), (record.outcome, record.to_server))
        self.assertEqual((ObserverRole.CANDIDATE, None), (record.observer_role, record.leader))
        self.assertEqual("aborted", self.phases(record)[-1])
        self.assertEqual((LossVerdict.NONE, 0), (record.loss.verdict, record.loss.lost_bytes))
        refused = {each.sentinel_id: each.reason for each in record.voters if each.kind != "self"}
        self.assertEqual({f"it had voted for {identity('q')} in epoch 1"}, set(refused.values()))
        self.assertIsNone(record.chosen_because)

    def test_no_good_replica(self) -> None:
        """An elected leader without a fit replica records why each of them is unfit."""
        fixture = self.group()
        fixture.core.administration.failover("mymaster", fixture.now)
        for replica in fixture.master.replicas.values():
            replica.priority = 0
        for server in fixture.servers.values():
            server.priority = 0
        fixture.finish()
        fixture.wait(15_000, 100)
        record = self.record(fixture)
        self.assertEqual((Outcome.NO_GOOD_REPLICA, FailoverKind.FORCED), (record.outcome, record.kind))
        self.assertEqual({"priority_zero"}, {each.unfit for each in record.replicas})
        self.assertEqual({"its priority is 0"}, {each.unfit_text for each in record.replicas})
        self.assertIsNone(record.to_server)

    def test_forced(self) -> None:
        """An ordered failover is caused by the operator, also if the old master goes down afterwards."""
        fixture = self.group()
        fixture.servers[THIRD].obeys = False
        fixture.core.administration.failover("mymaster", fixture.now, by="alice from 10.9.9.9:5")
        fixture.finish()
        fixture.wait(500)
        fixture.kill(MASTER)
        fixture.wait(60_000, 100)
        record = self.record(fixture, 0)
        self.assertEqual((FailoverKind.FORCED, "operator", None), (record.kind, record.cause, record.failure_class))
        self.assertEqual("alice from 10.9.9.9:5", record.operator)
        self.assertEqual("campaign", self.phases(record)[0])
        self.assertNotIn("sdown", self.phases(record))

    def test_clients_closed(self) -> None:
        """The clients that the old master disconnected are counted, those of other servers are not."""
        fixture = self.group()
        fixture.core.administration.failover("mymaster", fixture.now)
        fixture.finish()
        fixture.wait(2_000)
        for replica in fixture.master.replicas.values():
            closed = 5 if replica.address.same(MASTER) else 70
            fixture.core.clients_closed(replica.link, closed, fixture.now)
        record = self.record(fixture, 0)
        self.assertEqual(5, record.clients_closed)
        self.assertEqual(1, self.phases(record).count("clients_gone"))

    def test_loss(self) -> None:
        """The old master returns with more data than the new one had: the difference is lost."""
        fixture = self.group()
        fixture.kill(MASTER)
        new = fixture.servers[SECOND]
        new.extra = history_lines(NEW_HISTORY, 210, OLD_HISTORY, 201)
        fixture.wait(4_000)
        old = fixture.servers[MASTER]
        old.extra = history_lines(OLD_HISTORY, 275)
        fixture.revive(MASTER)
        fixture.wait(12_000, 50)
        loss = self.record(fixture, 0).loss
        self.assertEqual(
            (LossVerdict.LOST, 75, 200, 275), (loss.verdict, loss.lost_bytes, loss.from_offset, loss.to_offset)
        )
        self.assertIn("75 bytes", loss.text)


class ChoiceTests(SynchronousTestCase):
    """Why a replica was chosen."""

    def replica(self, name: str, key: tuple[bool, int, int, bool, str] | None) -> ComparedReplica:
        """Return a replica with that place in the order of promotion."""
        priority, offset = (100, 0) if key is None else (key[1], -key[2])
        server = KnownServer(name, "10.0.0.2", 6379, "run" if key is None else key[4], None, offset, priority, 0)
        return ComparedReplica(server, key, None)

    def test_first_difference(self) -> None:
        """The first difference in the order of promotion is the reason."""
        first = self.replica("a", (True, 100, -500, False, "r1"))
        for key, reason in (
            (None, "it is the only fit replica"),
            ((True, 200, -900, False, "r0"), "lower priority: 100, b has 200"),
            ((True, 100, -400, False, "r0"), "more data: offset 500, b has 400"),
            ((True, 100, -500, True, ""), "known run ID"),
            ((True, 100, -500, False, "r2"), "smaller run ID: r1, b has r2"),
            ((True, 100, -500, False, "r1"), "it equals b in all respects"),
        ):
            self.assertEqual(reason, chosen_because([first, self.replica("b", key)]))
        taken = self.replica("c", (False, 300, 0, False, "r9"))
        self.assertEqual("has taken over", chosen_because([taken, first]))
        self.assertIsNone(chosen_because([self.replica("b", None)]))

    def test_record_id(self) -> None:
        """IDs sort by time, have 26 letters, and differ by observer, master and number."""
        at = Instant(1_790_000_000_000)
        ids = {
            record_id("o", "m", 1, at),
            record_id("p", "m", 1, at),
            record_id("o", "n", 1, at),
            record_id("o", "m", 2, at),
        }
        self.assertEqual((4, {26}), (len(ids), {len(each) for each in ids}))
        self.assertLess(max(ids), record_id("o", "m", 1, Instant(at.unix_ms + 1)))
        self.assertEqual(record_id("o", "m", 1, at), record_id("o", "m", 1, at))
