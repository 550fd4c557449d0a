"""What is sent: one event, or one finished failover, with what all formats need of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from txsentinel.model.events import LEVELS, SentinelEvent
from txsentinel.model.history import FailoverRecord, failover_group, trace_id
from txsentinel.model.plain import Plain, plain
from txsentinel.model.snapshots import Instant

if TYPE_CHECKING:
    from txsentinel.interfaces import ISentinelView
    from txsentinel.model.snapshots import MasterSnapshot

FAILOVER: Final = "failover"
"""The kind of a notification with the record of a failover."""

KINDS: Final = (*(channel for channel in LEVELS if not channel.endswith("-link-reconnection")), FAILOVER)
"""What can be sent: events by their channel, and finished failovers."""


@dataclass(frozen=True, slots=True)
class Notification:
    """
    An event or a finished failover.

    ``notification_id`` stays the same in all attempts. ``kind`` is the channel of the event, or :data:`FAILOVER`.
    ``data`` is what JSON can represent. No part of it is secret.
    """

    notification_id: str
    kind: str
    sentinel: str
    master: str | None
    at: Instant
    data: Mapping[str, Plain]

    def encode(self) -> dict[str, Plain]:
        """Return it for a file."""
        return {
            "id": self.notification_id,
            "kind": self.kind,
            "sentinel": self.sentinel,
            "master": self.master,
            "at": self.at.unix_ms,
            "data": dict(self.data),
        }


def decode_notification(value: Mapping[str, object]) -> Notification:
    """
    Return what :meth:`Notification.encode` returned.

    :raises ValueError: if it is something else.
    """
    master, data, at = value.get("master"), value.get("data"), value.get("at")
    words = [value.get("id"), value.get("kind"), value.get("sentinel")]
    if not all(isinstance(word, str) for word in words) or not isinstance(at, int) or not isinstance(data, dict):
        raise ValueError("it is no notification")
    if master is not None and not isinstance(master, str):
        raise ValueError("its master is no text")
    return Notification(str(words[0]), str(words[1]), str(words[2]), master, Instant(at), data)


class NotificationMaker:
    """Makes notifications of what a view reports."""

    def __init__(self, view: ISentinelView, wall_clock: Callable[[], float] = time.time) -> None:
        self._view = view
        self._wall_clock = wall_clock
        self._made = 0
        self._known_identity = ("", 0)

    def event(self, event: SentinelEvent, *, with_state: bool = True) -> Notification:
        """
        Return the notification of an event.

        :param with_state: whether it has the state of its master after the event, whose snapshot takes time to make; a
            switch has it in any case.
        """
        own_id, started_ms = self._identity()
        self._made += 1
        message_id = f"{started_ms:x}-{self._made}-{own_id}"
        data: dict[str, Plain] = {"channel": event.channel, "text": event.payload, "sentinel": own_id}
        name, is_switch = event.master, event.channel == "+switch-master"
        if name is not None:
            data["master"] = name
            master = self._master(name) if with_state or is_switch else None
            if master is not None:
                data["address"] = plain(master.address)
                data["config_epoch"] = master.config_epoch
                data["status"] = master.status
                if is_switch:
                    message_id = f"{failover_group(name, master.config_epoch)}-{own_id}-switch"
                    data["trace_id"] = trace_id(name, master.config_epoch)
        if is_switch:
            data["from"], data["to"] = _addresses(event.payload)
        at = Instant(int(self._wall_clock() * 1000))
        return Notification(message_id, event.channel, own_id, name, at, data)

    def _identity(self) -> tuple[str, int]:
        """Return our ID, which is known once the Sentinel has started, and the time of the start in milliseconds."""
        if not self._known_identity[0]:
            identity = self._view.identity()
            self._known_identity = identity.sentinel_id, identity.started_at.unix_ms
        return self._known_identity

    def _master(self, name: str) -> MasterSnapshot | None:
        """Return the snapshot of a master; ``None`` if it is not monitored any more."""
        try:
            return self._view.master(name)
        except LookupError:
            return None

    @staticmethod
    def failover(record: FailoverRecord) -> Notification:
        """Return the notification of a finished failover."""
        data = plain(record)
        assert isinstance(data, dict)
        data["trace_id"] = trace_id(record.master, record.epoch)
        message_id = f"{record.group}-{record.observer}-{record.record_id}"
        return Notification(message_id, FAILOVER, record.observer, record.master, record.phases[-1].at, data)


def _addresses(payload: str) -> tuple[str, str]:
    """Return both addresses of a switch: the payload is ``<master> <host> <port> <host> <port>``."""
    words = payload.split(" ")[-4:]
    hosts = [f"[{host}]" if ":" in host else host for host in words[::2]]
    return f"{hosts[0]}:{words[1]}", f"{hosts[1]}:{words[3]}"


def json_bytes(value: Plain) -> bytes:
    """Return a value as JSON in UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "backslashreplace")
