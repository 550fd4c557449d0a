"""
Requests that clients send again and again in the very same bytes, kept read.

Whoever polls for the address of a master sends the same sixty bytes each time. What they say does not depend on who
sends them, or when; whether the client may, and what the answer is, does, and is asked anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from txsentinel.server.table import Command

CachedRequest: TypeAlias = "tuple[Sequence[bytes], Command]"
"""The words of a request, of a number that the command accepts, and the command that they name."""

MAX_CACHED_REQUESTS: Final = 16_384
"""Requests that are kept; beyond that all are dropped, and kept anew as they come."""

MAX_CACHED_REQUEST_BYTES: Final = 256
"""Bytes of a request that is kept."""

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
Names of the commands whose requests are kept: those that tell and do nothing else.

None of them takes a secret, and with none is there anything to be seen to behind it.
"""


class RequestCache:
    """
    Finds what a chunk of input says, if it is one whole request that was kept before.

    ``find`` takes the chunk; it is a plain lookup, as it is made for everything that arrives.
    """

    __slots__ = ("_kept", "find")

    def __init__(self) -> None:
        self._kept: dict[bytes, CachedRequest] = {}
        self.find: Callable[[bytes], CachedRequest | None] = self._kept.get

    def keep(self, chunk: bytes, request: Sequence[bytes], command: Command) -> None:
        """A client sent ``chunk`` and nothing else, which turned out to be this request, to be run by this command."""
        if command.name in CACHEABLE and len(chunk) <= MAX_CACHED_REQUEST_BYTES:
            if len(self._kept) >= MAX_CACHED_REQUESTS:
                self._kept.clear()
            self._kept[chunk] = (request, command)
