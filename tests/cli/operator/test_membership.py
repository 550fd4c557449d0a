"""``txsentinel forget`` and ``txsentinel drain`` over Sentinels in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any, cast

from twisted.internet.task import Clock

from tests.cli.operator.runner import VerbCase
from tests.cli.operator.screens import answer
from tests.remote.fake_servers import FakeServers
from tests.remote.samples import (
    MASTER,
    NAME,
    REPLICAS,
    SENTINELS,
    fleet,
    identifier,
    master_report,
    peer,
    replica,
    sentinel,
    unreachable,
)
from txsentinel.cli.operator import membership
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.fleet import FleetReport
from txsentinel.remote.membership import RESET_DISTANCE_SECONDS, ResetInTurn
from txsentinel.remote.reports import SentinelReport
from txsentinel.remote.switchover import Switchover

DEAD = "10.0.0.14"


def group(kind: str = "redis", answering: int = 3) -> FleetReport:
    """Return three Sentinels that list a fourth, dead one, of which some answer."""
    found = []
    for place, host in enumerate(SENTINELS):
        if place >= answering:
            found.append(unreachable(host))
            continue
        peers = [peer(each, flags="sentinel" if each != DEAD else "s_down,sentinel") for each in (*SENTINELS, DEAD)]
        peers = [each for each in peers if each.run_id != identifier(host)]
        found.append(sentinel(host, master_report(host, peers=peers), kind, "7.0.15"))
    return fleet(*found, unreachable(DEAD))


class ForgetTests(VerbCase):
    """``txsentinel forget``."""

    def setUp(self) -> None:
        """Have Sentinels of ours answer."""
        super().setUp()
        self.fleet = group("txsentinel")
        self.orders: list[tuple[str, ...]] = []
        self.answers: list[object] = []
        self.patch(membership, "order", self.order)

    def order(self, report: SentinelReport, settings: object, seconds: float, *words: str) -> object:
        """Return or raise the next answer."""
        self.orders.append((report.endpoint.host, *words))
        found = self.answers.pop(0) if self.answers else self.removed()
        if isinstance(found, Exception):
            raise found
        return found

    def removed(self, *peers: dict[str, str]) -> dict[str, Any]:
        """Return the answer to a removal."""
        own = {"id": identifier(SENTINELS[0]), "address": None, "kind": "txsentinel", "result": "removed"}
        size = {"master": NAME, "sentinels": 3, "majority": 2, "reachable": 3, "warning": None}
        node = {"node": identifier(DEAD), "kind": "sentinel", "address": f"{DEAD}:26379"}
        return {**node, "masters": [size], "sentinels": [own, *peers]}

    def test_removed(self) -> None:
        """It is ordered once, by ID or by address; the status is 0 if all have removed it."""
        for words in (identifier(DEAD), f"{DEAD}:26379"):
            found = self.run_verb("forget", NAME, words, "--for", "2h")
            self.assertEqual((found.status, found.stderr), (0, ""))
            self.assertIn("3 Sentinels left, majority 2, 3 reachable", found.stdout)
        expected = (SENTINELS[0], "FORGET", NAME, "ID", identifier(DEAD), "FOR", "7200000")
        self.assertEqual(self.orders, [expected] * 2)

    def test_replica(self) -> None:
        """A replica is named by its address."""
        self.assertEqual(self.run_verb("forget", NAME, f"{REPLICAS[0]}:6379", "--force").status, 0)
        words = ("NODE", REPLICAS[0], "6379", "FOR", "86400000", "FORCE")
        self.assertEqual(self.orders, [(SENTINELS[0], "FORGET", NAME, *words)])

    def test_kept(self) -> None:
        """If a Sentinel keeps it the status is 2; in JSON, too."""
        address = f"{SENTINELS[1]}:26379"
        kept = {"id": identifier(SENTINELS[1]), "address": address, "kind": "txsentinel", "result": "NOPERM no"}
        self.answers = [self.removed(kept)]
        found = self.run_verb("forget", NAME, identifier(DEAD), "-o", "json")
        self.assertEqual(found.status, 2)
        results = [each["result"] for each in json.loads(found.stdout)["sentinels"]]
        self.assertEqual(results, ["removed", "NOPERM no"])

    def test_refused(self) -> None:
        """A refusal is shown with the way to override it; others are asked only if the first does not know it."""
        for refusal, hint in (
            ("STILLALIVE the Sentinel at 10.0.0.12:26379: it answers", ""),
            ("WOULDBREAKMAJORITY only 1 of 4 Sentinels can be reached", "--force overrides this"),
        ):
            self.answers = [ErrorAnswer(refusal)]
            found = self.run_verb("forget", NAME, identifier(DEAD))
            self.assertEqual((found.status, found.stdout), (5, ""))
            self.assertIn(refusal.partition(" ")[2], found.stderr)
            self.assertIn(hint, found.stderr)
        self.orders.clear()
        self.answers = [ErrorAnswer("UNKNOWNNODE none"), ConnectionFailed("gone"), ErrorAnswer("UNKNOWNNODE none")]
        found = self.run_verb("forget", NAME, identifier(DEAD))
        self.assertEqual((found.status, [each[0] for each in self.orders]), (1, list(SENTINELS)))

    def test_unknown(self) -> None:
        """A node that no Sentinel lists, or that is ambiguous, is refused."""
        for words, status in (("10.9.9.9:6379", 1), ("f" * 40, 1), ("0" * 8, 1), ("0", 64), ("10.0.0.1:x", 64)):
            self.assertEqual(self.run_verb("forget", NAME, words).status, status, words)
        self.assertEqual(self.orders, [])

    def test_c_group(self) -> None:
        """C Sentinels forget only by a reset, which has to be asked for."""
        self.fleet = group()
        found = self.run_verb("forget", NAME, identifier(DEAD))
        self.assertEqual((found.status, found.stdout), (5, ""))
        self.assertIn("--reset-c-peers", found.stderr)

    def test_c_group_in_a_minority(self) -> None:
        """C Sentinels in a minority are not reset."""
        self.fleet = group(answering=2)
        found = self.run_verb("forget", NAME, identifier(DEAD), "--reset-c-peers")
        self.assertEqual(found.status, 5)
        self.assertIn("only 2 of 4 Sentinels answer, 3 are a majority", found.stderr)

    def test_alive_in_a_c_group(self) -> None:
        """A member that a C Sentinel sees alive is not removed."""
        self.fleet = group()
        found = self.run_verb("forget", NAME, f"{REPLICAS[0]}:6379", "--reset-c-peers")
        self.assertEqual(found.status, 5)
        self.assertIn("10.0.0.11:26379 sees 10.0.0.1:6379 alive", found.stderr)


class FakeGroup:
    """C Sentinels that discover the group again some time after their reset."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.reports = {each.endpoint: each for each in group().sentinels}
        self.resets: list[tuple[float, str]] = []
        self.recovery = 5.0
        self._recovered: dict[Endpoint, float] = {}

    def read(self, endpoint: Endpoint, settings: object, scope: object) -> SentinelReport:
        """Return what a Sentinel answers now."""
        report = self.reports[endpoint]
        if self._recovered.get(endpoint, 0.0) <= self.clock.seconds():
            return report
        blank = replace(report.masters[NAME], replicas=(), peers=(), quorum_check="NOQUORUM 1 usable Sentinels")
        return replace(report, masters={NAME: blank})

    def connect(self, endpoint: Endpoint, settings: ConnectionSettings) -> RemoteConnection:
        """Connect to a Sentinel."""
        return cast(RemoteConnection, FakeConnection(self, endpoint))

    def reset(self, endpoint: Endpoint) -> None:
        """Reset a Sentinel, which also forgets the dead one."""
        self.resets.append((self.clock.seconds(), endpoint.host))
        self._recovered[endpoint] = self.clock.seconds() + self.recovery
        report = self.reports[endpoint].masters[NAME]
        peers = tuple(each for each in report.peers if each.run_id != identifier(DEAD))
        self.reports[endpoint] = replace(self.reports[endpoint], masters={NAME: replace(report, peers=peers)})


