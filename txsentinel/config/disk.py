"""File access that reading a configuration requires."""

from __future__ import annotations

import errno
import glob
import os
import stat
from typing import Final, Protocol

NOT_REGULAR: Final = "Not a regular file"

_NULL_DEVICE: Final = os.makedev(1, 3)


class Disk(Protocol):
    """File access; all paths are absolute."""

    def working_directory(self) -> str:
        """Return the directory for relative paths before the directive ``dir``."""

    def read(self, path: str) -> bytes:
        """
        Return the contents of a file.

        :raises OSError: if it cannot be read.
        """

    def matching(self, pattern: str) -> list[str]:
        """Return the files that match a glob pattern, sorted."""

    def executable(self, path: str) -> bool:
        """Whether this process may execute ``path``."""

    def readable_by_others(self, path: str) -> bool:
        """Whether every user of the machine may read the file at ``path``."""

    def check_directory(self, path: str) -> None:
        """
        Check that ``path`` is a directory that this process may enter.

        :raises OSError: with the reason if it is not.
        """

    def check_appendable(self, path: str) -> None:
        """
        Check that this process can append to the file at ``path``, which is created if it does not exist.

        :raises OSError: with the reason if it cannot.
        """


def check_regular(path: str) -> None:
    """
    Check that the file at ``path`` is a regular file, whose reading cannot block, or does not exist.

    :raises OSError: with the reason if it is not.
    """
    try:
        _check_regular(os.stat(path))
    except FileNotFoundError:
        return


def read_file(path: str) -> bytes:
    """
    Return the contents of the regular file at ``path``. Reading a FIFO, a socket or a terminal might never end.

    :raises OSError: if it cannot be read, or is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _check_regular(os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _check_regular(found: os.stat_result) -> None:
    mode = found.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode) and not (stat.S_ISCHR(mode) and found.st_rdev == _NULL_DEVICE):
        raise OSError(errno.EINVAL, NOT_REGULAR)


class LocalDisk:
    """The local file system."""

    def working_directory(self) -> str:
        """See :class:`Disk`; the working directory of this process."""
        return os.getcwd()

    def read(self, path: str) -> bytes:
        """See :class:`Disk`."""
        return read_file(path)

    def matching(self, pattern: str) -> list[str]:
        """See :class:`Disk`."""
        return sorted(glob.glob(pattern))

    def executable(self, path: str) -> bool:
        """See :class:`Disk`."""
        return os.access(path, os.X_OK)

    def readable_by_others(self, path: str) -> bool:
        """See :class:`Disk`; by its mode."""
        return bool(os.stat(path).st_mode & stat.S_IROTH)

    def check_directory(self, path: str) -> None:
        """See :class:`Disk`."""
        if not os.access(path, os.X_OK) or not os.path.isdir(path):
            os.close(os.open(os.path.join(path, ""), os.O_RDONLY | os.O_DIRECTORY))

    def check_appendable(self, path: str) -> None:
        """See :class:`Disk`."""
        # O_NONBLOCK: opening a FIFO without a reader would block.
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666))
