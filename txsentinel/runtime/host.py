"""The real host: a Twisted reactor, the system clock, random numbers, files and child processes."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, ParamSpec, TypeVar

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredSemaphore, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProcessProtocol,
    IProcessTransport,
    IReactorCore,
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUNIX,
    IResolutionReceiver,
)
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txsentinel.config.disk import read_file
from txsentinel.interfaces import IFileStore, IHost
from txsentinel.model.address import canonical_ip
from txsentinel.model.file_end import FileEnd
from txsentinel.process.appending import append_lines, read_end
from txsentinel.process.files import (
    FileLock,
    StepFailed,
    check_writable,
    probe_file,
    replace_file,
    save_file,
)
from txsentinel.process.log_queue import drain_logs
from txsentinel.process.supervisor import MANAGER_VARIABLES
from txsentinel.process.threads import DaemonThreads
from txsentinel.reactor.priority import yield_function
from txsentinel.runtime.binding import current_umask

__all__ = ["RealFiles", "RealHost", "StepFailed", "check_writable", "replace_file"]

P = ParamSpec("P")
T = TypeVar("T")

PROGRAM: Final = "txsentinel"
"""The program name that the system shows instead of ``python`` or ``twistd``."""

MAX_CONCURRENT_LOOKUPS: Final = 4
"""Maximum number of names resolved in parallel. Each occupies a thread until the name server answers or times out."""


class ISystemReactor(
    IReactorCore,
    IReactorTime,
    IReactorTCP,
    IReactorUNIX,
    IReactorProcess,
    IReactorThreads,
    IReactorPluggableNameResolver,
):
    """The interfaces of the reactor that a Sentinel uses; each POSIX reactor of Twisted provides them."""


@implementer(IFileStore)
class RealFiles:
    """
    Files on a disk.

    While the service runs, files are read, written and synced in threads, so that a slow disk never causes TILT.
    """

    def __init__(
        self, reactor: IReactorThreads, pool: Any = None, locks: Mapping[str, FileLock] = MappingProxyType({})
    ) -> None:
        """
        Build a file store; this opens no file.

        :param locks: the locks on files by path. A lock follows its file when the file is replaced.
        :param pool: the thread pool; the default is the reactor's, whose threads the process waits for at its end.
        """
        self._locks = locks
        self._reactor = reactor
        self._pool = pool
        self._overwritten: dict[str, str] = {}
        """The files that cannot be replaced, with the reason."""

    def read(self, path: str) -> bytes:
        """Return the contents of a file, blocking; see :class:`IFileStore`."""
        return read_file(path)

    def fetch(self, path: str) -> Deferred[bytes]:
        """See :class:`IFileStore`."""
        return self._in_thread(self.read, path)

    def fetch_end(self, path: str, limit: int) -> Deferred[FileEnd]:
        """See :class:`IFileStore`."""
        return self._in_thread(read_end, path, limit)

    def check_writable(self, path: str) -> None:
        """See :class:`IFileStore`."""
        check_writable(path)

    def probe(self, path: str, size: int) -> Deferred[str]:
        """See :class:`IFileStore`; fails with :class:`StepFailed`."""
        return self._in_thread(probe_file, path, size)

    def replace(self, path: str, contents: bytes) -> Deferred[str]:
        """See :class:`IFileStore`; fails with :class:`StepFailed`."""
        return self._in_thread(self._save, path, contents, current_umask())

    def append(self, path: str, lines: bytes, limit: int, files: int) -> Deferred[None]:
        """See :class:`IFileStore`."""
        return self._in_thread(append_lines, path, lines, limit, files)

    def _save(self, path: str, contents: bytes, mask: int) -> str:
        """Save a file; runs in a thread, never concurrently for one file."""
        reason = save_file(path, contents, mask, self._locks.get(path), self._overwritten.get(path, ""))
        self._overwritten[path] = reason
        return reason

    def _in_thread(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> Deferred[T]:
        pool = self._reactor.getThreadPool() if self._pool is None else self._pool
        return deferToThreadPool(self._reactor, pool, function, *arguments, **keywords)


@implementer(IResolutionReceiver)
class _FirstAddress:
    """Receives the result of a resolution and keeps the first address; the resolver sorts the best first."""

    def __init__(self, hostname: str) -> None:
        self.found: Deferred[str] = Deferred()
        self._hostname = hostname
        self._ip: str | None = None

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Ignore the handle, because a resolution in a thread cannot be cancelled."""

    def addressResolved(self, address: IAddress) -> None:
        """Store the first IP address."""
        if self._ip is None and isinstance(address, IPv4Address | IPv6Address):
            self._ip = canonical_ip(address.host)

    def resolutionComplete(self) -> None:
        """Fire with the address, or fail if there is none."""
        if self._ip is None:
            self.found.errback(DNSLookupError(f"no address found for {self._hostname}"))
        else:
            self.found.callback(self._ip)


