"""
Real Sentinels with a fraction of a core: no healthy master is replaced, and each failed one is.

The fleet consists of simulated instances with sockets, 300 masters with a replica each. Each Sentinel runs for 25 % of
the time, which suffices, and for 5 %, which is half of what it needs: Sentinels that counted unread replies as missing
had most of the masters down then.
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
"""Milliseconds: more than the simulated instances may have to wait for a core of a busy machine."""

EXPOSURE_SECONDS: Final = 4 * DOWN_AFTER / 1000
LIMIT_SECONDS: Final = 120.0

_FAILOVER: Final = re.compile(r"\+(?:odown|try-failover|switch-master) .*")


class ThrottledTests(SynchronousTestCase):
    """Three Sentinels of ours with less processor time than they need."""

    def setUp(self) -> None:
        installation = Installation(("txsentinel",) * 3, MASTERS, down_after=DOWN_AFTER)
        self.installation = installation.__enter__()
        self.addCleanup(installation.__exit__, None, None, None)
        installation.start()
        installation.wait_stable(LIMIT_SECONDS)
        self.pids = [sentinel.pid for sentinel in installation.sentinels]

    def failovers(self) -> list[str]:
        """Return every failover that a Sentinel started or observed, and every master that was O_DOWN."""
        return [line for each in self.installation.sentinels for line in _FAILOVER.findall(each.log_text())]

    def addresses(self, name: str) -> set[str]:
        """Return the addresses of one master at the Sentinels; ``?`` for one that does not answer yet."""
        found = set()
        for sentinel in self.installation.sentinels:
            try:
                found.add(str(sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name, timeout=LIMIT_SECONDS)))
            except (OSError, ReplyError):
                found.add("?")
        return found

    def test_failovers(self) -> None:
        """With any fraction of a core no failover starts; with a quarter a failed master is replaced, no other one."""
        for share in (0.25, 0.05):
            with Throttle(self.pids, share):
                time.sleep(EXPOSURE_SECONDS)
            self.assertEqual(self.failovers(), [], f"with {share} of a core")
        (name,) = self.installation.fleet.master_names(1)
        (before,) = self.addresses(name)
        with Throttle(self.pids, 0.25):
            self.installation.fleet.crash([name])
            deadline = time.monotonic() + LIMIT_SECONDS
            while (found := self.addresses(name)) & {before, "?"} or len(found) > 1:
                self.assertLess(time.monotonic(), deadline, f"{name} was {before}, now {found}")
                time.sleep(0.2)
        self.assertEqual([line for line in self.failovers() if f" {name} " not in line], [])
