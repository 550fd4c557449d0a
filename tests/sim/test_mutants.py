"""
The proof bites: Sentinels that are wrong on purpose are caught, each by the promise that it breaks.

A promise that no mutant breaks would be one that nobody looks after, so there is at least one for each.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.sim.mutants import MUTANTS, Mutant

INVARIANTS = {f"S{number}" for number in range(1, 18)} | {
    *("L1", "L2", "L4", "L5", "durable", "bounded", "replies", "slow"),
    *("pauses", "clients", "files", "follows"),
}
"""What violations are named by; L2 stands for all that must have come about after healing, L3 and L6 included."""


class MutantTests(SynchronousTestCase):
    """One world per mutant; the methods are made below."""

    def test_every_promise_has_a_mutant(self) -> None:
        """There is no check that has never caught anything."""
        self.assertEqual(INVARIANTS - {each.caught_by for each in MUTANTS}, set())

    def test_names_are_unique(self) -> None:
        """No mutant hides another one."""
        names = [each.name for each in MUTANTS]
        self.assertEqual(len(set(names)), len(names))


def _test(mutant: Mutant) -> object:
    def test(self: SynchronousTestCase) -> None:
        caught, wrong = mutant.caught()
        # Being wrong may well mean to raise; what else is logged is not ours to hide.
        self.flushLoggedErrors()
        seen = "\n".join(wrong) or "nothing"
        self.assertTrue(caught, f"{mutant.caught_by} was not seen to be broken, but: {seen}")

    test.__doc__ = mutant.patches.__doc__
    return test


for _mutant in MUTANTS:
    setattr(MutantTests, f"test_{_mutant.name}", _test(_mutant))
