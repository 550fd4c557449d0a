"""
The log, in the format of Redis and Valkey.

``<pid>:X <dd Mon yyyy HH:MM:SS.mmm> <c> <message>``, one line per event. The service logs by :func:`note`. Its lines,
and those of Twisted and plug-ins, pass through ``twisted.logger``, so all logging tools of Twisted work.
:class:`SentinelLog` is the observer that writes the lines.
"""

from __future__ import annotations

import json
import os
import syslog
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import BinaryIO, Final, Protocol

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText
from zope.interface import implementer

from txsentinel.model.events import Level, SentinelEvent
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

LEVELS: Final = {
    LogLevel.debug: Level.DEBUG,
    LogLevel.info: Level.NOTICE,
    LogLevel.warn: Level.WARNING,
    LogLevel.error: Level.WARNING,
    LogLevel.critical: Level.WARNING,
}
"""The levels of events that were not logged by :func:`note`."""

DEMOTED_NAMESPACES: Final = ("twisted.internet.tcp", "twisted.internet.unix")
"""Namespaces that log two lines for each connection that cannot be accepted for lack of descriptors."""

PLUGIN_CACHE: Final = "Unable to write to plugin cache"
"""
Logged by Twisted at each start if the user may not write to the directory of Python packages, as is usual for services.
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
"""English names, whatever the locale, as log readers expect."""

UNSAFE_IN_LOGFMT: Final = dict.fromkeys((*range(32), 127), " ") | {ord('"'): "'"}
"""Replacements for characters that would end a quoted value or the line."""

NO_FIELDS: Final[Mapping[str, str]] = MappingProxyType({})

_log = Logger(namespace="txsentinel")


def note(level: Level, text: str) -> None:
    """Log one line of the Sentinel. ``Level.NOTHING`` is not allowed."""
    _log.emit(TWISTED_LEVELS[level], "{text}", text=text, sentinel_level=level)


def note_event(event: SentinelEvent) -> None:
    """Log an event of the Sentinel; formats with fields show its channel and its master beside the text."""
    level = event.level
    _log.emit(TWISTED_LEVELS[level], "{text}", text=str(event), sentinel_level=level, sentinel_event=event)


def legacy_timestamp(seconds: float) -> str:
    """Return the local time as ``21 Nov 2026 03:53:32.421``."""
    moment = time.localtime(seconds)
    return (
        f"{moment.tm_mday:02d} {MONTHS[moment.tm_mon - 1]} {moment.tm_year:04d}"
        f" {moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}.{int(seconds * 1000) % 1000:03d}"
    )


def iso8601_timestamp(seconds: float) -> str:
    """Return the local time with its offset, as ``2026-11-21T03:53:32.876+00:00``."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


def milliseconds_timestamp(seconds: float) -> str:
    """Return the milliseconds since 1970."""
    return str(int(seconds * 1000))


def legacy_line(pid: int, timestamp: str, level: Level, text: str, fields: Mapping[str, str] = NO_FIELDS) -> str:
    """Return the default line of all versions; ``X`` stands for the role of a Sentinel."""
    return f"{pid}:X {timestamp} {MARKS[level]} {text}"


def logfmt_line(pid: int, timestamp: str, level: Level, text: str, fields: Mapping[str, str] = NO_FIELDS) -> str:
    """Return a line of ``key=value`` pairs; quotes and control characters in values are replaced."""
    line = f'pid={pid} role=sentinel timestamp="{timestamp}" level={LEVEL_WORDS[level]}'
    for name, value in (("message", text), *fields.items()):
        line += f' {name}="{value.translate(UNSAFE_IN_LOGFMT)}"'
    return line


def json_line(pid: int, timestamp: str, level: Level, text: str, fields: Mapping[str, str] = NO_FIELDS) -> str:
    """Return a JSON object. Bytes that are no UTF-8 become replacement characters, as JSON is UTF-8."""
    values: dict[str, str | int] = {
        "pid": pid,
        "role": "sentinel",
        "timestamp": timestamp,
        "level": LEVEL_WORDS[level],
    }
    for name, value in (("message", text), *fields.items()):
        values[name] = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


LINE_FORMATS: Final = {"legacy": legacy_line, "logfmt": logfmt_line, "json": json_line}
"""The words of ``log-format``."""

TIMESTAMP_FORMATS: Final = {
    "legacy": legacy_timestamp,
    "iso8601": iso8601_timestamp,
    "milliseconds": milliseconds_timestamp,
}
"""The words of ``log-timestamp-format``."""


class Sink(Protocol):
    """Writes formatted lines. Lines that cannot be written are lost, as a full disk must not stop a Sentinel."""

    def write(self, line: bytes) -> None:
        """Write one line, which includes its line end, without buffering."""


