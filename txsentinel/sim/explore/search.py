"""
Breadth-first search over the states of a group, from any number of first states.

Each state is known by the 64 bits of its hash: with 10⁷ states, two share one with a probability of 3·10⁻⁶, and the
search would then miss one of them. Of each state its predecessor and step are kept, so that the way to a violation,
which is a shortest one from the first states, can be printed.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from txsentinel.sim.explore.group import Group, State
from txsentinel.sim.explore.messages import Broken

FIRST: int = 0xFFFF
"""The step of a first state."""

CHECK_INTERVAL = 1_024
"""How many states are expanded between two looks at the time."""


@dataclass(frozen=True)
class Counterexample:
    """A violation, and the way to it: the number of a first state, and the steps from there."""

    broken: Broken
    first: int
    steps: tuple[int, ...]


@dataclass
class SearchOutcome:
    """What a search has found."""

    states: int = 0
    """Distinct states."""

    transitions: int = 0
    """Steps that were taken, to known states too."""

    depth: int = 0
    """The depth up to which all states were expanded."""

    complete: bool = False
    """Whether there are no states beyond: the depth limit was reached, or all states are known."""

    by_depth: list[int] = field(default_factory=list)
    """The number of distinct states at each depth."""

    violations: list[Counterexample] = field(default_factory=list)


class Search:
    """
    A search.

    :param group: the group; it must have made the first states.
    :param max_depth: how many steps from a first state are taken.
    :param max_states: the search ends with the first state after that many.
    :param may_continue: called now and then; the search ends if it returns ``False``.
    :param max_violations: the search ends after that many; until then, it continues from what violates an invariant.
    """

    def __init__(
        self,
        group: Group,
        firsts: Iterable[State],
        *,
        max_depth: int,
        max_states: int = 1 << 40,
        may_continue: Callable[[SearchOutcome], bool] = lambda outcome: True,
        max_violations: int = 1,
    ) -> None:
        self._group = group
        self._max_depth = max_depth
        self._max_states = max_states
        self._may_continue = may_continue
        self._max_violations = max_violations
        self._parents = array("Q")
        self._steps = array("H")
        self._known: set[int] = set()
        self._frontier: list[State] = []
        self.outcome = SearchOutcome()
        for number, state in enumerate(firsts):
            if hash(state) not in self._known:
                self._known.add(hash(state))
                self._frontier.append(state)
                self._parents.append(number)
                self._steps.append(FIRST)
        self.outcome.states = len(self._frontier)
        self.outcome.by_depth.append(len(self._frontier))

    def run(self) -> SearchOutcome:
        """Search until a limit is reached."""
        outcome, first = self.outcome, 0
        while self._frontier and outcome.depth < self._max_depth:
            frontier, self._frontier = self._frontier, []
            if not self._expand(frontier, first):
                return outcome
            first += len(frontier)
            outcome.depth += 1
            outcome.by_depth.append(len(self._frontier))
        outcome.complete = True
        return outcome

    def _expand(self, frontier: list[State], first: int) -> bool:
        """Take every step from every state of one depth; return whether the search goes on."""
        group, known, outcome = self._group, self._known, self.outcome
        found, parents, steps = self._frontier, self._parents, self._steps
        enabled, apply = group.enabled, group.apply
        for position, state in enumerate(frontier):
            if position % CHECK_INTERVAL == CHECK_INTERVAL - 1 and not self._may_continue(outcome):
                return False
            for step in enabled(state):
                outcome.transitions += 1
                try:
                    new = apply(state, step)
                except Exception as error:
                    self._violated(Broken("raised", f"{type(error).__name__}: {error}"), first + position, step)
                    if len(outcome.violations) >= self._max_violations:
                        return False
                    continue
                if group.broken:
                    for broken in group.broken:
                        self._violated(broken, first + position, step)
                    if len(outcome.violations) >= self._max_violations:
                        return False
                number = hash(new)
                if number in known:
                    continue
                known.add(number)
                found.append(new)
                parents.append(first + position)
                steps.append(step)
                outcome.states += 1
                if outcome.states >= self._max_states:
                    return False
        return True

    def _violated(self, broken: Broken, position: int, step: int) -> None:
        steps = [step]
        while self._steps[position] != FIRST:
            steps.append(self._steps[position])
            position = self._parents[position]
        self.outcome.violations.append(Counterexample(broken, self._parents[position], tuple(reversed(steps))))
