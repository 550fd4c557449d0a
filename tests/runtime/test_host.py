"""Tests of the host: clock, names, children, durable files, and the exit of the process."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import json
import os
import random
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any, cast
from unittest import SkipTest, skipIf

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError, ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IAddress, IResolutionReceiver
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tests.log_events import observe_log
from txsentinel.config.recovery import recovered
from txsentinel.interfaces import IFileStore, IHost
from txsentinel.process import temporary
from txsentinel.process.files import (
    FileInUse,
    FileLock,
    check_writable,
    overwrite_file,
    probe_file,
    remove_leftovers,
    save_file,
)
from txsentinel.process.supervisor import MANAGER_VARIABLES
from txsentinel.runtime.host import (
    MAX_CONCURRENT_LOOKUPS,
    ISystemReactor,
    RealFiles,
    RealHost,
    StepFailed,
    replace_file,
)

AS_ROOT = os.geteuid() == 0

CHILD = """
import json, os, sys
numbers = [int(each) for each in os.listdir("/proc/self/fd")]
descriptors = [each for each in sorted(numbers) if os.path.exists(f"/proc/self/fd/{each}")]
with open(sys.argv[1], "w") as report:
    json.dump([descriptors, os.environ["PATH"], sys.argv[2]], report)
sys.exit(3)
"""
"""A script that writes what it inherited."""


class FakeThreadPool:
    """Runs functions at once, in the caller's thread."""

    def callInThreadWithCallback(self, answer: Callable[..., None], f: Callable[..., object], *args: object) -> None:
        """Call the function and report its result."""
        try:
            result = f(*args)
        except Exception:
            answer(False, Failure())
        else:
            answer(True, result)


class FakeResolver:
    """Records lookups; the test answers them."""

    def __init__(self) -> None:
        self.asked: list[tuple[IResolutionReceiver, str]] = []

    def resolveHostName(self, receiver: IResolutionReceiver, hostName: str) -> None:
        """Record a lookup."""
        self.asked.append((receiver, hostName))

    def answer(self, *addresses: IAddress) -> str:
        """Answer the oldest lookup; return its name."""
        receiver, name = self.asked.pop(0)
        for address in addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()
        return name


class FakeReactor(Clock):
    """The parts of a reactor that a host uses."""

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = FakeResolver()
        self.spawned: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def getThreadPool(self) -> FakeThreadPool:
        """Return a pool without threads."""
        return FakeThreadPool()

    def callFromThread(self, f: Callable[..., object], *args: object) -> None:
        """Call at once: there is only one thread."""
        f(*args)

    def spawnProcess(self, *args: object, **kwargs: object) -> None:
        """Record the process to start."""
        self.spawned.append((args, kwargs))


