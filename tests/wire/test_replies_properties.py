"""Properties of ``txsentinel.wire.replies`` for any bytes; ``tests.fuzz.properties`` describes them."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import properties
from tests.fuzz.corpora import REPLIES, cuts, piece_sequences
from tests.wire.steps import counting
from txsentinel.wire import replies
from txsentinel.wire.replies import ReplyReader
from txsentinel.wire.resp import encode

words = st.binary(max_size=30)
scalars = words | st.integers(-(1 << 63), (1 << 63) - 1) | st.none()
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
maps = st.recursive(
    scalars | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=12,
)


def work(raw: bytes, size: int) -> int:
    """Return the steps of parsing ``raw`` in chunks of ``size`` bytes."""
    with counting(replies) as steps:
        properties.read_replies(raw, (size,))
    return steps.all


class RepliesProperties(SynchronousTestCase):
    """Any reply of a server or a peer."""

    @given(piece_sequences(REPLIES), cuts)
    @example(b"*2\r\n|1\r\n+a\r\n:1\r\n+b\r\n:2\r\n", (1,))
    def test_any_bytes(self, raw: bytes, sizes: list[int]) -> None:
        """
        Any bytes are replies or a ``ReplyViolation`` and nothing else: each reply costs bytes, nothing comes out of
        no bytes, chunks do not matter, and the short way to short replies leads to the same.
        """
        properties.replies(raw, sizes)

    @given(st.lists(values, max_size=4), cuts)
    def test_round_trip(self, printed: list[Any], sizes: list[int]) -> None:
        """What `encode` writes in RESP2 is parsed to the same value, in any chunks."""
        raw = b"".join(encode(value, 2) for value in printed)
        self.assertEqual(properties.read_replies(raw, sizes), (printed, ""))

    @given(st.lists(maps, max_size=4), cuts)
    def test_round_trip_of_resp3(self, printed: list[Any], sizes: list[int]) -> None:
        """What `encode` writes in RESP3 is parsed to the same value, in any chunks, including maps and booleans."""
        raw = b"".join(encode(value, 3) for value in printed)
        found, error = properties.read_replies(raw, sizes)
        # Compares values with their types, as the property that is fuzzed does.
        self.assertEqual((properties._typed(found), error), (properties._typed(printed), ""))

    @given(piece_sequences(REPLIES, 6), st.sampled_from((1, 3, 50, 1 << 20)))
    @settings(max_examples=40)
    @example(b"+", 1)
    @example(b"*1\r\n", 1)
    @example(b"$30\r\n" + b"x" * 30 + b"\r\n", 1)
    def test_linear(self, unit: bytes, size: int) -> None:
        """Twice the input takes at most twice the steps, in chunks of any size."""
        repeated = max(1, 400 // max(len(unit), 1))
        once, twice = work(unit * repeated, size), work(unit * 2 * repeated, size)
        self.assertLessEqual(twice, 2.2 * once + 500)

    def test_linear_in_the_length_of_a_line(self) -> None:
        """A status without an end is not read from its beginning for each byte."""
        once, twice = work(b"+" + b"a" * 400, 1), work(b"+" + b"a" * 800, 1)
        self.assertLessEqual(twice, 2.2 * once + 500)

    def test_the_count_bites(self) -> None:
        """A reader that did so would be detected."""
        feed = ReplyReader.feed

        def forgetful(reader: ReplyReader, data: bytes) -> None:
            feed(reader, data)
            # The mutant forgets where the reader was.
            reader._scanned = 0

        with patch.object(ReplyReader, "feed", forgetful):
            once, twice = work(b"+" + b"a" * 400, 1), work(b"+" + b"a" * 800, 1)
        self.assertGreater(twice, 2.2 * once + 500)
