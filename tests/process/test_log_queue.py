"""Tests of log destinations that block: the process does not wait, and no line is lost while the queue has space."""

from __future__ import annotations

import fcntl
import os
import pty
import socket
import threading
import time
from collections.abc import Mapping

from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.log_events import observe_log
from txsentinel.model.events import Level
from txsentinel.process import log_queue as logqueue
from txsentinel.process.log_queue import LineQueue, PipeSink, QueuedDestination, drain_logs, is_regular
from txsentinel.process.logs import NO_FIELDS

SECONDS = 30.0
"""Timeout in seconds of operations that should take no time."""


class Reader:
    """Reads everything in a thread, until all writers have closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._parts: list[bytes] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def all(self) -> bytes:
        """Return everything after the end."""
        self._thread.join(SECONDS)
        return b"".join(self._parts)

    def _run(self) -> None:
        try:
            while part := os.read(self._descriptor, 65536):
                self._parts.append(part)
        except OSError:
            pass  # a terminal ends with EIO


class PipeSinkTests(SynchronousTestCase):
    """Tests of lines to pipes, terminals and sockets."""

    def pipe(self) -> tuple[int, int]:
        """Return both ends of a pipe; the read end is closed afterwards, the write end by the test."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        return reading, writing

    def test_line_is_written_at_once(self) -> None:
        """While the pipe has space, a line is written when the call returns, without a thread."""
        reading, writing = self.pipe()
        self.addCleanup(os.close, writing)
        before = threading.active_count()
        PipeSink(writing).write(b"a line\n")
        os.set_blocking(reading, False)
        self.assertEqual(os.read(reading, 99), b"a line\n")
        self.assertEqual(threading.active_count(), before)

    def test_without_reader(self) -> None:
        """Writing more than the pipe holds does not block, and the lines arrive in order when they are read."""
        for size in (50, 5000):
            reading, writing = self.pipe()
            pipe_size = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
            lines = [b"%09d %b\n" % (number, b"x" * size) for number in range(5 * pipe_size // size)]
            sink = PipeSink(writing)
            for line in lines:
                sink.write(line)
            reader = Reader(reading)
            # Waits for this queue alone; drain_logs waits for all.
            self.assertTrue(sink._queue.drain(SECONDS))
            os.close(writing)
            self.assertEqual(reader.all(), b"".join(lines))

    def test_terminals_and_sockets(self) -> None:
        """The same holds for a terminal and for the socket of a journal."""
        near, far = socket.socketpair()
        for reading, writing in (pty.openpty(), (near.detach(), far.detach())):
            self.addCleanup(os.close, reading)
            lines = [b"%09d %b\n" % (number, b"x" * 100) for number in range(5000)]
            sink = PipeSink(writing)
            for line in lines:
                sink.write(line)
            reader = Reader(reading)
            # Waits for this queue alone; drain_logs waits for all.
            self.assertTrue(sink._queue.drain(SECONDS))
            # The sink duplicates the socket, which would keep the connection open.
            if sink._socket is not None:
                sink._socket.close()
            # What a terminal has not passed on yet is lost when it is closed.
            deadline = time.monotonic() + SECONDS
            while b"".join(reader._parts).count(b"\n") < len(lines) and time.monotonic() < deadline:
                time.sleep(0.01)
            os.close(writing)
            self.assertEqual(reader.all().replace(b"\r", b""), b"".join(lines))

    def test_reader_that_left(self) -> None:
        """Lines to a closed pipe are dropped without an exception."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        os.close(reading)
        sink = PipeSink(writing)
        for _ in range(3):
            sink.write(b"lost\n" * 2000)
        # Waits for this queue alone; drain_logs waits for all.
        self.assertTrue(sink._queue.drain(SECONDS))


class LineQueueTests(SynchronousTestCase):
    """Tests of the queue."""

    def test_bounded(self) -> None:
        """Lines that do not fit are counted, and their number is logged afterwards."""
        self.patch(logqueue, "MAX_WAITING_BYTES", 100)
        texts: list[str] = []
        output = threading.Event()

        def observe(event: LogEvent) -> None:
            texts.append(str(event.get("text")))
            output.set()

        observe_log(self, observe)
        queue, go, written = LineQueue(), threading.Event(), []
        queue.put(lambda: go.wait(SECONDS), 50)
        queue.put(lambda: written.append("fits"), 50)
        for _ in range(3):
            queue.put(lambda: written.append("does not"), 1)
        self.assertFalse(queue.drain(0))
        go.set()
        self.assertTrue(queue.drain(SECONDS))
        self.assertTrue(output.wait(SECONDS))
        self.assertEqual(written, ["fits"])
        self.assertEqual(texts, ["3 lines are missing here, because the reader of this log was too slow."])
        queue.put(lambda: written.append("fits again"), 100)
        self.assertTrue(queue.drain(SECONDS))
        self.assertEqual(written, ["fits", "fits again"])

    def test_after_a_fork(self) -> None:
        """A daemon that was forked after the first line starts a thread of its own."""
        queue, go, written = LineQueue(), threading.Event(), []
        self.addCleanup(go.set)
        queue.put(lambda: go.wait(SECONDS), 1)
        self.patch(os, "getpid", lambda: 1)
        queue.put(lambda: written.append("in the daemon"), 1)
        self.assertTrue(queue.drain(SECONDS))
        self.assertEqual(written, ["in the daemon"])

    def test_end_of_the_process(self) -> None:
        """The end of the process waits for lines that are being written, with a timeout."""
        queue, go = LineQueue(), threading.Event()
        self.addCleanup(go.set)
        queue.put(lambda: go.wait(SECONDS), 1)
        before = time.monotonic()
        drain_logs(0.05)
        self.assertTrue(0.04 < time.monotonic() - before < SECONDS / 2)
        self.assertFalse(queue.idle)

    def test_system_log(self) -> None:
        """Events reach a system log that blocks in order, and without blocking the caller."""
        printed, go = [], threading.Event()

        class Hanging:
            def emit(self, seconds: float, level: Level, text: str, fields: Mapping[str, str] = NO_FIELDS) -> None:
                go.wait(SECONDS)
                printed.append((seconds, level, text))

        destination = QueuedDestination(Hanging())
        events = [(float(number), Level.NOTICE, f"event {number}") for number in range(100)]
        for event in events:
            destination.emit(*event)
        self.assertEqual(printed, [])
        go.set()
        # Waits for this queue alone; drain_logs waits for all.
        self.assertTrue(destination._queue.drain(SECONDS))
        self.assertEqual(printed, events)


class RegularTests(SynchronousTestCase):
    """Tests of ``is_regular``."""

    def test_kinds(self) -> None:
        """Files are regular, also missing ones; FIFOs and devices are not."""
        directory = self.mktemp()
        os.mkdir(directory)
        fifo, link = os.path.join(directory, "fifo"), os.path.join(directory, "link")
        os.mkfifo(fifo)
        os.symlink("fifo", link)
        with open(os.path.join(directory, "file"), "w", encoding="ascii"):
            pass
        expected = {"file": True, "absent": True, "fifo": False, "link": False}
        self.assertEqual({name: is_regular(os.path.join(directory, name)) for name in expected}, expected)
        self.assertFalse(is_regular("/dev/null"))