class HostTests(SynchronousTestCase):
    """Time, random numbers, names and children."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.host = RealHost(cast(ISystemReactor, self.reactor))

    def test_interfaces(self) -> None:
        """The host and its files implement their interfaces."""
        verifyObject(IHost, self.host)
        verifyObject(IFileStore, self.host.files)

    def test_now_is_the_reactors_clock_in_milliseconds(self) -> None:
        """``now`` is the reactor's clock in whole milliseconds."""
        self.reactor.advance(12.3456)
        self.assertEqual(self.host.now(), 12345)
        self.assertIsInstance(self.host.now(), int)

    def test_random_numbers(self) -> None:
        """Seeding the global random number generator does not affect that of the host."""
        self.assertIsInstance(self.host.random, random.Random)
        random.seed(1)
        first = RealHost(cast(ISystemReactor, self.reactor)).random.random()
        random.seed(1)
        self.assertNotEqual(first, RealHost(cast(ISystemReactor, self.reactor)).random.random())

    def test_pid_is_the_present_one(self) -> None:
        """After a fork, as by daemons, the PID is that of the child."""
        self.patch(os, "getpid", lambda: 4711)
        self.assertEqual(self.host.pid, 4711)

    def test_literal_addresses_need_no_resolver(self) -> None:
        """An IP address is returned at once, in canonical spelling."""
        self.assertEqual(self.successResultOf(self.host.resolve("127.0.0.1")), "127.0.0.1")
        self.assertEqual(self.successResultOf(self.host.resolve("0::0001")), "::1")
        self.assertEqual(self.reactor.nameResolver.asked, [])

    def test_first_address_wins(self) -> None:
        """The first of several addresses is used, as the resolver sorts them by preference."""
        found = self.host.resolve("redis.example")
        self.assertNoResult(found)
        name = self.reactor.nameResolver.answer(
            IPv6Address("TCP", "2001:db8::7", 0), IPv4Address("TCP", "192.0.2.7", 0)
        )
        self.assertEqual(name, "redis.example")
        self.assertEqual(self.successResultOf(found), "2001:db8::7")

    def test_no_address_is_a_failure(self) -> None:
        """A name without addresses fails the lookup with an error that has the name."""
        found = self.host.resolve("nowhere.example")
        self.reactor.nameResolver.answer()
        self.assertIn("nowhere.example", str(self.failureResultOf(found, DNSLookupError).value))

    def test_names_that_cannot_be_encoded(self) -> None:
        """Names that the resolver's thread cannot encode, and would never answer, fail before."""
        for name in ("", "a..b", "x" * 64, "nul\0.example", "\udcff.example"):
            self.failureResultOf(self.host.resolve(name), DNSLookupError)
        self.assertEqual(self.reactor.nameResolver.asked, [])

    def test_lookups_use_few_threads(self) -> None:
        """However many lookups hang, only a limited number of them occupy threads."""
        names = [f"n{number}.example" for number in range(MAX_CONCURRENT_LOOKUPS + 2)]
        waiting = [self.host.resolve(name) for name in names]
        resolver = self.reactor.nameResolver
        self.assertEqual([name for _, name in resolver.asked], names[:MAX_CONCURRENT_LOOKUPS])
        resolver.answer()
        self.failureResultOf(waiting[0], DNSLookupError)
        self.assertEqual(len(resolver.asked), MAX_CONCURRENT_LOOKUPS)
        while resolver.asked:
            resolver.answer(IPv4Address("TCP", "192.0.2.1", 0))
        self.assertEqual([self.successResultOf(each) for each in waiting[1:]], ["192.0.2.1"] * (len(names) - 1))

    def test_children_get_three_descriptors_and_our_environment(self) -> None:
        """A script gets the standard streams, its arguments unchanged, and the environment but for its supervisor's."""
        protocol = ProcessProtocol()
        self.patch(os, "environ", {"LANG": "C", **dict.fromkeys(MANAGER_VARIABLES, "1")})
        self.host.spawn(protocol, "/opt/notify", ["/opt/notify", "+sdown", "caf\udce9"], None)
        (args, kwargs) = self.reactor.spawned[0]
        self.assertEqual(args, (protocol, b"/opt/notify", [b"/opt/notify", b"+sdown", b"caf\xe9"], {"LANG": "C"}))
        self.assertEqual(kwargs, {"childFDs": {0: 0, 1: 1, 2: 2}})

    def test_bare_names_are_not_searched_for(self) -> None:
        """A script without a slash in its name is the one in the working directory, never one on PATH."""
        self.host.spawn(ProcessProtocol(), "true", ["true"], {})
        self.assertEqual(self.reactor.spawned[0][0][1], b"./true")

    def test_fail_stop(self) -> None:
        """The traceback is logged at the critical level, and the process ends at once."""
        statuses: list[int] = []
        events: list[LogEvent] = []
        self.patch(os, "_exit", statuses.append)
        failing: list[str] = []
        self.host = RealHost(self.host.reactor, failing=lambda: failing.append("failing"))
        observe_log(self, events.append)
        broken: Deferred[None] = Deferred()
        broken.addErrback(self.host.fail_stop, "the sweep raised")
        broken.errback(ZeroDivisionError("one over nothing"))
        self.assertEqual((statuses, failing), ([1], ["failing"]))
        self.assertEqual([event["log_level"] for event in events], [LogLevel.critical])
        self.assertEqual(events[0]["what"], "the sweep raised")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_exit_ends_the_process(self) -> None:
        """``exit`` ends the process at once with the status, without cleanup, but flushes its output."""
        script = """
            import atexit, sys
            from twisted.internet.task import Clock
            from txsentinel.runtime.host import RealHost
            atexit.register(lambda: sys.stdout.write("cleaned up"))
            sys.stdout.write("printed before")
            RealHost(Clock()).exit(7)
        """
        ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
        self.assertEqual((ended.returncode, ended.stdout), (7, b"printed before"))

    def titled_process(self, before: str = "") -> tuple[str, str, list[tuple[str, str]]]:
        """Return command line, name and log of a process that was given a title after running ``before``."""
        script = """
            import json, os, sys
            from twisted.internet.task import Clock
            from twisted.logger import formatEvent, globalLogPublisher
            from txsentinel.runtime.host import RealHost
            lines = []
            globalLogPublisher.addObserver(lambda event: lines.append([event["log_level"].name, formatEvent(event)]))
            RealHost(Clock()).set_process_title("a title {with} braces")
            line = open("/proc/self/cmdline", "rb").read().rstrip(b"\\0").replace(b"\\0", b" ")
            sys.stdout.write(json.dumps([line.decode(), open("/proc/self/comm").read(), lines]))
        """
        words = [sys.executable, "-c", before + textwrap.dedent(script)]
        line, name, logged = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
        return line, name, logged

    def test_title(self) -> None:
        """Lists of processes show the title as the command line, and our name as that of the program."""
        self.assertEqual(self.titled_process(), ("a title {with} braces", "txsentinel\n", []))

    def test_title_without_the_package(self) -> None:
        """Without the setproctitle package, the process keeps its title, which is logged at level debug."""
        line, name, logged = self.titled_process("import sys; sys.modules['setproctitle'] = None")
        self.assertIn("RealHost", line)
        self.assertNotEqual(name, "txsentinel\n")
        [[level, text]] = logged
        self.assertEqual(level, "debug")
        self.assertIn("setproctitle", text)

    def test_scheduled(self) -> None:
        """The processor time of this thread grows with its work; a system without it is no error."""
        before = self.host.scheduled()
        if before is None:
            raise SkipTest("no /proc/self/schedstat here")
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        after = self.host.scheduled()
        assert after is not None
        self.assertGreaterEqual(after[0] - before[0], 40)
        self.assertGreaterEqual(after[1], before[1])
        self.patch(builtins, "open", lambda *arguments, **keywords: io.BytesIO(b""))
        self.assertIsNone(self.host.scheduled())