class StreamSink:
    """Writes lines to an open binary stream, such as standard output."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, line: bytes) -> None:
        """Write and flush."""
        with suppress(OSError, ValueError):
            self._stream.write(line)
            self._stream.flush()


class FileSink:
    """
    Writes lines to a file that may be rotated at any time.

    The C servers open, append and close for each line. This keeps the file open and checks before each
    line that the path still leads to it, which has the same effect at a fraction of the cost.

    :param path: absolute, because daemons change their directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self._lock = threading.Lock()  # the observer may be called from the threads of the reactor's pool

    def check(self) -> None:
        """
        Open the file now, and create it if it does not exist.

        :raises OSError: if it cannot be opened.
        """
        with self._lock:
            self._follow()

    def write(self, line: bytes) -> None:
        """Append a line to the file that is at the path now."""
        with self._lock, suppress(OSError):
            os.write(self._follow(), line)

    def _follow(self) -> int:
        """Return the descriptor of the file at the path, which is opened again after a rotation."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            pass
        else:
            if self._descriptor is not None and self._identity == (status.st_dev, status.st_ino):
                return self._descriptor
        # If the file was replaced by a FIFO, neither opening it nor writing may wait for a reader.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
        if self._descriptor is not None:
            os.close(self._descriptor)
        status = os.fstat(descriptor)
        self._descriptor, self._identity = descriptor, (status.st_dev, status.st_ino)
        return descriptor


class Destination(Protocol):
    """Receives each log event."""

    def emit(self, seconds: float, level: Level, text: str, fields: Mapping[str, str] = NO_FIELDS) -> None:
        """
        Write one event.

        :param seconds: the time of the event, in seconds since 1970.
        :param text: the text without a final line end; a traceback has several lines.
        :param fields: see :func:`fields_of`.
        """


def _lines(text: str) -> list[str]:
    """Return the lines of a text without the empty ones."""
    return [line for line in text.split("\n") if line.strip()]


def _indented(text: str) -> str:
    """
    Indent all but the first line of a text that ends in a traceback.

    The message of an exception may repeat input with line ends. The indentation distinguishes its lines from lines of
    the log.
    """
    first, *others = _lines(text)
    return "\n".join([one_line(first), *(f"  {one_line(line)}" for line in others)])


class LineWriter:
    """
    Formats events and passes the lines to a sink.

    In the legacy format each line of a text with several lines, such as a traceback, becomes a complete line of the
    log, because readers of these logs work line by line. The other formats keep an event together.

    :param line_format: a word of ``log-format``.
    :param timestamp_format: a word of ``log-timestamp-format``.
    :raises KeyError: if a word is unknown.
    """

    def __init__(self, sink: Sink, line_format: str = "legacy", timestamp_format: str = "legacy") -> None:
        self._sink = sink
        self._format = LINE_FORMATS[line_format]
        self._timestamp = TIMESTAMP_FORMATS[timestamp_format]

    def emit(self, seconds: float, level: Level, text: str, fields: Mapping[str, str] = NO_FIELDS) -> None:
        """Format and write. The pid is read each time, because ``twistd`` forks."""
        pid, timestamp = os.getpid(), self._timestamp(seconds)
        for line in _lines(text) if self._format is legacy_line else [text]:
            formatted = self._format(pid, timestamp, level, line, fields)
            self._sink.write(formatted.encode("utf-8", "surrogateescape") + b"\n")


class SystemLog:
    """
    Writes events to syslog, which adds the time and the pid.

    :param ident: the word of ``syslog-ident``.
    :param facility: the word of ``syslog-facility``: ``user`` or ``local0`` to ``local7``.
    :raises ValueError: if there is no such facility.
    """

    def __init__(self, ident: str, facility: str) -> None:
        number = getattr(syslog, f"LOG_{facility.upper()}", None)
        if number is None:
            raise ValueError(f"no such syslog facility: {facility}")
        syslog.openlog(ident, syslog.LOG_PID | syslog.LOG_NDELAY, number)

    def emit(self, seconds: float, level: Level, text: str, fields: Mapping[str, str] = NO_FIELDS) -> None:
        """Pass the lines to syslog. NUL characters and bytes that are no UTF-8 are replaced."""
        sendable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "?")
        for line in _lines(sendable):
            syslog.syslog(SYSLOG_PRIORITIES[level], line)


def fields_of(event: LogEvent) -> Mapping[str, str]:
    """
    Return the fields of a log event that the formats ``logfmt`` and ``json`` show after the message.

    ``event`` is the channel and ``master`` the name of the master of a published event; ``logger`` is the namespace of
    a line that Twisted or a plug-in has logged.
    """
    published = event.get("sentinel_event")
    if isinstance(published, SentinelEvent):
        fields = {"event": published.channel}
        if published.master is not None:
            fields["master"] = published.master
        return fields
    if "sentinel_level" in event:
        return NO_FIELDS
    namespace = event.get("log_namespace")
    return {"logger": str(namespace)} if namespace else NO_FIELDS


@implementer(ILogObserver)
class SentinelLog:
    """
    The log observer that writes every event to the Sentinel's log.

    :param destinations: the destinations of events.
    :param threshold: called for each event, returns the minimum level, so that ``loglevel`` can change at run time.
    """

    def __init__(self, *destinations: Destination, threshold: Callable[[], Level] = lambda: Level.NOTICE) -> None:
        self._destinations = destinations
        self._threshold = threshold

    def __call__(self, event: LogEvent) -> None:
        """Log one event of ``twisted.logger``."""
        level = event.get("sentinel_level")
        if level is None:
            level = LEVELS.get(event.get("log_level", LogLevel.info), Level.NOTICE)
            if level is Level.NOTICE and (
                str(event.get("log_namespace", "")).startswith(DEMOTED_NAMESPACES)
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
        seconds, fields = event.get("log_time", 0.0), fields_of(event)
        for destination in self._destinations:
            destination.emit(seconds, level, text, fields)
