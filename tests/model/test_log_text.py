"""Escaping and cutting of texts in the log that others send."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.events import Level
from txsentinel.model.log_text import MAX_EXCERPT, MAX_LINE, excerpt, one_line
from txsentinel.process.logs import LINE_FORMATS, LineWriter, SentinelLog, StreamSink, note

FORGED = "evil\n4711:X 30 Nov 2026 00:00:00.000 # +switch-master mymaster 127.0.0.1 6379 6.6.6.6 6379"
LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


class OneLineTests(SynchronousTestCase):
    """Escaping and cutting."""

    def test_escapes(self) -> None:
        """Line ends and control characters are shown as escapes; all else stays, also invalid UTF-8."""
        printed = one_line("a\nb\r\tc\0\x1b[0m\x85\u2028 é \udcff \\")
        self.assertEqual("a\\nb\\r\\tc\\x00\\x1b[0m\\x85\\u2028 é \udcff \\", printed)

    def test_every_line_end(self) -> None:
        """No reader finds two lines, whatever it considers a line end."""
        self.assertEqual(1, len(one_line(f"a{LINE_ENDS}b").splitlines()))

    def test_cut(self) -> None:
        """A long text is cut before it is escaped."""
        self.assertEqual("x" * MAX_LINE, one_line("x" * MAX_LINE))
        self.assertEqual("x" * MAX_LINE + "...", one_line("x" * 10_000_000))
        self.assertEqual("x" * MAX_EXCERPT + "...", excerpt("x" * 10_000_000))
        self.assertEqual(MAX_LINE + 3, len(one_line("\n" * 10_000_000)))

    @given(st.text(alphabet=st.characters(), max_size=300))
    def test_anything(self, text: str) -> None:
        """Any text gives one short line that is not changed by escaping it again."""
        line = one_line(text, 100)
        self.assertLessEqual(len(line), 103)
        self.assertLessEqual(len(line.splitlines()), 1)
        self.assertEqual(line, one_line(line))


class LogTests(SynchronousTestCase):
    """One event is one line, however it is logged."""

    def written(self, line_format: str, log: str) -> list[str]:
        """Return the lines that are written when the forged words are logged in this way."""
        stream = io.BytesIO()
        observer = SentinelLog(LineWriter(StreamSink(stream), line_format))
        logger = Logger(observer=LogPublisher(observer))
        if log == "event":
            observer({"sentinel_level": Level.WARNING, "text": FORGED, "log_time": 0.0})
        elif log == "field":
            logger.warn("Client {name} is gone", name=FORGED)
        else:
            try:
                raise ValueError(FORGED)
            except ValueError:
                logger.failure("while serving {name}", Failure(), name=FORGED)
        return stream.getvalue().decode().splitlines()

    def test_lines(self) -> None:
        """In every format, with the words in the format string or in a field."""
        for line_format in LINE_FORMATS:
            for log in ("event", "field"):
                self.assertEqual(1, len(self.written(line_format, log)), (line_format, log))

    def test_tracebacks(self) -> None:
        """Tracebacks take several lines, of which those with the words cannot be confused with log lines."""
        lines = self.written("legacy", "failure")
        self.assertGreater(len(lines), 3)
        for line in lines[1:]:
            self.assertEqual("  ", line.split(" # ", 1)[1][:2], line)

    def test_length(self) -> None:
        """A name of ten megabytes does not give a line of ten megabytes."""
        stream = io.BytesIO()
        SentinelLog(LineWriter(StreamSink(stream)))({"sentinel_level": Level.WARNING, "text": "x" * 10_000_000})
        self.assertLess(len(stream.getvalue()), 5_000)

    def test_note(self) -> None:
        """``note`` has no level above warning."""
        self.assertRaises(KeyError, note, Level.NOTHING, "text")
