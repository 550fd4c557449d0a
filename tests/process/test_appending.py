"""Appending lines to a file: rotation, torn last lines, errors."""

from __future__ import annotations

import os
import stat

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.file_end import FileEnd
from txsentinel.process import appending
from txsentinel.process.appending import append_lines, read_end, rotated


class AppendingTests(SynchronousTestCase):
    """A file in a directory of its own."""

    def setUp(self) -> None:
        """Choose a path whose directory does not exist."""
        self.path = os.path.join(self.mktemp(), "state", "lines")

    def contents(self, number: int = 0) -> bytes:
        """Return the contents of the file that was rotated so often."""
        with open(rotated(self.path, number), "rb") as file:
            return file.read()

    def test_append(self) -> None:
        """Directory and file are created for the owner only; lines are added."""
        append_lines(self.path, b"a\n", 100, 4)
        append_lines(self.path, b"b\nc\n", 100, 4)
        self.assertEqual(b"a\nb\nc\n", self.contents())
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path).st_mode))
        self.assertEqual(0o700, stat.S_IMODE(os.stat(os.path.dirname(self.path)).st_mode))

    def test_rotation(self) -> None:
        """A file that would become too long is renamed; the oldest of four is discarded."""
        for letter in b"abcdefgh":
            append_lines(self.path, bytes([letter]) * 5 + b"\n", 12, 4)
        self.assertEqual([b"ggggg\nhhhhh\n", b"eeeee\nfffff\n"], [self.contents(0), self.contents(1)])
        self.assertEqual(b"aaaaa\nbbbbb\n", self.contents(3))
        append_lines(self.path, b"i\n", 12, 4)
        self.assertEqual([b"i\n", b"ccccc\nddddd\n"], [self.contents(0), self.contents(3)])
        self.assertFalse(os.path.exists(rotated(self.path, 4)))

    def test_long_lines(self) -> None:
        """Lines longer than the limit are written to a file of their own."""
        append_lines(self.path, b"x" * 50 + b"\n", 12, 4)
        append_lines(self.path, b"y\n", 12, 4)
        self.assertEqual((b"y\n", 51), (self.contents(), len(self.contents(1))))

    def test_torn(self) -> None:
        """A torn last line is ended, so that the next one is intact."""
        append_lines(self.path, b"whole\n", 100, 4)
        with open(self.path, "ab") as file:
            file.write(b"tor")
        append_lines(self.path, b"next\n", 100, 4)
        self.assertEqual(b"whole\ntor\nnext\n", self.contents())

    def test_symbolic_link(self) -> None:
        """A symbolic link in place of the file is not followed."""
        os.makedirs(os.path.dirname(self.path))
        os.symlink("/nonexistent/target", self.path)
        self.assertRaises(OSError, append_lines, self.path, b"a\n", 100, 4)

    def test_errors(self) -> None:
        """What cannot be written is an error of the operating system, and no descriptor is leaked."""
        os.makedirs(self.path)
        before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        self.assertRaises(IsADirectoryError, append_lines, self.path, b"a\n", 1 << 20, 4)
        after = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        self.assertEqual(before, after)

    def test_end(self) -> None:
        """The end of a file begins with a whole line; a line longer than what is wanted is never read as a whole."""
        self.patch(appending, "PIECE", 16)
        append_lines(self.path, b"first\n" + b"x" * 1_000 + b"\nthird\nfourth\n", 10_000, 4)
        self.assertEqual(FileEnd(b"third\nfourth\n", 2, 1_001), read_end(self.path, 20))
        self.assertEqual(FileEnd(b"fourth\n", 3, 6), read_end(self.path, 10))
        whole = self.contents()
        self.assertEqual(FileEnd(whole), read_end(self.path, len(whole)))

    def test_end_of_something_else(self) -> None:
        """What is no regular file has no end, and is not waited for."""
        os.makedirs(os.path.dirname(self.path))
        os.mkfifo(self.path)
        self.assertRaises(OSError, read_end, self.path, 10)
        self.assertRaises(FileNotFoundError, read_end, self.path + "x", 10)
