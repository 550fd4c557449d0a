"""The end of a file that is read in pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.file_end import FileEnd, file_end


def expected(whole: bytes, limit: int) -> FileEnd:
    """Return the end of a file that is in memory."""
    start = max(0, len(whole) - limit)
    if start == 0 or whole[start - 1 : start] == b"\n":
        return FileEnd(whole[start:], whole.count(b"\n", 0, start))
    line = whole.rfind(b"\n", 0, start) + 1
    at = whole.find(b"\n", start) + 1 or len(whole)
    return FileEnd(whole[at:], whole.count(b"\n", 0, start) + 1, at - line)


class FileEndTests(SynchronousTestCase):
    """Files in pieces of any size."""

    @given(st.lists(st.text("ab\n", max_size=6), max_size=8), st.integers(1, 12))
    def test_pieces(self, pieces: list[str], limit: int) -> None:
        """The result does not depend on the pieces."""
        raw = [piece.encode() for piece in pieces]
        self.assertEqual(expected(b"".join(raw), limit), file_end(raw, limit))
