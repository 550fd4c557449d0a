"""
Durable files: replaced as a whole where that is possible, overwritten in place where it is not.

All functions block; :class:`~txsentinel.runtime.host.RealFiles` calls them in threads.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from txsentinel.config.disk import NOT_REGULAR
from txsentinel.config.recovery import Overwriting, overwriting, recovered
from txsentinel.process import temporary

TEMPORARY: Final = ".tmp-txsentinel-"
"""The middle of the name of a temporary file, between the name of the file that it replaces and a random part."""

CREATING: Final = "Could not create tmp config file"
RENAMING: Final = "Could not rename tmp config file"

NO_REPLACEMENT: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV, errno.ENAMETOOLONG, errno.ENOTSUP}
)
"""Errors of creating or renaming a temporary file that concern the directory, not the disk."""

REPLACING: Final = "Could not replace config file"

READ_SIZE: Final = 1 << 20

NEW_FILE_MODE: Final = 0o644
"""Mode, less the umask, of a file that did not exist before; an existing file keeps its own."""


class StepFailed(OSError):
    """
    A step of saving a file failed.

    ``errno`` and ``strerror`` are those of the system call; ``str()`` is the log line of a C Sentinel, which names the
    step: ``Could not create tmp config file (Permission denied)``.
    """

    def __init__(self, step: str, cause: OSError) -> None:
        number = cause.errno or errno.EIO
        super().__init__(number, cause.strerror or os.strerror(number))
        self.step = step

    def __str__(self) -> str:
        return f"{self.step} ({self.strerror})"


@contextmanager
def _step(words: str) -> Iterator[None]:
    """Convert an ``OSError`` in the block to a :class:`StepFailed` with these ``words``."""
    try:
        yield
    except OSError as error:
        raise StepFailed(words, error) from error


def _check_regular(found: os.stat_result) -> None:
    """
    Refuse devices, FIFOs and directories: run by root, a rename would replace ``/dev/null`` itself.

    :raises StepFailed: if it is not a regular file.
    """
    if not stat.S_ISREG(found.st_mode):
        raise StepFailed(REPLACING, OSError(errno.EINVAL, NOT_REGULAR))


def _check_target(target: str) -> None:
    """Call :func:`_check_regular` for the file at ``target``, if there is one."""
    try:
        found = os.stat(target)
    except OSError:
        return
    _check_regular(found)


def _write_all(descriptor: int, contents: bytes) -> None:
    """Write all bytes, in as many calls as needed."""
    rest = memoryview(contents)
    while rest:
        with _step(f"Failed after writing ({len(contents) - len(rest)}) bytes to tmp config file"):
            rest = rest[os.write(descriptor, rest) :]


def _keep_owner(descriptor: int, old: os.stat_result) -> int:
    """
    Set owner and group to those of ``old``, as far as permitted, and return the mode for the file.

    The file often belongs to another user than that of the process, and then the system permits only some of
    this. If the group cannot be kept, the process's own group must not get its permissions, so the group gets no more
    permissions than all users have.
    """
    mode = stat.S_IMODE(old.st_mode)
    with suppress(OSError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
        return mode
    with suppress(OSError):
        os.fchown(descriptor, -1, old.st_gid)
        return mode
    if os.fstat(descriptor).st_gid != old.st_gid:
        others = (mode & stat.S_IRWXO) << 3
        mode &= ~stat.S_IRWXG | others
    return mode


def _fill(descriptor: int, contents: bytes, old: os.stat_result | None, mask: int) -> None:
    """Write contents, owner and mode durably; the owner before the mode, as changing it can clear mode bits."""
    _write_all(descriptor, contents)
    with _step("Could not chmod config file"):
        mode = NEW_FILE_MODE & ~mask if old is None else _keep_owner(descriptor, old)
        os.fchmod(descriptor, mode)
    with _step("Could not sync tmp config file to disk"):
        os.fsync(descriptor)


def _sync_directory(directory: str) -> None:
    """Make a rename in ``directory`` durable. Do nothing on file systems that cannot sync a directory."""
    with _step("Could not sync config file dir"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.EINVAL):
                raise
        finally:
            os.close(descriptor)


def replace_file(path: str, contents: bytes, mask: int, lock: FileLock | None = None) -> None:
    """
    Replace the file at ``path`` by ``contents`` atomically; block until this is durable.

    A symbolic link is kept and its target is replaced, unlike in C, which replaces the link.

    :param mask: the umask for a new file.
    :param lock: the lock on the file, which moves to the new one.
    :raises StepFailed: the old file is then intact, except after ``Could not sync config file dir``: then the new
        file has replaced it, but may not survive a power failure.
    """
    target = os.path.realpath(path)
    directory, name = os.path.split(target)
    with _step(CREATING):
        try:
            old = os.stat(target)
        except FileNotFoundError:
            old = None
    if old is not None:
        _check_regular(old)
    with _step(CREATING):
        descriptor, created = temporary.mkstemp(prefix=name + TEMPORARY, dir=directory)
    try:
        try:
            _fill(descriptor, contents, old, mask)
            if lock is not None:
                lock.prepare(descriptor)
        finally:
            os.close(descriptor)
        with _step(RENAMING):
            os.rename(created, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(created)
        raise
    if lock is not None:
        lock.move()
    _sync_directory(directory)


def save_file(path: str, contents: bytes, mask: int, lock: FileLock | None = None, in_place: str = "") -> str:
    """
    Replace the file at ``path`` if possible, otherwise overwrite it in place; block until that is durable.

    :param in_place: why an earlier attempt to replace it failed; if not empty, replacing is not tried again.
    :returns: why the file was overwritten, empty if it was replaced.
    :raises StepFailed: ``config.recovery.recovered`` then finds the old contents or the new ones.
    """
    if in_place:
        with suppress(FileNotFoundError):
            overwrite_file(path, contents)
            return in_place
    try:
        replace_file(path, contents, mask, lock)
    except StepFailed as error:
        if not _calls_for_overwriting(error, path):
            raise
        overwrite_file(path, contents)
        return str(error)
    return ""


def _calls_for_overwriting(error: StepFailed, path: str) -> bool:
    """Whether the file can possibly be written although its directory cannot."""
    if error.step not in (CREATING, RENAMING):
        return False
    target = os.path.realpath(path)
    try:
        status = os.stat(target)
        elsewhere = status.st_dev != os.stat(os.path.dirname(target)).st_dev
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and (error.errno in NO_REPLACEMENT or elsewhere)


def overwrite_file(path: str, contents: bytes) -> None:
    """
    Overwrite the file at ``path`` in steps, so that a crash at any time loses nothing; see ``config.recovery``.

    :raises StepFailed: the old contents or the new ones can be recovered then.
    :raises FileNotFoundError: if there is no such file.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StepFailed("Could not open config file", error) from error
    try:
        _check_regular(os.fstat(descriptor))
        with _step("Could not read config file"):
            raw = _read_all(descriptor)
        found = recovered(raw)
        if found.interrupted is not None:
            _overwrite(descriptor, found.interrupted)
            raw = found.contents
        elif raw != found.contents and raw.startswith(found.contents):
            # Remove a record that is incomplete or not needed any more.
            with _step("Could not truncate config file"):
                os.ftruncate(descriptor, len(found.contents))
            raw = found.contents
        _overwrite(descriptor, overwriting(raw, contents))
    finally:
        os.close(descriptor)


