"""What reading a configuration asks of the machine it is read on."""

from __future__ import annotations

import errno
import glob
import os
import stat
from typing import Final, Protocol

NOT_REGULAR: Final = "Not a regular file"

_NULL_DEVICE: Final = os.makedev(1, 3)


class Disk(Protocol):
    """Questions about files; all paths are absolute."""

    def working_directory(self) -> str:
        """Where relative paths start before ``dir`` was read."""

    def read(self, path: str) -> bytes:
        """
        A whole file.

        :raises OSError: if it cannot be read.
        """

    def matching(self, pattern: str) -> list[str]:
        """Files that match a glob, sorted."""

    def executable(self, path: str) -> bool:
        """Is this something that we may run?"""

    def check_directory(self, path: str) -> None:
        """
        Complain if this is no directory that we may enter.

        :raises OSError: with the reason.
        """

    def check_appendable(self, path: str) -> None:
        """
        Complain if nothing can be appended to this file; it is created if it does not exist.

        :raises OSError: with the reason.
        """


def check_regular(path: str) -> None:
    """
    Complain if reading the file at ``path`` might wait for whoever writes it; one that does not exist is no concern.

    :raises OSError: with the reason.
    """
    try:
        _check_regular(os.stat(path))
    except FileNotFoundError:
        return


def read_file(path: str) -> bytes:
    """
    The whole file at ``path``, which is on a disk: of a FIFO, a socket or a terminal nobody knows when it ends.

    :raises OSError: if it cannot be read.
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
    """The disk of this machine."""

    def working_directory(self) -> str:
        """Of this process."""
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

    def check_directory(self, path: str) -> None:
        """See :class:`Disk`."""
        if not os.access(path, os.X_OK) or not os.path.isdir(path):
            os.close(os.open(os.path.join(path, ""), os.O_RDONLY | os.O_DIRECTORY))

    def check_appendable(self, path: str) -> None:
        """See :class:`Disk`."""
        # Opening a FIFO that nobody reads would wait for a reader.
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666))
