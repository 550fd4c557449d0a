"""Tests of ``txsentinel.wire.resp``."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.wire.resp import (
    NULL_ARRAY,
    OK,
    PONG,
    ErrorReply,
    Push,
    Raw,
    SetReply,
    Simple,
    Value,
    Verbatim,
    data,
    encode,
    pack,
    text,
)


class TextTests(SynchronousTestCase):
    """Text is decoded and encoded without loss."""

    @given(st.binary())
    def test_any_bytes_survive(self, raw: bytes) -> None:
        """Any bytes survive decoding and encoding."""
        self.assertEqual(data(text(raw)), raw)

    @given(st.text(alphabet=st.characters()))
    def test_any_text_can_be_written(self, words: str) -> None:
        """No text raises, and text that is valid in UTF-8 is encoded unchanged."""
        raw = data(words)
        if not any("\ud800" <= letter <= "\udfff" for letter in words):
            self.assertEqual(raw, words.encode())

    def test_lone_surrogate(self) -> None:
        """A surrogate that represents no byte is replaced; its neighbours are kept."""
        self.assertEqual(data("a\ud800\udcffb"), b"a?\xffb")


class PackTests(SynchronousTestCase):
    """Commands are encoded as multibulk requests."""

    def test_words(self) -> None:
        """Bytes, text and numbers become bulk strings with their length in bytes."""
        self.assertEqual(
            pack("SET", b"\xff\r\n", "é", 12), b"*4\r\n$3\r\nSET\r\n$3\r\n\xff\r\n\r\n$2\r\n\xc3\xa9\r\n$2\r\n12\r\n"
        )

    def test_empty_word(self) -> None:
        """An empty word becomes an empty bulk string."""
        self.assertEqual(pack("AUTH", ""), b"*2\r\n$4\r\nAUTH\r\n$0\r\n\r\n")


class EncodeTests(SynchronousTestCase):
    """Each value has one encoding per protocol."""

    VALUES: tuple[tuple[Value, bytes, bytes], ...] = (
        (b"ab\xff", b"$3\r\nab\xff\r\n", b"$3\r\nab\xff\r\n"),
        ("\udcff", b"$1\r\n\xff\r\n", b"$1\r\n\xff\r\n"),
        ("", b"$0\r\n\r\n", b"$0\r\n\r\n"),
        (7, b":7\r\n", b":7\r\n"),
        (-(1 << 63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (False, b":0\r\n", b"#f\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (3.0, b"$1\r\n3\r\n", b",3\r\n"),
        (float("inf"), b"$3\r\ninf\r\n", b",inf\r\n"),
        (None, b"$-1\r\n", b"_\r\n"),
        (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
        ([], b"*0\r\n", b"*0\r\n"),
        (["a", 1, [None]], b"*3\r\n$1\r\na\r\n:1\r\n*1\r\n$-1\r\n", b"*3\r\n$1\r\na\r\n:1\r\n*1\r\n_\r\n"),
        ((b"x",), b"*1\r\n$1\r\nx\r\n", b"*1\r\n$1\r\nx\r\n"),
        ({"k": "v"}, b"*2\r\n$1\r\nk\r\n$1\r\nv\r\n", b"%1\r\n$1\r\nk\r\n$1\r\nv\r\n"),
        (SetReply(["a"]), b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n"),
        (Push(("a", 1)), b"*2\r\n$1\r\na\r\n:1\r\n", b">2\r\n$1\r\na\r\n:1\r\n"),
        (OK, b"+OK\r\n", b"+OK\r\n"),
        (PONG, b"+PONG\r\n", b"+PONG\r\n"),
        (ErrorReply("ERR no"), b"-ERR no\r\n", b"-ERR no\r\n"),
        (Verbatim("hi\n"), b"$3\r\nhi\n\r\n", b"=7\r\ntxt:hi\n\r\n"),
        (Verbatim(b"\xff"), b"$1\r\n\xff\r\n", b"=5\r\ntxt:\xff\r\n"),
        (Raw(b"*0\r\n"), b"*0\r\n", b"*0\r\n"),
        (Raw(b""), b"", b""),
    )

    def test_values(self) -> None:
        """Every value is encoded for the protocol in force."""
        for value, resp2, resp3 in self.VALUES:
            self.assertEqual(encode(value), resp2, value)
            self.assertEqual(encode(value, 2), resp2, value)
            self.assertEqual(encode(value, 3), resp3, value)

    def test_protocol_reaches_the_depth(self) -> None:
        """The items of an aggregate are encoded for the same protocol."""
        self.assertEqual(encode([{"k": SetReply([True])}], 3), b"*1\r\n%1\r\n$1\r\nk\r\n~1\r\n#t\r\n")
        self.assertEqual(encode([{"k": SetReply([True])}], 2), b"*1\r\n*2\r\n$1\r\nk\r\n*1\r\n:1\r\n")

    @given(st.text())
    def test_a_line_is_one_line(self, words: str) -> None:
        """No text from a client can end the line of a status or an error early."""
        for value in (Simple(words), ErrorReply(words)):
            line = encode(value)
            self.assertTrue(line.endswith(b"\r\n"))
            self.assertNotIn(b"\r", line[:-2])
            self.assertNotIn(b"\n", line[:-2])

    def test_line_ends_become_spaces(self) -> None:
        """Each carriage return and line feed in an error is replaced."""
        self.assertEqual(encode(ErrorReply("ERR a\r\nb\nc")), b"-ERR a  b c\r\n")

    def test_unknown_type(self) -> None:
        """A value without a RESP type raises with the name of its type."""
        with self.assertRaisesRegex(TypeError, "object"):
            encode(object())  # type: ignore[arg-type]
