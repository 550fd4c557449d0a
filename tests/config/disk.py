"""A disk in memory, for configurations that include files and have scripts."""

from __future__ import annotations

import os.path
from fnmatch import fnmatchcase


class MemoryDisk:
    """Files by absolute path; files that start with ``#!`` are executable."""

    def __init__(self, files: dict[str, bytes] | None = None, directories: tuple[str, ...] = ()) -> None:
        self.files = {} if files is None else files
        self.directories = directories
        self.public: set[str] = set()

    def working_directory(self) -> str:
        """Return a constant."""
        return "/start"

    def read(self, path: str) -> bytes:
        """Return the contents, or raise the error of a missing file."""
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", path) from None

    def matching(self, pattern: str) -> list[str]:
        """Match like a shell."""
        return sorted(path for path in self.files if fnmatchcase(path, pattern))

    def executable(self, path: str) -> bool:
        """Whether the file starts with ``#!``."""
        return self.files.get(path, b"").startswith(b"#!")

    def readable_by_others(self, path: str) -> bool:
        """Whether it is in ``public``."""
        return path in self.public

    def check_directory(self, path: str) -> None:
        """Only the given directories exist."""
        if path not in self.directories:
            raise FileNotFoundError(2, "No such file or directory", path)

    def check_appendable(self, path: str) -> None:
        """Only files in the given directories can be created."""
        self.check_directory(os.path.dirname(path))
