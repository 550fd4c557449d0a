"""The real machine: a Twisted reactor, the system's clock and dice, files on a disk, child processes."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
from txsentinel.process.files import (
    FileLock,
    StepFailed,
    check_writable,
    probe_file,
    replace_file,
    save_file,
)
from txsentinel.process.log_queue import drain_logs
from txsentinel.process.threads import DaemonThreads
from txsentinel.reactor.priority import yield_function
from txsentinel.runtime.binding import current_umask

__all__ = ["RealFiles", "RealHost", "StepFailed", "check_writable", "replace_file"]

P = ParamSpec("P")
T = TypeVar("T")

PROGRAM: Final = "txsentinel"
"""What the system calls us, where it would else say ``python`` or ``twistd``."""

MAX_CONCURRENT_LOOKUPS: Final = 4
"""Names looked up in parallel. Each occupies a thread for as long as a dead name server lets it wait."""


class ISystemReactor(
    IReactorCore,
    IReactorTime,
    IReactorTCP,
    IReactorUNIX,
    IReactorProcess,
    IReactorThreads,
    IReactorPluggableNameResolver,
):
    """Everything that a Sentinel wants of a reactor; each POSIX reactor of Twisted has it."""


@implementer(IFileStore)
class RealFiles:
    """
    Files on a disk.

    While we serve, all is read, written and synced in threads, so that a slow disk never looks like TILT.
    """

    def __init__(self, reactor: IReactorThreads, pool: Any = None) -> None:
        """
        Nothing is opened yet.

        :param pool: of the threads; by default the reactor's, which a process that ends waits for.
        """
        self.locks: dict[str, FileLock] = {}
        """Locks on files that may be saved, by their paths; they move along with the files."""

        self._reactor = reactor
        self._pool = pool
        self._overwritten: dict[str, str] = {}
        """Files that were found to be impossible to replace, and why."""

    def read(self, path: str) -> bytes:
        """The whole file, at once; see :class:`IFileStore`."""
        return read_file(path)

    def fetch(self, path: str) -> Deferred[bytes]:
        """See :class:`IFileStore`."""
        return self._in_thread(self.read, path)

    def check_writable(self, path: str) -> None:
        """See :class:`IFileStore`."""
        check_writable(path)

    def probe(self, path: str, size: int) -> Deferred[str]:
        """See :class:`IFileStore`; fails with :class:`StepFailed`."""
        return self._in_thread(probe_file, path, size)

    def replace(self, path: str, contents: bytes) -> Deferred[str]:
        """See :class:`IFileStore`; fails with :class:`StepFailed`."""
        return self._in_thread(self._save, path, contents, current_umask())

    def _save(self, path: str, contents: bytes, mask: int) -> str:
        """Save a file, in a thread; never twice at a time for one file."""
        reason = save_file(path, contents, mask, self.locks.get(path), self._overwritten.get(path, ""))
        self._overwritten[path] = reason
        return reason

    def _in_thread(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> Deferred[T]:
        pool = self._reactor.getThreadPool() if self._pool is None else self._pool
        return deferToThreadPool(self._reactor, pool, function, *arguments, **keywords)


@implementer(IResolutionReceiver)
class _FirstAddress:
    """Collects what the resolver finds and keeps the first address: the resolver sorts best first."""

    def __init__(self, hostname: str) -> None:
        self.found: Deferred[str] = Deferred()
        self._hostname = hostname
        self._ip: str | None = None

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """The lookup cannot be cancelled while it sits in its thread, so its handle is of no use."""

    def addressResolved(self, address: IAddress) -> None:
        """Keep the first address that a TCP connection can use."""
        if self._ip is None and isinstance(address, IPv4Address | IPv6Address):
            self._ip = canonical_ip(address.host)

    def resolutionComplete(self) -> None:
        """Hand over the address, or the lack of one."""
        if self._ip is None:
            self.found.errback(DNSLookupError(f"no address found for {self._hostname}"))
        else:
            self.found.callback(self._ip)


def _is_resolvable(hostname: str) -> bool:
    """False for names that would make the system's resolver raise in its thread and never answer."""
    try:
        return bool(hostname.encode("idna")) and "\0" not in hostname
    except UnicodeError:
        return False


@implementer(IHost)
class RealHost:
    """
    This process on this machine.

    :param reactor: its ``seconds()`` must be monotonic; ``tap.makeService`` sees to that.
    """

    _log = Logger()

    def __init__(self, reactor: ISystemReactor) -> None:
        self.reactor = reactor
        self._yield_to_clients = yield_function(reactor)
        self.random = random.Random()
        self.files = RealFiles(reactor, DaemonThreads())
        self._lookups = DeferredSemaphore(MAX_CONCURRENT_LOOKUPS)

    @property
    def pid(self) -> int:
        """Asked for anew each time: ``twistd`` forks between our birth and our first deed."""
        return os.getpid()

    def now(self) -> int:
        """Whole milliseconds of the reactor's clock."""
        return int(self.reactor.seconds() * 1000)

    def yield_to_clients(self) -> bool:
        """See :class:`IHost`; it takes a reactor that looks after clients."""
        return self._yield_to_clients()

    @property
    def nested_poll_active(self) -> bool:
        """See :class:`IHost`."""
        return bool(getattr(self.reactor, "nested_poll_active", False))

    def wall_clock(self) -> float:
        """Seconds since the epoch; jumps when somebody sets the clock."""
        return time.time()

    def scheduled(self) -> tuple[int, int] | None:
        """See :class:`IHost`; Linux tells it of the main thread of a process."""
        try:
            with open("/proc/self/schedstat", "rb", buffering=0) as file:
                ran, waited, _ = file.read(100).split()
        except (OSError, ValueError):
            return None
        return int(ran) // 1_000_000, int(waited) // 1_000_000

    def resolve(self, hostname: str) -> Deferred[str]:
        """See :class:`IHost`; literal addresses are returned at once, names take their turn."""
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
        See :class:`IHost`. The child has our descriptors 0, 1 and 2 and no other.

        :raises OSError: also if ``path`` cannot be executed, where the system tells us in time.
        """
        if "/" not in path:
            path = f"./{path}"  # the C library would look for a bare name along PATH
        return self.reactor.spawnProcess(
            protocol,
            os.fsencode(path),
            [os.fsencode(argument) for argument in arguments],
            None if environment is None else dict(environment),
            childFDs={0: 0, 1: 1, 2: 2},
        )

    def set_process_title(self, title: str) -> None:
        """
        See :class:`IHost`. ``ps`` then shows ``title`` as the command line and our name as the program's.

        What can do that is imported here, in the final process: it measures the memory that the command
        line lies in, and there is Python where it cannot be built.
        """
        try:
            from setproctitle import setproctitle, setthreadtitle
        except ImportError as error:
            self._log.warn("The process keeps the title it has (set-proc-title no): {error}", error=error)
            return
        setproctitle(title)
        setthreadtitle(PROGRAM)

    def exit(self, status: int) -> None:
        """See :class:`IHost`. What was logged is written before, as far as somebody reads it."""
        drain_logs()
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.flush()
        os._exit(status)

    def fail_stop(self, failure: Failure, what: str) -> None:
        """
        See :class:`IHost`; usable as an errback.

        The process ends here rather than by ``reactor.stop()``: what we believe is wrong by now, so it
        must neither be saved nor be answered from while services stop in their own time.
        """
        self._log.failure("Stopping, as {what}", failure=failure, what=what)
        self.exit(1)