def _overwrite(descriptor: int, steps: Overwriting) -> None:
    """Overwrite the file. A failure before the record is durable leaves the file unchanged."""
    if steps.record:
        try:
            _write_at(descriptor, steps.record, steps.length)
            with _step("Could not sync config file to disk"):
                os.fsync(descriptor)
        except StepFailed:
            with suppress(OSError):
                os.ftruncate(descriptor, steps.length)
            raise
    _write_at(descriptor, steps.head, 0)
    with _step("Could not sync config file to disk"):
        os.fsync(descriptor)
    with _step("Could not truncate config file"):
        os.ftruncate(descriptor, len(steps.contents))
    with _step("Could not sync config file to disk"):
        os.fsync(descriptor)


def _write_at(descriptor: int, piece: bytes, offset: int) -> None:
    """Write all bytes of ``piece`` at ``offset``."""
    rest = memoryview(piece)
    while rest:
        done = len(piece) - len(rest)
        with _step(f"Failed after writing ({done}) bytes to config file"):
            rest = rest[os.pwrite(descriptor, rest, offset + done) :]


def _read_all(descriptor: int) -> bytes:
    """Return the contents of the file."""
    pieces = []
    offset = 0
    while piece := os.pread(descriptor, READ_SIZE, offset):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def probe_file(path: str, size: int) -> str:
    """
    Check whether the file at ``path`` can be saved, without changing it.

    A file of ``size`` bytes is created beside it and removed. It is not synced, so this is cheap.

    :returns: why the file has to be overwritten in place, empty if it can be replaced.
    :raises StepFailed: if it cannot be saved at all.
    """
    target = os.path.realpath(path)
    directory, name = os.path.split(target)
    _check_target(target)
    try:
        with _step(CREATING):
            descriptor, created = temporary.mkstemp(prefix=name + TEMPORARY, dir=directory)
        try:
            _write_all(descriptor, bytes(size))
        finally:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(created)
    except StepFailed as error:
        if not _calls_for_overwriting(error, path):
            raise
        with _step("Could not open config file"):
            check_writable(target)
        return str(error)
    return ""


