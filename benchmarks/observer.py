"""
A process that observes Sentinels as a client, so that the rest of a benchmark does not delay its measurements.

Every 20 ms it asks each Sentinel for the address of a master, one after the other, and measures the latency. It
subscribes to a few channels of each, and counts how often each configuration file is replaced. All of that runs in one
loop. It shares the cores with the Sentinels, so it also measures for how long it was itself ready to run and had no
core. Commands and replies are lines of JSON; :class:`Observer` is the other end.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import benchmarks

PERIOD_SECONDS: Final = 0.02
CHANNELS: Final = ("+switch-master", "+tilt", "-tilt", "-failover-abort-not-elected")

_MOVED_TO: Final = 0x80
_EVENT: Final = struct.Struct("iIII")


def read_reply(data: bytes, at: int = 0) -> tuple[Any, int] | None:
    """
    Parse the RESP2 reply that begins at an index; return it and the index after it, ``None`` if it is incomplete.

    Bulk strings and status lines are bytes, errors are ``RuntimeError``.
    """
    line = data.find(b"\r\n", at)
    if line < 0:
        return None
    sign, text, after = data[at : at + 1], data[at + 1 : line], line + 2
    if sign == b"+":
        return text, after
    if sign == b"-":
        return RuntimeError(text.decode(errors="replace")), after
    count = int(text)
    if sign == b":":
        return count, after
    if count < 0:
        return None, after
    if sign == b"$":
        return (data[after : after + count], after + count + 2) if len(data) >= after + count + 2 else None
    items = []
    for _ in range(count):
        found = read_reply(data, after)
        if found is None:
            return None
        item, after = found
        items.append(item)
    return items, after


def request(*words: str) -> bytes:
    """An encoded command."""
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


def waited_for_core() -> float:
    """
    Seconds for which this process was ready to run and did not, since it began; 0 where the system does not report it.
    """
    try:
        with open("/proc/self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


class _Line:
    """A connection to one Sentinel that is reopened whenever it is lost."""

    def __init__(self, watch: _Watch, sentinel: str, port: int) -> None:
        self.watch, self.sentinel, self.port = watch, sentinel, port
        self.sock: socket.socket | None = None
        self._rest = b""

    def ensure(self) -> bool:
        if self.sock is None:
            try:
                self.sock = socket.create_connection(("127.0.0.1", self.port), 5.0)
            except OSError:
                return False
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.watch.selector.register(self.sock, selectors.EVENT_READ, self)
            self.opened(self.sock)
        return True

    def opened(self, sock: socket.socket) -> None:
        """The connection is there (again); override."""

    def received(self, reply: Any) -> None:
        """A reply or a message; override."""
        raise NotImplementedError

    def readable(self) -> None:
        assert self.sock is not None
        try:
            data = self.sock.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self.watch.selector.unregister(self.sock)
            self.sock.close()
            self.sock, self._rest = None, b""
            self.lost()
            return
        data, at = self._rest + data, 0
        while (found := read_reply(data, at)) is not None:
            reply, at = found
            self.received(reply)
        self._rest = data[at:]

    def lost(self) -> None:
        """The connection has ended; override."""


class _Listening(_Line):
    def opened(self, sock: socket.socket) -> None:
        sock.sendall(request("SUBSCRIBE", *CHANNELS))

    def received(self, reply: Any) -> None:
        if isinstance(reply, list) and reply[0] == b"message":
            self.watch.events.append([time.monotonic(), self.sentinel, reply[1].decode(), reply[2].decode()])


class _Asking(_Line):
    def __init__(self, watch: _Watch, sentinel: str, port: int) -> None:
        super().__init__(watch, sentinel, port)
        self.asked_at: float | None = None
        self._waited_before = 0.0
        self._turn = 0

    def ask(self) -> None:
        """Ask for the next master, unless the last request is not answered yet."""
        if self.asked_at is None and self.ensure() and self.sock is not None:
            names = self.watch.names
            self._turn = (self._turn + 1) % len(names)
            self._waited_before = waited_for_core()
            self.asked_at = time.monotonic()
            with contextlib.suppress(OSError):  # The read will report the error.
                self.sock.sendall(request("SENTINEL", "GET-MASTER-ADDR-BY-NAME", names[self._turn]))

    def received(self, reply: Any) -> None:
        assert self.asked_at is not None
        took, waited = time.monotonic() - self.asked_at, waited_for_core() - self._waited_before
        self.watch.answers[self.sentinel].append([self.asked_at, took, waited])
        self.asked_at = None

    def lost(self) -> None:
        self.asked_at = None


class _Watch:
    """The loop of the process. All times are ``time.monotonic()`` seconds."""

    def __init__(self, sentinels: dict[str, tuple[int, str]], names: Sequence[str]) -> None:
        """
        :param sentinels: port, and path of the configuration file, by name.
        :param names: the masters to ask for.
        """
        self.names = list(names)
        self.selector = selectors.DefaultSelector()
        self.events: list[list[object]] = []
        self.answers: dict[str, list[list[float]]] = {name: [] for name in sentinels}
        self._writes: dict[str, list[float]] = {name: [] for name in sentinels}
        self._askers = [_Asking(self, name, port) for name, (port, _) in sentinels.items()]
        self._listeners = [_Listening(self, name, port) for name, (port, _) in sentinels.items()]
        self._inotify, self._files = _watch_directories({name: path for name, (_, path) in sentinels.items()})
        self.selector.register(self._inotify, selectors.EVENT_READ, None)
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        self._orders = b""

    def run(self) -> None:
        """Run until the end of standard input."""
        for line in self._listeners:
            line.ensure()
        _report({"ready": True})
        next_at = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_at:
                for asker in self._askers:
                    asker.ask()
                for listener in self._listeners:
                    listener.ensure()
                next_at = max(next_at + PERIOD_SECONDS, now)
            for key, _ in self.selector.select(max(0.0, next_at - time.monotonic())):
                if isinstance(key.data, _Line):
                    key.data.readable()
                elif key.fileobj == self._inotify:
                    self._replaced()
                elif not self._execute_orders():
                    return

    def _replaced(self) -> None:
        now, data, at = time.monotonic(), os.read(self._inotify, 1 << 16), 0
        while at < len(data):
            watch, _, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0").decode()
            at += _EVENT.size + length
            sentinel, file = self._files.get(watch, ("", ""))
            if name == file:
                self._writes[sentinel].append(now)

    def _execute_orders(self) -> bool:
        data = os.read(sys.stdin.fileno(), 1 << 16)
        *lines, self._orders = (self._orders + data).split(b"\n")
        for line in lines:
            _report(self._report(**json.loads(line)))
        return bool(data)

    def _report(self, since: float, full: bool) -> dict[str, object]:
        if not full:
            switched: dict[str, set[str]] = {asker.sentinel: set() for asker in self._askers}
            for at, sentinel, channel, payload in self.events:
                if channel == "+switch-master" and isinstance(at, float) and at >= since:
                    switched[str(sentinel)].add(str(payload).split(" ", 1)[0])
            return {"switched": {name: len(masters) for name, masters in switched.items()}}
        now = time.monotonic()
        # A request without a reply counts with the time that it has waited so far.
        waiting = {each.sentinel: [[each.asked_at, now - each.asked_at, 0.0]] for each in self._askers if each.asked_at}
        return {
            "events": [event for event in self.events if isinstance(event[0], float) and event[0] >= since],
            "answers": {
                name: [answer for answer in answers + waiting.get(name, []) if answer[0] + answer[1] >= since]
                for name, answers in self.answers.items()
            },
            "writes": {name: [at for at in moments if at >= since] for name, moments in self._writes.items()},
        }


def _watch_directories(paths: dict[str, str]) -> tuple[int, dict[int, tuple[str, str]]]:
    libc = ctypes.CDLL(None, use_errno=True)
    inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if inotify < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    files = {}
    for sentinel, path in paths.items():
        directory, file = os.path.split(path)
        watch = libc.inotify_add_watch(inotify, directory.encode(), _MOVED_TO)
        if watch < 0:
            raise OSError(ctypes.get_errno(), f"inotify_add_watch {directory}")
        files[watch] = sentinel, file
    return inotify, files


def _report(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


class Observer:
    """Runs the process and reads its measurements; use it as a context manager."""

    def __init__(self, sentinels: dict[str, tuple[int, Path]], names: Sequence[str]) -> None:
        """
        Start the process and wait until it is connected to all Sentinels.

        :param sentinels: port, and path of the configuration file, by name.
        :param names: the masters to ask for, in turns.
        """
        specification = {"sentinels": {name: [port, str(path)] for name, (port, path) in sentinels.items()}}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.observer"],
            env={**os.environ, "PYTHONPATH": str(Path(benchmarks.__file__).resolve().parent.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._ask({**specification, "names": list(names)})

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()

    def switched(self, since: float) -> dict[str, int]:
        """The number of masters that each Sentinel has announced with +switch-master since that time."""
        counts: dict[str, int] = self._ask({"since": since, "full": False})["switched"]
        return counts

    def report(self, since: float) -> dict[str, Any]:
        """
        All measurements since a time.

        ``events``: lists of time, Sentinel, channel, payload. ``answers``: by Sentinel, lists of the time of the
        request, the seconds until its reply, or until now, and how many of them the observer itself was ready to run
        and had no core. ``writes``: by Sentinel, when its file was replaced.
        """
        return self._ask({"since": since, "full": True})

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ConnectionError("the observer has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    """The process: the first line of its input has the parameters."""
    line = bytearray()
    while not line.endswith(b"\n"):  # No more than this line, so that the loop reads the rest.
        piece = os.read(sys.stdin.fileno(), 1)
        if not piece:
            return
        line += piece
    specification = json.loads(line)
    sentinels = {name: (port, path) for name, (port, path) in specification["sentinels"].items()}
    _Watch(sentinels, specification["names"]).run()


if __name__ == "__main__":
    main()
