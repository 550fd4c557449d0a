"""
Files that survive power cuts: replaced as a whole where that is possible, overwritten in place where it is not.

Everything here blocks; :class:`~txsentinel.runtime.host.RealFiles` calls it in threads.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from txsentinel.config.recovery import Overwriting, overwriting, recovered

TEMPORARY: Final = ".tmp-txsentinel-"
"""Stands in the name of a temporary file, between the name of the file that it is to replace and a random part."""

CREATING: Final = "Could not create tmp config file"
RENAMING: Final = "Could not rename tmp config file"

NO_REPLACEMENT: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV, errno.ENAMETOOLONG, errno.ENOTSUP}
)
"""Errors of creating or renaming a temporary file that tell of the directory, and not of the disk."""

READ_SIZE: Final = 1 << 20

NEW_FILE_MODE: Final = 0o644
"""Mode, less the umask, of a file that did not exist before; an existing file keeps its own."""


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


def replace_file(path: str, contents: bytes, mask: int, lock: FileLock | None = None) -> None:
    """
    Make ``contents`` the file at ``path``, all or nothing; blocks until a power cut could not undo it.

    A symbolic link stays and the file that it leads to is replaced, unlike in C, where the link is lost.

    :param mask: the umask to apply if there is no such file yet.
    :param lock: the lock on the file, which is to pass to the new one.
    :raises StepFailed: the old file is then intact, but for ``Could not sync config file dir``: then the
        new one stands in its place and only its surviving a power cut is in doubt.
    """
    target = os.path.realpath(path)
    directory, name = os.path.split(target)
    with _step(CREATING):
        try:
            old = os.stat(target)
        except FileNotFoundError:
            old = None
        descriptor, temporary = tempfile.mkstemp(prefix=name + TEMPORARY, dir=directory)
    try:
        try:
            _fill(descriptor, contents, old, mask)
            if lock is not None:
                lock.prepare(descriptor)
        finally:
            os.close(descriptor)
        with _step(RENAMING):
            os.rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if lock is not None:
        lock.move()
    _sync_directory(directory)


def save_file(path: str, contents: bytes, mask: int, lock: FileLock | None = None, in_place: str = "") -> str:
    """
    Replace the file at ``path`` if possible, else overwrite it in place; blocks until that is durable.

    :param in_place: why an earlier attempt to replace it was in vain; it is not tried again then.
    :returns: why the file was overwritten, empty if it was replaced.
    :raises StepFailed: the old contents or the new ones are then found by ``config.recovery.recovered``.
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
    """Whether the file itself can perhaps be written although its directory cannot."""
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
    Write ``contents`` over the file at ``path`` in steps of which a crash loses nothing; see ``config.recovery``.

    :raises StepFailed: the old contents or the new ones can be recovered then.
    :raises FileNotFoundError: if there is no such file.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StepFailed("Could not open config file", error) from error
    try:
        with _step("Could not read config file"):
            raw = _read_all(descriptor)
        found = recovered(raw)
        if found.interrupted is not None:
            _carry_out(descriptor, found.interrupted)
            raw = found.contents
        elif raw != found.contents and raw.startswith(found.contents):
            # A record that is not whole, or of no more use, can go at once.
            with _step("Could not truncate config file"):
                os.ftruncate(descriptor, len(found.contents))
            raw = found.contents
        _carry_out(descriptor, overwriting(raw, contents))
    finally:
        os.close(descriptor)


def _carry_out(descriptor: int, steps: Overwriting) -> None:
    """Overwrite the file; whatever fails before the record is durable leaves the file as it was."""
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
    """Write every byte of ``piece`` at ``offset``."""
    rest = memoryview(piece)
    while rest:
        done = len(piece) - len(rest)
        with _step(f"Failed after writing ({done}) bytes to config file"):
            rest = rest[os.pwrite(descriptor, rest, offset + done) :]


def _read_all(descriptor: int) -> bytes:
    """The whole file."""
    pieces = []
    offset = 0
    while piece := os.pread(descriptor, READ_SIZE, offset):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def probe_file(path: str, size: int) -> str:
    """
    Find out whether the file at ``path`` could be saved, without touching it.

    A file of ``size`` bytes is made beside it and removed; it is not synced, so this costs little.

    :returns: why the file would have to be overwritten in place, empty if it could be replaced.
    :raises StepFailed: if it could not be saved at all.
    """
    target = os.path.realpath(path)
    directory, name = os.path.split(target)
    try:
        with _step(CREATING):
            descriptor, temporary = tempfile.mkstemp(prefix=name + TEMPORARY, dir=directory)
        try:
            _write_all(descriptor, bytes(size))
        finally:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(temporary)
    except StepFailed as error:
        if not _calls_for_overwriting(error, path):
            raise
        with _step("Could not open config file"):
            check_writable(target)
        return str(error)
    return ""


def remove_leftovers(path: str) -> None:
    """Remove the temporary files of processes that were killed while they saved; they may hold passwords."""
    target = os.path.realpath(path)
    directory, name = os.path.split(target)
    with suppress(OSError):
        for entry in os.scandir(directory):
            if entry.name.startswith(name + TEMPORARY) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    os.unlink(entry.path)


class FileInUse(Exception):
    """Another process holds the lock on a file; ``str()`` is the line to end with."""

    def __init__(self, path: str) -> None:
        super().__init__(f"Sentinel config file {path} is in use by another txsentinel process. Exiting...")


class FileLock:
    """
    The exclusive right to save a file, so that no two Sentinels vote by one file.

    The lock (``flock``) is on the file itself, as there may be no other that can be written, and moves along when the
    file is replaced. It outlives a fork and ends with the last process that has it. Where the file system knows no
    locks there is none.

    :raises FileInUse: if another process has it.
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
            os.close(descriptor)  # It was replaced before we had the lock.

    def prepare(self, descriptor: int) -> None:
        """Lock the file that is about to replace ours, by its open descriptor, which the caller may close."""
        self._forget_prepared()
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
        """The prepared file has replaced ours."""
        if self._prepared is not None:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor, self._prepared = self._prepared, None

    def release(self) -> None:
        """Let others have the file."""
        self._forget_prepared()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _forget_prepared(self) -> None:
        if self._prepared is not None:
            os.close(self._prepared)
            self._prepared = None

    def __del__(self) -> None:
        """Without its owner the lock is of no use."""
        self.release()


def check_writable(path: str) -> None:
    """
    Open the file for writing and leave it as it is; unlike ``access`` this knows the reason.

    :raises OSError: if it could not be written.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
