"""Tests of ``txsentinel.wire.glob``."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.wire.glob import glob_match

patterns = st.text(alphabet="ab*?[]^-\\", max_size=8).map(str.encode)
strings = st.text(alphabet="ab*-]\\", max_size=6).map(str.encode)


def upstream(pattern: bytes, string: bytes) -> bool:
    """Match by plain recursion, which is exponential and obviously correct; only for short inputs."""
    at = 0
    while at < len(pattern) and string:
        sign = pattern[at : at + 1]
        if sign == b"*":
            rest = pattern[at:].lstrip(b"*")
            return not rest or any(upstream(rest, string[start:]) for start in range(len(string)))
        if sign == b"[":
            matched, at = upstream_class(pattern, at + 1, string[:1])
            if not matched:
                return False
        elif sign != b"?":
            if sign == b"\\" and at + 1 < len(pattern):
                at += 1
            if pattern[at : at + 1] != string[:1]:
                return False
        string = string[1:]
        at += 1
        if not string:
            return not pattern[at:].strip(b"*")
    return at >= len(pattern) and not string


def upstream_class(pattern: bytes, at: int, byte: bytes) -> tuple[bool, int]:
    """Match one class, member by member."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    matched = False
    while pattern[at:] and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and pattern[at + 1 :]:
            at += 1
            matched |= pattern[at : at + 1] == byte
        elif pattern[at + 1 : at + 2] == b"-" and pattern[at + 2 :]:
            first, last = sorted((pattern[at : at + 1], pattern[at + 2 : at + 3]))
            matched |= first <= byte <= last
            at += 2
        else:
            matched |= pattern[at : at + 1] == byte
        at += 1
    return matched != negated, at


class GlobTests(SynchronousTestCase):
    """Patterns match like those of the servers."""

    def check(
        self, pattern: bytes, matching: tuple[bytes, ...], others: tuple[bytes, ...], nocase: bool = False
    ) -> None:
        """Check strings that must match and strings that must not."""
        for string in matching:
            self.assertTrue(glob_match(pattern, string, nocase), (pattern, string))
        for string in others:
            self.assertFalse(glob_match(pattern, string, nocase), (pattern, string))

    def test_literal(self) -> None:
        """Ordinary bytes match themselves, and the whole string must match."""
        self.check(b"+sdown", (b"+sdown",), (b"-sdown", b"+sdown2", b"+sdow", b"+SDOWN", b""))

    def test_star(self) -> None:
        """One or several stars match any bytes."""
        self.check(b"*", (b"a", b"\x00\xff"), (b"",))
        self.check(b"+s*n", (b"+sdown", b"+sn", b"+snn"), (b"+sdown2", b"sdown"))
        self.check(b"a**b*", (b"ab", b"axxb", b"abc"), (b"a", b"ba"))
        self.check(b"*ab*ab", (b"abab", b"ababab"), (b"ab", b"aba"))

    def test_question(self) -> None:
        """A question mark matches exactly one byte."""
        self.check(b"h?llo", (b"hello", b"h\xffllo"), (b"hllo", b"heello"))

    def test_class(self) -> None:
        """Members, ranges in either direction, negation and escapes."""
        self.check(b"[-+]sdown", (b"-sdown", b"+sdown"), (b"sdown", b",sdown"))
        self.check(b"x[a-c]", (b"xa", b"xb", b"xc"), (b"xd", b"x-", b"x"))
        self.check(b"x[c-a]", (b"xa", b"xb", b"xc"), (b"xd",))
        self.check(b"x[^a-c]", (b"xd", b"x^", b"x\x00"), (b"xa", b"x"))
        self.check(b"[\\]\\-]", (b"]", b"-"), (b"\\", b"a"))
        self.check(b"[^]", (b"a", b"]", b"^"), (b"",))
        self.check(b"[]", (), (b"", b"]", b"[]"))
        self.check(b"[a^]", (b"a", b"^"), (b"b",))

    def test_unterminated_class(self) -> None:
        """A class without its closing bracket ends with the pattern."""
        self.check(b"[ab", (b"a", b"b"), (b"[", b"c", b"ab"))
        self.check(b"[a-", (b"a", b"-"), (b"b",))
        self.check(b"[a-]", (b"]", b"^", b"a"), (b"-", b"b"))
        self.check(b"[", (), (b"[",))
        self.check(b"[^", (b"[", b"x"), (b"",))
        self.check(b"[a\\", (b"a", b"\\"), (b"b",))

    def test_backslash(self) -> None:
        """A backslash makes the next byte literal; at the end it is literal itself."""
        self.check(b"a\\*", (b"a*",), (b"ab", b"a\\*"))
        self.check(b"a\\", (b"a\\",), (b"a",))
        self.check(b"\\\\", (b"\\",), (b"\\\\",))

    def test_empty(self) -> None:
        """Only the empty pattern matches the empty string."""
        self.check(b"", (b"",), (b"a",))

    def test_letter_case(self) -> None:
        """With ``nocase`` the case of ASCII letters is ignored, except for escaped members of a class."""
        self.check(b"CLIENT|*", (b"client|id", b"Client|ID"), (b"acl|cat",), nocase=True)
        self.check(b"[A-C]x", (b"ax", b"BX"), (b"dx",), nocase=True)
        self.check(b"[abc]", (b"A", b"c"), (b"d",), nocase=True)
        self.check(b"[\\a]", (b"a",), (b"A",), nocase=True)
        self.check(b"\xe4", (b"\xe4",), (b"\xc4",), nocase=True)

    @given(patterns, strings)
    def test_same_as_the_recursion(self, pattern: bytes, string: bytes) -> None:
        """The bounded match and the plain recursion have the same result."""
        self.assertEqual(glob_match(pattern, string), upstream(pattern, string))

    @given(st.binary(), st.binary(), st.booleans())
    def test_never_raises(self, pattern: bytes, string: bytes, nocase: bool) -> None:
        """Any two byte strings can be compared."""
        self.assertIsInstance(glob_match(pattern, string, nocase), bool)

    def test_stars_do_not_explode(self) -> None:
        """A pattern with exponential backtracking ends at once."""
        self.assertFalse(glob_match(b"a*" * 100 + b"b", b"a" * 500))
        self.assertFalse(glob_match(b"*a" * 1000 + b"b", b"a" * 2000))

    def test_long_patterns(self) -> None:
        """Long strings match like short ones."""
        self.check(b"a" * 5000 + b"*", (b"a" * 5000, b"a" * 5001), (b"a" * 4999,))

    def test_huge_patterns(self) -> None:
        """Megabytes of pattern are cheap: a pattern that no short string can match is not read to its end."""
        channel = b"+switch-master"
        started = time.process_time()
        for _ in range(20):
            for hopeless in (b"a" * 10_000_000, b"*a" * 5_000_000, b"[" + b"a-" * 5_000_000, b"[]" * 5_000_000):
                self.assertFalse(glob_match(hopeless, channel))
            self.assertTrue(glob_match(b"+*" + b"*" * 1_000_000 + b"r", channel))
        self.assertLess(time.process_time() - started, 5.0)

    def test_long_class(self) -> None:
        """A class with all bytes, each escaped, has its usual meaning."""
        every = b"[" + b"".join(b"\\" + bytes((byte,)) for byte in range(256)) + b"]"
        self.check(every, (b"a", b"\0", b"]", b"\xff"), (b"ab",))
