"""Tests of exhaustive checking: nothing is wrong with the core, and each of several defects is found."""

from __future__ import annotations

import io
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from tests.sim.mutants import MUTANTS, Mutant
from txsentinel.core.instances import Master
from txsentinel.sim.explore import steps
from txsentinel.sim.explore.command import ScenarioResult, explore, main
from txsentinel.sim.explore.group import Faults, Group
from txsentinel.sim.explore.messages import Claim
from txsentinel.sim.explore.scenarios import SCENARIOS, First, first_states, scenario, stable_state
from txsentinel.sim.explore.search import Search
from txsentinel.sim.explore.sentinel_checks import SentinelChecker
from txsentinel.sim.explore.steps import parse_step, step_code, step_name
from txsentinel.sim.explore.topology import SENTINEL_IDS, GroupSettings
from txsentinel.sim.explore.traces import Trace, format_way, parse_way

STATES = 500
"""Distinct states of each scenario in this test; ``docs/testing.rst`` has the command for more."""

DEFECTS = (
    ("votes_are_not_saved", "simultaneous", {"durable"}),
    ("votes_are_published_while_saving_fails", "failing-disk", {"durable"}),
    ("votes_twice_in_an_epoch", "rivals", {"S1"}),
    ("restarts_without_its_votes", "rivals", {"S1", "S2"}),
    ("counts_every_answer_as_a_vote", "simultaneous", {"S4"}),
    ("needs_no_majority", "quorum-of-one", {"S4"}),
    ("needs_no_quorum_of_votes", "quorum-of-three", {"S4"}),
    ("promotes_without_an_election", "simultaneous", {"S4"}),
    ("votes_beyond_its_current_epoch", "simultaneous", {"S9"}),
    ("has_no_barrier", "simultaneous", {"durable"}),
    ("adopts_older_configurations", "stall", {"S6"}),
    ("switches_without_epoch", "simultaneous", {"S12"}),
    ("restarts_without_its_config_epoch", "simultaneous", {"S6"}),
    ("restarts_without_its_current_epoch", "simultaneous", {"S7"}),
    ("publishes_before_the_promotion_is_seen", "simultaneous", {"S12"}),
    ("needs_no_agreement", "simultaneous", {"S10"}),
    ("keeps_old_opinions", "second-failure", {"S10"}),
    ("always_reports_down", "simultaneous", {"S10"}),
    ("promotes_for_others", "simultaneous", {"S11"}),
    ("evaluates_in_tilt", "stall", {"S13"}),
    ("gives_opinions_in_tilt", "stall", {"S13"}),
    ("ignores_priority_zero", "priority", {"S14"}),
    ("tries_right_after_voting", "simultaneous", {"S16"}),
    ("takes_a_loss_for_a_crash", "crash-failover", {"crash"}),
)
"""``(mutant, scenario, invariants)``: each defect is found within ``MAX_STATES`` states, and these are violated."""

MAX_STATES = 40_000


def mutant(name: str) -> Mutant:
    """Return a mutant of the simulator."""
    return next(each for each in MUTANTS if each.name == name)


def run(arguments: list[str]) -> tuple[int, str]:
    """Run the command; return its exit status and its output."""
    with patch("sys.stdout", io.StringIO()) as output:
        return main(arguments), output.getvalue()


class SearchTests(SynchronousTestCase):
    """Searches of the unchanged core."""

    def check(self, result: ScenarioResult) -> None:
        """Check that no invariant was violated."""
        self.assertEqual(result.outcome.violations, [], result.report)

    def test_number_of_states_is_reproducible(self) -> None:
        """Two searches of a scenario find the same states."""
        outcomes = [explore(scenario("dead-master"), max_depth=1).outcome for _ in range(2)]
        self.assertEqual(outcomes[0], outcomes[1])
        self.assertTrue(outcomes[0].complete)
        self.assertEqual(sum(outcomes[0].by_depth), outcomes[0].states)
        self.assertGreater(outcomes[0].by_depth[1], outcomes[0].by_depth[0])

    def test_limits_end_a_search(self) -> None:
        """A search ends at its limit of states, or when it may not go on, and is not complete then."""
        group = Group(GroupSettings())
        state = group.with_faults(stable_state(group), Faults(crashes=1))
        few = Search(group, [state], max_depth=9, max_states=50).run()
        self.assertEqual((few.states, few.complete), (50, False))
        stopped = Search(group, [state], max_depth=9, may_continue=lambda outcome: False).run()
        self.assertFalse(stopped.complete)

    def test_first_states_are_on_an_undisturbed_way(self) -> None:
        """Each first state is reached by the steps that are reported with it."""
        group = Group(GroupSettings())
        firsts = first_states(group, scenario("dead-master"))
        state = group.with_faults(stable_state(group), Faults(kills=1))
        for code in firsts[-1].way:
            state = group.apply(state, code)
        self.assertEqual(group.servers(state)[0].condition.name, "DEAD")
        self.assertEqual(group.servers(state)[1].follows, -1)
        self.assertEqual(group.servers(state)[2].follows, 1)
        self.assertTrue(group.is_quiet(state))
        self.assertIsInstance(firsts[0], First)


