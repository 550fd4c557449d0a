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

    def test_questions_to_the_silent(self) -> None:
        """A Sentinel that hangs is not asked ever more, however many failovers operators order."""
        plan = (
            "pause-sentinel:116.983:22.915:1627171500,rival-failovers:118.139:6.193:2230182392,"
            "rival-failovers:120.196:23.767:1445268760,rival-failovers:121.038:24.988:3148579435,"
            "rival-failovers:125.263:20.433:3346084263,rival-failovers:127.112:15.960:2322551077"
        )
        self.replay(1795256655, 140, plan)

    def test_a_vote_that_nobody_heard_of(self) -> None:
        """A Sentinel that dies between deciding to vote and doing anything about it may vote otherwise afterwards."""
        self.replay(1795255869, 20, "busy-server:2.182:4.122:3880941220,crash-at-effect:2.650:9.189:2048873977")