class FakeConnection:
    """A connection to one of them."""

    def __init__(self, owner: FakeGroup, endpoint: Endpoint) -> None:
        self._owner = owner
        self._endpoint = endpoint

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *arguments: object) -> None:
        """Do nothing."""

    def call(self, *words: str) -> object:
        """Execute the reset."""
        assert words == ("SENTINEL", "RESET", NAME)
        self._owner.reset(self._endpoint)
        return 1


class ResetTests(VerbCase):
    """C Sentinels that are reset one after the other."""

    def setUp(self) -> None:
        """Have time pass only while something is waited for."""
        super().setUp()
        self.owner = owner = FakeGroup()
        self.fleet = group()
        made = partial(
            ResetInTurn,
            clock=owner.clock.seconds,
            sleep=owner.clock.advance,
            connect=owner.connect,
            read=owner.read,
        )
        self.patch(membership, "ResetInTurn", made)

    def test_in_turn(self) -> None:
        """They are reset at a distance, each when the one before knows the group again."""
        found = self.run_verb("forget", NAME, identifier(DEAD), "--reset-c-peers")
        self.assertEqual((found.status, found.stderr), (0, ""))
        distance = RESET_DISTANCE_SECONDS
        expected = [(place * distance, host) for place, host in enumerate(SENTINELS)]
        self.assertEqual(self.owner.resets, expected)
        self.assertEqual(found.stdout.count("removed by a reset"), 3)

    def test_no_recovery(self) -> None:
        """If one does not recover, the others are not reset."""
        self.owner.recovery = 1e9
        found = self.run_verb("forget", NAME, identifier(DEAD), "--reset-c-peers")
        self.assertEqual(found.status, 2)
        self.assertEqual([host for _, host in self.owner.resets], [SENTINELS[0]])
        self.assertIn("keeps it: it was reset, but reports NOQUORUM 1 usable Sentinels after 60 s", found.stdout)

    def test_no_other_majority(self) -> None:
        """None is reset while the others could not fail over."""
        for host in SENTINELS[1:]:
            self.owner.reports[Endpoint(host, 26379)] = unreachable(host)
        found = self.run_verb("forget", NAME, identifier(DEAD), "--reset-c-peers")
        self.assertEqual((found.status, self.owner.resets), (2, []))
        text = "0 other Sentinels of 1 answer; one of them must be able to lead a failover with 2 votes meanwhile"
        self.assertIn(text, found.stdout)


