"""
Every mutant is detected, by the invariant that it violates.

An invariant that no mutant violates would be one that is not checked, so there is at least one for each.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.sim.mutants import MUTANTS, Mutant

INVARIANTS = {f"S{number}" for number in range(1, 19)} | {
    *("L1", "L2", "L4", "L5", "durable", "bounded", "replies", "slow"),
    *("pauses", "clients", "files", "follows", "crash", "classes", "data", "fence", "history"),
}
"""The names in violations; L2 includes L3 and L6."""


class MutantTests(SynchronousTestCase):
    """One run per mutant; the methods are made below."""

    def test_every_invariant_has_a_mutant(self) -> None:
        """There is no check that has never detected anything."""
        self.assertEqual(INVARIANTS - {each.caught_by for each in MUTANTS}, set())

    def test_names_are_unique(self) -> None:
        """No mutant hides another one."""
        names = [each.name for each in MUTANTS]
        self.assertEqual(len(set(names)), len(names))


def _test(mutant: Mutant) -> object:
    def test(self: SynchronousTestCase) -> None:
        caught, wrong = mutant.caught()
        # A mutant may well raise; its log is not of interest.
        self.flushLoggedErrors()
        violations = "\n".join(wrong) or "nothing"
        self.assertTrue(caught, f"{mutant.caught_by} was not violated, but: {violations}")

    test.__doc__ = mutant.patches.__doc__
    return test


for _mutant in MUTANTS:
    setattr(MutantTests, f"test_{_mutant.name}", _test(_mutant))
