"""What other Sentinels answer about a master: explanations, and what they hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture, identity
from txsentinel.core.fan_out import FAN_OUT_TIMEOUT
from txsentinel.core.sentinel import SentinelCore
from txsentinel.model.comparison import DifferenceKind, GroupComparison
from txsentinel.model.explanation import Explanation
from txsentinel.model.snapshots import Instant
from txsentinel.runtime.group_questions import compare_group, explain_group
from txsentinel.server.fan_out import FanOutServices
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape
from txsentinel.wire.values import ErrorLine


@dataclass
class Services:
    """The core of a fixture, with its clock."""

    core: SentinelCore
    host: Any


class Clock:
    """The clock of a fixture."""

    def __init__(self, fixture: Fixture) -> None:
        self._fixture = fixture

    def now(self) -> int:
        """Return the time."""
        return self._fixture.now


def flat(**fields: object) -> list[object]:
    """Return a map as it arrives in RESP2."""
    return [part for name, value in fields.items() for part in (name.replace("_", "-").encode(), value)]


def c_answer(**changes: object) -> list[object]:
    """Return what a C Sentinel answers to SENTINEL MASTER, with changes."""
    fields: dict[str, object] = {
        "name": b"mymaster",
        "ip": b"10.0.0.1",
        "port": b"6379",
        "flags": b"master",
        "down_after_milliseconds": b"5000",
        "config_epoch": b"0",
        "quorum": b"2",
    }
    return flat(**{**fields, **changes})


class AnswerTests(SynchronousTestCase):
    """Peers with given answers: ``b`` is of our kind, ``z`` is a C Sentinel."""

    def setUp(self) -> None:
        """Let both introduce themselves."""
        self.fixture = Fixture(quorum=2, down_after=5_000)
        self.fixture.add_peer("b")
        self.fixture.add_peer("z")
        self.fixture.hello("b", MASTER, 0)
        self.fixture.hello("z", MASTER, 0, own=False)
        self.services = cast(FanOutServices, Services(self.fixture.core, Clock(self.fixture)))
        self.answer("z", c_answer())

    def answer(self, letter: str, reply: object) -> None:
        """Set the answer of a peer."""
        self.fixture.servers[self.fixture.peer(letter).address].command_reply = reply

    def explained(self) -> Explanation:
        """Return the explanation with the answers."""
        mine = self.fixture.core.explain("mymaster", self.fixture.now, 0)
        found: Explanation = self.result(explain_group(self.services, mine))
        return found

    def compared(self) -> GroupComparison:
        """Return the comparison."""
        found: GroupComparison = self.result(compare_group(self.services, "mymaster", Instant(0)))
        return found

    def result(self, asked: Deferred[Any]) -> Any:
        """Wait for answers."""
        self.fixture.finish()
        if not asked.called:
            self.fixture.wait(FAN_OUT_TIMEOUT + 200, 100)
        return self.successResultOf(asked)

    def test_commands(self) -> None:
        """Each kind is sent its own command."""
        self.fixture.output()
        self.explained()
        self.compared()
        sent = [line.removeprefix("send ") for line in self.fixture.output() if line.startswith("send")]
        explain, agree = "b TXSENTINEL EXPLAIN mymaster JOURNAL 0", "b TXSENTINEL AGREE mymaster"
        self.assertEqual(sent, [explain, "z SENTINEL MASTER mymaster", agree, "z SENTINEL MASTER mymaster"])

    def test_silent(self) -> None:
        """A peer that does not answer in time is missing, with the reason; the others are there."""
        found = self.explained()
        self.assertEqual(
            (found.missing, [each.sentinel_id for each in found.fleet]), ((identity("b"),), [identity("z")])
        )
        self.assertIn("has not explained the master: no answer in time", found.warnings[-1])
        self.assertEqual(self.compared().missing, ((identity("b"), "no answer in time"),))

    def test_refused(self) -> None:
        """An error reply is why a peer is missing."""
        self.answer("b", ErrorLine(b"NOPERM no"))
        self.assertIn("NOPERM no", self.explained().warnings[-1])

    def test_contradictions_of_c(self) -> None:
        """Address, epoch, state and quorum of a C Sentinel are compared; it has no verdict."""
        for changes, contradiction in (
            ({}, None),
            ({"ip": b"10.0.0.9"}, "it has 10.0.0.9:6379 of epoch 0, this Sentinel 10.0.0.1:6379 of epoch 0"),
            ({"config_epoch": b"4"}, "it has epoch 4, this Sentinel 0"),
            ({"flags": b"s_down,master"}, "it considers the master down"),
            ({"quorum": b"3"}, "its quorum is 3, that of this Sentinel 2: SENTINEL SET mymaster quorum"),
        ):
            self.answer("z", c_answer(**changes))
            (opinion,) = self.explained().fleet
            self.assertEqual((opinion.verdict, opinion.contradiction), (None, contradiction))

    def test_differences_of_c(self) -> None:
        """Of a C Sentinel only the options that it shows are compared."""
        self.answer("z", c_answer(quorum=b"3", down_after_milliseconds=b"9000", config_epoch=b"4"))
        found = self.compared()
        self.assertEqual(
            [(each.about, each.option, each.here, each.there) for each in found.differences],
            [
                (DifferenceKind.EPOCH, "config-epoch", "0", "4"),
                (DifferenceKind.QUORUM, "quorum", "2", "3"),
                (DifferenceKind.OPTIONS, "down-after-milliseconds", "5000", "9000"),
            ],
        )
        self.assertEqual([found.disagreeing(about) for about in DifferenceKind], [0, 1, 1, 1])

    def test_earlier_version(self) -> None:
        """A Sentinel of an earlier version reports no option but the quorum."""
        answer = [b"host", b"10.0.0.1", b"port", 6379, b"config_epoch", 0, b"quorum", 3]
        self.answer("b", answer)
        (difference,) = self.compared().differences
        self.assertEqual((difference.sentinel_id, difference.option, difference.there), (identity("b"), "quorum", "3"))

    def test_unexpected(self) -> None:
        """Of an answer that is something else nothing is used."""
        replies: list[object] = [b"OK", 7, None, [], [b"ip"], [[], []], [b"port", b"x"], [b"verdict", 3]]
        for reply in (*replies, c_answer(port=b"-1")):
            for letter in "bz":
                self.answer(letter, reply)
            self.assertEqual((self.explained().fleet, len(self.explained().missing)), ((), 2), reply)
            self.assertEqual((self.compared().differences, len(self.compared().missing)), ((), 2), reply)

    def test_removed_meanwhile(self) -> None:
        """A master that is removed before the answers arrive has no differences."""
        asked = compare_group(self.services, "mymaster", Instant(0))
        self.fixture.core.administration.remove("mymaster", self.fixture.now)
        found = self.result(asked)
        self.assertEqual((found.compared, found.differences), ((), ()))


class FleetTests(SynchronousTestCase):
    """Three simulated Sentinels of our kind."""

    def test_fleet(self) -> None:
        """All answer alike; then one has another quorum and guard, and one is stopped."""
        fleet = Fleet(1, Shape(sentinels=3, masters=1, replicas=1, quorum=2, down_after=1_000))
        fleet.start()
        self.assertTrue(fleet.converge(30.0))
        view = fleet.sentinels[0].alive.surface.view

        def result(asked: Deferred[Any]) -> Any:
            fleet.run(2.0)
            return self.successResultOf(asked)

        found = result(view.explain_group("m1"))
        self.assertEqual([(each.verdict, each.contradiction) for each in found.fleet], [("healthy", None)] * 2)
        self.assertEqual(result(view.compare_group("m1")).differences, ())
        other = fleet.sentinels[1].alive.core
        other.master("m1").options.quorum = 3
        guards = other.master("m1").options.guards
        other.master("m1").options.guards = replace(guards, crash_failover=not guards.crash_failover)
        fleet.sentinels[2].host.kill()
        fleet.run(3.0)
        found = result(view.explain_group("m1"))
        self.assertEqual(len(found.missing), 1)
        (opinion,) = found.fleet
        self.assertIn("its quorum is 3", opinion.contradiction)
        differences = result(view.compare_group("m1")).differences
        self.assertEqual([each.option for each in differences], ["quorum", "crash-failover"])
        self.assertRaises(LookupError, view.explain_group, "m2")
        self.assertRaises(LookupError, view.compare_group, "m2")
