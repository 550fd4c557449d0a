"""Guarantees of overwriting in place: after a crash at any time, the old contents are found, or the new ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.config.recovery import PREFIX, Overwriting, describe, overwriting, recovered

OLD = b"# mine\nport 26379\nsentinel myid a\nsentinel leader-epoch m 4\nsentinel current-epoch 4"
NEW = b"# mine\nport 26379\nsentinel myid a\nsentinel leader-epoch m 5\nsentinel current-epoch 5\nsentinel x\n"
TEXTS = st.lists(
    st.sampled_from([b"port 1", b"", b"#: x", b"# c", b"\xff", b"\r", b"sentinel leader-epoch m 5", b"a" * 40])
).flatmap(lambda lines: st.sampled_from([b"\n".join(lines), b"\n".join([*lines, b""])]))


def written_over(before: bytes, at: int, piece: bytes) -> bytes:
    """Return a file into which ``piece`` was written at ``at``."""
    before = before.ljust(at, b"\0")
    return before[:at] + piece + before[at + len(piece) :]


def states(old: bytes, steps: Overwriting) -> Iterator[tuple[str, bytes]]:
    """Yield each state that a killed process can leave, with its step."""
    for size in range(len(steps.record)):
        yield "record", old + steps.record[:size]
    whole = old + steps.record
    for size in range(len(steps.head)):
        yield "head", written_over(whole, 0, steps.head[:size])
    yield "cut", written_over(whole, 0, steps.head)
    yield "done", steps.contents


class CrashTests(SynchronousTestCase):
    """A crash at each byte."""

    def check(self, old: bytes, new: bytes) -> None:
        """Old or new contents during step 1, new ones afterwards; completing the steps results in the new ones."""
        for step, raw in states(old, overwriting(old, new)):
            found = recovered(raw)
            if step == "record" and found.contents != new:
                # A comment without text cannot be attributed to either file.
                rest = found.contents.removeprefix(old).lstrip(b"\n")
                self.assertIn(rest, (b"", b"#", b"#:"), (step, raw))
            else:
                self.assertEqual(found.contents, new, (step, raw))
            if found.interrupted is not None:
                again = found.interrupted
                ended = written_over(raw, 0, again.head)[: len(again.contents)]
                self.assertEqual((again.record, ended), (b"", new))
            self.assertFalse(found.ignored)

    def test_each_byte(self) -> None:
        """Longer, shorter and equal contents, from nothing, and to nothing."""
        for old, new in ((OLD, NEW), (NEW, OLD), (OLD, OLD[:-1] + b"5"), (b"", NEW), (NEW, b""), (b"a", b"b")):
            self.check(old, new)

    @given(TEXTS, TEXTS)
    def test_any_text(self, old: bytes, new: bytes) -> None:
        """Any contents of the file."""
        self.check(old, new)

    @given(st.lists(st.sampled_from("on0"), min_size=100, max_size=100))
    def test_power_cut(self, blocks: list[str]) -> None:
        """Blocks of step 2 reach the disk in any order; missing ones may be zeros."""
        steps = overwriting(OLD, NEW)
        whole = OLD + steps.record
        at = len(steps.head)
        head = bytearray(whole[:at])
        for number, block in enumerate(blocks[: (at + 7) // 8]):
            here = slice(8 * number, min(8 * number + 8, at))
            if block != "o":
                head[here] = steps.head[here] if block == "n" else bytes(len(head[here]))
        self.assertEqual(recovered(bytes(head) + whole[at:]).contents, NEW)

    def test_a_second_crash(self) -> None:
        """A process that is killed while it completes an interrupted step leaves a recoverable state, too."""
        for _, raw in states(OLD, overwriting(OLD, NEW)):
            interrupted = recovered(raw).interrupted
            for size in range(0, 0 if interrupted is None else len(interrupted.head), 7):
                assert interrupted is not None
                self.assertEqual(recovered(written_over(raw, 0, interrupted.head[:size])).contents, NEW)

    def test_file_with_remains_is_overwritten(self) -> None:
        """Remains of a killed writer do not prevent the next write."""
        for raw in (OLD + overwriting(OLD, NEW).record[:60], written_over(OLD + overwriting(OLD, NEW).record, 0, NEW)):
            newer = NEW.replace(b"epoch 5", b"epoch 6")
            for step, state in states(raw, overwriting(raw, newer)):
                if step != "record":
                    self.assertEqual(recovered(state).contents, newer)


class ChangedTests(SynchronousTestCase):
    """Files that were changed while they had a record."""

    def test_newer_epochs_count(self) -> None:
        """A change by a C Sentinel is not undone, even with the same length and few different bytes."""
        whole = OLD + overwriting(OLD, NEW).record
        done = written_over(whole, 0, overwriting(OLD, NEW).head)
        for raw in (whole, done):
            found = recovered(re.sub(rb"leader-epoch m \d", b"leader-epoch m 9", raw, count=1))
            self.assertIn(b"leader-epoch m 9", found.contents)
            self.assertNotIn(PREFIX, found.contents)
            self.assertTrue(found.ignored)
            self.assertIn("ignored", describe("/s.conf", found) or "")

    def test_moved_record(self) -> None:
        """A record that moved with the lines above it is ignored."""
        whole = OLD + overwriting(OLD, NEW).record
        self.assertEqual(recovered(b"# new\n" + whole).contents, b"# new\n" + OLD + b"\n")

    def test_nothing_to_do(self) -> None:
        """A file without a record is unchanged."""
        for text in (b"", OLD, NEW, b"a\r\nb\0", b"#:x\n#: |\n"):
            found = recovered(text)
            self.assertEqual((found.contents, found.interrupted, found.ignored), (text, None, False))
            self.assertIsNone(describe("/s.conf", found))

    def test_comments_only(self) -> None:
        """Before step 2 and after it, only comments and empty lines were added, so a C Sentinel loads the file."""
        steps = overwriting(OLD, NEW)
        for text, raw in ((OLD, OLD + steps.record), (NEW, written_over(OLD + steps.record, 0, steps.head))):
            rest = raw.removeprefix(text)
            self.assertNotEqual(rest, raw)
            self.assertEqual([line for line in rest.split(b"\n") if line and not line.startswith(b"#:|")], [])
