"""Tests of ``txsentinel.wire.replies``."""

from __future__ import annotations

import math
import sys
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.timings import Limits
from txsentinel.wire.replies import (
    ELEMENT_OVERHEAD,
    MAX_DEPTH,
    MAX_ELEMENTS,
    NEED_MORE,
    ReplyReader,
    ReplyViolation,
)
from txsentinel.wire.resp import Push, encode
from txsentinel.wire.values import ErrorLine, PushFrame, Status

LIMITS = Limits()

STREAM = (
    b"+PONG\r\n"
    b":1\r\n"
    b"-LOADING Redis is loading\r\n"
    b"$6\r\na\r\nb\x00\xff\r\n"
    b"$0\r\n\r\n"
    b"$-1\r\n"
    b"*-1\r\n"
    b"*0\r\n"
    b"*3\r\n$7\r\nmessage\r\n*2\r\n:-5\r\n*0\r\n+x\r\n"
    b">2\r\n+pong\r\n$0\r\n\r\n"
    b"%2\r\n+a\r\n:1\r\n$1\r\nb\r\n~2\r\n#t\r\n#f\r\n"
    b"|1\r\n+ttl\r\n:5\r\n_\r\n"
    b"*1\r\n|1\r\n+ttl\r\n*1\r\n:5\r\n:7\r\n"
    b"%0\r\n"
    b",1.5\r\n"
    b"(123456789012345678901234567890\r\n"
    b"=7\r\ntxt:a\r\n\r\n"
    b"!5\r\nERR a\r\n"
    b"+OK\r\n"
)
EXPECTED: list[object] = [
    b"PONG",
    1,
    b"LOADING Redis is loading",
    b"a\r\nb\x00\xff",
    b"",
    None,
    None,
    [],
    [b"message", [-5, []], b"x"],
    [b"pong", b""],
    {b"a": 1, b"b": [True, False]},
    None,
    [7],
    {},
    1.5,
    123456789012345678901234567890,
    b"a\r\n",
    b"ERR a",
    b"OK",
]

