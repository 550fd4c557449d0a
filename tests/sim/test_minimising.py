"""A failing run is told in as few faults as it needs, and by a command that repeats it."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.sim.mutants import MUTANTS
from txsentinel.sim.__main__ import report
from txsentinel.sim.faults import Fault, parse_plan, print_plan
from txsentinel.sim.minimising import invariant_of, minimise, reduce_to_cause
from txsentinel.sim.run import Run

PLAN = [Fault(float(number), "reset", 1.0, number) for number in range(16)]


class ReductionTests(SynchronousTestCase):
    """Delta debugging by itself."""

    def reduced(self, *guilty: int) -> list[int]:
        """What is left of sixteen faults if these are needed together."""

        def fails(plan: Sequence[Fault]) -> bool:
            return set(guilty) <= {fault.rng for fault in plan}

        return [fault.rng for fault in reduce_to_cause(PLAN, fails)]

    def test_the_guilty_remain(self) -> None:
        """However they lie, exactly those that are needed are left, in their order."""
        for guilty in ((3,), (0, 15), (7, 8), (1, 5, 14)):
            self.assertEqual(self.reduced(*guilty), list(guilty))

    def test_no_fault_at_all(self) -> None:
        """What fails by itself needs none."""
        self.assertEqual(self.reduced(), [])

    def test_nothing_can_be_left_out(self) -> None:
        """A failure that needs everything, or comes and goes, keeps its plan."""
        self.assertEqual(reduce_to_cause(PLAN, lambda plan: False), PLAN)

    def test_trials_are_limited(self) -> None:
        """No more runs are spent than allowed."""
        tried = []

        def fails(plan: Sequence[Fault]) -> bool:
            tried.append(plan)
            return {1, 5, 14} <= {fault.rng for fault in plan}

        reduce_to_cause(PLAN, fails, trials=7)
        self.assertLessEqual(len(tried), 7)


class ReproductionTests(SynchronousTestCase):
    """From a violation to the faults that are to blame."""

    def test_a_violation_is_repeated_by_what_is_printed(self) -> None:
        """The reduced plan survives printing, breaks the same promise in the same world, and is no longer."""
        mutant = next(each for each in MUTANTS if each.name == "needs_no_agreement")
        outcome = mutant.live(mutant.seed)
        seconds = 12.0
        with mutant.in_force():
            plan = minimise(outcome, seconds, trials=12)
            again = Run(outcome.seed, seconds, parse_plan(print_plan(plan)), outcome.shape, invariant_of(outcome)).all()
        self.assertEqual(invariant_of(again), invariant_of(outcome))
        self.assertLess(len(plan), len(outcome.plan))
        told = report(again, seconds)
        self.assertIn(f"again: python -m txsentinel.sim --seed {outcome.seed} --seconds 12", told)
        self.assertIn("WRONG: S10", told)
        self.assertIn("+try-failover", told)
