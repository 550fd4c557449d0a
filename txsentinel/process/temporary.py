"""Temporary files as ``tempfile.mkstemp`` makes them, without the modules for archives that it loads."""

from __future__ import annotations

import errno
import os
from typing import Final

ATTEMPTS: Final = 100
"""How many names are tried before the directory is taken for one in which every name exists."""

FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def mkstemp(prefix: str, dir: str) -> tuple[int, str]:
    """
    Create a file that only its owner can read and write.

    :param prefix: the beginning of its name.
    :param dir: its directory.
    :returns: a descriptor open for reading and writing, and the path.
    :raises OSError: if it cannot be created.
    """
    for _ in range(ATTEMPTS):
        path = os.path.join(dir, prefix + os.urandom(6).hex())
        try:
            return os.open(path, FLAGS, 0o600), path
        except FileExistsError:
            continue
    raise FileExistsError(errno.EEXIST, "no usable name for a temporary file", dir)
