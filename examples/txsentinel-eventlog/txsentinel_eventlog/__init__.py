"""An extension of txsentinel that writes events and changes of masters to a file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from time import time

from twisted.application.service import IService, Service
from twisted.plugin import IPlugin
from zope.interface import implementer

from txsentinel.interfaces import IOperator, ISentinelExtension, ISentinelView, IStateDirectory
from txsentinel.model.extension_settings import ExtensionSetting, SettingError
from txsentinel.model.plain import Plain, plain
from txsentinel.model.snapshots import Instant, ViewChange

FILE_NAME = "events.jsonl"


@implementer(IService)
class EventLog(Service):
    """
    Appends lines of JSON to a file.

    A thread writes them, because a slow disk must not delay the Sentinel.

    :param masters: the names of the masters to log; empty for all.
    """

    def __init__(
        self, view: ISentinelView, state_dir: IStateDirectory, file_name: str, masters: frozenset[str]
    ) -> None:
        self._view = view
        self._state_dir = state_dir
        self._file_name = file_name
        self._masters = masters
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def startService(self) -> None:
        """Start to write, if the state directory can be used; otherwise the Sentinel has logged why not."""
        super().startService()  # type: ignore[no-untyped-call]
        directory = self._state_dir.prepare()
        if directory is None:
            return
        path = os.path.join(directory, self._file_name)
        self._thread = threading.Thread(target=self._write, args=(path,), daemon=True)
        self._thread.start()
        for name in self._view.names():
            self._changed(ViewChange(name))
        self._cancel = self._view.subscribe(self._changed)

    def stopService(self) -> None:
        """Write what is queued, and stop."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._thread is not None:
            self._cancel()
            self._lines.put(None)
            self._thread.join()
            self._thread = None

    def _changed(self, change: ViewChange) -> None:
        """Queue a line for an event, or for a master whose snapshot changed. Called in the reactor's thread."""
        if self._masters and change.master not in self._masters:
            return
        line: dict[str, Plain] = {"at": Instant(int(time() * 1000)).rfc3339(), "master": change.master}
        if change.event is not None:
            line |= {"event": change.event.channel, "text": change.event.payload}
        elif change.master not in self._view.names():
            line |= {"status": "removed"}
        else:
            master = self._view.master(change.master)
            line |= {
                "status": master.status,
                "verdict": master.verdict,
                "address": plain(master.address),
                "config_epoch": master.config_epoch,
                "replicas": plain([each.name for each in master.replicas if each.fit]),
            }
        self._lines.put(json.dumps(line) + "\n")

    def _write(self, path: str) -> None:
        """Append the queued lines until there are no more to come. Called in a thread of its own."""
        with open(path, "ab", buffering=0) as file:
            while (line := self._lines.get()) is not None:
                with suppress(OSError):  # A full disk costs lines of this file, and nothing else.
                    file.write(line.encode())


@implementer(IPlugin, ISentinelExtension)
class EventLogExtension:
    """The plug-in: ``--extension eventlog``, or ``--extension eventlog:FILE-NAME``."""

    name = "eventlog"
    description = "writes events and changes of masters to a file"

    def makeService(
        self,
        view: ISentinelView,
        operator: IOperator,
        argument: str,
        state_dir: IStateDirectory,
        settings: Sequence[ExtensionSetting] = (),
        reactor: object = None,
    ) -> IService:
        """
        Build the service.

        The only setting is ``masters NAME ...``.

        :raises ValueError: if the argument or a setting is invalid.
        """
        if os.path.basename(argument) != argument:
            raise ValueError("the argument must be the name of a file without a directory")
        masters: set[str] = set()
        for setting in settings:
            if setting.name != "masters" or not setting.values:
                raise SettingError(setting, "expected 'masters' with at least one name")
            masters.update(setting.values)
        return EventLog(view, state_dir, argument or FILE_NAME, frozenset(masters))
