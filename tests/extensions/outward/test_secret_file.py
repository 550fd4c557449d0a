"""Tests of ``txsentinel.extensions.secret_file``."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import LogEvent, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.outward.harness import ImmediateReactor
from tests.log_events import observe_log
from txsentinel.extensions.secret_file import READ_INTERVAL, SecretFile, SecretReader, secret_line


class SecretCase(SynchronousTestCase):
    """A file with a secret."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_text("hunter2\n")


class SecretFileTests(SecretCase):
    """One file."""

    def test_value_is_not_shown(self) -> None:
        """The value is that of the file without the line end; the repr has the path only."""
        file = SecretFile(str(self.path), secret_line)
        self.assertEqual(file.value, "hunter2")
        self.assertNotIn("hunter2", repr(file))
        self.assertIn(str(self.path), repr(file))

    def test_refusals(self) -> None:
        """What cannot be a secret is refused; the text has the path and the reason, and no part of the contents."""
        for contents, reason in (
            (b"", "empty"),
            (b"hunter2\nhunter3", "several lines"),
            ("hunter2 ü".encode(), "ASCII"),
            (b"hunter2" * 200_000, "bytes"),
        ):
            self.path.write_bytes(contents)
            error = self.assertRaises(ValueError, SecretFile, str(self.path), secret_line)
            self.assertIn(reason, str(error))
            self.assertIn(str(self.path), str(error))
            self.assertNotIn("hunter", str(error))

    def test_missing(self) -> None:
        """A file that is not there is named."""
        error = self.assertRaises(ValueError, SecretFile, str(self.path) + "x", secret_line)
        self.assertIn("No such file", str(error))


class SecretReaderTests(SecretCase):
    """Files that change."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = ImmediateReactor()
        self.file = SecretFile[object](str(self.path), secret_line)
        self.service = SecretReader(self.reactor, [self.file])  # type: ignore[arg-type]
        self.lines: list[str] = []
        observe_log(self, self.record)
        self.service.startService()

    def record(self, event: LogEvent) -> None:
        """Keep the text of a log line."""
        self.lines.append(formatEvent(event))

    def test_new_contents(self) -> None:
        """New contents are used after the interval."""
        self.path.write_text("swordfish")
        self.reactor.advance(READ_INTERVAL - 0.1)
        self.assertEqual(self.file.value, "hunter2")
        self.reactor.advance(0.2)
        self.assertEqual(self.file.value, "swordfish")

    def test_unusable_contents(self) -> None:
        """Contents that are not usable leave the former value, which is logged once; then they are used again."""
        self.path.write_text("")
        self.reactor.pump([READ_INTERVAL] * 3)
        self.assertEqual(self.file.value, "hunter2")
        self.assertEqual(len(self.lines), 1)
        self.assertIn("its former value stays valid", self.lines[0])
        self.path.write_text("swordfish")
        self.reactor.advance(READ_INTERVAL)
        self.assertEqual(self.file.value, "swordfish")

    def test_stop(self) -> None:
        """A stopped service reads no more."""
        self.service.stopService()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
