"""Events that a Sentinel publishes, their levels, and the list of their channels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Level(IntEnum):
    """Log level of an event; the names are those of the ``loglevel`` directive."""

    DEBUG = 0
    VERBOSE = 1
    NOTICE = 2
    WARNING = 3
    NOTHING = 4


LOG_LEVELS: Final = {level.name.lower(): level for level in Level}
"""The words of the ``loglevel`` directive."""

LEVELS: Final[dict[str, Level]] = {
    "+monitor": Level.WARNING,
    "-monitor": Level.WARNING,
    "+reset-master": Level.WARNING,
    "+set": Level.WARNING,
    "+sdown": Level.WARNING,
    "-sdown": Level.WARNING,
    "+odown": Level.WARNING,
    "-odown": Level.WARNING,
    "+new-epoch": Level.WARNING,
    "+try-failover": Level.WARNING,
    "+vote-for-leader": Level.WARNING,
    "+elected-leader": Level.WARNING,
    "+failover-state-select-slave": Level.WARNING,
    "+selected-slave": Level.WARNING,
    "+failover-state-send-slaveof-noone": Level.NOTICE,
    "+failover-state-wait-promotion": Level.NOTICE,
    "+promoted-slave": Level.WARNING,
    "+failover-state-reconf-slaves": Level.WARNING,
    "+slave-reconf-sent": Level.NOTICE,
    "+slave-reconf-inprog": Level.NOTICE,
    "+slave-reconf-done": Level.NOTICE,
    "-slave-reconf-sent-timeout": Level.NOTICE,
    "+slave-reconf-sent-be": Level.NOTICE,
    "+failover-end-for-timeout": Level.WARNING,
    "+failover-end": Level.WARNING,
    "+switch-master": Level.WARNING,
    "-failover-abort-not-elected": Level.WARNING,
    "-failover-abort-no-good-slave": Level.WARNING,
    "-failover-abort-slave-timeout": Level.WARNING,
    "-failover-abort-master-timeout": Level.WARNING,
    "-failover-abort-master-is-back": Level.WARNING,
    "+config-update-from": Level.WARNING,
    "+slave": Level.NOTICE,
    "+sentinel": Level.NOTICE,
    "+sentinel-address-switch": Level.NOTICE,
    "+sentinel-address-update": Level.NOTICE,
    "+sentinel-invalid-addr": Level.NOTICE,
    "+convert-to-slave": Level.NOTICE,
    "+fix-slave-config": Level.NOTICE,
    "+reboot": Level.NOTICE,
    "+role-change": Level.VERBOSE,
    "-role-change": Level.VERBOSE,
    "+tilt": Level.WARNING,
    "-tilt": Level.WARNING,
    "-script-timeout": Level.WARNING,
    "-script-error": Level.WARNING,
    "+script-child": Level.DEBUG,
    "-script-child": Level.DEBUG,
    "-cmd-link-reconnection": Level.DEBUG,
    "-pubsub-link-reconnection": Level.DEBUG,
}
"""Channel → level. Publishing on a channel that is missing here is a bug."""

PAYLOAD_LIMIT: Final = 1023
"""Maximum length of channel and payload together; the rest is cut off, as by C's line buffer."""


@dataclass(frozen=True, slots=True)
class SentinelEvent:
    """
    One event as it is logged, published and passed to scripts.

    ``master`` is the name of the master that the event concerns, ``script`` that master's
    ``notification-script`` at the time. Both are ``None`` for events without a master (TILT, scripts).
    """

    channel: str
    payload: str
    master: str | None = None
    script: str | None = None

    @property
    def level(self) -> Level:
        """The level of the channel in :data:`LEVELS`."""
        return LEVELS[self.channel]

    @property
    def published(self) -> bool:
        """Whether the event is published on Pub/Sub: all are, whatever ``loglevel`` is, except those of level debug."""
        return self.level is not Level.DEBUG

    def __str__(self) -> str:
        """Return the log line: channel, space, payload."""
        return f"{self.channel} {self.payload}"
