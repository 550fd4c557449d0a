"""
A hundred masters that fail at once, with real sockets; `make test` runs this on the compiled copy as well.
"""

from __future__ import annotations

import os
import time
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.installation import Installation
from txsentinel.core import sentinel as core
from txsentinel.demo import SentinelProcess

MASTERS: Final = 100
LIMIT_SECONDS: Final = 120.0
COMPILED: Final = "TXSENTINEL_TESTS_COMPILED"
"""Set if the package must be the compiled one."""


class MassFailureTests(SynchronousTestCase):
    """Three Sentinels of ours agree on a new master for each."""

    def test_all_are_replaced(self) -> None:
        """Every Sentinel has another address for every master."""
        if os.environ.get(COMPILED):
            self.assertTrue(core.__file__.endswith(".so"), core.__file__)
        with Installation(("txsentinel",) * 3, MASTERS, down_after=1_000) as installation:
            installation.start()
            installation.wait_stable(LIMIT_SECONDS)
            names = installation.fleet.master_names()
            sentinels = installation.sentinels
            waiting = {(each.name, name): self.address(each, name) for each in sentinels for name in names}
            installation.fleet.crash(names)
            deadline = time.monotonic() + LIMIT_SECONDS
            while waiting:
                self.assertLess(time.monotonic(), deadline, f"{len(waiting)} not replaced: {list(waiting)[:5]}")
                for each in sentinels:
                    for name in names:
                        before = waiting.get((each.name, name))
                        if before is not None and self.address(each, name) != before:
                            del waiting[each.name, name]
                time.sleep(0.2)
            for each in sentinels:
                self.assertNotIn("Traceback", each.log_text())

    def address(self, sentinel: SentinelProcess, name: str) -> str:
        """Return the address of a master at one Sentinel."""
        return str(sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name, timeout=LIMIT_SECONDS))
