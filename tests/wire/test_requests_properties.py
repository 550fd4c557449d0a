"""Properties of ``txsentinel.wire.requests`` for any bytes; ``tests.fuzz.properties`` describes them."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import properties
from tests.fuzz.corpora import REQUESTS, cuts, piece_sequences
from tests.wire.steps import counting
from txsentinel.model.timings import Limits
from txsentinel.wire import requests
from txsentinel.wire.requests import RequestParser
from txsentinel.wire.resp import pack


def work(raw: bytes, size: int) -> int:
    """Return the steps of parsing ``raw`` in chunks of ``size`` bytes."""
    with counting(requests) as steps:
        properties.read_requests(raw, (size,), authenticated=True)
    return steps.all


def max_pieces(raw: bytes) -> int:
    """Return the maximum number of steps."""
    return 150 * len(raw) + 500


class RequestsProperties(SynchronousTestCase):
    """Any input of a client."""

    @given(piece_sequences(REQUESTS), cuts)
    @example(b"*1\r\n$4\r\nPI", (1,))
    def test_any_bytes(self, raw: bytes, sizes: list[int]) -> None:
        """
        Any bytes are requests or a ``ProtocolError`` and nothing else: each request costs bytes, nothing comes out
        of no bytes, chunks do not matter, and what was read is read again from what `pack` makes of it.
        """
        properties.requests(raw, sizes)

    @given(st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=6), max_size=5), cuts)
    def test_round_trip(self, found: list[list[bytes]], sizes: list[int]) -> None:
        """Requests other than HTTP survive packing, transmission in any chunks, and parsing."""
        if any(words[0].lower() in (b"post", b"host:") for words in found):
            return
        raw = b"".join(pack(*words) for words in found)
        self.assertEqual(properties.read_requests(raw, sizes, authenticated=True), (found, ""))

    @given(piece_sequences(REQUESTS, 6), st.sampled_from((1, 3, 50, 1 << 20)))
    @settings(max_examples=20)
    @example(b"a", 1)
    @example(b"*", 1)
    @example(b"*" + b"0" * 3000, 1)
    @example(b"*0\r\n", 1 << 20)
    @example((b"*11\r\n" + 11 * b"$1\r\na\r\n"), 1 << 20)
    @example(b"*1\r\n$" + b"0" * 3000, 1)
    @example(b"a b'c' ", 1)
    @example(b"*1\r\n$30\r\n" + b"x" * 30 + b"\r\n", 1)
    def test_linear(self, unit: bytes, size: int) -> None:
        """No byte takes more than 150 steps, however many arrive, in chunks of any size."""
        # The limit decides which of two algorithms runs.
        raw = unit * max(1, (2 * requests._ORDINARY_CHUNK + 150) // max(len(unit), 1))
        self.assertLessEqual(work(raw, size), max_pieces(raw))

    def test_forgetting_where_a_line_was_looked_through(self) -> None:
        """A parser that searches or splits a line from its beginning for each byte would be detected."""
        # The mutant replaces the search.
        find = RequestParser._find

        def forgetful(parser: RequestParser, terminator: bytes, too_big: str) -> int:
            # The mutant forgets where the parser was.
            parser._scanned = 0
            found = find(parser, terminator, too_big)
            # The mutant forgets where the parser was.
            parser._scanned = 0
            return found

        for raw in (b"a" * 800, b"*" + b"0" * 800):
            # The mutant replaces the search.
            with patch.object(RequestParser, "_find", forgetful):
                steps = work(raw, 1)
            self.assertGreater(steps, max_pieces(raw))
            self.assertLessEqual(work(raw, 1), max_pieces(raw))

    def test_forgetting_what_was_cut(self) -> None:
        """So would one that splits a window for each request in it."""
        # The mutant replaces the split.
        cut = RequestParser._from_window

        def forgetful(parser: RequestParser) -> list[bytes] | None:
            # The mutant forgets what was split.
            parser._cut_to = 0
            return cut(parser)

        raw = b"*0\r\n" * 1000
        # The mutant replaces the split.
        with patch.object(RequestParser, "_from_window", forgetful):
            steps = work(raw, len(raw))
        self.assertGreater(steps, max_pieces(raw))

    @given(piece_sequences(REQUESTS), cuts)
    def test_bounded(self, raw: bytes, sizes: list[int]) -> None:
        """The buffered size never exceeds the size received plus the overhead of each word of an incomplete request."""
        parser = RequestParser(Limits())
        fed = 0
        try:
            for chunk in properties.chunks(raw, sizes):
                parser.feed(chunk)
                fed += len(chunk)
                while parser.next_request() is not None:
                    pass
                self.assertLessEqual(parser.buffered, fed * (1 + requests.WORD_OVERHEAD))
        except requests.ProtocolError:
            self.assertEqual(parser.buffered, 0)
