"""Appends lines to a file durably, rotates it when it is full, and reads its end."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Final

from txsentinel.model.file_end import FileEnd, file_end

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600

PIECE: Final = 1 << 20
"""How many bytes are read at a time."""


def append_lines(path: str, lines: bytes, limit: int, files: int) -> None:
    """
    Append whole lines to the file and fsync it; the directory is created if it is missing.

    If the file would become longer than ``limit`` bytes, it is renamed to ``<path>.1`` before, ``<path>.1`` to
    ``<path>.2`` and so on; ``files`` files are kept in all. If the last line is torn, because a process was killed, it
    is ended first, so that the new lines are intact.

    :raises OSError: if a step fails; a part of the lines may have been written then.
    """
    directory = os.path.dirname(path) or "."
    os.makedirs(directory, DIRECTORY_MODE, exist_ok=True)
    size = _size(path)
    if size and size + len(lines) > limit:
        _rotate(path, files)
        size = 0
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        view = memoryview(lines)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if not size:
        _sync(directory)


def read_end(path: str, limit: int) -> FileEnd:
    """
    Return at most ``limit`` bytes of the end of the file, from the beginning of a line on.

    :raises OSError: if it cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", path)
        return file_end(iter(lambda: file.read(PIECE), b""), limit)


def rotated(path: str, number: int) -> str:
    """Return the path of the file that was rotated ``number`` times; 0 is the current one."""
    return f"{path}.{number}" if number else path


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _rotate(path: str, files: int) -> None:
    for number in range(files - 1, 0, -1):
        with suppress(FileNotFoundError):
            os.replace(rotated(path, number - 1), rotated(path, number))


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
