"""Migration from C Sentinels in place, and back, with the same files."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from contextlib import ExitStack
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import (
    LONG,
    SECONDS,
    operator_lines,
    persistent_state,
    replacement,
    shorten_periods,
    wait_moved,
)
from tests.servers import Fleet, Harness, missing

MODE = 0o640
COMMENTS = [
    "# Looked after by the night shift.",
    "#   indented = kept",
    "# sentinel monitor looks-like-one 127.0.0.1 1 1",
]


class TakingOverTests(SynchronousTestCase):
    """
    A group of C Sentinels fails over, stops, and continues as Sentinels of ours from the same files: same IDs, epochs,
    replicas and peers. Those fail over; then C Sentinels start from the files that we wrote and fail over again.
    Comments, the order of the operator's lines and the mode of the file are kept.
    """

    def test_both_kinds(self) -> None:
        """There and back with ``redis-sentinel`` and ``valkey-server --sentinel`` in one group."""
        self.there_and_back("redis", "valkey", "redis")

    def test_redis_sentinel(self) -> None:
        """The same with ``redis-sentinel`` alone."""
        self.there_and_back("redis", "redis", "redis", long=True)

    def test_valkey_sentinel(self) -> None:
        """The same with ``valkey-server --sentinel`` alone."""
        self.there_and_back("valkey", "valkey", "valkey", long=True)

    def there_and_back(self, *kinds: str, long: bool = False) -> None:
        """From C to ours and back to C, with a failover each time."""
        reason = missing("txsentinel", *sorted(set(kinds))) or (
            "" if LONG or not long else "TXSENTINEL_LONG is not set"
        )
        if reason:
            raise SkipTest(reason)
        with ExitStack() as stack:
            harness = stack.enter_context(Harness())
            fleet = Fleet(
                harness, kinds, kinds[1], down_after=1500, failover_timeout=4000, extra=[*COMMENTS, "timeout 900"]
            )
            fleet.start()
            shorten_periods(fleet.sentinels)
            self.lose_master(fleet)
            before = self.stop_all(fleet)

            for sentinel in fleet.sentinels:
                sentinel.config_path.chmod(MODE)
            lines = [operator_lines(sentinel.config_path) for sentinel in fleet.sentinels]
            self.replace_all(stack, fleet, ["txsentinel"] * 3)
            self.assert_same(fleet, before)
            self.lose_master(fleet)
            for sentinel, kept in zip(fleet.sentinels, lines, strict=True):
                self.assertEqual(operator_lines(sentinel.config_path), kept)
                self.assertEqual(stat.S_IMODE(sentinel.config_path.stat().st_mode), MODE)
            before = self.stop_all(fleet)

            self.replace_all(stack, fleet, kinds)
            self.assert_same(fleet, before)
            self.lose_master(fleet)
            for sentinel in fleet.sentinels:
                self.assertTrue(set(COMMENTS).issubset(operator_lines(sentinel.config_path)))

    def lose_master(self, fleet: Fleet) -> None:
        """Fail over, with the old master back as a replica at the end."""
        old = fleet.master()
        epoch = max(fleet.config_epochs().values())
        old.kill()
        wait_moved(fleet, old)
        self.assertGreater(min(fleet.config_epochs().values()), epoch)
        fleet.revive(old)
        fleet.wait_quiet(SECONDS)

    def stop_all(self, fleet: Fleet) -> list[dict[str, object]]:
        """End all Sentinels; return their persistent state."""
        before = [persistent_state(sentinel, fleet.name) for sentinel in fleet.sentinels]
        for sentinel in fleet.sentinels:
            sentinel.stop()
        return before

    def replace_all(self, stack: ExitStack, fleet: Fleet, kinds: Sequence[str]) -> None:
        """Start Sentinels of other kinds in place of those that have ended."""
        fleet.sentinels = [replacement(stack, *each) for each in zip(fleet.sentinels, kinds, strict=True)]
        for sentinel in fleet.sentinels:
            sentinel.start(keep_config=True, ready=False)
        for sentinel in fleet.sentinels:
            sentinel.wait_ready()

    def assert_same(self, fleet: Fleet, before: list[dict[str, object]]) -> None:
        """After the start they have the state of their predecessors."""
        after = [persistent_state(sentinel, fleet.name) for sentinel in fleet.sentinels]
        self.assertEqual(after, before)
        shorten_periods(fleet.sentinels)
        fleet.wait_quiet(SECONDS)
