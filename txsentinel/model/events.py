"""What a Sentinel tells the world: events, their levels, and the catalogue of their channels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Level(IntEnum):
    """How loud an event is; the words are those of the ``loglevel`` directive."""

    DEBUG = 0
    VERBOSE = 1
    NOTICE = 2
    WARNING = 3
    NOTHING = 4


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
"""Level of every channel; emitting on a channel that is missing here is an error of ours."""

PAYLOAD_LIMIT: Final = 1023
"""Channel and payload together are cut to this many bytes, as C's line buffer does."""


@dataclass(frozen=True, slots=True)
class SentinelEvent:
    """
    One event as it is logged, published and handed to scripts.

    ``master`` names the master that the event concerns and ``script`` is that master's
    notification-script at the time; both are ``None`` for events of no master (TILT, scripts).
    """

    channel: str
    payload: str
    master: str | None = None
    script: str | None = None

    @property
    def level(self) -> Level:
        """The level that the catalogue gives this channel."""
        return LEVELS[self.channel]

    @property
    def published(self) -> bool:
        """Is it heard on Pub/Sub? All are, whatever the loglevel, but those of level debug."""
        return self.level is not Level.DEBUG

    def __str__(self) -> str:
        """The log line: channel, space, payload."""
        return f"{self.channel} {self.payload}"
