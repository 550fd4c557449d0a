"""Tests of the log: formats, levels, files and the system log."""

from __future__ import annotations

import io
import json
import os
import re
import syslog
import time
from collections.abc import Mapping

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.log import msg
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.log_events import observe_log
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.process.logs import (
    NO_FIELDS,
    FileSink,
    LineWriter,
    SentinelLog,
    StreamSink,
    SystemLog,
    note,
    note_event,
)

MOMENT = 1795232001.0426
"""A moment whose milliseconds have a leading zero; 21 Nov 2026 03:33:21 in UTC."""


class InUTC(SynchronousTestCase):
    """Runs with the time zone UTC, so that timestamps are constant."""

    def setUp(self) -> None:
        before = os.environ.get("TZ")

        def restore() -> None:
            if before is None:
                del os.environ["TZ"]
            else:
                os.environ["TZ"] = before
            time.tzset()

        self.addCleanup(restore)
        os.environ["TZ"] = "UTC"
        time.tzset()
        self.stream = io.BytesIO()

    def logged(
        self, line_format: str = "legacy", timestamp: str = "legacy", text: str = "+tilt #tilt mode entered"
    ) -> str:
        """Return the line of one warning."""
        LineWriter(StreamSink(self.stream), line_format, timestamp).emit(MOMENT, Level.WARNING, text)
        return self.stream.getvalue().decode("utf-8", "surrogateescape")


class FormatTests(InUTC):
    """Tests of the formats and the timestamps."""

    def test_legacy(self) -> None:
        """Pid, role letter, local time with milliseconds, mark, text."""
        self.assertEqual(self.logged(), f"{os.getpid()}:X 21 Nov 2026 03:33:21.042 # +tilt #tilt mode entered\n")

    def test_marks(self) -> None:
        """Each level has its mark."""
        writer = LineWriter(StreamSink(self.stream))
        for level in (Level.DEBUG, Level.VERBOSE, Level.NOTICE, Level.WARNING):
            writer.emit(MOMENT, level, "text")
        marks = [line.split()[5] for line in self.stream.getvalue().splitlines()]
        self.assertEqual(marks, [b".", b"-", b"*", b"#"])

    def test_local_time(self) -> None:
        """The stamp is local time, and days below ten have two digits."""
        os.environ["TZ"] = "XXX-24"
        time.tzset()
        LineWriter(StreamSink(self.stream)).emit(MOMENT + 9 * 86_400, Level.NOTICE, "text")
        self.assertIn(b" 01 Dec 2026 03:33:21.042 ", self.stream.getvalue())

    def test_iso8601(self) -> None:
        """The stamp of log-timestamp-format iso8601 carries its offset."""
        self.assertIn(":X 2026-11-21T03:33:21.042+00:00 # +tilt", self.logged(timestamp="iso8601"))

    def test_milliseconds(self) -> None:
        """The stamp of log-timestamp-format milliseconds is Unix time."""
        self.assertIn(":X 1795232001042 # +tilt", self.logged(timestamp="milliseconds"))

    def test_logfmt(self) -> None:
        """A line has pairs of key=value, and no message can forge another key or line."""
        self.assertEqual(
            self.logged("logfmt", text='a "b"\nlevel=debug'),
            f'pid={os.getpid()} role=sentinel timestamp="21 Nov 2026 03:33:21.042"'
            " level=warning message=\"a 'b' level=debug\"\n",
        )

    def test_json(self) -> None:
        """One object per event, valid whatever bytes a name is made of."""
        line = self.logged("json", text='caf\udce9 "x"\ny')
        self.assertEqual(line.count("\n"), 1)
        self.assertEqual(
            json.loads(line),
            {
                "pid": os.getpid(),
                "role": "sentinel",
                "timestamp": "21 Nov 2026 03:33:21.042",
                "level": "warning",
                "message": 'caf\ufffd "x"\ny',
            },
        )

    def test_fields(self) -> None:
        """Both formats with fields show the channel and the master of an event, and the origin of other lines."""
        events: list[LogEvent] = []
        observe_log(self, events.append)
        note_event(SentinelEvent("+sdown", 'master x" 127.0.0.1 6379', 'x"'))
        note(Level.NOTICE, "a line")
        Logger(namespace="plugin.web").info("listening")
        for line_format in ("json", "logfmt", "legacy"):
            stream = io.BytesIO()
            log = SentinelLog(LineWriter(StreamSink(stream), line_format, "iso8601"))
            for event in events:
                log(event)
            lines = stream.getvalue().decode().splitlines()
            if line_format == "json":
                basic = ["pid", "role", "timestamp", "level", "message"]
                found = [json.loads(line) for line in lines]
                self.assertEqual(
                    [list(each) for each in found], [[*basic, "event", "master"], basic, [*basic, "logger"]]
                )
                self.assertEqual((found[0]["event"], found[0]["master"]), ("+sdown", 'x"'))
                self.assertEqual(found[2]["logger"], "plugin.web")
            elif line_format == "logfmt":
                self.assertTrue(lines[0].endswith(""" event="+sdown" master="x'\""""), lines[0])
                self.assertTrue(lines[2].endswith(' message="listening" logger="plugin.web"'), lines[2])
            else:
                self.assertTrue(lines[0].endswith('# +sdown master x" 127.0.0.1 6379'), lines[0])

    def test_bytes_of_names_survive(self) -> None:
        """A master name that is no UTF-8 appears in the log as the bytes that it is."""
        self.logged(text="+sdown master caf\udce9 10.0.0.1 6379")
        self.assertIn(b"master caf\xe9 10.0.0.1", self.stream.getvalue())

    def test_unknown_format(self) -> None:
        """An unknown format is refused at the construction, not at the first line."""
        for words in (("xml", "legacy"), ("legacy", "epoch")):
            with self.assertRaises(KeyError):
                LineWriter(StreamSink(self.stream), *words)


