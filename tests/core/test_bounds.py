"""The memory that servers, peers and clients can make the core use is bounded."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

import txsentinel
from tests.core.fixture import Fixture
from txsentinel.model import address
from txsentinel.model.address import MAX_ADDRESS, MAX_HOST, Address, canonical_ip
from txsentinel.model.timings import Limits
from txsentinel.wire import glob
from txsentinel.wire.info import parse_info, shortened


def replica_lines(count: int, start: int = 0) -> bytes:
    """Return the lines of a master's INFO about that many replicas."""
    numbers = range(start, start + count)
    return b"".join(b"slave%d:ip=10.1.%d.%d,port=1,state=online\r\n" % (n, n >> 8, n & 255) for n in numbers)


class CacheTests(SynchronousTestCase):
    """Caches of parsed texts."""

    def test_long_addresses(self) -> None:
        """A text too long for an address is refused and not cached."""
        # The size of the cache is not visible from outside.
        remembered = address._canonical_ip.cache_info().currsize
        for number in range(100):
            self.assertIsNone(canonical_ip(f"{number}" + "9" * MAX_ADDRESS))
        # The size of the cache is not visible from outside.
        self.assertEqual(address._canonical_ip.cache_info().currsize, remembered)
        self.assertEqual(canonical_ip("0:0:0:0:0:ffff:255.255.255.255"), "::ffff:255.255.255.255")

    def test_known_caches(self) -> None:
        """Every cache in the package is listed here; the keys of each are short or few."""
        listed = r"@lru_cache\(maxsize=\d+\)\ndef (\w+)|(\w+) = lru_cache\(maxsize=\d+\)"
        decorated = re.compile(listed + r"|\b(lru_cache|cache)\b(?=\()")
        found = set()
        for path in Path(txsentinel.__file__).parent.rglob("*.py"):
            for match in decorated.finditer(path.read_text()):
                found.add(next(filter(None, match.groups())))
        self.assertEqual(found, {"_canonical_ip", "_compiled", "guard_fields", "short_replies", "_alone", "shift"})

    def test_patterns(self) -> None:
        """A compiled pattern is little larger than one table per byte, however many bytes its classes accept."""
        pattern = b"[\1-\xfe]" * 50
        # The size of a compiled pattern is not visible from outside.
        atoms = glob._compile(pattern, False)
        self.assertEqual(len(atoms), 50)
        self.assertLess(sum(map(sys.getsizeof, atoms)), 50 * 300)

    def test_host_names(self) -> None:
        """Names from forged hellos are discarded when there are too many; those of instances are kept."""
        fixture = Fixture()
        registry = fixture.core.registry
        fixture.core.options.resolve_hostnames = True
        ours = Address("master.example", "10.0.0.1", 6379)
        registry.readdress(fixture.master, ours)
        registry.resolved(ours, "10.0.0.1", fixture.now)
        for number in range(3 * Limits().host_names):
            registry.resolved(Address(f"host{number}.example", "", 1), "10.0.0.9", fixture.now)
        # The size of the cache is not visible from outside.
        self.assertLessEqual(len(registry._names), Limits().host_names + 1)
        known = registry.address("master.example", 6379)
        self.assertEqual(known, ours)

    def test_long_hosts(self) -> None:
        """A host longer than the maximum is no address, even where names are resolved."""
        fixture = Fixture()
        fixture.core.options.resolve_hostnames = True
        self.assertIsNone(fixture.core.registry.address("h" * (MAX_HOST + 1), 1))
        self.assertIsNone(fixture.core.registry.by_address("h" * (MAX_HOST + 1), 1))
        self.assertIsNotNone(fixture.core.registry.address("h" * MAX_HOST, 1))


class InfoTests(SynchronousTestCase):
    """INFO of servers."""

    def setUp(self) -> None:
        self.fixture = Fixture()
        self.fixture.wait(1_000)
        self.limits = self.fixture.core.state.limits

    def info(self, text: bytes) -> None:
        """Deliver the master's INFO."""
        self.fixture.core.info_reply(self.fixture.master.link, text, self.fixture.now)
        self.fixture.finish()

    def test_whole_lines(self) -> None:
        """INFO is cut at a line end, as half a number would be another number."""
        self.assertEqual(shortened(b"a:1\r\nslave_priority:100\r\n", 20), b"a:1\r\n")
        self.assertEqual(shortened(b"a:1\r\nb:2\r\n", 10), b"a:1\r\nb:2\r\n")
        self.assertEqual(shortened(b"x" * 100, 20), b"")

    def test_text(self) -> None:
        """Of a text of megabytes, the beginning is parsed and kept."""
        self.info(b"role:master\r\n" + b"filling:1\r\n" * 400_000)
        text = self.fixture.master.info_text
        assert text is not None
        self.assertLessEqual(len(text), self.limits.info_text)
        self.assertGreater(len(text), self.limits.info_text - 20)

    def test_all_texts(self) -> None:
        """A new text is not kept when all together are too large, and kept again when others are gone."""
        limits = Limits(info_texts=10_000)
        self.fixture.core.state.limits = limits
        replicas = [self.fixture.add_replica(number) for number in range(2, 9)]
        del replicas
        self.fixture.wait(1_000)
        servers = list(self.fixture.master.replicas.values())
        rng = Random(1)
        for round_ in range(3):
            for server in servers:
                # Bytes that cannot be compressed.
                text = b"role:slave\r\n" + rng.randbytes(2_000)
                self.fixture.core.info_reply(server.link, text, self.fixture.now)
            total = sum(len(each.info_kept) for each in servers if each.info_kept is not None)
            self.assertLessEqual(total, limits.info_texts, round_)
            self.assertGreater(total, limits.info_texts // 2, round_)
        self.fixture.core.administration.reset("*", self.fixture.now)
        self.info(b"role:master\r\n")
        self.assertIsNotNone(self.fixture.master.info_text)

    def test_replicas_a_time(self) -> None:
        """One INFO adds some replicas, later ones the others, up to the limit."""
        limits = self.limits
        text = b"role:master\r\n" + replica_lines(2 * limits.replicas)
        self.info(text)
        self.assertEqual(len(self.fixture.master.replicas), limits.new_replicas)
        self.assertTrue(self.fixture.master.replicas_omitted)
        for _ in range(limits.replicas // limits.new_replicas + 2):
            self.info(text)
        self.assertEqual(len(self.fixture.master.replicas), limits.replicas)
        self.assertFalse(self.fixture.master.replicas_omitted)

    def test_reading_ends(self) -> None:
        """Replica lines beyond the limit are not parsed."""
        self.assertEqual(len(parse_info(replica_lines(3_000), 500).replicas), 500)

    def test_long_hosts(self) -> None:
        """A host of megabytes is no host."""
        long = b"h" * (MAX_HOST + 1)
        report = parse_info(b"role:slave\r\nmaster_host:" + long + b"\r\nslave0:ip=" + long + b",port=1,x\r\n")
        self.assertIsNone(report.master_host)
        self.assertEqual(report.replicas, ())
