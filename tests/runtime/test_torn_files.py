"""Real files, and processes that die at any moment of replacing one: it stays whole, and what is left does no harm."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

import txsentinel
from txsentinel.cli.tap import read_configuration
from txsentinel.config.configuration import load
from txsentinel.runtime.host import replace_file

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(txsentinel.__file__)))

OLD = b"port 26379\nsentinel myid 0000000000000000000000000000000000000001\nsentinel monitor m 10.0.0.1 6379 2\n"
NEW = OLD + b"sentinel config-epoch m 7\nsentinel current-epoch 7\n"


class _Killed(BaseException):
    """Stands for the end of the process: nothing that would be done afterwards is done."""


class TornWriteTests(SynchronousTestCase):
    """``replace_file`` that does not come to its end."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "sentinel.conf")
        with open(self.path, "wb") as file:
            file.write(OLD)

    def contents(self) -> bytes:
        """The file as the next process will find it."""
        with open(self.path, "rb") as file:
            return file.read()

    def strays(self) -> list[str]:
        """What else there is."""
        return sorted(set(os.listdir(self.directory)) - {"sentinel.conf"})

    def die_in(self, owner: object, name: str, last_words: Callable[..., object]) -> None:
        """Replace the file in a process that dies in this function of the system, after ``last_words``."""

        def dies(*arguments: object, **keywords: object) -> None:
            last_words(*arguments, **keywords)
            raise _Killed

        def undone(path: str) -> None:
            """A process that is dead does not clean up."""

        patches = [self.patch(owner, name, dies), self.patch(os, "unlink", undone)]
        self.assertRaises(_Killed, replace_file, self.path, NEW, 0o022)
        for patch in patches:
            patch.restore()

    def test_half_written(self) -> None:
        """However much was written, the file is the old one, and that much stands beside it."""
        write = os.write
        for length in (*range(0, len(NEW), 11), len(NEW) - 1, len(NEW)):
            self.die_in(os, "write", lambda descriptor, data, length=length: write(descriptor, data[:length]))
            self.assertEqual(self.contents(), OLD)
            (stray,) = self.strays()
            path = os.path.join(self.directory, stray)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), NEW[:length])
            os.unlink(path)

    def test_any_step(self) -> None:
        """Before the rename has happened the file is the old one, and from then on the new one."""
        mkstemp, rename = tempfile.mkstemp, os.rename
        nothing: Callable[..., object] = lambda *arguments, **keywords: None  # noqa: E731
        for owner, name, last_words, left in (
            (tempfile, "mkstemp", nothing, OLD),
            (tempfile, "mkstemp", lambda **how: os.close(mkstemp(**how)[0]), OLD),
            (os, "fchmod", nothing, OLD),
            (os, "fsync", nothing, OLD),
            (os, "rename", nothing, OLD),
            (os, "rename", rename, NEW),
        ):
            with open(self.path, "wb") as file:
                file.write(OLD)
            self.die_in(owner, name, last_words)
            self.assertEqual(self.contents(), left, name)

    def test_the_next_process(self) -> None:
        """Strays are neither read nor in the way: the configuration is the file's, and can be replaced."""
        before = read_configuration(self.path, [])
        write = os.write
        for length in (0, 20, len(OLD), len(NEW)):
            self.die_in(os, "write", lambda descriptor, data, length=length: write(descriptor, data[:length]))
        self.assertEqual(len(self.strays()), 4)
        after = read_configuration(self.path, [])
        self.assertEqual(after.current_epoch, before.current_epoch)
        self.assertEqual([master.name for master in after.masters], ["m"])
        replace_file(self.path, NEW, 0o022)
        self.assertEqual(read_configuration(self.path, []).current_epoch, 7)
        self.assertEqual(len(self.strays()), 4)


WRITER = """
import sys
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
        """Whatever was durable is found afterwards, or what was written next; the next process goes on from there."""
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
    """A disk that does not give the file back, or not in one piece."""

    def test_input_output_error(self) -> None:
        """A file that cannot be read ends the start with its name and the system's reason."""
        # Nothing is mapped at the beginning of our memory, so the system cannot give it to us.
        refusal = self.assertRaises(SystemExit, read_configuration, "/proc/self/mem", [])
        self.assertIn("can't open config file '/proc/self/mem': Input/output error", str(refusal))

    def test_zeros(self) -> None:
        """A file whose blocks a power cut left empty ends the start, and stays for whoever wants to look at it."""
        path = self.mktemp()
        for torn in (bytes(len(OLD)), OLD[:40] + bytes(len(OLD) - 40), bytes(20) + OLD[20:]):
            with open(path, "wb") as file:
                file.write(torn)
            refusal = self.assertRaises(SystemExit, read_configuration, path, [])
            self.assertIn(f"{os.path.abspath(path)} has NUL bytes in it", str(refusal))
            with open(path, "rb") as file:
                self.assertEqual(file.read(), torn)

    def test_fifo(self) -> None:
        """What is no regular file is not waited for."""
        path = self.mktemp()
        os.mkfifo(path)
        refusal = self.assertRaises(SystemExit, read_configuration, path, [])
        self.assertIn("Not a regular file", str(refusal))
