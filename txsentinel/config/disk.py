"""What reading a configuration asks of the machine it is read on."""

from __future__ import annotations

import glob
import os
from typing import Protocol


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


class LocalDisk:
    """The disk of this machine."""

    def working_directory(self) -> str:
        """Of this process."""
        return os.getcwd()

    def read(self, path: str) -> bytes:
        """See :class:`Disk`."""
        with open(path, "rb") as stream:
            return stream.read()

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
