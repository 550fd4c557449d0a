"""How much of one client is read, executed and kept before it is the turn of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from txsentinel.server.clientline import client_line
from txsentinel.timings import Millis

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.context import ServerContext

MOST_WAITING: Final = 1024
"""Replies that may wait on one connection before it is read no further."""

MOST_UNSENT: Final = 1024 * 1024
"""Bytes of replies that may wait on one connection before it is read no further."""

MOST_UNSENT_TO_STRANGERS: Final = 16 * 1024
"""The same for whoever has not logged in: strangers may be many, and their replies are short."""

SLICE: Final[Millis] = 8
"""How long one client's pipeline is executed before it is the turn of others."""

ONE_WRITE: Final = 64 * 1024
"""Bytes of replies gathered before they are handed on, though more requests are at hand."""


def most_unsent(client: Client) -> int:
    """How many bytes of replies may wait before the client is read no further."""
    return MOST_UNSENT if client.authenticated else MOST_UNSENT_TO_STRANGERS


def is_cut_off(context: ServerContext, client: Client, unsent: int, now: Millis) -> bool:
    """
    Whether a client must lose its connection, having left more unread than its class may. It is counted and logged.

    Since when it leaves more than the soft limit is kept in ``client.over_soft_limit_since``.
    """
    limit = context.options.client_output_buffer_limit[client.kind.value]
    if not limit.soft or unsent <= limit.soft:
        client.over_soft_limit_since = None
    elif client.over_soft_limit_since is None:
        client.over_soft_limit_since = now
    since = client.over_soft_limit_since
    too_long = since is not None and now - since > limit.seconds * 1000
    if not too_long and not (limit.hard and unsent > limit.hard):
        return False
    context.statistics.output_limit_disconnections += 1
    line = "Client {line} scheduled to be closed ASAP for overcoming of output buffer limits."
    context.complaints.warn(now, line, line=client_line(client, now))
    return True
