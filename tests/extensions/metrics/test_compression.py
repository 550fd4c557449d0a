"""Gzip of pages."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from random import Random
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import FakeView, healthy_master
from txsentinel.extensions.metrics import compression
from txsentinel.extensions.metrics.checksum import joined
from txsentinel.extensions.metrics.compression import MIN_KEPT_BYTES, PageCompressor, accepts_gzip
from txsentinel.extensions.metrics.format import Format
from txsentinel.extensions.metrics.page import MetricsPages


class ChecksumTests(SynchronousTestCase):
    """CRC-32 of joined texts."""

    def test_joined(self) -> None:
        """It is what zlib computes for the whole, whatever the lengths."""
        rng = Random(7)
        for first, second in ((0, 0), (0, 5), (5, 0), (1, 1), (255, 256), (70_000, 3), (3, 1_000_003)):
            before, after = rng.randbytes(first), rng.randbytes(second)
            found = joined(zlib.crc32(before), zlib.crc32(after), second)
            self.assertEqual(found, zlib.crc32(before + after), (first, second))


class CompressionTests(SynchronousTestCase):
    """Compressed pages."""

    def test_content(self) -> None:
        """Any sequence of parts is one gzip member with their text, for the first page and for later ones."""
        compressor = PageCompressor()
        large, other = b"a" * MIN_KEPT_BYTES, bytes(range(256)) * 64
        for parts in ([], [b"x"], [large], [b"x", large, b"y", b"", other, b"z"], [b"n", other, large], [large, other]):
            data = b"".join(compressor.compress(parts))
            self.assertEqual(gzip.decompress(data), b"".join(parts))
            decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)
            decompressor.decompress(data)
            self.assertEqual((decompressor.eof, decompressor.unused_data), (True, b""))

    def test_kept(self) -> None:
        """What has not changed is not compressed again."""
        view = FakeView(*(healthy_master(f"m{number:03}") for number in range(300)))
        now = 0.0
        pages = MetricsPages(view, lambda: now)
        sizes = [0, 0, 0]
        # What is compressed anew cannot be seen from the result.
        deflate = compression._deflated

        def counted(data: bytes) -> compression._Deflated:  # The return value of the real one.
            sizes[number] += len(data)
            return deflate(data)

        # As above.
        with patch.object(compression, "_deflated", counted):
            for number in range(3):
                now = 10.0 * number
                if number == 2:
                    view.put(replace(healthy_master("m007"), config_epoch=99))
                text = b"".join(pages.page(Format.TEXT, compressed=True).parts)
                self.assertLess(len(text) * 10, len(gzip.decompress(text)))
        first, second, third = sizes
        self.assertLess(second * 5, first)
        # The config epoch is in two families.
        self.assertLess(third * 3, first)
        self.assertGreater(third, second)
        self.assertIn(b'txsentinel_master_config_epoch{master="m007"} 99\n', gzip.decompress(text))

    def test_formats(self) -> None:
        """The two formats, and pages that are not compressed, are kept apart."""
        pages = MetricsPages(FakeView(healthy_master()), lambda: 0.0)
        text = b"".join(pages.page(Format.TEXT, compressed=True).parts)
        plain = b"".join(pages.page(Format.TEXT).parts)
        other = b"".join(pages.page(Format.OPEN_METRICS, compressed=True).parts)
        self.assertIn(b"txsentinel_master_up", plain)
        self.assertTrue(gzip.decompress(text).startswith(plain[:100]))
        self.assertTrue(gzip.decompress(other).endswith(b"# EOF\n"))
        again = pages.page(Format.TEXT, compressed=True)
        self.assertEqual(b"".join(again.parts), text)

    def test_accepted(self) -> None:
        """Gzip is used if the header permits it."""
        for header, expected in (
            (None, False),
            ("", False),
            ("gzip", True),
            ("deflate, gzip;q=0.5, br", True),
            ("GZIP; q=1.0", True),
            ("gzip;q=0", False),
            ("gzip; q=0.000", False),
            ("identity", False),
            ("*", True),
        ):
            with self.subTest(header=header):
                self.assertEqual(accepts_gzip(header), expected)
