"""
The log, in the shape in which Redis and Valkey write theirs.

``<pid>:X <dd Mon yyyy HH:MM:SS.mmm> <c> <message>``, one line per event. The service says things with
:func:`note`; that, and whatever Twisted and plug-ins log, goes through ``twisted.logger``, so every tool
of Twisted for looking at logs works. :class:`SentinelLog` is the observer that writes the lines.
"""

from __future__ import annotations

import json
import os
import syslog
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import BinaryIO, Final, Protocol

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText
from zope.interface import implementer

from txsentinel.model.events import Level
from txsentinel.model.log_text import one_line

MARKS: Final = {Level.DEBUG: ".", Level.VERBOSE: "-", Level.NOTICE: "*", Level.WARNING: "#"}
"""The one-character level of a legacy line."""

LEVEL_WORDS: Final = {
    Level.DEBUG: "debug",
    Level.VERBOSE: "info",
    Level.NOTICE: "notice",
    Level.WARNING: "warning",
}
"""The level in the logfmt and json formats, which call verbose *info*."""

LOUDNESS: Final = {
    LogLevel.debug: Level.DEBUG,
    LogLevel.info: Level.NOTICE,
    LogLevel.warn: Level.WARNING,
    LogLevel.error: Level.WARNING,
    LogLevel.critical: Level.WARNING,
}
"""How loud the events are that were not logged by :func:`note`."""

CHATTERBOXES: Final = ("twisted.internet.tcp", "twisted.internet.unix")
"""Say two lines for each connection that they cannot accept for want of descriptors, however many there are."""

PLUGIN_CACHE: Final = "Unable to write to plugin cache"
"""
Said by Twisted at each start of a user who may not write where Python packages are installed, as is usual for services.
The cache saves no measurable time.
"""

TWISTED_LEVELS: Final = {
    Level.DEBUG: LogLevel.debug,
    Level.VERBOSE: LogLevel.debug,
    Level.NOTICE: LogLevel.info,
    Level.WARNING: LogLevel.warn,
}

SYSLOG_PRIORITIES: Final = {
    Level.DEBUG: syslog.LOG_DEBUG,
    Level.VERBOSE: syslog.LOG_INFO,
    Level.NOTICE: syslog.LOG_NOTICE,
    Level.WARNING: syslog.LOG_WARNING,
}

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""English whatever the locale, as log readers expect."""

UNSAFE_IN_LOGFMT: Final = dict.fromkeys((*range(32), 127), " ") | {ord('"'): "'"}
"""What would end a quoted value early, or the line."""

_log = Logger(namespace="txsentinel")


def note(level: Level, text: str) -> None:
    """Log one line of the Sentinel's own; ``Level.NOTHING`` is no level to speak at."""
    _log.emit(TWISTED_LEVELS[level], "{text}", text=text, sentinel_level=level)


def legacy_timestamp(seconds: float) -> str:
    """Local time as ``21 Nov 2026 03:53:32.421``."""
    moment = time.localtime(seconds)
    return (
        f"{moment.tm_mday:02d} {MONTHS[moment.tm_mon - 1]} {moment.tm_year:04d}"
        f" {moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}.{int(seconds * 1000) % 1000:03d}"
    )


def iso8601_timestamp(seconds: float) -> str:
    """Local time with its offset, as ``2026-11-21T03:53:32.876+00:00``."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def milliseconds_timestamp(seconds: float) -> str:
    """Milliseconds since the epoch."""
    return str(int(seconds * 1000))


def legacy_line(pid: int, timestamp: str, level: Level, text: str) -> str:
    """The line that every version writes by default; ``X`` is the letter of the Sentinel role."""
    return f"{pid}:X {timestamp} {MARKS[level]} {text}"


def logfmt_line(pid: int, timestamp: str, level: Level, text: str) -> str:
    """Words of ``key=value``; quotes and control characters in the message are replaced."""
    message = text.translate(UNSAFE_IN_LOGFMT)
    return f'pid={pid} role=sentinel timestamp="{timestamp}" level={LEVEL_WORDS[level]} message="{message}"'


def json_line(pid: int, timestamp: str, level: Level, text: str) -> str:
    """One JSON object; bytes of a name that are no UTF-8 become replacement characters, as JSON is UTF-8."""
    message = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    fields = {
        "pid": pid,
        "role": "sentinel",
        "timestamp": timestamp,
        "level": LEVEL_WORDS[level],
        "message": message,
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


LINE_FORMATS: Final = {"legacy": legacy_line, "logfmt": logfmt_line, "json": json_line}
"""The words of ``log-format``."""

TIMESTAMP_FORMATS: Final = {
    "legacy": legacy_timestamp,
    "iso8601": iso8601_timestamp,
    "milliseconds": milliseconds_timestamp,
}
"""The words of ``log-timestamp-format``."""


class Sink(Protocol):
    """Where finished lines go. What cannot be written is lost: a full disk must not stop a Sentinel."""

    def write(self, line: bytes) -> None:
        """Write one line, its line end included, so that it is out when this returns."""


class StreamSink:
    """Lines to an open binary stream: standard output."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, line: bytes) -> None:
        """Write and flush."""
        with suppress(OSError, ValueError):
            self._stream.write(line)
            self._stream.flush()


