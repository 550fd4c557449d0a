"""Plans come from seeds, make sense, and are carried out in time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.outside.injecting import Injector
from tests.outside.plan import MASTER, Fault, FaultType, Participants, both, draw


class FaultGeneratorTests(SynchronousTestCase):
    """What is drawn."""

    participants = Participants()

    def test_a_seed_is_a_plan(self) -> None:
        """The same seed and number give the same faults; others give others."""
        self.assertEqual(draw(7, 3, self.participants), draw(7, 3, self.participants))
        self.assertNotEqual(draw(7, 3, self.participants), draw(7, 4, self.participants))
        self.assertNotEqual(draw(7, 3, self.participants), draw(8, 3, self.participants))

    def test_bounds(self) -> None:
        """Faults are as many as allowed, in order, and over within eight seconds."""
        for number in range(200):
            plan = draw(1, number, self.participants)
            self.assertTrue(2 <= len(plan) <= 4)
            self.assertEqual([fault.starts for fault in plan], sorted(fault.starts for fault in plan))
            self.assertLess(max(fault.ends for fault in plan), 8.0)

    def test_all_kinds_meet_everybody(self) -> None:
        """In the long run every kind is drawn, and everybody is a victim, the master most of all."""
        plans = [fault for number in range(300) for fault in draw(1, number, self.participants)]
        self.assertEqual({fault.kind for fault in plans}, set(FaultType))
        single = [fault.nodes[0] for fault in plans if len(fault.nodes) == 1]
        self.assertEqual(set(single) - set(self.participants.client_names), set(self.participants.nodes))
        self.assertEqual(max(set(single), key=single.count), MASTER)

    def test_kinds_can_be_chosen(self) -> None:
        """Only what was asked for is drawn, repeatedly if there is too little of it."""
        plan = draw(1, 1, self.participants, max_faults=6, fault_types=[FaultType.KILL])
        self.assertEqual({fault.kind for fault in plan}, {FaultType.KILL})
        self.assertTrue(len(plan) >= 3)

    def test_shapes(self) -> None:
        """Each kind cuts what its name says: one direction, both, two sides, or nothing at all."""
        for fault in (fault for number in range(300) for fault in draw(2, number, self.participants)):
            back = {way[::-1] for way in fault.ways}
            if fault.kind in (FaultType.KILL, FaultType.FREEZE):
                self.assertEqual(fault.ways, ())
            elif fault.kind is FaultType.OUTBOUND_BLOCKED:
                self.assertEqual({way[0] for way in fault.ways}, set(fault.nodes))
            elif fault.kind is FaultType.INBOUND_BLOCKED:
                self.assertEqual({way[1] for way in fault.ways}, set(fault.nodes))
            elif fault.kind is FaultType.ONE_WAY:
                self.assertEqual(back & set(fault.ways), set())
            else:
                self.assertEqual(back, set(fault.ways))
            if fault.kind is FaultType.PARTITION:
                for source, destination in fault.ways:
                    self.assertNotEqual(source in fault.nodes, destination in fault.nodes)
            self.assertEqual(fault.delay > 0, fault.kind is FaultType.DELAY)


class RecordingVictim:
    """A process to which nothing happens but that it is told."""

    def __init__(self, port: int, actions: list[str], now: list[float]) -> None:
        self.port = port
        self.running = True
        self._actions = actions
        self._now = now

    def _report(self, what: str) -> None:
        self._actions.append(f"{self._now[0]:g} {what} {self.port}")

    def freeze(self) -> None:
        self._report("freeze")

    def thaw(self) -> None:
        self._report("thaw")

    def kill(self) -> None:
        self._report("kill")
        self.running = False

    def start(self, *, keep_config: bool = False, ready: bool = True) -> None:
        self._report("start" if keep_config and not ready else "start otherwise")
        self.running = True


class InjectorTests(SynchronousTestCase):
    """Who is told what, and when, over a clock that only sleeping moves."""

    def inject(self, *plan: Fault) -> list[str]:
        """Carry out a plan; all that was said, with its times."""
        self.actions: list[str] = []
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] = round(now[0] + seconds, 6)

        victims = {"master": RecordingVictim(1, self.actions, now), "sentinel-1": RecordingVictim(9, self.actions, now)}
        injector = Injector(
            plan,
            victims,
            {"master": "M", "sentinel-1": "S", "client-1": "C"},
            lambda *words: self.actions.append(" ".join([f"{now[0]:g}", *words])),
            lambda: now[0],
            sleep,
        )
        self.spans = injector.run()
        return self.actions

    def test_cuts(self) -> None:
        """Cuts begin and end when they should, by addresses."""
        cut = Fault(FaultType.ISOLATE, 1.0, 2.0, ("master",), both([("master", "sentinel-1")]))
        slow = Fault(FaultType.DELAY, 0.5, 1.0, ("sentinel-1",), (("sentinel-1", "client-1"),), 0.3)
        self.assertEqual(
            self.inject(cut, slow),
            ["0.5 SLOW fault-1 0.3 S>C", "1 CUT fault-0 M>S S>M", "1.5 LIFT fault-1", "3 LIFT fault-0"],
        )

    def test_signals(self) -> None:
        """The frozen are thawed and the killed started again with what they had."""
        actions = self.inject(
            Fault(FaultType.FREEZE, 0.0, 2.0, ("sentinel-1",)), Fault(FaultType.KILL, 1.0, 2.0, ("master",))
        )
        self.assertEqual(actions, ["0 freeze 9", "1 kill 1", "2 thaw 9", "3 start 1"])

    def test_overlapping_deaths(self) -> None:
        """Killed twice, a process dies once, and comes back when the longer of both is over."""
        actions = self.inject(
            Fault(FaultType.KILL, 0.0, 2.0, ("master",)), Fault(FaultType.KILL, 1.0, 2.0, ("master",))
        )
        self.assertEqual(actions, ["0 kill 1", "3 start 1"])

    def test_resets_are_repeated(self) -> None:
        """Connections are reset again and again for as long as the fault lasts."""
        actions = self.inject(Fault(FaultType.RESET, 1.0, 1.0, ("master",), (("master", "sentinel-1"),)))
        self.assertEqual(actions, ["1 RESET M>S", "1.4 RESET M>S", "1.8 RESET M>S"])

    def test_spans(self) -> None:
        """The servers that a fault touched are remembered with their ports; Sentinels and clients hold no writes."""
        self.inject(
            Fault(FaultType.KILL, 0.5, 1.0, ("master",)),
            Fault(FaultType.FREEZE, 0.0, 1.0, ("sentinel-1",)),
            Fault(FaultType.PAIRS, 0.0, 1.0, ("master", "sentinel-1"), both([("master", "sentinel-1")])),
        )
        self.assertEqual(
            [(span.kind, span.server, span.since, span.until) for span in self.spans],
            [("kill", 1, 0.5, 1.5), ("pairs", 1, 0.0, 1.0)],
        )
