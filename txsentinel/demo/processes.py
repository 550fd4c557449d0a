"""
Redis, Valkey and three implementations of Sentinel as child processes, with ports and directories of their own.

A child never outlives its parent: the kernel kills it when the thread that started it ends (Linux), and leaving a
:class:`Harness` stops what runs. Start children from the main thread therefore.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final

from txsentinel.demo.blocking import MAX_WAIT_SECONDS, REPLY_TIMEOUT_SECONDS, Reply, call, info_fields, wait_for
from txsentinel.demo.programs import COMPILED, SOURCE, is_compiled, sentinel_command, server_binary

PORT_RANGE: Final = (12_000, 32_000)
"""Below Linux's ephemeral ports, so that no client takes a port before its server does."""

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_taken_ports: set[int] = set()
_running: set[ChildProcess] = set()


def free_port() -> int:
    """
    Return a port without a listener at any address that no process of this user reserved before.

    The port is reserved until the process ends, so that processes that look for ports at the same time, such as test
    runners, do not get the same one before it has a listener.
    """
    rng = random.SystemRandom()
    while True:
        port = rng.randrange(*PORT_RANGE)
        if port in _taken_ports:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            _reserve(port)
            _taken_ports.add(port)
            return port


def _reserve(port: int) -> None:
    """
    Lock the byte of a port in a file of this user, until the process ends.

    :raises OSError: if another process has locked it.
    """
    descriptor = _reservations()
    if descriptor is not None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)


@cache
def _reservations() -> int | None:
    """Open the file of reservations, which stays open; ``None`` if that is not possible."""
    path = f"/tmp/txsentinel-ports-{os.getuid()}"
    with contextlib.suppress(OSError):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    return None


