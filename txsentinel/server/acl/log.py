"""The entries of ``ACL LOG``: refusals, the latest first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Final

from txsentinel.model.timings import Millis
from txsentinel.server.acl.rights import Reason
from txsentinel.wire.resp import Value

SIMILAR_WITHIN: Final[Millis] = 60_000
"""Milliseconds within which similar refusals share one entry."""

SEARCHED_ENTRIES: Final = 10
"""Number of entries that are searched for a similar one."""

MAX_TEXT: Final = 1024
"""Maximum length in characters of names that clients chose, so that they cannot fill the memory."""

MAX_DESCRIPTION: Final = 4096
"""Maximum length in characters of the description of a client."""


@dataclass(slots=True)
class Entry:
    """Similar refusals. ``since`` and ``until`` are milliseconds since 1970, ``last`` is on the monotonic clock."""

    number: int
    reason: Reason
    subject: str
    user: str
    client: str
    since: int
    until: int
    last: Millis
    count: int = 1


class AclLog:
    """
    A list of at most ``limit`` entries.

    :param limit: the ``acllog-max-len`` directive; with 0 the list stays empty.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: deque[Entry] = deque()
        self._made = 0

    def add(self, reason: Reason, subject: str, user: str, client: str, now: Millis, wall_clock: float) -> None:
        """
        Add a refusal.

        :param subject: the command, the channel, or the name of the login command.
        :param client: the client as ``CLIENT LIST`` shows it.
        :param wall_clock: seconds since 1970.
        """
        subject, user, client = subject[:MAX_TEXT], user[:MAX_TEXT], client[:MAX_DESCRIPTION]
        date = int(wall_clock * 1000)
        for entry in islice(self._entries, SEARCHED_ENTRIES):
            if (entry.reason, entry.subject, entry.user) != (reason, subject, user):
                continue
            if now - entry.last <= SIMILAR_WITHIN:
                entry.count += 1
                entry.client, entry.until, entry.last = client, date, now
                self._entries.remove(entry)
                self._entries.appendleft(entry)
                return
        self._entries.appendleft(Entry(self._made, reason, subject, user, client, date, date, now))
        self._made += 1
        while len(self._entries) > self.limit:
            self._entries.pop()

    def clear(self) -> None:
        """Remove all entries, for ``ACL LOG RESET``."""
        self._entries.clear()

    def shown(self, count: int, now: Millis) -> list[dict[str, Value]]:
        """Return the latest ``count`` entries as maps for the reply."""
        return [
            {
                "count": entry.count,
                "reason": entry.reason.value,
                "context": "toplevel",
                "object": entry.subject,
                "username": entry.user,
                "age-seconds": (now - entry.last) / 1000,
                "client-info": entry.client,
                "entry-id": entry.number,
                "timestamp-created": entry.since,
                "timestamp-last-updated": entry.until,
            }
            for entry in islice(self._entries, max(count, 0))
        ]
