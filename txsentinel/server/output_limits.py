"""The directive ``client-output-buffer-limit``: how much output may wait for a client that reads slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from txsentinel.model.timings import Millis
from txsentinel.server.clientline import client_line

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.services import OutputServices


def exceeds_output_limit(services: OutputServices, client: Client, unsent: int, now: Millis) -> bool:
    """
    Whether the output of a client exceeds the limits of its class, so that it must be disconnected; counts and logs it.

    The time since when it exceeds the soft limit is stored in ``client.over_soft_limit_since``.
    """
    limit = services.options.client_output_buffer_limit[client.kind.value]
    if not limit.soft or unsent <= limit.soft:
        client.over_soft_limit_since = None
    elif client.over_soft_limit_since is None:
        client.over_soft_limit_since = now
    since = client.over_soft_limit_since
    too_long = since is not None and now - since > limit.seconds * 1000
    if not too_long and not (limit.hard and unsent > limit.hard):
        return False
    services.statistics.output_limit_disconnections += 1
    line = "Client {line} scheduled to be closed ASAP for overcoming of output buffer limits."
    services.log_throttle.warn(now, line, line=client_line(client, now))
    return True
