"""Tests of ``txsentinel.wire.words``."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.timings import Limits
from txsentinel.wire.words import split_words, yes_or_no

LINE = Limits().inline_request


class SplitWordsTests(SynchronousTestCase):
    """Lines are split as by C servers."""

    def test_words(self) -> None:
        """Whitespace, quotes and escapes."""
        for line, words in (
            (b"", []),
            (b" \t\v\f\r ", []),
            (b"  a\tb  c ", [b"a", b"b", b"c"]),
            (b"a\vb", [b"a\vb"]),
            (b"\va \f b", [b"a", b"b"]),
            (b'""', [b""]),
            (b"''", [b""]),
            (b'a"b c"', [b"ab c"]),
            (b"a'b c'", [b"ab c"]),
            (b'"a\\n\\r\\t\\b\\a\\\\\\"\\q"', [b'a\n\r\t\b\a\\"q']),
            (b'"\\x41\\xfF\\x00"', [b"A\xff\x00"]),
            (b'"\\xg1\\x4"', [b"xg1x4"]),
            (b"'\\n\\x41\\\\ '", [b"\\n\\x41\\\\ "]),
            (b"'it\\'s'", [b"it's"]),
            (b'"a"\v"b"', [b"a", b"b"]),
            (b"'a' \"b\"", [b"a", b"b"]),
            (b"'a\"b' \"a'b\"", [b'a"b', b"a'b"]),
            (b"a\\ b", [b"a\\", b"b"]),
            (b"# no comment", [b"#", b"no", b"comment"]),
        ):
            self.assertEqual(split_words(line), words, line)

    def test_unbalanced(self) -> None:
        """``None`` if a quote is not closed, or closed inside a word."""
        for line in (b'"', b"'", b'a "b', b"'a\\'", b'"a\\"', b'"a\\', b'"a"b', b"'a'b", b'""""', b"'a\\' b", b"a'b"):
            self.assertIsNone(split_words(line), line)

    @given(st.lists(st.sampled_from((b'"', b"'", b"\\", b"a", b" ", b"x4", b"1")), max_size=30).map(b"".join))
    def test_no_error(self, line: bytes) -> None:
        """Any line is either split or not; without quotes, words have no whitespace."""
        words = split_words(line)
        if b'"' not in line and b"'" not in line:
            self.assertEqual(words, line.split())

    def test_quotes_do_not_explode(self) -> None:
        """The longest lines with many quotes are split without backtracking."""
        for line in (
            b'"' + b"a" * LINE,
            b"'" + b"\\" * LINE,
            b'"' + b'\\"' * (LINE // 2),
            b"'a' " * (LINE // 4) + b"'",
        ):
            self.assertIsNone(split_words(line))
        self.assertEqual(len(split_words(b"'a' " * (LINE // 4)) or ()), LINE // 4)


class YesOrNoTests(SynchronousTestCase):
    """Booleans in commands and files."""

    def test_words(self) -> None:
        """Both words in any letter case; nothing else."""
        for word, value in (("yes", True), ("No", False), ("YES", True), ("", None), ("y", None), ("yes ", None)):
            self.assertIs(yes_or_no(word), value)
