"""Plans are drawn from seeds, are valid, and are carried out in time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.outside.injecting import Injector
from tests.outside.plan import MASTER, Fault, FaultType, Participants, both, draw


class FaultGeneratorTests(SynchronousTestCase):
    """Drawing of faults."""

    participants = Participants()

    def test_same_seed(self) -> None:
        """The same seed and number give the same faults; others give others."""
        self.assertEqual(draw(7, 3, self.participants), draw(7, 3, self.participants))
        self.assertNotEqual(draw(7, 3, self.participants), draw(7, 4, self.participants))
        self.assertNotEqual(draw(7, 3, self.participants), draw(8, 3, self.participants))

    def test_bounds(self) -> None:
        """The number of faults is limited; they are in order, and end within eight seconds."""
        for number in range(200):
            plan = draw(1, number, self.participants)
            self.assertTrue(2 <= len(plan) <= 4)
            self.assertEqual([fault.starts for fault in plan], sorted(fault.starts for fault in plan))
            self.assertLess(max(fault.ends for fault in plan), 8.0)

    def test_all_kinds_and_processes_are_drawn(self) -> None:
        """Every kind is drawn at some time, and affects every process, the master most often."""
        plans = [fault for number in range(300) for fault in draw(1, number, self.participants)]
        self.assertEqual({fault.kind for fault in plans}, set(FaultType))
        single = [fault.nodes[0] for fault in plans if len(fault.nodes) == 1]
        self.assertEqual(set(single) - set(self.participants.client_names), set(self.participants.nodes))
        self.assertEqual(max(set(single), key=single.count), MASTER)

    def test_kinds_can_be_chosen(self) -> None:
        """Only the requested kinds are drawn, repeatedly if there are too few."""
        plan = draw(1, 1, self.participants, max_faults=6, fault_types=[FaultType.KILL])
        self.assertEqual({fault.kind for fault in plan}, {FaultType.KILL})
        self.assertTrue(len(plan) >= 3)

    def test_shapes(self) -> None:
        """Each kind cuts the routes that its name implies: one direction, both, two sides, or nothing."""
        for fault in (fault for number in range(300) for fault in draw(2, number, self.participants)):
            back = {route[::-1] for route in fault.routes}
            if fault.kind in (FaultType.KILL, FaultType.FREEZE):
                self.assertEqual(fault.routes, ())
            elif fault.kind is FaultType.OUTBOUND_BLOCKED:
                self.assertEqual({route[0] for route in fault.routes}, set(fault.nodes))
            elif fault.kind is FaultType.INBOUND_BLOCKED:
                self.assertEqual({route[1] for route in fault.routes}, set(fault.nodes))
            elif fault.kind is FaultType.ONE_WAY:
                self.assertEqual(back & set(fault.routes), set())
            else:
                self.assertEqual(back, set(fault.routes))
            if fault.kind is FaultType.PARTITION:
                for source, destination in fault.routes:
                    self.assertNotEqual(source in fault.nodes, destination in fault.nodes)
            self.assertEqual(fault.delay > 0, fault.kind is FaultType.DELAY)


class RecordingTarget:
    """A process that only records the actions."""

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
    """Actions and their times, with a clock that only sleeping advances."""

    def inject(self, *plan: Fault) -> list[str]:
        """Carry out a plan; return all actions with their times."""
        self.actions: list[str] = []
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] = round(now[0] + seconds, 6)

        targets = {"master": RecordingTarget(1, self.actions, now), "sentinel-1": RecordingTarget(9, self.actions, now)}
        injector = Injector(
            plan,
            targets,
            {"master": "M", "sentinel-1": "S", "client-1": "C"},
            lambda *words: self.actions.append(" ".join([f"{now[0]:g}", *words])),
            lambda: now[0],
            sleep,
        )
        self.spans = injector.run()
        return self.actions

    def test_cuts(self) -> None:
        """Cuts begin and end at their times, by addresses."""
        cut = Fault(FaultType.ISOLATE, 1.0, 2.0, ("master",), both([("master", "sentinel-1")]))
        slow = Fault(FaultType.DELAY, 0.5, 1.0, ("sentinel-1",), (("sentinel-1", "client-1"),), 0.3)
        self.assertEqual(
            self.inject(cut, slow),
            ["0.5 SLOW fault-1 0.3 S>C", "1 CUT fault-0 M>S S>M", "1.5 LIFT fault-1", "3 LIFT fault-0"],
        )

    def test_signals(self) -> None:
        """Frozen processes continue, and killed ones start again with their files."""
        actions = self.inject(
            Fault(FaultType.FREEZE, 0.0, 2.0, ("sentinel-1",)), Fault(FaultType.KILL, 1.0, 2.0, ("master",))
        )
        self.assertEqual(actions, ["0 freeze 9", "1 kill 1", "2 thaw 9", "3 start 1"])

    def test_overlapping_kills(self) -> None:
        """A process that is killed by two faults dies once, and starts at the end of the later one."""
        actions = self.inject(
            Fault(FaultType.KILL, 0.0, 2.0, ("master",)), Fault(FaultType.KILL, 1.0, 2.0, ("master",))
        )
        self.assertEqual(actions, ["0 kill 1", "3 start 1"])

    def test_resets_are_repeated(self) -> None:
        """Connections are reset repeatedly for the duration of the fault."""
        actions = self.inject(Fault(FaultType.RESET, 1.0, 1.0, ("master",), (("master", "sentinel-1"),)))
        self.assertEqual(actions, ["1 RESET M>S", "1.4 RESET M>S", "1.8 RESET M>S"])

    def test_spans(self) -> None:
        """The ports of affected servers are recorded; Sentinels and clients hold no data."""
        self.inject(
            Fault(FaultType.KILL, 0.5, 1.0, ("master",)),
            Fault(FaultType.FREEZE, 0.0, 1.0, ("sentinel-1",)),
            Fault(FaultType.PAIRS, 0.0, 1.0, ("master", "sentinel-1"), both([("master", "sentinel-1")])),
        )
        self.assertEqual(
            [(span.kind, span.server, span.since, span.until) for span in self.spans],
            [("kill", 1, 0.5, 1.5), ("pairs", 1, 0.0, 1.0)],
        )