def _is_resolvable(hostname: str) -> bool:
    """Return false for names with which the resolver raises in its thread and never calls back."""
    try:
        return bool(hostname.encode("idna")) and "\0" not in hostname
    except UnicodeError:
        return False


@implementer(IHost)
class RealHost:
    """
    The host of a real process.

    :param reactor: a reactor whose ``seconds()`` is monotonic; ``tap.makeService`` ensures that.
    :param locks: the locks on files; see :class:`RealFiles`.
    :param failing: called before the process ends because of an internal error.
    """

    _log = Logger(namespace=__name__)

    def __init__(
        self,
        reactor: ISystemReactor,
        locks: Mapping[str, FileLock] = MappingProxyType({}),
        failing: Callable[[], None] = lambda: None,
    ) -> None:
        self.reactor = reactor
        self._failing = failing
        self._yield_to_clients = yield_function(reactor)
        self.slack_clock: IReactorTime = getattr(reactor, "slack_clock", reactor)
        self.random = random.Random()
        self.files = RealFiles(reactor, DaemonThreads(), locks)
        self._lookups = DeferredSemaphore(MAX_CONCURRENT_LOOKUPS)

    @property
    def pid(self) -> int:
        """The process ID. It is not cached, because ``twistd`` forks after the construction of the service."""
        return os.getpid()

    def now(self) -> int:
        """Return the time of the reactor's clock in milliseconds."""
        return int(self.reactor.seconds() * 1000)

    def yield_to_clients(self) -> bool:
        """See :class:`IHost`; has an effect only with a reactor that supports it."""
        return self._yield_to_clients()

    @property
    def nested_poll_active(self) -> bool:
        """See :class:`IHost`."""
        return bool(getattr(self.reactor, "nested_poll_active", False))

    def wall_clock(self) -> float:
        """Return the seconds since 1970; it jumps when the system clock is set."""
        return time.time()

    def scheduled(self) -> tuple[int, int] | None:
        """See :class:`IHost`; read from ``/proc/self/schedstat`` of Linux, for the main thread."""
        try:
            with open("/proc/self/schedstat", "rb", buffering=0) as file:
                ran, waited, _ = file.read(100).split()
        except (OSError, ValueError):
            return None
        return int(ran) // 1_000_000, int(waited) // 1_000_000

    def resolve(self, hostname: str) -> Deferred[str]:
        """See :class:`IHost`; IP addresses are returned at once, names are queued."""
        literal = canonical_ip(hostname)
        if literal is not None:
            return succeed(literal)
        if not _is_resolvable(hostname):
            return fail(DNSLookupError(f"not a host name: {hostname!r}"))
        return self._lookups.run(self._look_up, hostname)

    def _look_up(self, hostname: str) -> Deferred[str]:
        receiver = _FirstAddress(hostname)
        self.reactor.nameResolver.resolveHostName(receiver, hostname)
        return receiver.found

    def spawn(
        self, protocol: IProcessProtocol, path: str, arguments: Sequence[str], environment: Mapping[str, str] | None
    ) -> IProcessTransport:
        """
        See :class:`IHost`. The child inherits the descriptors 0, 1 and 2 only, and no variable by which a service
        manager addresses this process.

        :raises OSError: also if ``path`` cannot be executed, where the system reports this before the fork returns.
        """
        inherited = os.environ if environment is None else environment
        if "/" not in path:
            path = f"./{path}"  # the C library would search PATH for a bare name
        return self.reactor.spawnProcess(
            protocol,
            os.fsencode(path),
            [os.fsencode(argument) for argument in arguments],
            {name: value for name, value in inherited.items() if name not in MANAGER_VARIABLES},
            childFDs={0: 0, 1: 1, 2: 2},
        )

    def set_process_title(self, title: str) -> None:
        """
        See :class:`IHost`. ``ps`` then shows ``title`` as the command line and ``PROGRAM`` as the program.

        ``setproctitle`` is imported here, in the final process, because its import determines the memory of the
        command line. It is optional (the extra ``title``) because it cannot be built everywhere.
        """
        try:
            from setproctitle import setproctitle, setthreadtitle
        except ImportError as error:
            self._log.debug("The process title stays, as setproctitle cannot be imported: {error}", error=error)
            return
        setproctitle(title)
        setthreadtitle(PROGRAM)

    def exit(self, status: int) -> None:
        """See :class:`IHost`. Pending log lines are written before, unless their reader blocks."""
        drain_logs()
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.flush()
        os._exit(status)

    def fail_stop(self, failure: Failure, what: str) -> None:
        """
        See :class:`IHost`; usable as an errback.

        The process exits at once instead of by ``reactor.stop()``: its state may be wrong, so it must neither be saved
        nor be used for replies while services stop.
        """
        self._log.failure("Stopping after an unexpected error in {what}", failure=failure, what=what)
        self._failing()
        self.exit(1)
