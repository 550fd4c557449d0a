"""Tests of ``txsentinel.wire.numbers``."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.wire.numbers import HIGHEST_I64, HIGHEST_U64, LOWEST_I64, lenient_int, lenient_unsigned


class LenientNumberTests(SynchronousTestCase):
    """Numbers are parsed as by the C library."""

    def test_signed(self) -> None:
        """Leading whitespace, one sign and trailing garbage are accepted; no digits are zero."""
        for raw, number in (
            (b"42000abc", 42000),
            (b"zz", 0),
            (b"", 0),
            (b"  +7", 7),
            (b"\t-7x", -7),
            (b"--7", 0),
            (b"0007", 7),
            (b"-0", 0),
            (b"1_000", 1),
            (b"0x10", 0),
            (b"9223372036854775807", HIGHEST_I64),
            (b"9223372036854775808", HIGHEST_I64),
            (b"-9223372036854775808", LOWEST_I64),
            (b"-9223372036854775809", LOWEST_I64),
            (b"0" * 50 + b"5", 5),
        ):
            self.assertEqual(lenient_int(raw), number, raw)

    def test_unsigned(self) -> None:
        """A number that is too large becomes the highest one, and a negative one wraps around."""
        for raw, number in (
            (b"18446744073709551615", HIGHEST_U64),
            (b"18446744073709551616", HIGHEST_U64),
            (b"99999999999999999999999", HIGHEST_U64),
            (b"-1", HIGHEST_U64),
            (b"-18446744073709551615", 1),
            (b"-99999999999999999999999", HIGHEST_U64),
            (b"3,", 3),
            (b"-", 0),
        ):
            self.assertEqual(lenient_unsigned(raw), number, raw)

    @given(st.binary() | st.from_regex(rb"[ +-]?[0-9]{1,40}.?"))
    def test_never_raises(self, raw: bytes) -> None:
        """Any bytes are a number within 64 bits."""
        self.assertTrue(LOWEST_I64 <= lenient_int(raw) <= HIGHEST_I64)
        self.assertTrue(0 <= lenient_unsigned(raw) <= HIGHEST_U64)

    def test_endless_digits(self) -> None:
        """A megabyte of digits is a number that is too large."""
        self.assertEqual(lenient_int(b"9" * 1_000_000), HIGHEST_I64)
        self.assertEqual(lenient_unsigned(b"9" * 1_000_000), HIGHEST_U64)

    @given(st.integers(LOWEST_I64, HIGHEST_I64))
    def test_round_trip(self, number: int) -> None:
        """A number in range is parsed exactly."""
        self.assertEqual(lenient_int(b"%d" % number), number)
        self.assertEqual(lenient_unsigned(b"%d" % number), number % (1 << 64))
