"""
Log destinations that can block: pipes, terminals, sockets and the system log.

Writing to a full one blocks until its reader reads, and would block the whole process. Such writes are therefore made
in a thread. The queue is bounded; lines that do not fit are counted and lost.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import stat
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from txsentinel.model.events import Level
from txsentinel.process.logs import NO_FIELDS, Destination, note

MAX_WAITING_BYTES: Final = 1 << 20
"""Maximum number of queued bytes, some 10,000 lines."""

MAX_DIRECT_BYTES: Final = select.PIPE_BUF
"""Maximum length of a line that a writable pipe accepts as a whole."""

EXIT_TIMEOUT_SECONDS: Final = 1.0
"""Seconds for which the end of the process waits for a slow reader."""

_queues: weakref.WeakSet[LineQueue] = weakref.WeakSet()


def drain_logs(seconds: float = EXIT_TIMEOUT_SECONDS) -> None:
    """Wait until all log lines are written, for so many seconds at most. Call this before the process ends."""
    until = time.monotonic() + seconds
    for queue in list(_queues):
        queue.drain(max(0.0, until - time.monotonic()))


class LineQueue:
    """Writes lines in a thread, in order."""

    def __init__(self) -> None:
        self._reset()
        _queues.add(self)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._size = 0
        self._lost = 0
        self._running = False
        self._process = os.getpid()

    @property
    def idle(self) -> bool:
        """Whether no line is queued or being written."""
        return not self._waiting

    def put(self, write: Callable[[], object], size: int) -> None:
        """
        Call ``write`` in the thread, unless the queue is full.

        :param write: may block; if it raises ``OSError`` or ``ValueError``, the line is lost.
        :param size: the number of bytes that it writes.
        """
        if self._process != os.getpid():
            self._reset()  # twistd forked; the thread and its queue remained in the parent
        with self._changed:
            if self._size + size > MAX_WAITING_BYTES:
                self._lost += 1
                return
            self._waiting.append((write, size))
            self._size += size
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, args=(self._changed, self._waiting), name="log", daemon=True).start()

    def drain(self, seconds: float) -> bool:
        """Wait until the queue is empty; return False if that takes longer than ``seconds``."""
        if self._process != os.getpid():
            return True
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _run(self, changed: threading.Condition, waiting: deque[tuple[Callable[[], object], int]]) -> None:
        while True:
            write, size = waiting[0]
            with suppress(OSError, ValueError):
                write()
            with changed:
                waiting.popleft()
                self._size -= size
                if waiting:
                    continue
                self._running = False
                lost, self._lost = self._lost, 0
                changed.notify_all()
            if lost:
                note(Level.WARNING, f"{lost} lines are missing here, because the reader of this log was too slow.")
            return


class PipeSink:
    """
    Writes lines to a descriptor that may block: a pipe, a FIFO, a terminal or a socket.

    If the descriptor accepts a line, it is written when :meth:`write` returns.

    :param descriptor: open for writing; the caller remains its owner.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue = LineQueue()
        mode = os.fstat(descriptor).st_mode
        # A pipe that is writable accepts a whole short line; a terminal may accept only a part of it.
        self._poll = select.poll() if stat.S_ISFIFO(mode) else None
        if self._poll is not None:
            self._poll.register(descriptor, select.POLLOUT)
        self._socket = socket.socket(fileno=os.dup(descriptor)) if stat.S_ISSOCK(mode) else None

    def write(self, line: bytes) -> None:
        """See :class:`txsentinel.process.logs.Sink`; this never blocks."""
        rest = self._write_now(line) if self._queue.idle else line
        if rest:
            self._queue.put(lambda: self._write_all(rest), len(rest))

    def _write_now(self, line: bytes) -> bytes:
        """Write as much as possible without blocking; return the rest."""
        try:
            if self._socket is not None:
                return line[self._socket.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            if self._poll is not None and len(line) <= MAX_DIRECT_BYTES and self._poll.poll(0):
                return line[os.write(self._descriptor, line) :]
        except BlockingIOError:
            pass
        except OSError:
            return b""  # The other side is closed.
        return line

    def _write_all(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._descriptor, line) :]


class QueuedDestination:
    """
    Calls another destination through a queue.

    :param destination: may block in ``emit``.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._queue = LineQueue()

    def emit(self, seconds: float, level: Level, text: str, fields: Mapping[str, str] = NO_FIELDS) -> None:
        """See :class:`txsentinel.process.logs.Destination`; this never blocks."""
        self._queue.put(lambda: self._destination.emit(seconds, level, text, fields), len(text))


def is_regular(path: str) -> bool:
    """Whether ``path`` is a regular file, to which writing does not wait for a reader, or does not exist."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


atexit.register(drain_logs)
