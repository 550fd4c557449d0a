"""How a switchover from outside keeps clients of the old master from writing: by a pause, or by rejecting writes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

from txsentinel.model.receipt import REJECTED, REJECTED_WITH_GAPS
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.remote.changed_settings import ChangedSetting, ChangeLog
from txsentinel.remote.connection import RemoteConnection
from txsentinel.remote.reports import as_fields, as_text, number
from txsentinel.wire.values import ErrorLine, Reply

Commands = Sequence[tuple["str | int", ...]]

REJECTING: Final = 999_999
"""The value of ``min-replicas-to-write`` that no server reaches."""

MAX_LAG_SECONDS: Final = 10
"""``min-replicas-max-lag`` meanwhile if it was 0, with which a server ignores the other setting."""

TO_WRITE: Final = "min-replicas-to-write"
MAX_LAG: Final = "min-replicas-max-lag"

NEVER: Final = Instant(253_402_300_799_000)
"""The end of the year 9999, for what does not end by itself."""


class SwitchoverAborted(Exception):
    """Nothing was changed, or what was is undone; the text has step and reason."""


def transaction(connection: RemoteConnection, commands: Commands, step: str) -> list[Reply]:
    """
    Execute commands in one transaction.

    :raises SwitchoverAborted: if one of them is refused.
    """
    *queued, executed = connection.pipeline([("MULTI",), *commands, ("EXEC",)])
    for words, reply in zip([("MULTI",), *commands], queued, strict=True):
        if isinstance(reply, ErrorLine):
            raise SwitchoverAborted(f"{step}: {connection.endpoint} refuses {words[0]}: {as_text(reply)}")
    if not isinstance(executed, list):
        raise SwitchoverAborted(f"{step}: {connection.endpoint} refuses EXEC: {as_text(executed)}")
    for words, reply in zip(commands, executed, strict=True):
        if isinstance(reply, ErrorLine):
            raise SwitchoverAborted(f"{step}: {connection.endpoint} refuses {words[0]}: {as_text(reply)}")
    return executed


class PausedWrites:
    """``CLIENT PAUSE … WRITE``: clients wait. The server ends it by itself."""

    kind = "client-pause-write"
    verb = "held"
    ends_by_itself = True

    def begin(self, connection: RemoteConnection, period_ms: int, at_unix_ms: int) -> Reply:
        """
        Stop the writes, and return INFO of that moment.

        :raises SwitchoverAborted: if that is refused.
        """
        commands: Commands = [("CLIENT", "PAUSE", period_ms, "WRITE"), ("INFO", "replication")]
        return transaction(connection, commands, "holding the writes")[1]

    def extend(self, connection: RemoteConnection, period_ms: int) -> None:
        """Let the writes stop for a time from now on."""
        connection.call("CLIENT", "PAUSE", period_ms, "WRITE")

    def demoting(self, order: tuple[str | int, ...], disconnecting: Commands) -> Commands:
        """Return the commands of the transaction that makes the server a replica; INFO is the first one."""
        return [("INFO", "replication"), order, *disconnecting, ("CLIENT", "UNPAUSE")]

    def demoted(self, replies: Sequence[Reply]) -> None:
        """Handle the replies to :meth:`demoting`."""

    def release(self, connection: RemoteConnection) -> None:
        """Let the writes go on."""
        connection.call("CLIENT", "UNPAUSE")


class RejectedWrites(PausedWrites):
    """
    ``min-replicas-to-write``: writes are refused, until the former values are restored.

    They are recorded before.

    :param scripts_write: whether the server lets scripts write nevertheless, as before Redis 7.0.
    """

    verb = "rejected"
    ends_by_itself = False

    def __init__(self, server: Endpoint, log: ChangeLog, scripts_write: bool) -> None:
        self.kind = REJECTED_WITH_GAPS if scripts_write else REJECTED
        self._server = server
        self._log = log
        self._changes: list[ChangedSetting] = []

    def begin(self, connection: RemoteConnection, period_ms: int, at_unix_ms: int) -> Reply:
        """See above; ``period_ms`` has no effect."""
        step, found = "rejecting the writes", {}
        for name in (TO_WRITE, MAX_LAG):
            found[name] = as_fields(connection.call("CONFIG", "GET", name)).get(name, "")
            if not found[name].isdecimal():
                raise SwitchoverAborted(f"{step}: {connection.endpoint} has no setting {name}")
        if number(found[TO_WRITE]) >= REJECTING:
            raise SwitchoverAborted(f"{step}: {TO_WRITE} of {connection.endpoint} is {found[TO_WRITE]} already")
        wanted = {TO_WRITE: str(REJECTING)} | ({MAX_LAG: str(MAX_LAG_SECONDS)} if found[MAX_LAG] == "0" else {})
        for name, value in wanted.items():
            change = ChangedSetting(self._server, name, value, found[name], at_unix_ms)
            try:
                self._log.add(change)
            except OSError as error:
                raise SwitchoverAborted(f"{step}: the former value cannot be recorded: {error}") from None
            self._changes.append(change)
        commands: Commands = [*self._set({each.name: each.value for each in self._changes}), ("INFO", "replication")]
        return transaction(connection, commands, step)[-1]

    def extend(self, connection: RemoteConnection, period_ms: int) -> None:
        """Do nothing, as it does not end by itself."""

    def demoting(self, order: tuple[str | int, ...], disconnecting: Commands) -> Commands:
        """See above; the present value is asked for before the role changes, and the former one restored after."""
        restoring = self._set({each.name: each.former for each in self._changes})
        return [("INFO", "replication"), ("CONFIG", "GET", TO_WRITE), order, *restoring, *disconnecting]

    def demoted(self, replies: Sequence[Reply]) -> None:
        """Note whether another client let clients write meanwhile."""
        if as_fields(replies[1]).get(TO_WRITE) != str(REJECTING):
            self.kind = REJECTED_WITH_GAPS
        self._forget()

    def release(self, connection: RemoteConnection) -> None:
        """Restore the former values."""
        for words in self._set({each.name: each.former for each in self._changes}):
            connection.call(*words)
        self._forget()

    @staticmethod
    def _set(values: dict[str, str]) -> Commands:
        # What is off by a lag of 0 must not begin to count before it has its former value.
        names = [name for name in (TO_WRITE, MAX_LAG) if name in values]
        return [("CONFIG", "SET", name, values[name]) for name in names]

    def _forget(self) -> None:
        for change in self._changes:
            with contextlib.suppress(OSError):  # a later restoration finds that nothing is left to do
                self._log.remove(change)
        self._changes = []