def quoted(word: str) -> str:
    """Quote a word for a configuration file."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _die_with_parent(parent: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


class ChildProcess:
    """
    A program with a port, a directory and a log.

    The directory and its contents persist from one start to the next.
    """

    label: ClassVar[str] = "process"

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self.directory = directory
        self.log_path = directory / "log"
        self.password: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    def command_line(self) -> list[str]:
        """The words to execute; override."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Write what the program reads when it starts; override."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The environment variables of the child."""
        return dict(os.environ)

    @property
    def name(self) -> str:
        """Implementation and port, for messages."""
        return f"{self.label}-{self.port}"

    @property
    def running(self) -> bool:
        """Whether it was started and has not been stopped or ended by itself; a frozen one counts as running."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the running child."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Status of the last run, negative for a signal; ``None`` while it runs or before the first start."""
        return None if self._process is None else self._process.poll()

    def start(self, *, keep_config: bool = False, ready: bool = True) -> None:
        """
        Run the program.

        :param keep_config: read the configuration as the last run left it; do not write it again.
        :param ready: wait until it answers PING.
        :raises DeadlineExpired: if it does not within ``MAX_WAIT_SECONDS``; ``log_path`` has the log.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        self.directory.mkdir(parents=True, exist_ok=True)
        if not keep_config:
            self.prepare()
        parent = os.getpid()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command_line(),
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: _die_with_parent(parent),
            )
        self._frozen = False
        _running.add(self)
        if ready:
            self.wait_ready()

    def wait_ready(self, seconds: float = MAX_WAIT_SECONDS) -> None:
        """
        Wait until PING is answered.

        :raises DeadlineExpired: after ``seconds``.
        :raises RuntimeError: if the program ended; the end of its log is in the text.
        """

        def answered() -> bool:
            if not self.running:
                raise RuntimeError(f"{self.name} ended with status {self.exit_status}:\n{self.log_text()[-2000:]}")
            return self.call("PING", timeout=1.0) == "PONG"

        wait_for(answered, seconds, f"{self.name} to answer")

    def call(self, *words: str | int, timeout: float = REPLY_TIMEOUT_SECONDS) -> Reply:
        """Send one command on a connection of its own; errors as for :func:`txsentinel.demo.blocking.call`."""
        return call(self.port, *words, password=self.password, timeout=timeout)

    def stop(self, seconds: float = 30.0) -> None:
        """End it with SIGTERM, and with SIGKILL after ``seconds``. Do nothing if it does not run."""
        if self.running:
            self.thaw()
            self._signal(signal.SIGTERM)
            try:
                self._wait(seconds)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._wait(seconds)
        _running.discard(self)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._signal(signal.SIGKILL)
        self._wait(MAX_WAIT_SECONDS)
        _running.discard(self)

    def wait_ended(self, seconds: float = MAX_WAIT_SECONDS) -> int:
        """
        Wait until it ended by itself.

        :returns: its exit status, negative for a signal.
        :raises subprocess.TimeoutExpired: after ``seconds``.
        """
        status = self._wait(seconds)
        _running.discard(self)
        return status

    def freeze(self) -> None:
        """Stop it with SIGSTOP: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Continue a frozen process with SIGCONT."""
        if self._frozen:
            self._signal(signal.SIGCONT)
            self._frozen = False

    def log_text(self) -> str:
        """Everything that it has printed, over all its runs."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _wait(self, seconds: float) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.wait(seconds)


class RedisProcess(ChildProcess):
    """A data server without persistence, which synchronizes quickly."""

    def __init__(
        self,
        kind: str,
        port: int,
        directory: Path,
        replica_of: int | None = None,
        password: str | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        """
        :param kind: see :func:`txsentinel.demo.programs.server_binary`.
        :param replica_of: port of its master; may be changed between two runs.
        :param extra: further lines for its configuration.
        """
        super().__init__(port, directory)
        self.kind = kind
        self.binary = server_binary(kind)
        self.replica_of = replica_of
        self.password = password
        self.extra = list(extra)

    label = "server"

    def command_line(self) -> list[str]:
        return [self.binary, str(self.directory / "redis.conf")]

    def prepare(self) -> None:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            "protected-mode no",
            "daemonize no",
            f'dir "{self.directory}"',
            'save ""',
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
        ]
        if self.password is not None:
            lines += [f"requirepass {quoted(self.password)}", f"masterauth {quoted(self.password)}"]
        if self.replica_of is not None:
            lines.append(f"replicaof 127.0.0.1 {self.replica_of}")
        (self.directory / "redis.conf").write_text("\n".join([*lines, *self.extra]) + "\n")

    def replication(self) -> dict[str, str]:
        """The fields of ``INFO replication``."""
        return info_fields(self.call("INFO", "replication"))


class SentinelProcess(ChildProcess):
    """A Sentinel of any implementation with a configuration of its own."""

    def __init__(
        self,
        kind: str,
        port: int,
        directory: Path,
        monitor: Sequence[tuple[str, str, int, int]] = (),
        down_after: int = 1000,
        failover_timeout: int = 60_000,
        parallel_syncs: int = 1,
        password: str | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        """
        :param kind: see :func:`sentinel_command`.
        :param monitor: ``(name, host, port, quorum)`` of each master.
        :param down_after: milliseconds, as is ``failover_timeout``.
        :param password: required of clients and sent to peers; that of the servers goes to ``extra``.
        :param extra: further lines for its configuration.
        """
        super().__init__(port, directory)
        self.kind = kind
        self.password = password
        self.config_path = directory / "sentinel.conf"
        self.monitor = list(monitor)
        self.down_after = down_after
        self.failover_timeout = failover_timeout
        self.parallel_syncs = parallel_syncs
        self.extra = list(extra)
        self.arguments: list[str] = []
        """Further words of its command line, such as options of extensions."""

        self.variables: dict[str, str] = {}
        """Variables of its environment, besides the inherited ones."""

        self.command = sentinel_command(kind, str(self.config_path))
        """The words of its command line without ``arguments``."""

    @property
    def label(self) -> str:  # type: ignore[override]
        return self.kind

    def command_line(self) -> list[str]:
        return [*self.command, *self.arguments]

    def environment(self) -> dict[str, str]:
        ours = str(COMPILED if is_compiled(self.kind) else SOURCE)
        inherited = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([ours, inherited] if inherited else [ours])
        return {**os.environ, "PYTHONPATH": path, **self.variables}

    def prepare(self) -> None:
        lines = [f"port {self.port}", "bind 127.0.0.1", "protected-mode no", "daemonize no", f'dir "{self.directory}"']
        for name, host, port, quorum in self.monitor:
            lines += [
                f"sentinel monitor {name} {host} {port} {quorum}",
                f"sentinel down-after-milliseconds {name} {self.down_after}",
                f"sentinel failover-timeout {name} {self.failover_timeout}",
                f"sentinel parallel-syncs {name} {self.parallel_syncs}",
            ]
        if self.password is not None:
            lines += [f"requirepass {quoted(self.password)}", f"sentinel sentinel-pass {quoted(self.password)}"]
        self.config_path.write_text("\n".join([*lines, *self.extra]) + "\n")


class Harness:
    """
    A temporary directory and the processes in it; use it as a context manager.

    When the ``with`` block ends, everything is stopped and the directory is removed. After an exception, or if
    ``$TXSENTINEL_KEEP`` is set, it is kept with all logs, and its path is printed on standard error.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="txsentinel-"))
        self._children: list[ChildProcess] = []

    def __enter__(self) -> Harness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(keep=problem is not None and not isinstance(problem, (KeyboardInterrupt, SystemExit)))

    def redis(
        self,
        kind: str = "redis",
        port: int | None = None,
        replica_of: int | None = None,
        password: str | None = None,
        extra: Sequence[str] = (),
    ) -> RedisProcess:
        """A data server, not yet started; see :class:`RedisProcess`."""
        port = free_port() if port is None else port
        server = self.new_redis(kind, port, self.directory / f"server-{port}", replica_of, password, extra)
        self._children.append(server)
        return server

    def sentinel(
        self,
        kind: str,
        port: int | None = None,
        monitor: Sequence[tuple[str, str, int, int]] = (),
        down_after: int = 1000,
        failover_timeout: int = 60_000,
        parallel_syncs: int = 1,
        password: str | None = None,
        extra: Sequence[str] = (),
    ) -> SentinelProcess:
        """A Sentinel, not yet started; see :class:`SentinelProcess`."""
        port = free_port() if port is None else port
        directory = self.directory / f"{kind}-sentinel-{port}"
        sentinel = self.new_sentinel(
            kind, port, directory, monitor, down_after, failover_timeout, parallel_syncs, password, extra
        )
        self._children.append(sentinel)
        return sentinel

    def new_redis(self, *arguments: Any) -> RedisProcess:
        """Build a data server; the parameters are those of :class:`RedisProcess`. Subclasses may build another kind."""
        return RedisProcess(*arguments)

    def new_sentinel(self, *arguments: Any) -> SentinelProcess:
        """Build a Sentinel; the parameters are those of :class:`SentinelProcess`."""
        return SentinelProcess(*arguments)

    def close(self, keep: bool = False) -> None:
        """
        Stop all children, Sentinels first so that they do not fail over what is being stopped.

        :param keep: leave the directory.
        """
        for child in sorted(self._children, key=lambda child: not isinstance(child, SentinelProcess)):
            child.stop()
        self._children.clear()
        if keep or os.environ.get("TXSENTINEL_KEEP"):
            print(f"logs and configurations are kept in {self.directory}", file=sys.stderr)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)


@atexit.register
def _stop_all() -> None:
    for child in list(_running):
        child.kill()