class Recorder:
    """A destination that records events."""

    def __init__(self) -> None:
        self.printed: list[tuple[Level, str]] = []

    def emit(self, seconds: float, level: Level, text: str, fields: Mapping[str, str] = NO_FIELDS) -> None:
        """Record it."""
        self.printed.append((level, text))


class ObserverTests(SynchronousTestCase):
    """Tests of the observer."""

    def setUp(self) -> None:
        self.recorder = Recorder()
        self.threshold = Level.DEBUG
        self.observer = SentinelLog(self.recorder, threshold=lambda: self.threshold)
        self.log = Logger(observer=LogPublisher(self.observer))

    def test_interface(self) -> None:
        """It can be made the observer of an application."""
        verifyObject(ILogObserver, self.observer)

    def test_notes_keep_their_level(self) -> None:
        """Lines of ``note`` keep their level, verbose included."""
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        for level in (Level.DEBUG, Level.VERBOSE, Level.NOTICE, Level.WARNING):
            note(level, "100% {not} a format")
        levels = [Level.DEBUG, Level.VERBOSE, Level.NOTICE, Level.WARNING]
        self.assertEqual(self.recorder.printed, [(level, "100% {not} a format") for level in levels])

    def test_notes_are_ordinary_events(self) -> None:
        """Other observers, such as that of syslog, can format lines of ``note``."""
        events: list[LogEvent] = []
        observe_log(self, events.append)
        note(Level.WARNING, "+tilt #tilt mode entered")
        self.assertEqual(events[0]["log_level"], LogLevel.warn)
        self.assertEqual(str(events[0]["log_format"]).format(**events[0]), "+tilt #tilt mode entered")

    def test_levels_of_twisted(self) -> None:
        """Twisted's info becomes notice; warnings and higher levels become warning."""
        for level in LogLevel.iterconstants():
            self.log.emit(level, "{name}", name=level.name)
        self.assertEqual(
            self.recorder.printed,
            [
                (Level.DEBUG, "debug"),
                (Level.NOTICE, "info"),
                (Level.WARNING, "warn"),
                (Level.WARNING, "error"),
                (Level.WARNING, "critical"),
            ],
        )

    def test_network_lines_of_twisted(self) -> None:
        """Twisted's lines about connections without a descriptor are demoted to debug."""
        for namespace in ("twisted.internet.tcp._ExhaustedDescriptors", "twisted.internet.unix.Port"):
            log = Logger(namespace=namespace, observer=LogPublisher(self.observer))
            log.info("EMFILE recovery")
            log.error("Could not accept")
        expected = [(Level.DEBUG, "EMFILE recovery"), (Level.WARNING, "Could not accept")]
        self.assertEqual(self.recorder.printed, 2 * expected)

    def test_cache_of_plugins(self) -> None:
        """Twisted's line about its plug-in cache is demoted to debug."""
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        for threshold, levels in ((Level.NOTICE, []), (Level.DEBUG, [Level.DEBUG])):
            self.threshold = threshold
            msg(format="Unable to write to plugin cache %(path)s: error number %(errno)d", path="/x", errno=13)
            self.assertEqual([level for level, _ in self.recorder.printed], levels)

    def test_level(self) -> None:
        """Events below the level are dropped; a change of the level applies to the next event."""
        for self.threshold, written in (
            (Level.VERBOSE, ["info", "warn"]),
            (Level.WARNING, ["warn"]),
            (Level.NOTHING, []),
        ):
            self.recorder.printed.clear()
            self.log.debug("debug")
            self.log.info("info")
            self.log.warn("warn")
            self.assertEqual([text for _, text in self.recorder.printed], written)

    def test_tracebacks(self) -> None:
        """Each line of a traceback is a whole line of the log: nothing in it is without pid and time."""
        stream = io.BytesIO()
        log = Logger(observer=LogPublisher(SentinelLog(LineWriter(StreamSink(stream)))))
        try:
            raise ValueError("two\n\nlines")
        except ValueError:
            log.failure("while {what}", Failure(), what="testing")
        lines = stream.getvalue().decode().splitlines()
        self.assertGreater(len(lines), 3)
        for line in lines:
            self.assertTrue(re.match(r"\d+:X \d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3} # .", line), line)
        self.assertTrue(lines[0].endswith("# while testing"))
        self.assertTrue(any(line.endswith("builtins.ValueError: two") for line in lines))

    def test_several_destinations(self) -> None:
        """Each destination gets each event."""
        others = [Recorder(), Recorder()]
        Logger(observer=LogPublisher(SentinelLog(*others))).info("text")
        self.assertEqual([other.printed for other in others], [[(Level.NOTICE, "text")]] * 2)