GRAMMAR = (
    b"+OK\r\n", b":1\r\n", b"$1\r\na\r\n", b"$-1\r\n", b"*2\r\n", b"*0\r\n", b"%1\r\n", b">1\r\n", b"|1\r\n", b"~1\r\n",
    b"=5\r\ntxt:a\r\n", b"=1\r\na\r\n", b"!1\r\nE\r\n", b"_\r\n", b"#t\r\n", b",1\r\n", b"(1\r\n", b"-E\r\n",
    b"\r", b"\n", b"$", b"*", b"1", b"-", b"a", b"\x00",
)  # fmt: skip
PIECE_SEQUENCES = st.lists(st.sampled_from(GRAMMAR), max_size=20).map(b"".join)
plain_values: st.SearchStrategy[Any] = st.recursive(
    st.binary(max_size=20)
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def transcript(chunks: Iterable[bytes], limits: Limits = LIMITS) -> list[object]:
    """Return all replies in these chunks, read after each chunk; a violation is the last item."""
    reader = ReplyReader(limits, resp3=True)
    received: list[object] = []
    try:
        for chunk in chunks:
            reader.feed(chunk)
            while (reply := reader.next_reply()) is not NEED_MORE:
                received.append(reply)
    except ReplyViolation as violation:
        received.append(("violation", str(violation)))
    return received


class GrammarTests(SynchronousTestCase):
    """Every type of RESP2 and RESP3 is parsed."""

    def test_stream(self) -> None:
        """One reply of each type."""
        self.assertEqual(transcript([STREAM]), EXPECTED)

    def test_types(self) -> None:
        """Statuses, errors and push frames differ from bulk strings and arrays of the same content."""
        types = [
            type(reply)
            for reply in transcript([b"+a\r\n-a\r\n$1\r\na\r\n!1\r\na\r\n*1\r\n:1\r\n>1\r\n:1\r\n#t\r\n:1\r\n"])
        ]
        self.assertEqual(types, [Status, ErrorLine, bytes, ErrorLine, list, PushFrame, bool, int])

    def test_every_cut(self) -> None:
        """A stream that is cut in two anywhere has the same replies."""
        for cut in range(len(STREAM)):
            self.assertEqual(transcript([STREAM[:cut], STREAM[cut:]]), EXPECTED, cut)

    def test_byte_by_byte(self) -> None:
        """A stream that arrives byte by byte has the same replies."""
        self.assertEqual(transcript(STREAM[at : at + 1] for at in range(len(STREAM))), EXPECTED)

    def test_null_is_not_need_more(self) -> None:
        """A null, a false and an empty array are replies; only NEED_MORE means that there is none."""
        reader = ReplyReader(LIMITS, resp3=True)
        self.assertIs(reader.next_reply(), NEED_MORE)
        reader.feed(b"$-1\r\n#f\r\n*0\r\n*1\r\n")
        self.assertEqual([reader.next_reply() for _ in range(3)], [None, False, []])
        self.assertIs(reader.next_reply(), NEED_MORE)

    def test_doubles(self) -> None:
        """All spellings of doubles, including infinities and NaN."""
        self.assertEqual(
            transcript([b",1\r\n,-0.5\r\n,1e+20\r\n,inf\r\n,-inf\r\n"]), [1.0, -0.5, 1e20, math.inf, -math.inf]
        )
        (reply,) = transcript([b",nan\r\n"])
        self.assertTrue(isinstance(reply, float) and math.isnan(reply))

    @given(plain_values)
    def test_round_trip(self, value: Any) -> None:
        """What `encode` writes in RESP3 is parsed to the same value."""
        self.assertEqual(transcript([encode(value, 3)]), [value])

    @given(st.lists(plain_values, max_size=3))
    def test_push_round_trip(self, items: list[Any]) -> None:
        """Push frames are, too."""
        (frame,) = transcript([encode(Push(items), 3)])
        self.assertIsInstance(frame, PushFrame)
        self.assertEqual(frame, items)

    @given(PIECE_SEQUENCES | st.binary(max_size=60), st.data())
    @settings(max_examples=300)
    def test_chunking_is_invisible(self, data: bytes, draw: st.DataObject) -> None:
        """Even invalid input has the same result in any chunks, and raises nothing but a violation."""
        limits = replace(LIMITS, reply_buffer=5 * ELEMENT_OVERHEAD)
        cut = draw.draw(st.integers(0, len(data)))
        whole = transcript([data], limits)
        self.assertEqual(transcript([data[:cut], data[cut:]], limits), whole)
        self.assertEqual(transcript((data[at : at + 1] for at in range(len(data))), limits), whole)


class ViolationTests(SynchronousTestCase):
    """Bytes that are not RESP are refused with a text that has the invalid bytes."""

    def test_garbage(self) -> None:
        """Each kind of invalid bytes has its text."""
        for stream, hint in (
            (b"HTTP/1.1 400 Bad Request\r\n", "a reply starts with b'H'"),
            (b"\r\n", "a reply starts with b'\\r'"),
            (b"\x16\x03\x01", "a reply starts with b'\\x16'"),
            (b":x\r\n", "b'x' is not an integer"),
            (b":\r\n", "b'' is not an integer"),
            (b": 1\r\n", "b' 1' is not an integer"),
            (b":1_0\r\n", "b'1_0' is not an integer"),
            (b":9223372036854775808\r\n", "b'9223372036854775808' is not an integer"),
            (b"$x\r\n", "b'x' is not a length"),
            (b"$-2\r\n", "b'-2' is not a length"),
            (b"$?\r\n", "b'?' is not a length"),
            (b"*+1\r\n", "b'+1' is not a length"),
            (b"%-1\r\n", "b'-1' is not a length"),
            (b"=-1\r\n", "b'-1' is not a length"),
            (b"$1\r\nabc", "a bulk is followed by b'bc'"),
            (b"=3\r\nabc\r\n", "a verbatim text starts with b'abc'"),
            (b"#x\r\n", "b'x' after b'#'"),
            (b"_x\r\n", "b'x' after b'_'"),
            (b",1_0\r\n", "b'1_0' after b','"),
            (b",\r\n", "b'' after b','"),
            (b"(1.5\r\n", "b'1.5' after b'('"),
            (b"*1\r\n>1\r\n:1\r\n", "b'>' inside an aggregate"),
            (b"%1\r\n*0\r\n:1\r\n", "a key of a map is no string"),
            (b"%1\r\n:1\r\n:1\r\n", "a key of a map is no string"),
            (b"%1\r\n(1\r\n:1\r\n", "a key of a map is no string"),
            (b"%1\r\n,1.5\r\n:1\r\n", "a key of a map is no string"),
            (b":" + b"1" * 600, "a line that starts with b':' is too long"),
        ):
            self.assertEqual(transcript([stream]), [("violation", hint)], stream)

    def test_replies_before_it(self) -> None:
        """Complete replies before the invalid bytes are returned first."""
        self.assertEqual(transcript([b":1\r\n?"]), [1, ("violation", "a reply starts with b'?'")])

    def test_resp3_that_was_not_agreed_upon(self) -> None:
        """Without HELLO 3 every type that RESP2 lacks is refused by its first byte, also inside an array."""
        for sign in b"%~>|_#,(!=":
            for prefix in (b"", b"*2\r\n"):
                reader = ReplyReader(LIMITS)
                reader.feed(prefix + bytes((sign,)))
                with self.assertRaises(ReplyViolation) as caught:
                    reader.next_reply()
                self.assertEqual(str(caught.exception), f"a reply starts with {bytes((sign,))!r} without HELLO 3")

    def test_integers_are_never_hashed(self) -> None:
        """A map of integers with the same hash is refused in linear time."""
        colliding = b"".join(b"(%d\r\n_\r\n" % (sys.hash_info.modulus * (number + 1)) for number in range(20_000))
        with patch("txsentinel.wire.replies.dict", side_effect=AssertionError("built a dict"), create=True):
            self.assertEqual(transcript([b"%20000\r\n" + colliding]), [("violation", "a key of a map is no string")])

    def test_spent(self) -> None:
        """After a violation no more replies are returned."""
        reader = ReplyReader(LIMITS, resp3=True)
        reader.feed(b"*2\r\n:1\r\n?")
        self.assertRaises(ReplyViolation, reader.next_reply)
        reader.feed(b":1\r\n")
        self.assertIs(reader.next_reply(), NEED_MORE)


class BoundTests(SynchronousTestCase):
    """Memory and time are bounded, whatever the peer sends."""

    def test_depth(self) -> None:
        """Aggregates nest to a maximum depth, which is parsed without recursion errors."""
        max_depth = b"*1\r\n" * MAX_DEPTH + b":1\r\n"
        (reply,) = transcript([max_depth])
        for _ in range(MAX_DEPTH):
            (reply,) = reply  # type: ignore[misc]
        self.assertEqual(reply, 1)
        self.assertEqual(
            transcript([b"*1\r\n" + max_depth]), [("violation", f"aggregates are nested deeper than {MAX_DEPTH}")]
        )

    def test_counts(self) -> None:
        """The number of elements is limited, and no memory is reserved for elements that have not arrived."""
        self.assertEqual(
            transcript([b"*%d\r\n" % (MAX_ELEMENTS + 1)]),
            [("violation", f"{MAX_ELEMENTS + 1} elements in one aggregate")],
        )
        tracemalloc.start()
        try:
            reader = ReplyReader(LIMITS, resp3=True)
            reader.feed(b"*%d\r\n:1\r\n" % MAX_ELEMENTS)
            self.assertIs(reader.next_reply(), NEED_MORE)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 20_000)

    def test_size(self) -> None:
        """A reply above the limit is refused by its header, before its contents are buffered."""
        limits = replace(LIMITS, reply_buffer=1000)
        violation = ("violation", "a reply of more than 1000 bytes")
        fits = 1000 - ELEMENT_OVERHEAD - 3
        self.assertEqual(transcript([b"$%d\r\n" % fits + b"a" * fits + b"\r\n"], limits), [b"a" * fits])
        self.assertEqual(transcript([b"$%d\r\n" % (fits + 1)], limits), [violation])
        self.assertEqual(transcript([b"*20\r\n" + b"*0\r\n" * 20], limits), [violation])
        self.assertEqual(transcript([b"$999999999999999999\r\n"], limits), [violation])

    def test_endless_status(self) -> None:
        """A line without an end is refused at the limit."""
        limits = replace(LIMITS, reply_buffer=1000)
        self.assertEqual(
            transcript([b"+"] + [b"a"] * 2000, limits), [("violation", "a line that starts with b'+' is too long")]
        )

    def test_the_limit_is_for_one_reply(self) -> None:
        """Complete replies do not count for the limit of the next one."""
        limits = replace(LIMITS, reply_buffer=1000)
        self.assertEqual(transcript([b"*1\r\n:1\r\n" * 1000], limits), [[1]] * 1000)

    def test_huge_bulk_in_many_chunks(self) -> None:
        """Thirty megabytes in chunks of a kilobyte take linear time."""
        raw = bytes(30 << 20)
        stream = memoryview(encode(raw))
        chunks = (bytes(stream[at : at + 1024]) for at in range(0, len(stream), 1024))
        self.assertTrue(transcript(chunks, replace(LIMITS, reply_buffer=64 << 20)) == [raw])

    def test_long_line_and_array_byte_by_byte(self) -> None:
        """A hundred thousand single bytes take linear time."""
        self.assertEqual(transcript([b"+"] + [b"a"] * 100_000 + [b"\r", b"\n"]), [b"a" * 100_000])
        array = b"*20000\r\n" + b":1\r\n" * 20_000
        self.assertEqual(transcript(array[at : at + 1] for at in range(len(array))), [[1] * 20_000])

    def test_idle_links_hold_nothing(self) -> None:
        """Once all is parsed, the last chunk is released."""
        reader = ReplyReader(LIMITS, resp3=True)
        tracemalloc.start()
        try:
            reader.feed(encode(b"a" * 500_000))
            self.assertEqual(len(reader.next_reply()), 500_000)  # type: ignore[arg-type]
            self.assertIs(reader.next_reply(), NEED_MORE)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(held, 20_000)
