"""
Real Sentinels that get a part of a core: nobody alive is replaced, and whoever dies is.

The fleet is of stand-ins with sockets of their own, 300 masters with a replica each, which keep up. Each Sentinel runs
for 25, 50 and 75 % of the time, with which it keeps up as well, and for 5 %, which is half of what it needs: Sentinels
that took what they had not read yet for silence held most of the masters for down then.
"""

from __future__ import annotations

import re
import time
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.installation import Installation
from benchmarks.throttle import Throttle
from txsentinel.demo import ReplyError

MASTERS: Final = 300
DOWN_AFTER: Final = 3_000
"""Milliseconds: more than the stand-ins may have to wait for a core of a busy machine."""

EXPOSURE_SECONDS: Final = 4 * DOWN_AFTER / 1000
LIMIT_SECONDS: Final = 120.0

_FAILOVER: Final = re.compile(r"\+(?:odown|try-failover|switch-master) .*")


class ThrottledTests(SynchronousTestCase):
    """Three Sentinels of ours with less of a processor than they want."""

    def setUp(self) -> None:
        installation = Installation(("txsentinel",) * 3, MASTERS, down_after=DOWN_AFTER)
        self.installation = installation.__enter__()
        self.addCleanup(installation.__exit__, None, None, None)
        installation.start()
        installation.wait_stable(LIMIT_SECONDS)
        self.pids = [sentinel.pid for sentinel in installation.sentinels]

    def failovers(self) -> list[str]:
        """Every failover that a Sentinel began or saw, and every master that was agreed to be down."""
        return [line for each in self.installation.sentinels for line in _FAILOVER.findall(each.log_text())]

    def addresses(self, name: str) -> set[str]:
        """What the Sentinels tell of one master; ``?`` for one that does not answer yet."""
        told = set()
        for sentinel in self.installation.sentinels:
            try:
                told.add(str(sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name, timeout=LIMIT_SECONDS)))
            except (OSError, ReplyError):
                told.add("?")
        return told

    def test_nobody_dies(self) -> None:
        """With whatever part of a core, no failover begins."""
        for share in (0.75, 0.5, 0.25, 0.05):
            with Throttle(self.pids, share):
                time.sleep(EXPOSURE_SECONDS)
            self.assertEqual(self.failovers(), [], f"with {share} of a core")

    def test_one_dies(self) -> None:
        """With a quarter of a core a master that dies is replaced, and no other one."""
        (name,) = self.installation.fleet.master_names(1)
        (before,) = self.addresses(name)
        with Throttle(self.pids, 0.25):
            self.installation.fleet.crash([name])
            deadline = time.monotonic() + LIMIT_SECONDS
            while (told := self.addresses(name)) & {before, "?"} or len(told) > 1:
                self.assertLess(time.monotonic(), deadline, f"{name} was {before}, now {told}")
                time.sleep(0.2)
        self.assertEqual([line for line in self.failovers() if f" {name} " not in line], [])
