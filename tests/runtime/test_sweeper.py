"""The loop of sweeps, in a simulated fleet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.state import Admission
from txsentinel.core.tilt import ProcessorTime, TiltCause
from txsentinel.model.timings import Millis
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape


class SweepTests(SynchronousTestCase):
    """Tests of the times of sweeps of one Sentinel in a stable fleet."""

    def setUp(self) -> None:
        self.fleet = Fleet(3, Shape())
        self.fleet.start()
        self.assertTrue(self.fleet.converge())
        self.sentinel = self.fleet.sentinels[0]
        self.core = self.sentinel.alive.core
        self.swept: list[Millis] = []
        sweep = self.core.sweep

        def noted(now: Millis, wall: Millis, processor: ProcessorTime | None) -> None:
            self.swept.append(now)
            self.processor = processor
            sweep(now, wall, processor)

        self.patch(self.core, "sweep", noted)

    def gaps(self) -> list[Millis]:
        """Return the distances of the sweeps so far."""
        return [after - before for before, after in zip(self.swept, self.swept[1:], strict=False)]

    def test_only_when_something_is_due(self) -> None:
        """A quiet Sentinel sweeps for its probes and for little else, and not less often than the idle period."""
        self.fleet.run(3.0)
        self.swept.clear()
        self.fleet.run(10.0)
        self.assertLessEqual(len(self.swept), 40)
        self.assertLessEqual(max(self.gaps()), self.core.timings.idle_period)
        self.assertGreaterEqual(min(self.gaps()), 2)

    def test_a_planned_pause_is_no_tilt(self) -> None:
        """Sleep that was planned does not count, even if it is longer than the gap that starts TILT."""
        self.core.timings.idle_period = 5_000
        self.patch(self.core, "sweep", partial(self.nothing_left, self.core.sweep))
        self.fleet.run(30.0)
        self.assertGreater(max(self.gaps()), self.core.timings.tilt_trigger)
        self.assertEqual(self.core.tilt.total, 0)
        self.sentinel.host.pause_for(9.0)
        self.fleet.run(15.0)
        self.assertEqual(self.core.tilt.total, 1)

    def nothing_left(
        self,
        sweep: Callable[[Millis, Millis, ProcessorTime | None], None],
        now: Millis,
        wall: Millis,
        processor: ProcessorTime | None,
    ) -> None:
        """Sweep, with nothing due."""
        list(self.core.state.due.take_due(now + 100_000))
        sweep(now, wall, processor)

    def test_ten_times_a_second_with_timed_work(self) -> None:
        """While the core has work without a deadline, the distance of two sweeps is a sweep period at most."""
        self.core.state.admissions["m1"] = Admission("a" * 40, 1, self.sentinel.host.now() + 100_000)
        self.fleet.run(1.0)
        self.swept.clear()
        self.fleet.run(5.0)
        self.assertGreaterEqual(len(self.gaps()), 49)
        self.assertLessEqual(max(self.gaps()), self.core.timings.sweep_period)

    def test_timed_work_brings_a_sweep_forward(self) -> None:
        """Timed work that begins while the process sleeps is looked after within a sweep period."""
        self.patch(self.core, "sweep", partial(self.nothing_left, self.core.sweep))
        self.fleet.run(5.0)
        before = len(self.swept)
        self.assertTrue(self.fleet.simulation.run_until(lambda: len(self.swept) > before, 2.0))
        began = self.sentinel.host.now()
        self.core.state.admissions["m1"] = Admission("a" * 40, 1, began + 100_000)
        self.core.state.changed(None)
        self.sentinel.alive.executor.drain()
        self.fleet.run(0.3)
        self.assertLessEqual(self.swept[before + 1] - began, self.core.timings.sweep_period)

    def test_called_after_sweeps(self) -> None:
        """What waits for time to pass is called after each sweep, until it has ended."""
        sweeping, calls = self.sentinel.alive.sweeping, []
        sweeping.call_after_sweeps(lambda: calls.append(len(self.swept)))
        self.fleet.run(1.0)
        self.assertEqual(calls, list(range(1, len(self.swept) + 1)))
        sweeping.call_after_sweeps(None)
        self.fleet.run(1.0)
        self.assertLess(len(calls), len(self.swept))

    def test_brought_forward(self) -> None:
        """A deadline before the next periodic sweep has a sweep of its own."""
        host, due, swept = self.sentinel.host, self.core.state.due, self.swept

        def nothing_left(now: Millis, wall: Millis, processor: ProcessorTime | None) -> None:
            swept.append(now)
            list(due.take_due(now + 100_000))

        def more_than(count: int) -> bool:
            return len(swept) > count

        self.patch(self.core, "sweep", nothing_left)
        self.fleet.run(0.2)
        for soon in (5, 40):
            before = len(swept)
            # With nothing due, the next sweep is three quarters of a period away at least.
            self.assertTrue(self.fleet.simulation.run_until(partial(more_than, before), 1.0))
            wanted = host.now() + soon
            due.schedule(self.core.registry.masters["m1"], wanted)
            self.sentinel.alive.sweeping.adjust()
            self.fleet.run((soon + 1) / 1000)
            self.assertEqual(swept[before + 1 :], [wanted])

    def test_a_pause_is_explained(self) -> None:
        """The core gets the processor times of its thread after a late sweep only."""
        self.fleet.run(1.0)
        self.assertIsNone(self.processor)
        self.sentinel.host.pause_for(3.0)
        self.patch(self.sentinel.host, "scheduled", lambda: (2_400, 100))
        self.fleet.run(3.0)
        self.assertTrue(self.core.tilt.active)
        report = self.core.tilt.report
        assert report is not None
        self.assertEqual((report.cause, report.processor), (TiltCause.LOOP_LATE, ProcessorTime(2_400, 100)))
        self.assertIn("2400 of them at work and 100 waiting for a processor", str(report))

    def test_measurements(self) -> None:
        """
        Delays of periodic sweeps are measured if there is a view.

        TILT is counted by cause, and its duration when it has ended.
        """
        measured = self.sentinel.alive.executor.measurements
        self.assertEqual(measured.sweep_delays.state().count, 0)
        measured.observe()
        before = measured.sweep_delays.state()
        self.sentinel.host.pause_for(3.0)
        self.fleet.run(4.0)
        state = measured.sweep_delays.state()
        self.assertGreater(state.count, before.count)
        self.assertEqual(state.counts[-1], 1)  # above 2.5 s
        cause = TiltCause.PROCESS_STOPPED.value if measured.tilts[TiltCause.PROCESS_STOPPED.value] else "loop-late"
        self.assertEqual((dict(measured.tilts), dict(measured.tilt_ms)), ({cause: 1}, {}))
        self.fleet.run(self.core.timings.tilt_period / 1000)
        self.assertFalse(self.core.tilt.active)
        self.assertGreaterEqual(measured.events["-tilt"], 1)
        self.assertLessEqual(abs(measured.tilt_ms[cause] - self.core.timings.tilt_period), 200)

    def test_ends_with_the_service(self) -> None:
        """After the stop there are no sweeps, also if a deadline changes."""
        self.sentinel.alive.sweeping.stop()
        self.sentinel.alive.sweeping.stop()
        self.core.state.due.brought_forward = True
        self.sentinel.alive.sweeping.adjust()
        self.fleet.run(1.0)
        self.assertEqual(self.swept, [])

    def test_stopped_in_a_sweep(self) -> None:
        """A stop during a sweep lets it finish, and no other begins."""

        def last(now: Millis, wall: Millis, processor: ProcessorTime | None) -> None:
            self.swept.append(now)
            self.sentinel.alive.sweeping.stop()

        self.patch(self.core, "sweep", last)
        self.fleet.run(1.0)
        self.assertEqual(len(self.swept), 1)

    def test_an_exception_ends_the_process(self) -> None:
        """An exception in a sweep ends the process with status 1."""

        def broken(now: Millis, wall: Millis, processor: ProcessorTime | None) -> None:
            raise ZeroDivisionError("oops")

        self.patch(self.core, "sweep", broken)
        self.fleet.run(1.0)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual(self.sentinel.host.exits, [1])
        self.assertEqual([failure.what for failure in self.fleet.simulation.failures], ["the sweep"])

    def test_an_exception_in_the_loop_ends_the_process(self) -> None:
        """An exception in the loop around a sweep ends the process as well."""

        class FailingRandom:
            def randrange(self, limit: int) -> int:
                raise ZeroDivisionError(limit)

        self.sentinel.host.random = FailingRandom()  # type: ignore[assignment]
        self.fleet.run(1.0)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual(self.sentinel.host.exits, [1])
        self.assertIn("the sweep loop", [failure.what for failure in self.fleet.simulation.failures])

    def test_periodic_sweep_after_another(self) -> None:
        """A periodic sweep a millisecond after another one is skipped, without delaying the next one."""

        class LowRandom:
            def randrange(self, limit: int) -> int:
                return 0

        sweeping, due = self.sentinel.alive.sweeping, self.core.state.due

        def nothing_left(now: Millis, wall: Millis, processor: ProcessorTime | None) -> None:
            self.swept.append(now)
            due.take_due(now + 100_000)

        self.patch(self.core, "sweep", nothing_left)
        self.sentinel.host.random = LowRandom()  # type: ignore[assignment]
        self.fleet.run(1.5)
        # When the next periodic sweep is due is shown nowhere else.
        before, early = len(self.swept), sweeping._next_periodic - 1
        due.schedule(self.core.registry.masters["m1"], early)
        sweeping.adjust()
        self.fleet.run(2.5)
        self.assertEqual(self.swept[before], early)
        self.assertLessEqual(max(self.gaps()), self.core.timings.idle_period)
        self.assertGreaterEqual(min(self.gaps()), 2)
