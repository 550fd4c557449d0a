"""Tests of ``txsentinel.wire.requests``."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.timings import Limits
from txsentinel.wire.requests import (
    UNAUTHENTICATED_QUERY_BUFFER,
    WORD_OVERHEAD,
    ProtocolError,
    PseudoHttp,
    QueryBufferExceeded,
    RequestParser,
)
from txsentinel.wire.resp import pack

LIMITS = Limits()
LINE = LIMITS.inline_request

PIPELINE = (
    b"*1\r\n$4\r\nPING\r\n"
    b"PING\r\n"
    b"\r\n\n  \r\n"
    b"*0\r\n*-1\r\n"
    b"*3\r\n$8\r\nSENTINEL\r\n$6\r\nmaster\r\n$0\r\n\r\n"
    b'sentinel "my\\x20master" \'it\\\'s\' pl"ai"\n'
    b"*2\r\n$7\r\nPUBLISH\r\n$6\r\na\r\n\x00\xffb\r\n"
    b"*1\r\n$0\r\n\r\n"
    b"ping"
    b"\r\n"
)
EXPECTED = [
    [b"PING"],
    [b"PING"],
    [b"SENTINEL", b"master", b""],
    [b"sentinel", b"my master", b"it's", b"plai"],
    [b"PUBLISH", b"a\r\n\x00\xffb"],
    [b""],
    [b"ping"],
]

GRAMMAR = (
    b"*",
    b"$",
    b"1",
    b"2",
    b"-1",
    b"\r\n",
    b"\r",
    b"\n",
    b"a",
    b'"',
    b"'",
    b"\\",
    b" ",
    b"\x00",
    b"x41",
    b"\v",
    b"POST",
)
PIECE_SEQUENCES = st.lists(st.sampled_from(GRAMMAR), max_size=25).map(b"".join)


def transcript(chunks: Iterable[bytes], limits: Limits = LIMITS, authenticated: bool = True) -> list[object]:
    """Return all requests in these chunks, read after each chunk; an error is the last item."""
    parser = RequestParser(limits)
    parser.authenticated = authenticated
    received: list[object] = []
    try:
        for chunk in chunks:
            parser.feed(chunk)
            while (request := parser.next_request()) is not None:
                received.append(request)
    except ProtocolError as error:
        received.append((type(error), str(error)))
    return received


def type_of(item: object) -> object:
    """Return the type of the error that an item of a transcript describes."""
    assert isinstance(item, tuple), item
    return item[0]


def text_of(item: object) -> object:
    """Return the text of that error."""
    assert isinstance(item, tuple), item
    return item[1]


class GrammarTests(SynchronousTestCase):
    """Requests are parsed as intended."""

    def test_pipeline(self) -> None:
        """Multibulk and inline requests can be mixed; blank lines and empty arrays are skipped."""
        self.assertEqual(transcript([PIPELINE]), EXPECTED)

    def test_every_cut(self) -> None:
        """A pipeline that is cut in two anywhere has the same requests."""
        for cut in range(len(PIPELINE)):
            self.assertEqual(transcript([PIPELINE[:cut], PIPELINE[cut:]]), EXPECTED, cut)

    def test_byte_by_byte(self) -> None:
        """A pipeline that arrives byte by byte has the same requests."""
        self.assertEqual(transcript(PIPELINE[at : at + 1] for at in range(len(PIPELINE))), EXPECTED)

    def test_no_sooner_than_complete(self) -> None:
        """A request is returned with its last byte, not before."""
        request = pack("SENTINEL", "masters")
        parser = RequestParser(LIMITS)
        for at in range(len(request) - 1):
            parser.feed(request[at : at + 1])
            self.assertIsNone(parser.next_request(), at)
        parser.feed(request[-1:])
        self.assertEqual(parser.next_request(), [b"SENTINEL", b"masters"])
        self.assertIsNone(parser.next_request())

    @given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=12), max_size=6), st.data())
    def test_round_trip(self, requests: list[list[bytes]], draw: st.DataObject) -> None:
        """What `pack` writes is parsed to the same words, in any chunks."""
        stream = b"".join(pack(*words) for words in requests)
        first, second = sorted((draw.draw(st.integers(0, len(stream))), draw.draw(st.integers(0, len(stream)))))
        chunks = [stream[:first], stream[first:second], stream[second:]]
        wanted = [words for words in requests if words[0].lower() not in (b"post", b"host:")]
        if wanted == requests:
            self.assertEqual(transcript(chunks), requests)

    @given(st.one_of(PIECE_SEQUENCES, st.binary(max_size=60)), st.booleans(), st.data())
    @settings(max_examples=300)
    def test_chunking_is_invisible(self, data: bytes, authenticated: bool, draw: st.DataObject) -> None:
        """Even invalid input has the same requests and the same error in any chunks."""
        limits = replace(LIMITS, inline_request=12, query_buffer=3 * WORD_OVERHEAD, unauthenticated_bulk_length=1)
        cut = draw.draw(st.integers(0, len(data)))
        whole = transcript([data], limits, authenticated)
        self.assertEqual(transcript([data[:cut], data[cut:]], limits, authenticated), whole)
        trickle = (data[at : at + 1] for at in range(len(data)))
        self.assertEqual(transcript(trickle, limits, authenticated), whole)

    @given(
        st.lists(
            st.sampled_from((b"$1\r\na\r\n", b"$2\r\n\r\n\r\n", b"$0\r\n\r\n", b"$1\r\n", b"$", b"\r\n", b"1")),
            max_size=6,
        ),
        st.sampled_from((b"*1\r\n", b"*2\r\n", b"*3\r\n", b"*11\r\n", b"*", b"")),
    )
    def test_whole_chunks_are_nothing_special(self, pieces: list[bytes], header: bytes) -> None:
        """A chunk that resembles one request has the same result as its bytes one by one."""
        chunk = header + b"".join(pieces)
        self.assertEqual(transcript([chunk]), transcript(chunk[at : at + 1] for at in range(len(chunk))))

    @given(
        st.lists(
            st.sampled_from(
                (
                    *(pack("SENTINEL", "get-master-addr-by-name", f"m{number}") for number in range(3)),
                    pack("PUBLISH", "x", "a\r\nb\r\n*1\r\n$4\r\nPING"),
                    pack("PING", "x" * 1010),
                    pack("PING", "x" * 2000),
                    pack(*["word"] * 10),
                    pack(*["word"] * 11),
                    b"PING\r\n",
                    b"\r\n",
                    b"*0\r\n",
                    b"*2\r\n$4\r\nPING\r\n",
                    b"$4\r\nPING\r\n",
                    b"*1\r\n$4\r\nPINGxx",
                    b"*1\r\n$04\r\nPING\r\n",
                    b"*1\r\n$-1\r\n",
                )
            ),
            max_size=30,
        ),
        st.booleans(),
        st.data(),
    )
    def test_pipelines_are_nothing_special(self, pieces: list[bytes], authenticated: bool, draw: st.DataObject) -> None:
        """A pipeline of any requests has the same result as its bytes one by one."""
        stream = b"".join(pieces)
        first, second = sorted((draw.draw(st.integers(0, len(stream))), draw.draw(st.integers(0, len(stream)))))
        wanted = transcript((stream[at : at + 1] for at in range(len(stream))), LIMITS, authenticated)
        self.assertEqual(transcript([stream], LIMITS, authenticated), wanted)
        self.assertEqual(
            transcript([stream[:first], stream[first:second], stream[second:]], LIMITS, authenticated), wanted
        )

    def test_buffered_in_a_pipeline(self) -> None:
        """Input that was not parsed yet is counted to the byte."""
        request = pack("SENTINEL", "get-master-addr-by-name", "mymaster")
        parser = RequestParser(LIMITS)
        parser.feed(request * 50)
        for left in range(49, 0, -1):
            self.assertIsNotNone(parser.next_request())
            self.assertEqual(parser.buffered, left * len(request))
            if left == 20:
                parser.feed(b"")
        self.assertEqual((parser.next_request() or [b""])[-1], b"mymaster")
        self.assertTrue(parser.at_rest or parser.next_request() is None)

    def test_whole_chunks_know_the_limits(self) -> None:
        """Unusually low limits apply to a chunk of exactly one request, too."""
        for limits, authenticated, error in (
            (replace(LIMITS, bulk_length=3), True, "Protocol error: invalid bulk length"),
            (replace(LIMITS, unauthenticated_bulk_length=3), False, "Protocol error: unauthenticated bulk length"),
            (replace(LIMITS, multibulk_count=1), True, "Protocol error: invalid multibulk length"),
            (
                replace(LIMITS, unauthenticated_multibulk_count=1),
                False,
                "Protocol error: unauthenticated multibulk length",
            ),
            (replace(LIMITS, query_buffer=2 * WORD_OVERHEAD), True, "the request is too big"),
        ):
            (refusal,) = transcript([pack("PING", "word")], limits, authenticated)
            self.assertEqual(text_of(refusal), error)

    def test_unchecked_line_ends(self) -> None:
        """The byte after a CR and the two after a payload are not checked, as in Redis 7."""
        self.assertEqual(transcript([b"*1\rX$4\rYPINGZZ*1\r\n$1\r\na\r\n"]), [[b"PING"], [b"a"]])

    def test_long_words(self) -> None:
        """Words longer than all precomputed headers are parsed, too."""
        words = [b"x" * length for length in (1023, 1024, 9999, 10000, 100000)]
        self.assertEqual(transcript([pack(*words)]), [words])


class InlineTests(SynchronousTestCase):
    """Inline requests are split as by Redis."""

    def test_words(self) -> None:
        """Whitespace, quotes and escapes, as in the lines of files."""
        self.assertEqual(transcript([b'  a\vb "c\\x20d" \'e f\' g"h"\r\n']), [[b"a\vb", b"c d", b"e f", b"gh"]])

    def test_unbalanced(self) -> None:
        """A quote that is not closed, or closed inside a word, is an error."""
        for line in (b'"', b"'", b'a "b', b'"a"b', b"'a'b", b"a'b"):
            parser = RequestParser(LIMITS)
            parser.feed(line + b"\r\n")
            with self.assertRaises(ProtocolError) as raised:
                parser.next_request()
            self.assertEqual(str(raised.exception), "Protocol error: unbalanced quotes in request", line)

    def test_one_carriage_return(self) -> None:
        """Each CR before the line feed except the last is whitespace; a NUL hides the end of its line."""
        self.assertEqual(transcript([b"ping\r\r\n"]), [[b"ping"]])
        self.assertEqual(transcript([b"pi\x00ng\r\nping\r\n"]), [])


class ErrorTests(SynchronousTestCase):
    """Input that ends the connection is answered with the error texts of Redis."""

    def assertRefused(self, stream: bytes, error: str, authenticated: bool = True) -> None:
        """The stream ends with this error, cut anywhere near its beginning."""
        wanted = [(ProtocolError, f"Protocol error: {error}")]
        self.assertEqual(transcript([stream], authenticated=authenticated), wanted, stream[:40])
        for cut in range(1, min(len(stream), 20)):
            chunks = [stream[:cut], stream[cut:]]
            self.assertEqual(transcript(chunks, authenticated=authenticated), wanted, (stream[:40], cut))

    def test_multibulk_length(self) -> None:
        """The count must be a canonical integer within 31 bits."""
        for count in (
            b"",
            b"a",
            b"+1",
            b"01",
            b" 1",
            b"1 ",
            b"-0",
            b"-01",
            b"1_0",
            b"2147483648",
            b"9" * 40,
            b"-" + b"9" * 19,
        ):
            self.assertRefused(b"*" + count + b"\r\n", "invalid multibulk length")

    def test_dollar(self) -> None:
        """A word that does not start with a dollar sign is refused by its first byte."""
        self.assertRefused(b"*1\r\n:1\r\n", "expected '$', got ':'")
        self.assertRefused(b"*1\r\nPING\r\n", "expected '$', got 'P'")
        self.assertRefused(b"*1\r\n\xff\r\n", "expected '$', got '\udcff'")
        self.assertRefused(b"*1\r\n\r\n", "expected '$', got '\r'")
        self.assertEqual(transcript([b"*1\r\nPING"]), [])

    def test_bulk_length(self) -> None:
        """The length must be a canonical integer from zero to the limit."""
        for length in (b"", b"a", b"+1", b"01", b" 1", b"-1", b"536870913", b"629145600", b"9" * 40):
            self.assertRefused(b"*1\r\n$" + length + b"\r\n", "invalid bulk length")

    def test_unbalanced_quotes(self) -> None:
        """Errors of the line splitter are raised."""
        self.assertRefused(b'ping "a\r\n', "unbalanced quotes in request")

    def test_endless_lines(self) -> None:
        """One byte above the limit without a line end is an error, in any chunks."""
        for start, end, error in (
            (b"a", b"\n", "too big inline request"),
            (b"*", b"\r\n", "too big mbulk count string"),
            (b"*1\r\n$", b"\r\n", "too big bulk count string"),
        ):
            lead = len(start) - 1
            long = start + b"a" * LINE
            self.assertRefused(long, error)
            self.assertRefused(long + end, error)
            refusal = transcript([long[: LINE + lead], long[LINE + lead :] + end])[-1]
            self.assertEqual(text_of(refusal), f"Protocol error: {error}")
            self.assertEqual(transcript([long[: LINE + lead]]), [])
        self.assertEqual(transcript([b"a" * LINE + b"\n"]), [[b"a" * LINE]])

    def test_hidden_line_end(self) -> None:
        """After a NUL no line end is found, until the line is too long."""
        self.assertRefused(b"a\x00\n" + b"b\n" * LINE, "too big inline request")
        self.assertRefused(b"*1\x00\r\n" + b"b\r\n" * LINE, "too big mbulk count string")
        self.assertRefused(b"*1\r\n$1\x00\r\n" + b"b\r\n" * LINE, "too big bulk count string")

    def test_unauthenticated(self) -> None:
        """An unauthenticated client may send ten words of 16 KiB and no more."""
        self.assertRefused(b"*11\r\n", "unauthenticated multibulk length", authenticated=False)
        self.assertRefused(b"*1\r\n$16385\r\n", "unauthenticated bulk length", authenticated=False)
        self.assertRefused(b"*1\r\n$536870913\r\n", "invalid bulk length", authenticated=False)
        words = [b"a" * 16384] * 10
        self.assertEqual(transcript([pack(*words)], authenticated=False), [words])

    def test_authentication_widens_the_limits_at_once(self) -> None:
        """A large request after the AUTH that permits it is accepted, even in the same chunk."""
        big = [b"SENTINEL"] * 11 + [b"a" * 20_000]
        parser = RequestParser(LIMITS)
        parser.feed(pack("AUTH", "secret") + pack(*big))
        self.assertEqual(parser.next_request(), [b"AUTH", b"secret"])
        parser.authenticated = True
        self.assertEqual(parser.next_request(), big)

    def test_pseudo_http(self) -> None:
        """An HTTP request closes the connection without a reply, in either kind of request."""
        for stream in (b"POST / HTTP/1.1\r\n", b"host: localhost\r\n", pack("Post", "x"), b"HOST:\n"):
            for cut in range(len(stream)):
                (error,) = transcript([stream[:cut], stream[cut:]])
                self.assertIs(type_of(error), PseudoHttp, stream)
        self.assertEqual(transcript([b"GET / HTTP/1.1\r\n", b"posts\n"]), [[b"GET", b"/", b"HTTP/1.1"], [b"posts"]])

    def test_spent_after_an_error(self) -> None:
        """Input after an error is ignored."""
        parser = RequestParser(LIMITS)
        parser.feed(b"*x\r\nPING\r\n")
        self.assertRaises(ProtocolError, parser.next_request)
        parser.feed(b"PING\r\n")
        self.assertIsNone(parser.next_request())
        self.assertEqual(parser.buffered, 0)

    def test_requests_before_the_error(self) -> None:
        """Complete requests before the invalid one are returned first."""
        self.assertEqual(
            transcript([b"PING\r\n*1\r\n$x\r\n"]), [[b"PING"], (ProtocolError, "Protocol error: invalid bulk length")]
        )


class BoundTests(SynchronousTestCase):
    """Memory and time are bounded, whatever the client sends."""

    def test_counts_cost_nothing(self) -> None:
        """A header with a count of two billion reserves no memory."""
        parser = RequestParser(LIMITS)
        parser.authenticated = True
        tracemalloc.start()
        try:
            parser.feed(b"*2147483647\r\n$1\r\na\r\n")
            self.assertIsNone(parser.next_request())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 20_000)

    def test_request_over_the_query_buffer(self) -> None:
        """A request above the buffer limit is refused as soon as that is known, without a reply."""
        limits = replace(LIMITS, query_buffer=1000)
        fits = [b"a" * (1000 - WORD_OVERHEAD)]
        self.assertEqual(transcript([pack(*fits)], limits), [fits])
        for stream in (b"*1\r\n$1000\r\n", pack("a" * 500, "b" * 500)):
            (error,) = transcript([stream], limits)
            self.assertIs(type_of(error), QueryBufferExceeded)

    def test_many_small_words(self) -> None:
        """Empty words count for the limit, too."""
        limits = replace(LIMITS, query_buffer=10 * WORD_OVERHEAD)
        self.assertEqual(transcript([pack(*[b""] * 10)], limits), [[b""] * 10])
        (error,) = transcript([pack(*[b""] * 11)], limits)
        self.assertIs(type_of(error), QueryBufferExceeded)

    def test_a_pipeline_is_not_one_request(self) -> None:
        """Complete requests do not add up, however many are in one chunk."""
        limits = replace(LIMITS, query_buffer=1000)
        self.assertEqual(transcript([pack("PING") * 1000], limits), [[b"PING"]] * 1000)

    def test_piling_up(self) -> None:
        """Input that is not read is limited; unauthenticated clients may send a mebibyte."""
        for authenticated, max_pieces in ((True, LIMITS.query_buffer), (False, UNAUTHENTICATED_QUERY_BUFFER)):
            parser = RequestParser(LIMITS)
            parser.authenticated = authenticated
            parser.feed(b"\n" * max_pieces)
            parser.feed(b"\n")
            self.assertEqual(parser.buffered, max_pieces + 1)
            self.assertRaises(QueryBufferExceeded, parser.feed, b"\n")
            self.assertEqual(parser.buffered, 0)

    def test_buffered(self) -> None:
        """The count includes unparsed input and parsed words; a complete request leaves nothing."""
        parser = RequestParser(LIMITS)
        parser.feed(b"*2\r\n$4\r\nPING\r\n$10\r\nabc")
        self.assertEqual(parser.buffered, 22)
        self.assertIsNone(parser.next_request())
        self.assertEqual(parser.buffered, 4 + WORD_OVERHEAD + 3)
        parser.feed(b"defghij\r\n")
        self.assertEqual(parser.next_request(), [b"PING", b"abcdefghij"])
        self.assertEqual(parser.buffered, 0)

    def test_huge_word_in_many_chunks(self) -> None:
        """Thirty megabytes in chunks of a kilobyte take linear time."""
        word = bytes(30 << 20)
        stream = memoryview(pack("PUBLISH", word))
        chunks = [bytes(stream[at : at + 1024]) for at in range(0, len(stream), 1024)]
        self.assertTrue(transcript(chunks, limits=replace(LIMITS, kept_word=len(word))) == [[b"PUBLISH", word]])
        self.assertEqual(transcript(chunks), [[b"PUBLISH", b""]])

    def test_long_line_byte_by_byte(self) -> None:
        """The longest line, byte by byte, takes linear time."""
        self.assertEqual(transcript([b"a"] * LINE + [b"\n"]), [[b"a" * LINE]])

    def test_idle_clients_hold_nothing(self) -> None:
        """Once all is parsed, the last chunk is released."""
        parser = RequestParser(LIMITS)
        parser.authenticated = True
        tracemalloc.start()
        try:
            parser.feed(b"PING\r\n" * 100_000)
            while parser.next_request() is not None:
                pass
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(held, 20_000)
