"""Runs that failed once, by name. Each is short: its faults are those that were needed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.faults import parse_plan
from txsentinel.sim.groups import Shape
from txsentinel.sim.run import Run


class RegressionTests(SynchronousTestCase):
    """No invariant is violated any more."""

    def replay(self, seed: int, seconds: float, plan: str) -> None:
        """Run these faults with the fleet of the seed."""
        self.assertEqual([], Run(seed, seconds, parse_plan(plan)).all().wrong)

    def test_no_command_in_the_turn_that_gives_up(self) -> None:
        """A promotion that took too long is not ordered again by the Sentinel that gives up, as after TILT."""
        plan = (
            "crash-server:93.041:11.742:4206022822,crash-server:126.685:17.096:1584759325,"
            "misdirect:134.072:27.103:377883885,wall-clock:152.274:2.753:751803225,"
            "wall-clock:159.397:27.861:2834817620,crash-server:159.780:22.239:2928865708,"
            "crash-server:161.743:14.654:965486238,crash-server:162.592:3.193:281020502,"
            "wall-clock:163.939:23.207:535253197"
        )
        self.replay(1795257033, 180, plan)

    def test_stopped_sentinel(self) -> None:
        """A stopped Sentinel does not count that time for the disk: a write may have completed meanwhile."""
        plan = (
            "stuck-disk:24.235:27.480:3867677215,pause-sentinel:30.482:25.682:1931453463,"
            "directional-block:37.230:5.970:2446412812"
        )
        self.replay(1795257361, 100, plan)

    def test_requests_to_a_hung_sentinel(self) -> None:
        """A Sentinel that hangs is not sent ever more requests, however many failovers are ordered."""
        plan = (
            "pause-sentinel:116.983:22.915:1627171500,rival-failovers:118.139:6.193:2230182392,"
            "rival-failovers:120.196:23.767:1445268760,rival-failovers:121.038:24.988:3148579435,"
            "rival-failovers:125.263:20.433:3346084263,rival-failovers:127.112:15.960:2322551077"
        )
        self.replay(1795256655, 140, plan)

    def test_a_vote_without_effects(self) -> None:
        """A Sentinel that dies between a decision to vote and its effects may vote for another candidate afterwards."""
        self.replay(1795255869, 20, "busy-server:2.182:4.122:3880941220,crash-at-effect:2.650:9.189:2048873977")

    def test_two_crash_points(self) -> None:
        """A Sentinel that is to die at either of two effects and reaches neither during the faults survives them."""
        plan = (
            "crash-at-effect:145.562:2.615:4216624177,crash-at-effect:151.353:1.245:3826266740,"
            "crash-at-effect:152.063:1.005:1843850271"
        )
        self.replay(1795277830, 180, plan)

    def test_two_groups_of_one(self) -> None:
        """Two Sentinels that were reset and ordered to fail over may both be leaders."""
        plan = (
            "monitor-anew:172.419:1.929:1469942943,monitor-anew:172.599:3.451:4187953380,"
            "rival-failovers:173.788:3.850:2212134995"
        )
        self.replay(1795280400, 180, plan)

    def test_two_orders_in_one_write(self) -> None:
        """An option that is set twice in one write need not be saved with its first value."""
        plan = (
            "isolate-sentinel:62.806:11.779:191892264,crash-at-effect:68.103:5.034:745750512,"
            "isolate-sentinel:77.187:7.164:1470244128,crash-at-effect:78.651:2.128:131221392,"
            "bad-names:79.898:28.232:183740649,set:81.433:25.265:509159398,set:82.222:7.632:1944500156,"
            "flap:82.341:12.971:2035235695,crash-at-effect:83.299:29.046:1102774851,set:85.510:16.039:3468824603"
        )
        self.replay(1795280420, 180, plan)

    def test_monitor_in_the_same_write(self) -> None:
        """A decision before a new MONITOR of the master may be published after the write that both share."""
        plan = (
            "slow-disk:22.697:25.953:4167602166,coordinated-failover:33.359:10.783:2481073561,"
            "coordinated-failover:33.988:29.203:2793317257,monitor-anew:37.895:16.518:3144560041"
        )
        self.replay(1795281239, 180, plan)

    def test_change_and_return_in_two_writes(self) -> None:
        """A change back to the present address may be published once anything newer is on disk."""
        plan = (
            "rival-failovers:11.472:0.222:2825012922,lossy-network:15.687:4.150:387426299,"
            "lossy-network:20.414:0.698:1604123389,lossy-network:27.637:2.605:436098424,"
            "rival-failovers:34.008:1.387:443727637,lossy-network:34.121:4.643:3146782082,"
            "rival-failovers:48.038:2.047:2655914651,rival-failovers:57.049:1.203:3554002486"
        )
        self.replay(1795281385, 180, plan)

    def test_monitor_anew_on_a_failing_disk(self) -> None:
        """A master that is removed and monitored again while nothing can be saved returns with its durable vote."""
        plan = "disk-failure:168.772:5.935:2893282525,monitor-anew:169.358:4.868:1174536697"
        self.replay(1796084394, 180, plan)

    def test_separate_groups(self) -> None:
        """The same as two groups of one, after more faults."""
        plan = (
            "rival-failovers:17.144:0.986:667785377,monitor-anew:20.225:0.481:2044861537,"
            "crash-server:106.425:0.700:4039049185,crash-server:107.233:0.883:2753848664,"
            "rival-failovers:111.927:0.164:1291909504,isolate-sentinel:117.698:0.591:2478977490,"
            "monitor-anew:126.835:0.441:1122995251,monitor-anew:128.005:0.830:3773605614,"
            "rival-failovers:128.319:0.480:2137088515"
        )
        self.replay(1795281571, 180, plan)

    def test_vote_of_a_failing_disk(self) -> None:
        """A vote whose save fails is withheld, though its event is published: a crash may take it back."""
        plan = (
            "disk-failure:94.182:28.206:1056088898,disk-failure:100.961:24.855:1844860149,"
            "split:112.657:22.273:2205006654,empty:114.888:29.609:3802894458"
        )
        self.replay(1795289448, 180, plan)

    def test_denied_candidacy(self) -> None:
        """A candidate that could not save its own vote denies it when it is asked, though it sends that vote later."""
        plan = (
            "isolate-with-minority:6.861:6.034:277118391,full-disk:11.776:15.017:1305136680,"
            "split:12.415:21.302:760086122,coordinated-failover:16.542:24.287:2311860575,"
            "isolate-with-minority:22.906:19.412:3884039389"
        )
        shape = Shape(sentinels=5, masters=2, replicas=1, quorum=3, down_after=6_000, fence_isolated=True)
        current = Run(9178, 33, parse_plan(plan), shape)
        current.start()
        current.inject_faults()
        self.assertEqual([str(each) for each in current.checker.violations], [])
