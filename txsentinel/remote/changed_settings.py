"""
Settings of servers that a switchover from outside changes for its duration, recorded in a file of the user.

If the process is killed, the record remains, so that a later one can restore what the server had before. A record is
written before the change and removed after the setting was restored.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from txsentinel.model.plain import plain
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.decoding import UnknownForm, decoded
from txsentinel.remote.reports import as_fields

FILE_NAME: Final = "changed-settings.json"


@dataclass(frozen=True)
class ChangedSetting:
    """A setting of a server that is changed; ``process`` is the ID of the process that restores it if it can."""

    server: Endpoint
    name: str
    value: str
    former: str
    at_unix_ms: int
    process: int = field(default_factory=os.getpid)

    @property
    def in_use(self) -> bool:
        """Whether that process still runs; another one may have its ID by now."""
        if self.process == os.getpid():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def __str__(self) -> str:
        """Return a clause."""
        by = f"by a switchover at {Instant(self.at_unix_ms)}"
        return f"{self.name} of {self.server} was set to {self.value} {by}; before it was {self.former}"


def default_path(environment: Mapping[str, str]) -> Path:
    """Return the file: ``$XDG_STATE_HOME/txsentinel/changed-settings.json``, by default in ``~/.local/state``."""
    directory = environment.get("XDG_STATE_HOME") or os.path.join(environment.get("HOME") or "/", ".local", "state")
    return Path(directory) / "txsentinel" / FILE_NAME


class ChangeLog:
    """
    The records of one user on one machine.

    :param path: see :func:`default_path`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[ChangedSetting, ...]:
        """
        Return all records, oldest first; none if there is no file.

        :raises OSError: if it cannot be read, ``ValueError`` if it has another form.
        """
        try:
            contents = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        try:
            return tuple(decoded(ChangedSetting, each) for each in json.loads(contents))
        except (ValueError, TypeError, UnknownForm) as error:
            raise ValueError(f"{self.path} has another form: {error}") from None

    def add(self, change: ChangedSetting) -> None:
        """
        Write a record; it is durable afterwards.

        :raises OSError: if it cannot be written.
        """
        with self._locked():
            kept = [each for each in self._readable() if (each.server, each.name) != (change.server, change.name)]
            self._write([*kept, change])

    def remove(self, change: ChangedSetting) -> None:
        """
        Remove a record.

        :raises OSError: if the file cannot be written.
        """
        with self._locked():
            self._write([each for each in self._readable() if each != change])

    def _readable(self) -> tuple[ChangedSetting, ...]:
        try:
            return self.read()
        except ValueError as error:
            raise OSError(str(error)) from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.path.with_suffix(".lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, changes: list[ChangedSetting]) -> None:
        if not changes:
            self.path.unlink(missing_ok=True)
            return
        temporary = self.path.with_suffix(".new")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(plain(changes), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)


@dataclass(frozen=True)
class Restored:
    """What became of one record: ``done`` is whether nothing is left of the change."""

    change: ChangedSetting
    done: bool
    text: str


def restore_settings(
    log: ChangeLog,
    settings: ConnectionSettings,
    connect: Callable[[Endpoint, ConnectionSettings], RemoteConnection] = RemoteConnection,
) -> list[Restored]:
    """
    Restore all that killed processes have left; a value that was changed since is kept.

    :raises OSError: if the file cannot be read or written, ``ValueError`` if it has another form.
    """
    found = []
    for change in log.read():
        result = _restore(change, settings, connect)
        if result.done:
            log.remove(change)
        found.append(result)
    return found


def _restore(
    change: ChangedSetting,
    settings: ConnectionSettings,
    connect: Callable[[Endpoint, ConnectionSettings], RemoteConnection],
) -> Restored:
    place = f"{change.name} of {change.server}"
    if change.in_use:
        return Restored(change, False, f"{place} is in use by process {change.process}")
    try:
        with connect(change.server, settings) as connection:
            present = as_fields(connection.call("CONFIG", "GET", change.name)).get(change.name)
            if present != change.value:
                return Restored(change, True, f"{place} is {present} already")
            connection.call("CONFIG", "SET", change.name, change.former)
            with contextlib.suppress(ErrorAnswer):  # not permitted, or it has no file
                # A Sentinel has the file written when the role of the server changes.
                connection.call("CONFIG", "REWRITE")
    except (ConnectionFailed, ErrorAnswer) as problem:
        return Restored(change, False, f"{place} cannot be set back to {change.former}: {problem}")
    return Restored(change, True, f"{place} is set back from {change.value} to {change.former}")