class ReplaceTests(SynchronousTestCase):
    """Saving of files, on the real disk."""

    def setUp(self) -> None:
        self.directory = os.path.realpath(self.mktemp())
        os.makedirs(self.directory)
        self.path = os.path.join(self.directory, "sentinel.conf")
        self.files = RealFiles(cast(ISystemReactor, FakeReactor()))

    def write(self, contents: bytes = b"old\n", mode: int = 0o644) -> None:
        """Write a file."""
        with open(self.path, "wb") as file:
            file.write(contents)
        os.chmod(self.path, mode)

    def mode(self) -> int:
        """Return the permissions of the file."""
        return stat.S_IMODE(os.stat(self.path).st_mode)

    def assert_intact(self, step: str, failed: Deferred[str], number: int) -> None:
        """Assert that only the old file is in the directory, and the error names the step."""
        error = self.failureResultOf(failed, OSError).value
        self.assertIsInstance(error, StepFailed)
        self.assertEqual(str(error), f"{step} ({os.strerror(number)})")
        self.assertEqual((error.errno, error.strerror), (number, os.strerror(number)))
        self.assertEqual(os.listdir(self.directory), ["sentinel.conf"])
        self.assertEqual(self.files.read(self.path), b"old\n")

    def break_step(self, name: str, number: int) -> None:
        """Make a function of ``os`` fail."""

        def broken(*args: object, **kwargs: object) -> None:
            raise OSError(number, os.strerror(number))

        self.patch(os, name, broken)

    def test_not_a_regular_file(self) -> None:
        """A device, a FIFO or a directory, or a link to one, is neither replaced nor written to."""
        elsewhere = os.path.join(self.directory, "elsewhere")
        os.mkfifo(elsewhere)
        os.symlink("elsewhere", self.path)
        for attempt in (
            lambda: replace_file(self.path, b"new", 0o022),
            lambda: save_file(self.path, b"new", 0o022, in_place="it was so before"),
            lambda: probe_file(self.path, 100),
            lambda: check_writable("/dev/null"),
        ):
            error = self.assertRaises(StepFailed, attempt)
            self.assertEqual("Could not replace config file (Not a regular file)", str(error))
            self.assertEqual("Not a regular file", error.strerror)
        self.assertTrue(stat.S_ISFIFO(os.stat(elsewhere).st_mode))
        self.assertEqual({"elsewhere", "sentinel.conf"}, set(os.listdir(self.directory)))

    def test_contents_are_replaced(self) -> None:
        """The file has the new contents, and no other file is left in the directory."""
        self.write()
        contents = b"line\n" * 100_000
        self.assertEqual(self.successResultOf(self.files.replace(self.path, contents)), "")
        self.assertEqual(self.files.read(self.path), contents)
        self.assertEqual(os.listdir(self.directory), ["sentinel.conf"])

    def test_everything_is_written_in_small_pieces_too(self) -> None:
        """A kernel that accepts a few bytes at a time gets all of them."""
        write = os.write
        self.patch(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
        self.successResultOf(self.files.replace(self.path, b"0123456789"))
        self.assertEqual(self.files.read(self.path), b"0123456789")

    def test_mode_is_kept(self) -> None:
        """The permissions are kept, unlike with C, which sets 0644."""
        for mode in (0o600, 0o640, 0o666):
            self.write(mode=mode)
            self.successResultOf(self.files.replace(self.path, b"new"))
            self.assertEqual(self.mode(), mode)

    def test_umask(self) -> None:
        """A new file is 0644 less the umask, and the umask is unchanged."""
        before = os.umask(0o027)
        self.addCleanup(os.umask, before)
        self.successResultOf(self.files.replace(self.path, b"new"))
        self.assertEqual(self.mode(), 0o640)
        self.assertEqual(os.umask(0o027), 0o027)

    @skipIf(not AS_ROOT, "only root may give files away")
    def test_owner_is_kept(self) -> None:
        """The owner of a file is kept."""
        self.write(mode=0o640)
        os.chown(self.path, 1234, 2345)
        self.successResultOf(self.files.replace(self.path, b"new"))
        status = os.stat(self.path)
        self.assertEqual((status.st_uid, status.st_gid, self.mode()), (1234, 2345, 0o640))

    @skipIf(not AS_ROOT, "only root can make a file of another group first")
    def test_a_group_that_cannot_be_kept_gets_no_rights(self) -> None:
        """If the group cannot be kept, our own group does not get the rights of the other one."""
        self.write(mode=0o664)
        os.chown(self.path, 1234, 2345)
        self.break_step("fchown", errno.EPERM)
        self.successResultOf(self.files.replace(self.path, b"new"))
        self.assertEqual(self.mode(), 0o644)

    def test_symbolic_links_survive(self) -> None:
        """A link stays a link, and its target is replaced, in the directory of that."""
        self.write()
        elsewhere = os.path.join(os.path.realpath(self.mktemp()))
        os.makedirs(elsewhere)
        link = os.path.join(elsewhere, "link.conf")
        os.symlink(self.path, link)
        self.successResultOf(self.files.replace(link, b"new"))
        self.assertTrue(os.path.islink(link))
        self.assertEqual(self.files.read(self.path), b"new")
        self.assertEqual(os.listdir(elsewhere), ["link.conf"])

    def test_order_of_steps(self) -> None:
        """Contents are synced before the rename, the directory after it; otherwise a power failure could lose both."""
        steps: list[str] = []
        for name in ("fsync", "fchmod", "rename"):
            original = getattr(os, name)

            def spy(*args: object, name: str = name, original: Callable[..., object] = original) -> object:
                kind = ""
                if name == "fsync":
                    kind = " directory" if stat.S_ISDIR(os.fstat(cast(int, args[0])).st_mode) else " file"
                steps.append(name + kind)
                return original(*args)

            self.patch(os, name, spy)
        self.successResultOf(self.files.replace(self.path, b"new"))
        self.assertEqual(steps, ["fchmod", "fsync file", "rename", "fsync directory"])

    def test_missing_directory(self) -> None:
        """Without the directory the temporary file cannot be created."""
        missing = os.path.join(self.directory, "gone", "sentinel.conf")
        error = self.failureResultOf(self.files.replace(missing, b"new"), OSError).value
        self.assertEqual(str(error), "Could not create tmp config file (No such file or directory)")

    def test_directory_without_permission(self) -> None:
        """A directory without write permission is reported with C's words, and the file is unchanged."""
        self.write()
        self.patch(os, "open", self._denied)
        failed = self.files.replace(self.path, b"new")
        error = self.failureResultOf(failed, OSError).value
        self.assertEqual(str(error), "Could not open config file (Permission denied)")
        self.assertEqual(os.listdir(self.directory), ["sentinel.conf"])

    @staticmethod
    def _denied(path: str, flags: int, *args: object, **kwargs: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def test_overwritten_where_it_cannot_be_replaced(self) -> None:
        """
        A file that is a mount point, or in a directory without write permission, is overwritten in place, with the
        reason.
        """
        for function, number, reason in (
            ("rename", errno.EBUSY, "Could not rename tmp config file (Device or resource busy)"),
            ("mkstemp", errno.EROFS, "Could not create tmp config file (Read-only file system)"),
        ):
            self.files = RealFiles(cast(ISystemReactor, FakeReactor()))
            self.write(b"old and long\n", mode=0o640)
            inode = os.stat(self.path).st_ino
            module = temporary if function == "mkstemp" else os
            original = getattr(module, function)

            def broken(*args: object, number: int = number, **kwargs: object) -> None:
                raise OSError(number, os.strerror(number))

            setattr(module, function, broken)
            try:
                self.assertEqual(self.successResultOf(self.files.probe(self.path, 3)), "" if module is os else reason)
                self.assertEqual(self.successResultOf(self.files.replace(self.path, b"new")), reason)
                self.successResultOf(self.files.replace(self.path, b"newer\n"))
            finally:
                setattr(module, function, original)
            self.assertEqual(self.files.read(self.path), b"newer\n")
            self.assertEqual((self.mode(), os.stat(self.path).st_ino), (0o640, inode))
            self.assertEqual(os.listdir(self.directory), ["sentinel.conf"])

    def test_overwriting_that_fails(self) -> None:
        """After any failure the old contents or the new ones can be recovered, and the next attempt succeeds."""
        names = ["pwrite", "fsync", "ftruncate"]
        for name in names:
            for count in range(1, 4):
                self.write(b"old\n")
                original = getattr(os, name)
                calls: list[int] = []

                def failing(
                    *args: object, calls: list[int] = calls, count: int = count, original: Any = original
                ) -> object:
                    calls.append(1)
                    if len(calls) >= count:
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
                    return original(*args)

                setattr(os, name, failing)
                try:
                    for _ in range(3):
                        with contextlib.suppress(StepFailed):
                            overwrite_file(self.path, b"new and longer\n")
                finally:
                    setattr(os, name, original)
                found = recovered(self.files.read(self.path)).contents
                self.assertIn(found, (b"old\n", b"new and longer\n"), (name, count))
                self.assertLess(len(self.files.read(self.path)), 1000)
                overwrite_file(self.path, b"last\n")
                self.assertEqual(self.files.read(self.path), b"last\n")

    def test_full_disk_is_not_overwritten(self) -> None:
        """If there is no space for the recovery record, the file is unchanged."""
        self.write()
        before = os.fstat(0)

        def full(descriptor: int, data: object, offset: int) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(os, "pwrite", full)
        self.break_step("rename", errno.EBUSY)
        error = self.failureResultOf(self.files.replace(self.path, b"new"), StepFailed).value
        self.assertEqual(str(error), "Failed after writing (0) bytes to config file (No space left on device)")
        self.assertEqual((self.files.read(self.path), before.st_ino), (b"old\n", os.fstat(0).st_ino))

    def test_probe(self) -> None:
        """A probe has the result that a save would have, and leaves file and directory unchanged."""
        self.write()
        self.assertEqual(self.successResultOf(self.files.probe(self.path, 100_000)), "")
        self.break_step("write", errno.ENOSPC)
        error = self.failureResultOf(self.files.probe(self.path, 100), StepFailed).value
        self.assertEqual(error.errno, errno.ENOSPC)
        self.assertEqual((os.listdir(self.directory), self.files.read(self.path)), (["sentinel.conf"], b"old\n"))

    def test_lock(self) -> None:
        """A locked file stays locked when it is replaced or overwritten, and is free once the lock is released."""
        self.write()
        lock = FileLock(self.path)
        self.files = RealFiles(cast(ISystemReactor, FakeReactor()), locks={self.path: lock})
        for function in ("", "rename"):
            if function:
                self.break_step(function, errno.EBUSY)
            for contents in (b"one", b"two"):
                refusal = self.assertRaises(FileInUse, FileLock, self.path)
                self.assertIn(f"{self.path} is in use by another", str(refusal))
                self.successResultOf(self.files.replace(self.path, contents))
        self.assertRaises(FileInUse, FileLock, self.path)
        lock.release()
        FileLock(self.path).release()

    def test_leftovers(self) -> None:
        """Temporary files of killed processes are removed, and nothing else."""
        self.write()
        names = ["sentinel.conf.tmp-txsentinel-abc12345", "sentinel.conf.bak_2024", "other.tmp-txsentinel-abc12345"]
        for name in names:
            with open(os.path.join(self.directory, name), "w", encoding="ascii") as file:
                file.write("secret")
        remove_leftovers(self.path)
        self.assertEqual(sorted(os.listdir(self.directory)), sorted(["sentinel.conf", *names[1:]]))

    @skipIf(not os.path.exists("/dev/full"), "no device that is always full")
    def test_full_disk(self) -> None:
        """If the disk fills up during a write, the error has the number of written bytes."""
        self.write()
        write = os.write
        full = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, full)
        written: list[int] = []

        def filling(descriptor: int, data: memoryview) -> int:
            target = full if written else descriptor
            written.append(write(target, bytes(data[:4])))
            return written[-1]

        self.patch(os, "write", filling)
        self.assert_intact(
            "Failed after writing (4) bytes to tmp config file",
            self.files.replace(self.path, b"0123456789"),
            errno.ENOSPC,
        )

    def test_each_step_may_fail(self) -> None:
        """After a failure before the rename, the old file is unchanged and no other file is left."""
        for function, number, step in (
            ("fchmod", errno.EPERM, "Could not chmod config file"),
            ("fsync", errno.EIO, "Could not sync tmp config file to disk"),
            ("rename", errno.EIO, "Could not rename tmp config file"),
        ):
            self.write()
            original = getattr(os, function)
            self.break_step(function, number)
            self.assert_intact(step, self.files.replace(self.path, b"new"), number)
            setattr(os, function, original)

    def test_descriptors_are_closed(self) -> None:
        """A thousand failures use up no descriptors."""
        self.write()
        before = len(os.listdir("/proc/self/fd"))
        self.break_step("fsync", errno.EIO)
        for _ in range(5):
            self.failureResultOf(self.files.replace(self.path, b"new"), OSError)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_directory_that_cannot_be_synced(self) -> None:
        """An error of syncing the directory is reported; a file system without such a sync is no error."""
        fsync = os.fsync
        for number, tolerated in ((errno.EINVAL, True), (errno.EIO, False)):

            def sync(descriptor: int, number: int = number) -> None:
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    raise OSError(number, os.strerror(number))
                fsync(descriptor)

            self.patch(os, "fsync", sync)
            replaced = self.files.replace(self.path, b"new")
            if tolerated:
                self.successResultOf(replaced)
            else:
                error = self.failureResultOf(replaced, OSError).value
                self.assertEqual(str(error), "Could not sync config file dir (Input/output error)")

    def test_check_writable(self) -> None:
        """Writable files are unchanged; the error for others has the system's reason."""
        self.write()
        before = os.stat(self.path).st_mtime_ns
        self.files.check_writable(self.path)
        self.assertEqual((os.stat(self.path).st_mtime_ns, self.files.read(self.path)), (before, b"old\n"))
        with self.assertRaises(IsADirectoryError):
            self.files.check_writable(self.directory)
        with self.assertRaises(FileNotFoundError):
            self.files.check_writable(self.path + ".gone")

    def test_dangling_symbolic_link(self) -> None:
        """A link to a missing file gets that file."""
        os.symlink(os.path.join(self.directory, "real.conf"), self.path)
        replace_file(self.path, b"new", 0o022)
        self.assertEqual(sorted(os.listdir(self.directory)), ["real.conf", "sentinel.conf"])
        self.assertEqual(self.files.read(self.path), b"new")


class Ended(ProcessProtocol):
    """Reports how a child ended."""

    def __init__(self) -> None:
        self.ended: Deferred[int | None] = Deferred()

    def processEnded(self, reason: Failure) -> None:
        """Pass on the exit code."""
        assert isinstance(reason.value, ProcessDone | ProcessTerminated)
        self.ended.callback(reason.value.exitCode)


class RealReactorTests(TestCase):
    """Tests with the real reactor: threads, children and a lookup, all on this machine."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.host = RealHost(cast(ISystemReactor, reactor))
        self.directory = os.path.realpath(self.mktemp())
        os.makedirs(self.directory)

    async def test_replace_happens_in_a_thread(self) -> None:
        """The reactor runs while the disk is slow."""
        path = os.path.join(self.directory, "sentinel.conf")
        replaced = self.host.files.replace(path, b"durable")
        self.assertNoResult(replaced)
        await replaced
        self.assertEqual(self.host.files.read(path), b"durable")

    async def test_fetch_happens_in_a_thread(self) -> None:
        """The reactor runs while the disk is slow; a missing file is reported in the same way."""
        path = os.path.join(self.directory, "users.acl")
        missing = self.host.files.fetch(path)
        self.assertNoResult(missing)
        with self.assertRaises(FileNotFoundError):
            await missing
        with open(path, "wb") as file:
            file.write(b"user a on")
        fetched = self.host.files.fetch(path)
        self.assertNoResult(fetched)
        self.assertEqual(await fetched, b"user a on")

    async def test_localhost_is_found(self) -> None:
        """A name is looked up by the system's resolver."""
        self.assertIn(await self.host.resolve("localhost"), ("127.0.0.1", "::1"))

    async def test_children_inherit_nothing_else(self) -> None:
        """Files, sockets and even inheritable descriptors are not inherited by scripts."""
        report = os.path.join(self.directory, "report")
        script = os.path.join(self.directory, "script")
        with open(script, "w", encoding="ascii") as file:
            file.write(f"#!{sys.executable} -I\n{CHILD}")
        os.chmod(script, 0o755)
        leak = os.open(script, os.O_RDONLY)
        self.addCleanup(os.close, leak)
        os.set_inheritable(leak, True)
        child = Ended()
        self.host.spawn(child, script, [script, report, "a  b*"], None)
        self.assertEqual(await child.ended, 3)
        with open(report, encoding="ascii") as file:
            printed = json.load(file)
        self.assertEqual(printed, [[0, 1, 2], os.environ["PATH"], "a  b*"])

    def test_not_executable(self) -> None:
        """A script that is missing or not executable raises."""
        for path in (os.path.join(self.directory, "gone"), self.directory):
            with self.assertRaises(OSError):
                self.host.spawn(ProcessProtocol(), path, [path], None)