class FileTests(SynchronousTestCase):
    """Tests of the log file with rotation."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.makedirs(self.directory)
        self.path = os.path.abspath(os.path.join(self.directory, "sentinel.log"))
        self.sink = FileSink(self.path)

    def read(self, path: str) -> bytes:
        """Return the contents of a file."""
        with open(path, "rb") as file:
            return file.read()

    def test_append(self) -> None:
        """Lines are appended, without buffering."""
        with open(self.path, "wb") as file:
            file.write(b"before\n")
        self.sink.write(b"one\n")
        self.assertEqual(self.read(self.path), b"before\none\n")

    def test_rotation_by_renaming(self) -> None:
        """After the file was moved away the next line begins a new one, without any signal."""
        self.sink.write(b"one\n")
        os.rename(self.path, self.path + ".1")
        self.sink.write(b"two\n")
        self.assertEqual((self.read(self.path + ".1"), self.read(self.path)), (b"one\n", b"two\n"))

    def test_rotation_with_a_new_file_in_place(self) -> None:
        """If the rotation also made the new file, that one is written to."""
        self.sink.write(b"one\n")
        os.rename(self.path, self.path + ".1")
        with open(self.path, "wb") as file:
            file.write(b"made\n")
        self.sink.write(b"two\n")
        self.assertEqual(self.read(self.path), b"made\ntwo\n")

    def test_rotation_by_truncation(self) -> None:
        """A file that was copied and emptied is continued at its new end, without a hole."""
        self.sink.write(b"one\n")
        os.truncate(self.path, 0)
        self.sink.write(b"two\n")
        self.assertEqual(self.read(self.path), b"two\n")

    def test_rotation_leaks_nothing(self) -> None:
        """However often it is rotated, one descriptor is open, and it does not reach children."""
        self.sink.write(b"line\n")
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(5):
            os.unlink(self.path)
            self.sink.write(b"line\n")
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))
        ours = [int(each) for each in before if os.path.exists(f"/proc/self/fd/{each}") and int(each) > 2]
        self.assertFalse(
            any(os.get_inheritable(each) for each in ours if self.path in os.readlink(f"/proc/self/fd/{each}"))
        )

    def test_missing_directory(self) -> None:
        """While the directory is gone, lines are lost; when it is back they are written again."""
        os.rename(self.directory, self.directory + ".away")
        self.sink.write(b"lost\n")
        os.rename(self.directory + ".away", self.directory)
        self.sink.write(b"kept\n")
        self.assertEqual(self.read(self.path), b"kept\n")

    def test_check(self) -> None:
        """A log file that cannot be opened raises an exception at the start."""
        with self.assertRaises(FileNotFoundError):
            FileSink(os.path.join(self.directory, "gone", "sentinel.log")).check()
        self.sink.check()
        self.assertEqual(self.read(self.path), b"")

    def test_closed_stream(self) -> None:
        """A closed standard output does not end a Sentinel."""
        stream = io.BytesIO()
        stream.close()
        StreamSink(stream).write(b"line\n")
        read, write = os.pipe()
        os.close(read)
        with open(write, "wb", buffering=0) as broken:
            StreamSink(broken).write(b"line\n")


class SystemLogTests(SynchronousTestCase):
    """Tests of the system log."""

    def setUp(self) -> None:
        self.opened: list[tuple[object, ...]] = []
        self.sent: list[tuple[int, str]] = []
        self.patch(syslog, "openlog", lambda *args: self.opened.append(args))
        self.patch(syslog, "syslog", lambda priority, text: self.sent.append((priority, text)))

    def test_priorities(self) -> None:
        """Each line has the configured name and the priority of its level, without pid and time."""
        log = SystemLog("redis", "local3")
        for level in (Level.DEBUG, Level.VERBOSE, Level.NOTICE, Level.WARNING):
            log.emit(MOMENT, level, "text")
        log.emit(MOMENT, Level.NOTICE, "nul\0 caf\udce9\n\nsecond")
        self.assertEqual(self.opened, [("redis", syslog.LOG_PID | syslog.LOG_NDELAY, syslog.LOG_LOCAL3)])
        self.assertEqual(
            self.sent,
            [
                (syslog.LOG_DEBUG, "text"),
                (syslog.LOG_INFO, "text"),
                (syslog.LOG_NOTICE, "text"),
                (syslog.LOG_WARNING, "text"),
                (syslog.LOG_NOTICE, "nul? caf\ufffd"),
                (syslog.LOG_NOTICE, "second"),
            ],
        )

    def test_unknown_facility(self) -> None:
        """An unknown facility is refused."""
        with self.assertRaises(ValueError):
            SystemLog("redis", "local9")
