"""Plans are drawn from seeds, are valid, and are carried out in time."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.outside.injecting import Injector
from tests.outside.plan import (
    GENERAL_FAULTS,
    GUARDED_FAULTS,
    MASTER,
    NO_STALE_DATA,
    SENTINEL_ERRORS,
    SERVER_ERRORS,
    SIGNALS,
    Fault,
    FaultType,
    Participants,
    both,
    draw,
)

ALL_FAULTS = GENERAL_FAULTS + GUARDED_FAULTS


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
        self.assertEqual(set(ALL_FAULTS), set(FaultType))
        drawn = [fault for number in range(300) for fault in draw(1, number, self.participants, 4, ALL_FAULTS)]
        self.assertEqual({fault.kind for fault in drawn}, set(FaultType))
        plans = [fault for number in range(300) for fault in draw(1, number, self.participants)]
        self.assertEqual({fault.kind for fault in plans}, set(GENERAL_FAULTS))
        single = [fault.nodes[0] for fault in plans if len(fault.nodes) == 1]
        self.assertEqual(set(single) - set(self.participants.client_names), set(self.participants.nodes))
        self.assertEqual(max(set(single), key=single.count), MASTER)

    def test_published_faults(self) -> None:
        """The faults of the figures in ``docs/testing.rst`` are drawn again: 54 in the first 20 rounds of seed 7."""
        plans = [draw(7, number, self.participants) for number in range(1, 21)]
        self.assertEqual(sum(map(len, plans)), 54)
        self.assertEqual(str(plans[0][0]), "0.50–3.62 s freeze: sentinel-2")

    def test_kinds_can_be_chosen(self) -> None:
        """Only the requested kinds are drawn, repeatedly if there are too few."""
        plan = draw(1, 1, self.participants, max_faults=6, fault_types=[FaultType.KILL])
        self.assertEqual({fault.kind for fault in plan}, {FaultType.KILL})
        self.assertTrue(len(plan) >= 3)

    def test_shapes(self) -> None:
        """Each kind cuts the routes that its name implies: one direction, both, two sides, or nothing."""
        drawn = [fault for number in range(300) for fault in draw(2, number, self.participants, 4, ALL_FAULTS)]
        for fault in drawn:
            back = {route[::-1] for route in fault.routes}
            if fault.kind in (*SIGNALS, FaultType.CLOSE_PORT):
                self.assertEqual(fault.routes, ())
            elif fault.kind in (FaultType.REFUSE, FaultType.REJECT):
                self.assertEqual({route[1] for route in fault.routes}, set(fault.nodes))
            elif fault.kind is FaultType.OUTBOUND_BLOCKED:
                self.assertEqual({route[0] for route in fault.routes}, set(fault.nodes))
            elif fault.kind is FaultType.INBOUND_BLOCKED:
                self.assertEqual({route[1] for route in fault.routes}, set(fault.nodes))
            elif fault.kind is FaultType.ONE_WAY:
                self.assertEqual(back & set(fault.routes), set())
            else:
                self.assertEqual(back, set(fault.routes))
            if fault.kind in (FaultType.PARTITION, FaultType.MINORITY):
                for source, destination in fault.routes:
                    self.assertNotEqual(source in fault.nodes, destination in fault.nodes)
            self.assertEqual(fault.delay > 0, fault.kind is FaultType.DELAY)
            self.assertEqual(bool(fault.error), fault.kind is FaultType.REJECT)

    def test_empty_restarts(self) -> None:
        """The master returns empty after a tenth of a second to two seconds, as a supervisor would start it."""
        drawn = [draw(3, number, self.participants, 1, [FaultType.EMPTY_RESTART])[0] for number in range(200)]
        self.assertEqual({fault.nodes for fault in drawn}, {(MASTER,)})
        self.assertTrue(all(0.1 <= fault.lasts <= 2.0 for fault in drawn))
        self.assertTrue(min(fault.lasts for fault in drawn) < 0.3 and max(fault.lasts for fault in drawn) > 1.8)

    def test_minorities(self) -> None:
        """The master keeps a minority of the Sentinels, a writer, and no replica."""
        for sentinels, minority in ((3, 1), (4, 1), (5, 2)):
            participants = Participants(sentinels=sentinels)
            for number in range(50):
                (fault,) = draw(3, number, participants, 1, [FaultType.MINORITY])
                side = set(fault.nodes)
                self.assertEqual(side & set(participants.servers), {MASTER})
                self.assertEqual(len(side & set(participants.sentinel_names)), minority)
                self.assertIn(participants.client_names[0], side)

    def test_rejections(self) -> None:
        """Errors of rights go to the Sentinels only, those of the whole server to all; each is drawn."""
        drawn = [draw(3, number, self.participants, 1, [FaultType.REJECT])[0] for number in range(200)]
        self.assertEqual({fault.error for fault in drawn}, {*SENTINEL_ERRORS, *SERVER_ERRORS})
        names = self.participants
        for fault in drawn:
            self.assertFalse(fault.error == NO_STALE_DATA and fault.nodes == (MASTER,))
            callers = {caller for caller, _ in fault.routes}
            all_callers = {*names.nodes, *names.client_names} - set(fault.nodes)
            self.assertEqual(callers, set(names.sentinel_names) if fault.error in SENTINEL_ERRORS else all_callers)


class RecordingTarget:
    """A process that only records the actions."""

    def __init__(self, port: int, actions: list[str], now: list[float], directory: Path = Path()) -> None:
        self.port = port
        self.directory = directory
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
        self.directory = Path(self.mktemp())
        (self.directory / "appendonlydir").mkdir(parents=True)
        for name in ("dump.rdb", "old.aof", "redis.conf", "log", "appendonlydir/appendonly.aof.1.incr.aof"):
            (self.directory / name).touch()
        self.actions: list[str] = []
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] = round(now[0] + seconds, 6)

        targets = {
            "master": RecordingTarget(1, self.actions, now, self.directory),
            "sentinel-1": RecordingTarget(9, self.actions, now),
        }
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
        """Frozen processes continue; killed ones start again with their files, and their ports are closed meanwhile."""
        actions = self.inject(
            Fault(FaultType.FREEZE, 0.0, 2.0, ("sentinel-1",)), Fault(FaultType.KILL, 1.0, 2.0, ("master",))
        )
        self.assertEqual(
            actions, ["0 freeze 9", "1 kill 1", "1 CLOSE dead-master M", "2 thaw 9", "3 start 1", "3 LIFT dead-master"]
        )

    def test_overlapping_kills(self) -> None:
        """A process that is killed by two faults dies once, and starts at the end of the later one."""
        actions = self.inject(
            Fault(FaultType.KILL, 0.0, 2.0, ("master",)), Fault(FaultType.KILL, 1.0, 2.0, ("master",))
        )
        self.assertEqual(actions, ["0 kill 1", "0 CLOSE dead-master M", "3 start 1", "3 LIFT dead-master"])

    def test_empty_restart(self) -> None:
        """The process is killed, its data deleted, its configuration and log kept, and it starts again."""
        actions = self.inject(Fault(FaultType.EMPTY_RESTART, 1.0, 0.5, ("master",)))
        self.assertEqual(actions, ["1 kill 1", "1 CLOSE dead-master M", "1.5 start 1", "1.5 LIFT dead-master"])
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["log", "redis.conf"])
        self.assertEqual([(span.since, span.until) for span in self.spans], [(0.0, 1.5)])

    def test_kill_keeps_the_data(self) -> None:
        """A process that is only killed keeps its files."""
        self.inject(Fault(FaultType.KILL, 1.0, 0.5, ("master",)))
        self.assertEqual(len(list(self.directory.iterdir())), 5)

    def test_empty_restart_of_a_killed_process(self) -> None:
        """A process that is dead already loses its data, and starts when both faults have ended."""
        actions = self.inject(
            Fault(FaultType.KILL, 0.0, 3.0, ("master",)), Fault(FaultType.EMPTY_RESTART, 1.0, 0.5, ("master",))
        )
        self.assertEqual(actions, ["0 kill 1", "0 CLOSE dead-master M", "3 start 1", "3 LIFT dead-master"])
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["log", "redis.conf"])

    def test_refusals_and_rejections(self) -> None:
        """The proxies receive the port, the routes and the error, and the end of each fault."""
        routes = (("sentinel-1", "master"),)
        self.assertEqual(
            self.inject(
                Fault(FaultType.CLOSE_PORT, 0.0, 4.0, ("master",)),
                Fault(FaultType.REFUSE, 1.0, 4.0, ("master",), routes),
                Fault(FaultType.REJECT, 2.0, 4.0, ("master",), routes, error="NOAUTH no"),
            ),
            [
                "0 CLOSE fault-0 M",
                "0 DISCONNECT M",
                "1 REFUSE fault-1 S>M",
                "2 REJECT fault-2 NOAUTH no S>M",
                "4 LIFT fault-0",
                "5 LIFT fault-1",
                "6 LIFT fault-2",
            ],
        )

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
