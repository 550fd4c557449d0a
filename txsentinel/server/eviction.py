"""
Eviction: disconnecting the clients that use the most memory when all clients together use too much.

There are two limits. ``maxmemory-clients`` is the operator's; clients with ``CLIENT NO-EVICT on`` count, but are kept.
``Limits.clients_memory`` protects the process whatever the configuration is; such clients are evicted last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from txsentinel.server.clientline import client_line

if TYPE_CHECKING:
    from txsentinel.model.timings import Millis
    from txsentinel.server.services import EvictionServices

MAX_LINE: Final = 1_000
"""Maximum length in characters of the description of a client in the log."""

EVICTED: Final = "Evicting client: {line}"
EVICTED_BY_FIXED_LIMIT: Final = "Evicting client because the memory of all clients exceeds the fixed limit: {line}"


def evict_clients(services: EvictionServices, now: Millis) -> None:
    """Disconnect clients, the largest first, until the others are within both limits."""
    clients = services.clients
    total = sum(client.memory for client in clients)
    configured, fixed = services.options.clients_memory_limit, services.limits.clients_memory
    if total <= fixed and not 0 < configured < total:
        return
    for client in sorted(clients, key=lambda client: (client.no_evict, -client.memory)):
        if 0 < configured < total and not client.no_evict:
            line = EVICTED
        elif total > fixed:
            line = EVICTED_BY_FIXED_LIMIT
        else:
            break
        total -= client.memory
        services.statistics.evicted_clients += 1
        services.log_throttle.warn(now, line, line=client_line(client, now)[:MAX_LINE])
        client.connection.abort()
