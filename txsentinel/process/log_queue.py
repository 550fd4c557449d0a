"""
Logs whose reader may be slow, or not read at all: pipes, terminals, sockets, the system log.

Writing to one that is full blocks, for ever if need be, and with it would go everything else that this process does. So
whatever may block is left to a thread. What waits for that is bounded, and what does not fit is counted and lost.
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
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from txsentinel.model.events import Level
from txsentinel.process.logs import Destination, note

MAX_WAITING_BYTES: Final = 1 << 20
"""How much text may wait to be written, some 10,000 lines."""

MAX_DIRECT_BYTES: Final = select.PIPE_BUF
"""A pipe that has room at all takes so much at once."""

EXIT_TIMEOUT_SECONDS: Final = 1.0
"""How long the end of the process waits for a reader that lags behind."""

_queues: weakref.WeakSet[LineQueue] = weakref.WeakSet()


def drain_logs(seconds: float = EXIT_TIMEOUT_SECONDS) -> None:
    """Wait until everything that was logged is written, at most for so long; call it before the process ends."""
    until = time.monotonic() + seconds
    for queue in list(_queues):
        queue.drain(max(0.0, until - time.monotonic()))


class LineQueue:
    """Has a thread write lines, in order, and keeps them until then."""

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
        """Whether nothing waits, and nothing is being written."""
        return not self._waiting

    def put(self, write: Callable[[], object], size: int) -> None:
        """
        Have ``write`` called in the thread, unless too much waits.

        :param write: it may block; if it raises ``OSError`` or ``ValueError``, the line is lost.
        :param size: the bytes that it writes.
        """
        if self._process != os.getpid():
            self._reset()  # twistd forked; the thread, and what it had to write, stayed behind
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
        """Wait until nothing is left to write; False if that takes longer than ``seconds``."""
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
                note(Level.WARNING, f"{lost} lines are missing here: whatever reads this log did not keep up.")
            return


class PipeSink:
    """
    Lines to a descriptor that may be full: a pipe, a FIFO, a terminal, a socket.

    A line that there is room for is out when :meth:`write` returns.

    :param descriptor: open for writing; it stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue = LineQueue()
        mode = os.fstat(descriptor).st_mode
        # A pipe that is polled for room has it for a short line; a terminal may have it for a part of one.
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
        """Write what there is room for; the rest is returned."""
        try:
            if self._socket is not None:
                return line[self._socket.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            if self._poll is not None and len(line) <= MAX_DIRECT_BYTES and self._poll.poll(0):
                return line[os.write(self._descriptor, line) :]
        except BlockingIOError:
            pass
        except OSError:
            return b""  # Nobody will ever read it.
        return line

    def _write_all(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._descriptor, line) :]


class QueuedDestination:
    """
    Another destination, behind a queue.

    :param destination: what it does in ``tell`` may block.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._queue = LineQueue()

    def tell(self, seconds: float, level: Level, text: str) -> None:
        """See :class:`txsentinel.process.logs.Destination`; this never blocks."""
        self._queue.put(lambda: self._destination.tell(seconds, level, text), len(text))


def is_regular(path: str) -> bool:
    """Whether ``path`` leads to a file whose lines can be written without waiting for a reader, or to nothing yet."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True


atexit.register(drain_logs)
