"""Stories that once ended badly, by name. Each is short: its faults are those that were needed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.faults import parse_plan
from txsentinel.sim.run import Run


class RegressionTests(SynchronousTestCase):
    """Nothing is violated any more."""

    def replay(self, seed: int, seconds: float, plan: str) -> None:
        """The same faults in the same fleet."""
        self.assertEqual([], Run(seed, seconds, parse_plan(plan)).all().wrong)

    def test_a_vote_that_nobody_heard_of(self) -> None:
        """A Sentinel that dies between deciding to vote and doing anything about it may vote otherwise afterwards."""
        self.replay(1795255869, 20, "busy-server:2.182:4.122:3880941220,crash-at-effect:2.650:9.189:2048873977")
