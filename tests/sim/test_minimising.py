"""A failing run is reduced to the faults that it needs, and to a command that repeats it."""

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

    def reduced(self, *needed: int) -> list[int]:
        """Reduce sixteen faults of which these are needed together."""

        def fails(plan: Sequence[Fault]) -> bool:
            return set(needed) <= {fault.rng for fault in plan}

        return [fault.rng for fault in reduce_to_cause(PLAN, fails)]

    def test_needed_faults_remain(self) -> None:
        """Exactly the needed faults are left, in their order."""
        for needed in ((3,), (0, 15), (7, 8), (1, 5, 14)):
            self.assertEqual(self.reduced(*needed), list(needed))

    def test_no_fault_at_all(self) -> None:
        """A failure without a cause among the faults needs none."""
        self.assertEqual(self.reduced(), [])

    def test_irreducible_plan(self) -> None:
        """A failure that needs all faults, or occurs irregularly, keeps its plan."""
        self.assertEqual(reduce_to_cause(PLAN, lambda plan: False), PLAN)

    def test_trials_are_limited(self) -> None:
        """The number of runs is limited."""
        tried = []

        def fails(plan: Sequence[Fault]) -> bool:
            tried.append(plan)
            return {1, 5, 14} <= {fault.rng for fault in plan}

        reduce_to_cause(PLAN, fails, trials=7)
        self.assertLessEqual(len(tried), 7)


class ReproductionTests(SynchronousTestCase):
    """From a violation to the faults that cause it."""

    def test_printed_plan_repeats_the_violation(self) -> None:
        """
        The reduced plan can be printed and parsed, violates the same invariant in the same run, and is not longer.
        """
        mutant = next(each for each in MUTANTS if each.name == "needs_no_agreement")
        outcome = mutant.run(mutant.seed)
        seconds = 12.0
        with mutant.applied():
            plan = minimise(outcome, seconds, trials=12)
            again = Run(outcome.seed, seconds, parse_plan(print_plan(plan)), outcome.shape, invariant_of(outcome)).all()
        self.assertEqual(invariant_of(again), invariant_of(outcome))
        self.assertLess(len(plan), len(outcome.plan))
        printed = report(again, seconds)
        self.assertIn(f"again: python -m txsentinel.sim --seed {outcome.seed} --seconds 12", printed)
        self.assertIn("WRONG: S10", printed)
        self.assertIn("+try-failover", printed)
