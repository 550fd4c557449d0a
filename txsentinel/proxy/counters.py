"""What the proxy counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class ProxyCounters:
    """Totals since the start; the keys are values of labels."""

    accepted: Counter[str] = field(default_factory=Counter)
    """Accepted connections by port."""

    closed: Counter[str] = field(default_factory=Counter)
    """Ended connections by reason."""

    switches: int = 0
    """Changes of the master, without the first one that was found."""

    cut: int = 0
    """Connections that were closed because of a switch."""

    fallbacks: int = 0
    """Connections of the read-only port to the master."""

    failed_attempts: int = 0
    """Attempts to reach a server that failed."""

    to_server: int = 0
    to_client: int = 0
    """Bytes of connections that have ended."""
