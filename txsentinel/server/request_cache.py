"""
A cache of parsed requests, for requests that clients send repeatedly with the same bytes.

A client that polls for the address of a master sends the same sixty bytes each time. Their meaning depends neither on
the client nor on the time. The permissions and the reply do, and are determined for each request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from txsentinel.server.specification import Command

CachedRequest: TypeAlias = "tuple[Sequence[bytes], Command]"
"""The words of a request with a valid arity, and the command that they name."""

MAX_CACHED_REQUESTS: Final = 16_384
"""Maximum number of cached requests; when it is reached, the cache is cleared."""

MAX_CACHED_REQUEST_BYTES: Final = 256
"""Maximum size in bytes of a cached request."""

CACHEABLE: Final = frozenset(
    {
        "ping",
        "role",
        "sentinel|get-master-addr-by-name",
        "sentinel|get-primary-addr-by-name",
        "sentinel|master",
        "sentinel|masters",
        "sentinel|primaries",
        "sentinel|primary",
        "sentinel|replicas",
        "sentinel|sentinels",
        "sentinel|slaves",
    }
)
"""
Names of the commands whose requests are cached. They only report.

None of them has a secret as an argument, and none needs a decision of the core.
"""


REPEATABLE: Final = frozenset({"ping", "sentinel|get-master-addr-by-name", "sentinel|get-primary-addr-by-name"})
"""Names of the commands with short replies, which are the same for equal requests that arrive together."""


class RequestCache:
    """
    Finds the request in a chunk of input that is exactly one cached request.

    ``find`` takes the chunk. It is a bare dictionary lookup, because it is made for every chunk.
    """

    __slots__ = ("_cached", "find")

    def __init__(self) -> None:
        self._cached: dict[bytes, CachedRequest] = {}
        self.find: Callable[[bytes], CachedRequest | None] = self._cached.get

    def keep(self, chunk: bytes, request: Sequence[bytes], command: Command) -> None:
        """Cache a chunk that consisted of exactly this request, with its command, if the command is cacheable."""
        if command.name in CACHEABLE and len(chunk) <= MAX_CACHED_REQUEST_BYTES:
            if len(self._cached) >= MAX_CACHED_REQUESTS:
                self._cached.clear()
            self._cached[chunk] = (request, command)