class DrainTests(VerbCase):
    """``txsentinel drain``."""

    def setUp(self) -> None:
        """Have a Sentinel of ours answer."""
        super().setUp()
        self.fleet = group("txsentinel")
        self.orders: list[tuple[str, ...]] = []
        self.problem: Exception | None = None
        self.patch(membership, "order", self.order)

    def order(self, report: SentinelReport, settings: object, seconds: float, *words: str) -> object:
        """Answer an order."""
        self.orders.append(words)
        if self.problem is not None:
            raise self.problem
        if "UNDO" in words:
            return {"host": words[1], "unparked": ["10.0.0.2:6379"], "sentinels": []}
        found = answer(report, settings, seconds, *words)
        assert isinstance(found, dict)
        if words[1] == "10.0.0.3":
            found |= {"safe": True, "moved": [], "masters": [], "still": []}
        if "DRYRUN" in words:
            found |= {"executed": False, "moved": [], "problems": [{"code": "nogoodslave", "text": "no replica"}]}
        return found

    def test_statuses(self) -> None:
        """0 only if the host may be stopped."""
        found = self.run_verb("drain", "10.0.0.3", "--wait", "60s", "--parallel")
        self.assertEqual((found.status, found.stderr), (0, ""))
        self.assertIn("SAFE to stop", found.stdout)
        self.assertEqual(self.orders[0], ("DRAIN", "10.0.0.3", "PARALLEL", "PARK", "600000", "WAIT", "60000"))
        found = self.run_verb("drain", "10.0.0.2:6380", "--park", "1h")
        self.assertEqual(found.status, 1)
        self.assertIn("NOT SAFE to stop", found.stdout)
        self.assertEqual(self.orders[1], ("DRAIN", "10.0.0.2", "6380", "PARK", "3600000"))
        found = self.run_verb("drain", "10.0.0.2", "--dry-run")
        self.assertEqual(found.status, 1)
        self.assertIn("cannot be drained", found.stdout)
        self.assertIn("! no replica", found.stdout)

    def test_undo(self) -> None:
        """What was parked is named."""
        found = self.run_verb("drain", "10.0.0.2", "--undo")
        self.assertEqual((found.status, found.stdout), (0, "10.0.0.2: 10.0.0.2:6379 may be promoted again\n"))
        self.assertEqual(self.orders, [("DRAIN", "10.0.0.2", "UNDO")])

    def test_refused(self) -> None:
        """A refusal is shown without its code; contradictions are refused before."""
        self.problem = ErrorAnswer("NOGOODSLAVE mymaster: no other replica can be promoted")
        found = self.run_verb("drain", "10.0.0.2")
        self.assertEqual((found.status, found.stdout), (1, ""))
        self.assertIn("10.0.0.11:26379: mymaster: no other replica can be promoted", found.stderr)
        self.assertEqual(self.run_verb("drain", "10.0.0.2", "--undo", "--dry-run").status, 64)
        self.assertEqual(self.run_verb("drain", "10.0.0.2:x").status, 64)


