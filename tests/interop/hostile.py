"""Attacks on a running Sentinel: fake servers with arbitrary replies, and a monitor of the effects on other clients."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from tests.resp import bulk, read_commands
from tests.servers import ChildProcess, Connection, ReplyError

Words: TypeAlias = "list[bytes]"
Script: TypeAlias = "Callable[[socket.socket, Words], bytes | None] | bytes"
"""The reply to a command: bytes, or a function that returns them; ``None`` closes the connection."""

HELLO_CHANNEL = b"__sentinel__:hello"
CHUNK = 64 * 1024


def resident_memory(pid: int) -> int:
    """Return the resident memory of a process in bytes (Linux)."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) * 1024


class Attacker:
    """A raw connection; every error of a closed connection counts as its end."""

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Send all of it; return False if the connection ended before."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def send_without_reading(self, data: bytes, timeout: float = 1.0) -> int:
        """Send until no more is accepted for ``timeout`` seconds; return the number of bytes."""
        sent = 0
        self.socket.settimeout(timeout)
        with contextlib.suppress(OSError):
            while sent < len(data):
                sent += self.socket.send(data[sent : sent + CHUNK])
        return sent

    def receive(self, ending: bytes = b"\r\n", timeout: float = 30.0) -> bytes:
        """Return what is received, up to ``ending`` or the end of the connection."""
        self.socket.settimeout(timeout)
        received = b""
        with contextlib.suppress(OSError):
            while not received.endswith(ending):
                data = self.socket.recv(CHUNK)
                if not data:
                    break
                received += data
        return received

    def closed(self, timeout: float = 30.0) -> bool:
        """Whether the server closes the connection within ``timeout`` seconds; what it sends before is discarded."""
        self.socket.settimeout(timeout)
        try:
            while self.socket.recv(CHUNK):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


def waited_for_processor(path: str) -> float:
    """
    Return the seconds that a thread was ready to run while others had the processor (Linux).

    :param path: the directory of the thread in ``/proc``.
    """
    try:
        return int(Path(path, "schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0  # a kernel without statistics, or the process has ended


class ClientMonitor:
    """
    A client that sends PING every 10 ms from a thread and measures the memory each time.

    At the end of the ``with`` block, ``slowest`` is the longest time of a reply in seconds, ``grown`` the maximum
    growth of the process in bytes, and ``failure`` what ended the client.
    Time for which other processes kept the client and the Sentinel from running is not counted.
    """

    def __init__(self, sentinel: ChildProcess) -> None:
        self._connection = Connection(sentinel.port, sentinel.password, timeout=30.0)
        self._pid = sentinel.pid
        self._before = resident_memory(sentinel.pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.slowest = 0.0
        self.grown = 0
        self.failure: Exception | None = None

    def __enter__(self) -> ClientMonitor:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()
        if os.environ.get("TXSENTINEL_REPORT"):
            print(f"slowest PING {self.slowest * 1000:.0f} ms, memory +{self.grown >> 20} MB", flush=True)

    def _starved(self) -> float:
        return waited_for_processor(f"/proc/{self._pid}") + waited_for_processor("/proc/thread-self")

    def _run(self) -> None:
        try:
            while not self._over.wait(0.01):
                sent_at, starved = time.monotonic(), self._starved()
                self._connection.call("PING")
                self.slowest = max(self.slowest, time.monotonic() - sent_at - (self._starved() - starved))
                self.grown = max(self.grown, resident_memory(self._pid) - self._before)
        except (OSError, ReplyError) as problem:
            self.failure = problem


INFO = b"# Server\r\nrun_id:" + b"1" * 40 + b"\r\n# Replication\r\nrole:master\r\n"


class FakeServer:
    """
    A server that uses threads and replies as a healthy master does, except for the commands of ``script``.

    :param script: replies by command in upper case.
    :param info: the text of its INFO.
    :param sentinel_id: its reply to SENTINEL MYID, if it acts as a Sentinel.
    """

    def __init__(
        self, script: dict[str, Script] | None = None, info: bytes = INFO, sentinel_id: str | None = None
    ) -> None:
        self.commands: list[Words] = []
        self._script = script or {}
        self._info = info
        self._sentinel_id = sentinel_id
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close all connections and the listening socket."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def attempts(self) -> int:
        """Return the number of accepted connections."""
        return len(self._connections)

    def count_of(self, command: bytes) -> int:
        """Return how often a command was received."""
        return sum(1 for words in list(self.commands) if words[0].upper() == command)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        subscribed = False
        with contextlib.suppress(OSError, ValueError, IndexError), connection, connection.makefile("rb") as requests:
            for words in read_commands(requests):
                self.commands.append(words)
                command = words[0].upper()
                reply = self._answer(connection, words, subscribed)
                if reply is None:
                    return
                subscribed = subscribed or command == b"SUBSCRIBE"
                connection.sendall(reply)

    def _answer(self, connection: socket.socket, words: Words, subscribed: bool) -> bytes | None:
        command = words[0].upper()
        if self._sentinel_id is not None and [word.upper() for word in words] == [b"SENTINEL", b"MYID"]:
            return bulk(self._sentinel_id.encode())
        scripted = self._script.get(command.decode("latin-1"))
        if scripted is not None:
            return scripted if isinstance(scripted, bytes) else scripted(connection, words)
        if command == b"INFO":
            return bulk(self._info)
        if command == b"SUBSCRIBE":
            return b"*3\r\n$9\r\nsubscribe\r\n" + bulk(words[1]) + b":1\r\n"
        if command == b"PING":
            return b"*2\r\n$4\r\npong\r\n$0\r\n\r\n" if subscribed else b"+PONG\r\n"
        return b":1\r\n" if command == b"PUBLISH" else b"+OK\r\n"


def endless(piece: bytes, head: bytes = b"") -> Callable[[socket.socket, Sequence[bytes]], bytes | None]:
    """Return a reply that never ends, for as long as it is read."""

    def send(connection: socket.socket, words: Sequence[bytes]) -> bytes | None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return send


def hang_up(connection: socket.socket, words: Sequence[bytes]) -> None:
    """Close the connection instead of replying."""
