"""The file that a template becomes: compared, written beside the old one, and renamed. All functions block."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

DEFAULT_MODE: Final = 0o644


def is_unchanged(path: str, contents: bytes) -> bool:
    """Whether a file has exactly these contents."""
    try:
        with open(path, "rb") as stream:
            return stream.read(len(contents) + 1) == contents
    except FileNotFoundError:
        return False


def write_beside(path: str, contents: bytes, mode: int | None) -> str:
    """
    Write contents durably to a new file in the directory of a file, and return its path.

    Owner and group of the old file are kept if that is permitted.

    :param mode: the access mode; ``None`` for that of the old file.
    :raises OSError: if it cannot be written; there is no new file then.
    """
    # The link would be replaced, not the file that it leads to.
    path = os.path.realpath(path)
    temporary = f"{path}.tmp-txsentinel"
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise OSError(f"{path} is no regular file")
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            rest = memoryview(contents)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if old is not None:
                with suppress(OSError):
                    os.fchown(descriptor, old.st_uid, old.st_gid)
            kept = DEFAULT_MODE if old is None else stat.S_IMODE(old.st_mode)
            os.fchmod(descriptor, kept if mode is None else mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def rename(temporary: str, path: str) -> None:
    """
    Put a new file in the place of the old one, durably.

    :raises OSError: if that fails.
    """
    path = os.path.realpath(path)
    os.replace(temporary, path)
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(temporary: str) -> None:
    """Remove a new file that is not used."""
    with suppress(FileNotFoundError):
        os.unlink(temporary)