def remove_leftovers(path: str) -> None:
    """Remove temporary files of processes that were killed while saving; the files may contain passwords."""
    target = os.path.realpath(path)
    directory, name = os.path.split(target)
    with suppress(OSError):
        for entry in os.scandir(directory):
            if entry.name.startswith(name + TEMPORARY) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    os.unlink(entry.path)


class FileInUse(Exception):
    """Another process has the lock on a file; ``str()`` is the error line."""

    def __init__(self, path: str) -> None:
        super().__init__(f"Sentinel config file {path} is in use by another txsentinel process. Exiting...")


class FileLock:
    """
    An exclusive lock on a file that is saved, so that no two Sentinels store their votes in one file.

    The lock (``flock``) is on the file itself, because its directory may not be writable, and moves to the new file
    when the file is replaced. It survives a fork and ends with the last process that has it. On file systems without
    locks there is none.

    :raises FileInUse: if another process has the lock.
    :raises OSError: if the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._descriptor: int | None = None
        self._prepared: int | None = None
        while True:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise FileInUse(path) from None
            except OSError:
                os.close(descriptor)
                return
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                self._descriptor = descriptor
                return
            os.close(descriptor)  # The file was replaced before it was locked.

    def prepare(self, descriptor: int) -> None:
        """Lock the file that will replace the locked one, by its descriptor, which the caller may close."""
        self._discard_prepared()
        if self._descriptor is None:
            return
        copy = os.dup(descriptor)
        try:
            fcntl.flock(copy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(copy)
        else:
            self._prepared = copy

    def move(self) -> None:
        """Release the old file after the prepared one has replaced it."""
        if self._prepared is not None:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor, self._prepared = self._prepared, None

    def release(self) -> None:
        """Release the lock."""
        self._discard_prepared()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _discard_prepared(self) -> None:
        if self._prepared is not None:
            os.close(self._prepared)
            self._prepared = None

    def __del__(self) -> None:
        """Release the lock with its owner."""
        self.release()


def check_writable(path: str) -> None:
    """
    Open the file for writing without changing it. Unlike ``access`` this gives the reason.

    :raises OSError: if it cannot be written, or is not a regular file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    try:
        _check_regular(os.fstat(descriptor))
    finally:
        os.close(descriptor)
