"""Limits of the HTTP server, and the count of failed logins per client address."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

MAX_CONNECTIONS: Final = 64
"""Open connections; for one more, an idle one is closed, or else one whose request is not complete."""

MAX_STREAMS: Final = 8
"""Connections that receive events."""

MAX_BODY_BYTES: Final = 64 * 1024
"""Length of the longest accepted request body."""

IDLE_TIMEOUT_SECONDS: Final = 30.0
"""How long a connection may be open without a request."""

CLOSE_TIMEOUT_SECONDS: Final = 15.0
"""How long the end of an idle connection may take: its client may not read what was sent before."""

HEAD_TIMEOUT_SECONDS: Final = 10.0
"""How long a client may take to send request line and headers."""

BODY_TIMEOUT_SECONDS: Final = 30.0
"""How long a client may take to send the body."""

STALL_TIMEOUT_SECONDS: Final = 30.0
"""How long a client may read nothing of a long response or of a stream."""

TIME_SLICE_SECONDS: Final = 0.002
"""How long a handler may work before other work has its turn."""

DEFAULT_PAGE: Final = 200
MAX_PAGE: Final = 1000
"""How many elements of a list one answer has by default, and at most."""

MAX_LOGIN_FAILURES: Final = 10
LOGIN_FAILURE_PERIOD_SECONDS: Final = 60.0
"""How many failed logins an address may have in a period before it is refused."""

MIN_LOGIN_FAILURE_SECONDS: Final = 0.1
"""How long a failed login takes at least."""

MAX_TRACKED_ADDRESSES: Final = 4096
"""Addresses with failed logins that are remembered; the one with the oldest failure is forgotten first."""


class LoginFailures:
    """
    Counts failed logins per client address. The addresses of one IPv6 network of 64 bits count as one.

    :param clock: returns the present time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def retry_after(self, address: str) -> float:
        """Return in how many seconds the address may try again; 0 if it may now."""
        times = self._failures.get(_client_key(address))
        if times is None or len(times) < MAX_LOGIN_FAILURES:
            return 0.0
        return max(times[0] + LOGIN_FAILURE_PERIOD_SECONDS - self._clock(), 0.0)

    def add(self, address: str) -> None:
        """Count a failed login."""
        key = _client_key(address)
        times = self._failures.setdefault(key, deque(maxlen=MAX_LOGIN_FAILURES))
        times.append(self._clock())
        self._failures.move_to_end(key)
        if len(self._failures) > MAX_TRACKED_ADDRESSES:
            self._failures.popitem(last=False)

    def __len__(self) -> int:
        """Return the number of remembered addresses."""
        return len(self._failures)


def _client_key(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
