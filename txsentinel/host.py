"""The real machine: a Twisted reactor, the system's clock and dice, files on a disk, child processes."""

from __future__ import annotations

import errno
import os
import random
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

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

from txsentinel.address import canonical_ip
from txsentinel.config.disk import read_file
from txsentinel.isentinel import IFileStore, IHost
from txsentinel.listening import current_umask
from txsentinel.machine.attention import breathing
from txsentinel.machine.logqueue import drain_logs

PROGRAM: Final = "txsentinel"
"""What the system calls us, where it would else say ``python`` or ``twistd``."""

LOOKUPS_AT_ONCE: Final = 4
"""Names looked up in parallel. Each occupies a thread for as long as a dead name server lets it wait."""

NEW_FILE_MODE: Final = 0o644
"""Mode, less the umask, of a file that did not exist before; an existing file keeps its own."""


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


class StepFailed(OSError):
    """
    A step towards a durable file failed.

    ``errno`` and ``strerror`` are the system's; ``str()`` is the log line that a C Sentinel would
    write, which names the step: ``Could not create tmp config file (Permission denied)``.
    """

    def __init__(self, step: str, cause: OSError) -> None:
        number = cause.errno or errno.EIO
        super().__init__(number, os.strerror(number))
        self.step = step

    def __str__(self) -> str:
        return f"{self.step} ({self.strerror})"


@contextmanager
def _step(words: str) -> Iterator[None]:
    """Let an ``OSError`` out of the block as a :class:`StepFailed` with these ``words``."""
    try:
        yield
    except OSError as error:
        raise StepFailed(words, error) from error


def _write_all(descriptor: int, contents: bytes) -> None:
    """Write every byte, however few the kernel takes at a time."""
    rest = memoryview(contents)
    while rest:
        with _step(f"Failed after writing ({len(contents) - len(rest)}) bytes to tmp config file"):
            rest = rest[os.write(descriptor, rest) :]


def _keep_owner(descriptor: int, old: os.stat_result) -> int:
    """
    Give the file to the owner and group of ``old``, as far as we may, and return the mode for it.

    The file often belongs to somebody else than the user we run as, and then only some of this is
    permitted. A group that we could not keep must not hand its rights to our own group, so the group's
    part of the mode is then no more than everybody's.
    """
    mode = stat.S_IMODE(old.st_mode)
    with suppress(OSError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
        return mode
    with suppress(OSError):
        os.fchown(descriptor, -1, old.st_gid)
        return mode
    if os.fstat(descriptor).st_gid != old.st_gid:
        everybody = (mode & stat.S_IRWXO) << 3
        mode &= ~stat.S_IRWXG | everybody
    return mode


def _fill(descriptor: int, contents: bytes, old: os.stat_result | None, mask: int) -> None:
    """Bring contents, owner and mode onto the disk; the owner first, as a change of it may clear mode bits."""
    _write_all(descriptor, contents)
    with _step("Could not chmod config file"):
        mode = NEW_FILE_MODE & ~mask if old is None else _keep_owner(descriptor, old)
        os.fchmod(descriptor, mode)
    with _step("Could not sync tmp config file to disk"):
        os.fsync(descriptor)


def _sync_directory(directory: str) -> None:
    """Make a rename in ``directory`` durable. File systems that cannot sync a directory are let off."""
    with _step("Could not sync config file dir"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.EINVAL):
                raise
        finally:
            os.close(descriptor)


def replace_file(path: str, contents: bytes, mask: int) -> None:
    """
    Make ``contents`` the file at ``path``, all or nothing; blocks until a power cut could not undo it.

    A symbolic link stays and the file that it leads to is replaced, unlike in C, where the link is lost.

    :param mask: the umask to apply if there is no such file yet.
    :raises StepFailed: the old file is then intact, but for ``Could not sync config file dir``: then the
        new one stands in its place and only its surviving a power cut is in doubt.
    """
    target = os.path.realpath(path)
    directory, name = os.path.split(target)
    with _step("Could not create tmp config file"):
        try:
            old = os.stat(target)
        except FileNotFoundError:
            old = None
        descriptor, temporary = tempfile.mkstemp(prefix=f"{name}.", dir=directory)
    try:
        try:
            _fill(descriptor, contents, old, mask)
        finally:
            os.close(descriptor)
        with _step("Could not rename tmp config file"):
            os.rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_directory(directory)


def check_writable(path: str) -> None:
    """
    Open the file for writing and leave it as it is; unlike ``access`` this knows the reason.

    :raises OSError: if it could not be written.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))


@implementer(IFileStore)
class RealFiles:
    """
    Files on a disk.

    While we serve, all is read, written and synced in threads, so that a slow disk never looks like TILT.
    """

    def __init__(self, reactor: IReactorThreads) -> None:
        self._reactor = reactor

    def read(self, path: str) -> bytes:
        """The whole file, at once; see :class:`IFileStore`."""
        return read_file(path)

    def fetch(self, path: str) -> Deferred[bytes]:
        """See :class:`IFileStore`."""
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self.read, path)

    def check_writable(self, path: str) -> None:
        """See :class:`IFileStore`."""
        check_writable(path)

    def replace(self, path: str, contents: bytes) -> Deferred[None]:
        """See :class:`IFileStore`; fails with :class:`StepFailed`."""
        return deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), replace_file, path, contents, current_umask()
        )


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
        self._breathe = breathing(reactor)
        self.random = random.Random()
        self.files = RealFiles(reactor)
        self._lookups = DeferredSemaphore(LOOKUPS_AT_ONCE)

    @property
    def pid(self) -> int:
        """Asked for anew each time: ``twistd`` forks between our birth and our first deed."""
        return os.getpid()

    def now(self) -> int:
        """Whole milliseconds of the reactor's clock."""
        return int(self.reactor.seconds() * 1000)

    def breathe(self) -> bool:
        """See :class:`IHost`; it takes a reactor that looks after clients."""
        return self._breathe()

    @property
    def in_passing(self) -> bool:
        """See :class:`IHost`."""
        return bool(getattr(self.reactor, "in_passing", False))

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

    def entitle(self, title: str) -> None:
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