class StepTests(SynchronousTestCase):
    """Names of steps."""

    def test_names_are_read_back(self) -> None:
        """Each step has a name from which it is read back."""
        for kind in range(len(steps.NAMES)):
            for first in range(3):
                for second in range(6) if kind in (steps.DELIVER, steps.RETURN, steps.RESET) else (0,):
                    code = step_code(kind, first, second)
                    self.assertEqual(parse_step(step_name(code)), code)
        self.assertEqual(step_name(step_code(steps.DELIVER, 0, 4)), "deliver:a>b")

    def test_unknown_names_are_refused(self) -> None:
        """A name that no step has is refused."""
        for text in ("", "tick", "tick:m", "tick:ab", "kill:a", "deliver:a>", "deliver:d>a", "return:a>b", "sleep:a"):
            with self.assertRaises(ValueError):
                parse_step(text)


class CommandTests(SynchronousTestCase):
    """The command line."""

    def test_figures_are_printed(self) -> None:
        """A search prints states, depth, time and rate."""
        status, output = run(["--scenario", "rivals", "--depth", "1"])
        self.assertEqual(status, 0)
        self.assertRegex(output, r"rivals: \d+ distinct states of \d+ reached, \d+ of them first states; depth 1, all")
        self.assertRegex(output, r"\d+\.\d s, \d+ distinct states per second, \d+ per second of a core\n")

    def test_violation_is_printed_with_a_command_that_repeats_it(self) -> None:
        """The way to a violation is printed, and repeating it violates the same invariant."""
        with mutant("votes_twice_in_an_epoch").applied():
            status, output = run(["--scenario", "rivals", "--depth", "9"])
            self.assertEqual(status, 1)
            self.assertRegex(output, r"S1: \w voted for \w and \w in epoch 1")
            way = output.split("--replay '")[1].split("'")[0]
            repeated, trace = run(["--scenario", "rivals", "--replay", way])
        self.assertEqual(repeated, 1)
        self.assertRegex(trace, "WRONG           S1: . voted for")
        self.assertRegex(trace, "a → b: vote for a in epoch 1")
        self.assertIn("b: +sdown master mymaster", trace)
        repaired, trace = run(["--scenario", "rivals", "--replay", way])
        self.assertEqual((repaired, "WRONG" in trace), (0, False))

    def test_exceptions_are_violations(self) -> None:
        """If the core raises, the way to it is printed."""
        with patch("txsentinel.core.sentinel.SentinelCore.committed", side_effect=RuntimeError("broken")):
            status, output = run(["--scenario", "rivals", "--depth", "9"])
        self.assertEqual(status, 1)
        self.assertIn("raised: RuntimeError: broken", output)

    def test_unknown_step_is_refused(self) -> None:
        """A step that does not exist is named."""
        self.assertEqual(run(["--replay", "kill:m sleep:a"]), (2, "there is no step 'sleep:a'\n"))

    def test_impossible_step_is_named(self) -> None:
        """A step that is impossible ends the repetition."""
        trace = Trace(GroupSettings(), parse_way("kill:m kill:m"))
        self.assertEqual(trace.lines[-1], "kill:m is impossible here")
        self.assertEqual(format_way(parse_way("kill:m tick:a")), "kill:m tick:a")


def _test_scenario(name: str) -> object:
    def test(self: SearchTests) -> None:
        self.check(explore(scenario(name), max_depth=100, max_states=STATES))

    test.__doc__ = f"{scenario(name).about} No invariant is violated."
    return test


def _test_defect(name: str, chosen: str, invariants: set[str]) -> object:
    def test(self: SynchronousTestCase) -> None:
        with mutant(name).applied():
            outcome = explore(scenario(chosen), max_depth=100, max_states=MAX_STATES).outcome
        self.assertLessEqual(invariants, {each.broken.invariant for each in outcome.violations})

    test.__doc__ = mutant(name).patches.__doc__
    return test


class DefectTests(SynchronousTestCase):
    """One search for each defect; the methods are made below."""

    def test_claims_of_two_sentinels_are_compared(self) -> None:
        """Two Sentinels that lead in one epoch, or hold two addresses with one config epoch, violate S3 or S5."""
        for invariant in ("S3", "S5"):

            def claims(checker: SentinelChecker, master: Master, invariant: str = invariant) -> list[Claim]:
                # Sentinel a differs from the others, which have it as a peer.
                return [Claim(invariant, master.config_epoch, int(SENTINEL_IDS[0] in master.peers))]

            with patch.object(SentinelChecker, "claims", claims):
                outcome = explore(scenario("simultaneous"), max_depth=1).outcome
            self.assertEqual([each.broken.invariant for each in outcome.violations], [invariant])


for _each in SCENARIOS:
    setattr(SearchTests, f"test_{_each.name.replace('-', '_')}", _test_scenario(_each.name))
for _name, _scenario, _invariants in DEFECTS:
    setattr(DefectTests, f"test_{_name}", _test_defect(_name, _scenario, _invariants))
