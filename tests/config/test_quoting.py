"""Splitting of lines into words, and quoting of words."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.config.quoting import decoded, encoded, split_line, written


class SplitWordsTests(SynchronousTestCase):
    """Lines are split as by C servers."""

    def test_words(self) -> None:
        """Words end at whitespace; quotes keep it, and may open inside a word."""
        for line, words in (
            (b"a b\tc", [b"a", b"b", b"c"]),
            (b"  a\vb \fc ", [b"a\vb", b"c"]),
            (b'a "b c" d', [b"a", b"b c", b"d"]),
            (b"a 'b c' d", [b"a", b"b c", b"d"]),
            (b'a""', [b"a"]),
            (b'""', [b""]),
            (b'a"b c"', [b"ab c"]),
            (b"a \\n", [b"a", b"\\n"]),
            (b"a # b", [b"a", b"#", b"b"]),
            (b"caf\xc3\xa9 \xff", [b"caf\xc3\xa9", b"\xff"]),
            (b"a b\0c d", [b"a", b"b"]),
            (b"", []),
        ):
            self.assertEqual(split_line(line), words, line)

    def test_escapes(self) -> None:
        """Double quotes support all escapes, single quotes only their own."""
        self.assertEqual(split_line(rb'"\n\r\t\b\a\x41\x4g\q\"\\"'), [b'\n\r\t\b\aAx4gq"\\'])
        self.assertEqual(split_line(rb"'\n\'\\x'"), [rb"\n'\\x"])

    def test_unbalanced(self) -> None:
        """A quote that is not closed, or is closed inside a word, is an error."""
        for line in (b'a "b', b"a 'b", b'"a"b', b"'a'b", b'"a""b"', b'"a\\"'):
            self.assertIsNone(split_line(line), line)


class WrittenTests(SynchronousTestCase):
    """A word that is written is split to the same word."""

    def test_quotes_only_where_needed(self) -> None:
        """Ordinary words are written without quotes, as in older versions."""
        for word in ("mymaster", "10.0.0.1", "p#ss\\word", "/opt/hooks/reconf.sh", "caf\xe9"):
            self.assertEqual(written(word), word)
        self.assertEqual(written(""), '""')
        self.assertEqual(written("a b"), '"a b"')
        self.assertEqual(written("a\nb\x01"), '"a\\nb\\x01"')
        self.assertEqual(written("it's"), '"it\'s"')

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=12), min_size=1, max_size=4))
    def test_round_trip(self, words: list[bytes]) -> None:
        """Any bytes survive being written and split."""
        line = encoded(" ".join(written(decoded(word)) for word in words))
        self.assertNotIn(b"\n", line)
        self.assertEqual(split_line(line), words)
