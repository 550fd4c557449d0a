"""The filters of CLIENT LIST and CLIENT KILL: which clients are meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.server.arguments import canonical_integer, integer, syntax_error, yes_or_no
from txsentinel.server.clients import Client, ClientKind
from txsentinel.timings import Millis
from txsentinel.wire.resp import text

if TYPE_CHECKING:
    from txsentinel.server.context import ServerContext

KINDS: Final = {
    b"normal": ClientKind.NORMAL,
    b"pubsub": ClientKind.PUBSUB,
    b"master": ClientKind.MASTER,
    b"primary": ClientKind.MASTER,
    b"replica": ClientKind.REPLICA,
    b"slave": ClientKind.REPLICA,
}


@dataclass(slots=True)
class ClientFilter:
    """Conditions that must all hold; ``None`` means any. ``max_age`` is the least age in seconds that is meant."""

    client_id: int | None = None
    kind: ClientKind | None = None
    user: str | None = None
    address: str | None = None
    local_address: str | None = None
    max_age: int | None = None
    skip_me: bool = True

    def chooses(self, client: Client, asking: Client, now: Millis) -> bool:
        """Is ``client`` meant, ``asking`` being the one who asked?"""
        if client is asking and self.skip_me:
            return False
        wanted: tuple[tuple[object, object], ...] = (
            (self.client_id, client.client_id),
            (self.kind, client.kind),
            (self.user, client.user),
            (self.address, client.address),
            (self.local_address, client.local_address),
        )
        if any(wish is not None and wish != fact for wish, fact in wanted):
            return False
        return self.max_age is None or (now - client.connected_at) // 1000 >= self.max_age


def kind_named(word: bytes) -> ClientKind:
    """
    The class of clients that a word means.

    :raises CommandError: if it means none.
    """
    kind = KINDS.get(word.lower())
    if kind is None:
        raise CommandError(f"ERR Unknown client type '{text(word)}'")
    return kind


def parse_kill_filter(context: ServerContext, words: Sequence[bytes]) -> ClientFilter:
    """
    Read ``option value`` pairs; a later pair replaces an earlier one of its kind.

    :raises CommandError: for whatever is wrong first.
    """
    chosen = ClientFilter()
    if len(words) % 2:
        raise syntax_error()
    for option, value in zip(words[::2], words[1::2], strict=True):
        _set(chosen, context, option.lower(), value)
    return chosen


def _set(chosen: ClientFilter, context: ServerContext, option: bytes, value: bytes) -> None:
    if option == b"id":
        number = canonical_integer(value)
        if number is None or number < 1:
            raise CommandError("ERR client-id should be greater than 0")
        chosen.client_id = number
    elif option == b"type":
        chosen.kind = kind_named(value)
    elif option == b"user":
        chosen.user = text(value)
        if not context.access.knows(chosen.user):
            raise CommandError(f"ERR No such user '{chosen.user}'")
    elif option == b"addr":
        chosen.address = text(value)
    elif option == b"laddr":
        chosen.local_address = text(value)
    elif option == b"skipme":
        skip = yes_or_no(value)
        if skip is None:
            raise syntax_error()
        chosen.skip_me = skip
    elif option == b"maxage":
        chosen.max_age = integer(value, "ERR maxage is not an integer or out of range")
        if chosen.max_age < 1:
            raise CommandError("ERR maxage should be greater than 0")
    else:
        raise syntax_error()
