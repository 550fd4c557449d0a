"""Where the memory of a Sentinel goes: the groups of mappings and packages."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.gauges import resident_bytes
from benchmarks.resident import ALLOCATED, by_package, mappings, table


class ResidentTests(SynchronousTestCase):
    """The tables of a process, and of its modules."""

    def test_own_process(self) -> None:
        """The groups add up to the resident memory, most of which an interpreter has allocated."""
        found = mappings(os.getpid())
        total = resident_bytes(os.getpid()) / 1e6
        self.assertGreater(sum(found.values()), total / 2)
        self.assertLess(sum(found.values()), total * 2)
        self.assertEqual(max(found, key=found.__getitem__), ALLOCATED)
        lines = table({"one": found, "redis": {}}).splitlines()
        self.assertIn("redis", lines[0])
        self.assertEqual(lines[-1].split()[-1], "0.0")

    def test_packages(self) -> None:
        """Modules are counted by package; those of small packages are with the standard library."""
        sizes = {"twisted": 1_000_000, "twisted.internet.tcp": 500_000, "json": 7_000, "constantly": 3_000}
        self.assertEqual(by_package(sizes), {"twisted": (2, 1.5), "the standard library and others": (2, 0.01)})
