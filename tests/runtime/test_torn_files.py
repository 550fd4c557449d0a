"""Real files whose replacement is interrupted: they stay complete, and temporary files do no harm."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

import txsentinel
from txsentinel.cli.tap import read_configuration
from txsentinel.config.configuration import load
from txsentinel.process import temporary
from txsentinel.runtime.host import replace_file

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(txsentinel.__file__)))

OLD = b"port 26379\nsentinel myid 0000000000000000000000000000000000000001\nsentinel monitor m 10.0.0.1 6379 2\n"
NEW = OLD + b"sentinel config-epoch m 7\nsentinel current-epoch 7\n"


class _Killed(BaseException):
    """Stands for the end of the process: no cleanup follows."""


class TornWriteTests(SynchronousTestCase):
    """``replace_file`` that is interrupted."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "sentinel.conf")
        with open(self.path, "wb") as file:
            file.write(OLD)

    def contents(self) -> bytes:
        """Return the file as the next process reads it."""
        with open(self.path, "rb") as file:
            return file.read()

    def other_files(self) -> list[str]:
        """Return the other files."""
        return sorted(set(os.listdir(self.directory)) - {"sentinel.conf"})

    def die_in(self, owner: object, name: str, before: Callable[..., object]) -> None:
        """Replace the file in a process that dies in this function of the system, after ``before`` was called."""

        def dies(*arguments: object, **keywords: object) -> None:
            before(*arguments, **keywords)
            raise _Killed

        def undone(path: str) -> None:
            """A dead process does not clean up."""

        patches = [self.patch(owner, name, dies), self.patch(os, "unlink", undone)]
        self.assertRaises(_Killed, replace_file, self.path, NEW, 0o022)
        for patch in patches:
            patch.restore()

    def test_half_written(self) -> None:
        """However much was written, the file is the old one, with a temporary file beside it."""
        write = os.write
        for length in (*range(0, len(NEW), 11), len(NEW) - 1, len(NEW)):
            self.die_in(os, "write", lambda descriptor, data, length=length: write(descriptor, data[:length]))
            self.assertEqual(self.contents(), OLD)
            (stray,) = self.other_files()
            path = os.path.join(self.directory, stray)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), NEW[:length])
            os.unlink(path)

    def test_any_step(self) -> None:
        """Before the rename the file is the old one, and from then on the new one."""
        mkstemp, rename = temporary.mkstemp, os.rename
        nothing: Callable[..., object] = lambda *arguments, **keywords: None  # noqa: E731
        for owner, name, before, left in (
            (temporary, "mkstemp", nothing, OLD),
            (temporary, "mkstemp", lambda **how: os.close(mkstemp(**how)[0]), OLD),
            (os, "fchmod", nothing, OLD),
            (os, "fsync", nothing, OLD),
            (os, "rename", nothing, OLD),
            (os, "rename", rename, NEW),
        ):
            with open(self.path, "wb") as file:
                file.write(OLD)
            self.die_in(owner, name, before)
            self.assertEqual(self.contents(), left, name)

    def test_the_next_process(self) -> None:
        """The next process ignores temporary files: it reads the file, and can replace it."""
        before = read_configuration(self.path, [])
        write = os.write
        for length in (0, 20, len(OLD), len(NEW)):
            self.die_in(os, "write", lambda descriptor, data, length=length: write(descriptor, data[:length]))
        self.assertEqual(len(self.other_files()), 4)
        after = read_configuration(self.path, [])
        self.assertEqual(after.current_epoch, before.current_epoch)
        self.assertEqual([master.name for master in after.masters], ["m"])
        replace_file(self.path, NEW, 0o022)
        self.assertEqual(read_configuration(self.path, []).current_epoch, 7)
        self.assertEqual(len(self.other_files()), 4)


WRITER = """
import sys
from txsentinel.process import temporary
from txsentinel.process.files import overwrite_file
path, number = sys.argv[1], int(sys.argv[2])
while True:
    number += 1
    filler = "# filler\\n" * (number * 7919 % 3000)
    overwrite_file(path, f"port 26379\\n{filler}sentinel current-epoch {number}\\n".encode())
    print(number, flush=True)
"""


class KilledTests(SynchronousTestCase):
    """Processes that are killed with SIGKILL while they overwrite a file in place."""

    def test_nothing_is_lost(self) -> None:
        """The durable contents can be read afterwards, or the next ones; the next process continues from there."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"port 26379\n")
        number = 0
        for round_ in range(12):
            writer = subprocess.Popen(
                [sys.executable, "-c", WRITER, path, str(number)],
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": SOURCE},
            )
            assert writer.stdout is not None
            for _ in range(1 + round_ * 5 % 7):
                number = int(writer.stdout.readline())
            writer.kill()
            number = int(([str(number).encode(), *writer.stdout.read().split()])[-1])
            writer.stdout.close()
            writer.wait()
            with open(path, "rb") as file:
                raw = file.read()
            found = load(path, raw).current_epoch
            self.assertIn(found, (number, number + 1))
            number = found


class BadReadTests(SynchronousTestCase):
    """A disk that cannot be read, or returns parts of the file only."""

    def test_input_output_error(self) -> None:
        """A file that cannot be read ends the start with its name and the system's reason."""
        # Nothing is mapped at the beginning of the process's memory, so it cannot be read.
        refusal = self.assertRaises(SystemExit, read_configuration, "/proc/self/mem", [])
        self.assertIn("can't open config file '/proc/self/mem': Input/output error", str(refusal))

    def test_zeros(self) -> None:
        """A file whose blocks are zeros after a power failure ends the start, and is not changed."""
        path = self.mktemp()
        for torn in (bytes(len(OLD)), OLD[:40] + bytes(len(OLD) - 40), bytes(20) + OLD[20:]):
            with open(path, "wb") as file:
                file.write(torn)
            refusal = self.assertRaises(SystemExit, read_configuration, path, [])
            self.assertIn(f"{os.path.abspath(path)} has NUL bytes in it", str(refusal))
            with open(path, "rb") as file:
                self.assertEqual(file.read(), torn)

    def test_fifo(self) -> None:
        """A file that is not regular is not read."""
        path = self.mktemp()
        os.mkfifo(path)
        refusal = self.assertRaises(SystemExit, read_configuration, path, [])
        self.assertIn("Not a regular file", str(refusal))