class FileSink:
    """
    Lines to a file that may be rotated under us.

    The C servers open, append and close for each line. Keeping the file open and asking before each
    line whether the path still leads to it has the same effect for a fraction of the cost.

    :param path: absolute, since daemons change their directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self._lock = threading.Lock()  # the observer may be called from the threads of the reactor's pool

    def check(self) -> None:
        """
        Open the file now, creating it.

        :raises OSError: if no line could ever be written.
        """
        with self._lock:
            self._follow()

    def write(self, line: bytes) -> None:
        """Append a line to whatever file is at the path now."""
        with self._lock, suppress(OSError):
            os.write(self._follow(), line)

    def _follow(self) -> int:
        """The descriptor of the file at the path, which is opened again if it was moved away."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            pass
        else:
            if self._descriptor is not None and self._identity == (status.st_dev, status.st_ino):
                return self._descriptor
        # Should somebody put a FIFO in the place of the file, neither opening it nor writing may wait for a reader.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
        if self._descriptor is not None:
            os.close(self._descriptor)
        status = os.fstat(descriptor)
        self._descriptor, self._identity = descriptor, (status.st_dev, status.st_ino)
        return descriptor


class Destination(Protocol):
    """One place that is told each event with what a shape needs to be made of it."""

    def tell(self, seconds: float, level: Level, text: str) -> None:
        """
        Record one event.

        :param seconds: since the epoch, when it was logged.
        :param text: without a line end after it; a traceback has some within.
        """


def _lines(text: str) -> list[str]:
    """The lines of a text without the empty ones."""
    return [line for line in text.split("\n") if line.strip()]


def _indented(text: str) -> str:
    """
    The lines of a text that ends in a traceback, all but the first indented.

    The message of an exception may repeat a stranger's words, line ends included. Indented, no line of it passes for
    one of ours.
    """
    first, *others = _lines(text)
    return "\n".join([one_line(first), *(f"  {one_line(line)}" for line in others)])


class LineWriter:
    """
    Gives events their shape and passes them to a sink.

    In the legacy format a text of several lines, such as a traceback, becomes as many lines of the log,
    each of the full shape, because readers of these logs go line by line. The other formats keep an
    event together.

    :param line_format: a word of ``log-format``.
    :param timestamp_format: a word of ``log-timestamp-format``.
    :raises KeyError: if either is no such word.
    """

    def __init__(self, sink: Sink, line_format: str = "legacy", timestamp_format: str = "legacy") -> None:
        self._sink = sink
        self._shape = LINE_FORMATS[line_format]
        self._timestamp = TIMESTAMP_FORMATS[timestamp_format]

    def tell(self, seconds: float, level: Level, text: str) -> None:
        """Shape and write; the pid is asked for each time because ``twistd`` forks."""
        pid, timestamp = os.getpid(), self._timestamp(seconds)
        for line in _lines(text) if self._shape is legacy_line else [text]:
            shaped = self._shape(pid, timestamp, level, line)
            self._sink.write(shaped.encode("utf-8", "surrogateescape") + b"\n")


class SystemLog:
    """
    Events to syslog, which adds time and pid of its own.

    :param ident: the word of ``syslog-ident``.
    :param facility: the word of ``syslog-facility``: ``user`` or ``local0`` to ``local7``.
    :raises ValueError: if there is no such facility.
    """

    def __init__(self, ident: str, facility: str) -> None:
        number = getattr(syslog, f"LOG_{facility.upper()}", None)
        if number is None:
            raise ValueError(f"no such syslog facility: {facility}")
        syslog.openlog(ident, syslog.LOG_PID | syslog.LOG_NDELAY, number)

    def tell(self, seconds: float, level: Level, text: str) -> None:
        """Pass the lines on; what is no UTF-8, or a NUL, cannot travel this way and is replaced."""
        sendable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "?")
        for line in _lines(sendable):
            syslog.syslog(SYSLOG_PRIORITIES[level], line)


@implementer(ILogObserver)
class SentinelLog:
    """
    The log observer that turns every event into lines of the Sentinel's log.

    :param destinations: where the lines go.
    :param threshold: asked at each event for the level below which nothing is written, so that a change
        of ``loglevel`` at run time works by itself.
    """

    def __init__(self, *destinations: Destination, threshold: Callable[[], Level] = lambda: Level.NOTICE) -> None:
        self._destinations = destinations
        self._threshold = threshold

    def __call__(self, event: LogEvent) -> None:
        """Log one event of ``twisted.logger``."""
        level = event.get("sentinel_level")
        if level is None:
            level = LOUDNESS.get(event.get("log_level", LogLevel.info), Level.NOTICE)
            if level is Level.NOTICE and (
                str(event.get("log_namespace", "")).startswith(CHATTERBOXES)
                or str(event.get("format", "")).startswith(PLUGIN_CACHE)
            ):
                level = Level.DEBUG
        if level < self._threshold():
            return
        if "sentinel_level" in event:
            text = one_line(event["text"])
        else:
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
            text = _indented(text) if "log_failure" in event else one_line(text)
        seconds = event.get("log_time", 0.0)
        for destination in self._destinations:
            destination.tell(seconds, level, text)
