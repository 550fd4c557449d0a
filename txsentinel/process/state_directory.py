"""The directory in which extensions keep their files."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from zope.interface import implementer

from txsentinel.interfaces import IStateDirectory
from txsentinel.model.events import Level

MODE: Final = 0o700


class StateDirectory:
    """
    The directory with a subdirectory for each extension.

    Nothing is created before an extension needs it. That it cannot be used is logged once, for all of them.

    :param path: its absolute path; its parent must exist.
    """

    def __init__(self, path: str, note: Callable[[Level, str], None]) -> None:
        self.path = path
        self._note = note
        self._logged = False

    def subdirectory(self, name: str) -> ExtensionDirectory:
        """Return the directory of one extension."""
        return ExtensionDirectory(self, os.path.join(self.path, name))

    def create(self, path: str) -> bool:
        """Create the directory, and ``path`` in it, unless they exist; return whether ``path`` can be written."""
        try:
            for each in (self.path, path):
                try:
                    os.mkdir(each, MODE)
                except FileExistsError:
                    if not os.path.isdir(each):
                        raise
            if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, os.strerror(13), path)
        except OSError as error:
            if not self._logged:
                self._logged = True
                where = error.filename or path
                problem = f"The state directory cannot be used: {where}: {error.strerror}"
                self._note(Level.WARNING, f"{problem}. Extensions run without their files")
            return False
        return True


@implementer(IStateDirectory)
class ExtensionDirectory:
    """The directory of one extension."""

    def __init__(self, parent: StateDirectory, path: str) -> None:
        self._parent = parent
        self.path = path

    def prepare(self) -> str | None:
        """
        Create the directory, for the user of the process only, unless it exists.

        :returns: its path, or ``None`` if it cannot be written, which is logged once.
        """
        return self.path if self._parent.create(self.path) else None