class DrainOfCTests(VerbCase):
    """``txsentinel drain`` where all Sentinels are C ones."""

    def setUp(self) -> None:
        """Have servers in memory."""
        super().setUp()
        self.fleet = fleet()
        self.servers = servers = FakeServers()
        self.wanted: list[Endpoint] = []

        def plan(agreement: object, wanted: Endpoint, *arguments: Any) -> Any:
            self.wanted.append(wanted)
            return servers.plan()

        self.patch(membership, "plan_switchover", plan)
        made = partial(Switchover, connect=servers.connect, clock=servers.clock, read=servers.read)
        self.patch(membership, "Switchover", made)

    def test_moved(self) -> None:
        """The master is moved as by switchover; that nothing is parked is stated."""
        found = self.run_verb("drain", MASTER, "-o", "json")
        self.assertEqual(found.status, 0, found)
        report = json.loads(found.stdout)
        self.assertEqual((report["safe"], report["moved"][0]["receipt"]), (True, "proven"))
        self.assertEqual(self.wanted, [Endpoint(REPLICAS[0], 6379)])

    def test_dry_run(self) -> None:
        """Nothing is moved by a dry run."""
        found = self.run_verb("drain", MASTER, "--dry-run")
        self.assertEqual(found.status, 0)
        self.assertIn("can be drained; 1 master there. C Sentinels know no parking", found.stdout)

    def test_refused(self) -> None:
        """Without a replica elsewhere, without enough Sentinels, or for an unknown host, nothing is done."""
        self.fleet = fleet(*(sentinel(each, master_report(each, replicas=[replica(MASTER)])) for each in SENTINELS))
        found = self.run_verb("drain", MASTER)
        self.assertEqual((found.status, found.stdout), (1, ""))
        self.assertIn("mymaster: no usable replica is at another host", found.stderr)
        self.fleet = fleet(*(sentinel(each) for each in SENTINELS[:2]), unreachable(SENTINELS[2]))
        found = self.run_verb("drain", SENTINELS[0])
        self.assertIn("1 of 3 Sentinels would be left, 2 are needed for a failover", found.stderr)
        self.assertEqual(self.run_verb("drain", "10.9.9.9").status, 1)
        self.assertEqual(self.run_verb("drain", MASTER, "--undo").status, 1)
