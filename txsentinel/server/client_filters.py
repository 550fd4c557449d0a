"""
The filters of CLIENT LIST and CLIENT KILL, as in Valkey 9.

An option selects clients by one property; the same option with the prefix ``NOT-`` excludes them. All options must
hold. Of an option given twice the last counts; IDs are combined.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from txsentinel.core.errors import CommandError
from txsentinel.model.timings import Millis
from txsentinel.server.arguments import canonical_integer, integer, syntax_error
from txsentinel.server.clientline import flag_letters
from txsentinel.server.clients import Client, ClientKind
from txsentinel.server.steps import PORTION
from txsentinel.wire.resp import data, text
from txsentinel.wire.words import yes_or_no

if TYPE_CHECKING:
    from txsentinel.server.services import FilterServices

KINDS: Final = {
    b"normal": ClientKind.NORMAL,
    b"pubsub": ClientKind.PUBSUB,
    b"master": ClientKind.MASTER,
    b"primary": ClientKind.MASTER,
    b"replica": ClientKind.REPLICA,
    b"slave": ClientKind.REPLICA,
}

FLAGS: Final = frozenset("ABEIMNOPRSTUbcdeirtux")
"""All flag letters of Valkey; most of them never occur for a client of a Sentinel."""

CAPABILITIES: Final = frozenset("r")
"""The capability letters of Valkey. A Sentinel has no CLIENT CAPA, so its clients have none."""

DATABASES: Final = ("16",)
"""The default of the ``databases`` directive."""

INT32_MAX: Final = (1 << 31) - 1

Condition = Callable[[Client, Millis], bool]
"""Whether a client meets the condition at a time."""


class Option(NamedTuple):
    """An option with its value, and the names of the option and of the filter in error texts."""

    value: bytes
    name: str
    where: str


Reading = Callable[["FilterServices", Option], Condition]
"""Parses an option into a condition; raises ``CommandError``."""


class ClientFilter:
    """
    Conditions that must all hold.

    :param skip_me: whether to exclude the requesting client, unless SKIPME changes it.
    """

    def __init__(self, skip_me: bool) -> None:
        self.skip_me = skip_me
        self.ids: set[int] | None = None
        """The IDs that are selected; ``None`` for all."""

        self.other_ids: set[int] = set()
        """The IDs that are excluded."""

        self.conditions: dict[bytes, Condition] = {}
        """The conditions by option."""

    def selected(self, services: FilterServices, requester: Client) -> Iterator[Client | None]:
        """Yield all clients in the order of their connection: the client if it is selected, otherwise ``None``."""
        now = services.host.now()
        for client in services.clients:
            yield client if self._selects(client, requester, now) and services.clients.get(client.client_id) else None

    def _selects(self, client: Client, requester: Client, now: Millis) -> bool:
        if self.ids is not None and client.client_id not in self.ids:
            return False
        if client.client_id in self.other_ids or (client is requester and self.skip_me):
            return False
        return all(holds(client, now) for holds in self.conditions.values())


def parse_filter(
    services: FilterServices, words: Sequence[bytes], start: int, skip_me: bool
) -> Generator[bytes, None, ClientFilter]:
    """
    Parse options with their values. Works in steps and returns the filter.

    :param start: index of the first option.
    :raises CommandError: for the first error.
    """
    wanted = ClientFilter(skip_me)
    at = start
    while at < len(words):
        option = words[at].lower()
        at += 1
        if option in (b"id", b"not-id"):
            if option == b"id" and wanted.ids is None:
                # ID without a number selects no client.
                wanted.ids = set()
            numbers = wanted.ids if option == b"id" else wanted.other_ids
            assert numbers is not None
            while at < len(words) and (number := canonical_integer(words[at])) is not None:
                if number < 1:
                    raise CommandError("ERR client-id should be greater than 0")
                numbers.add(number)
                at += 1
                if not at % PORTION:
                    yield b""
        elif at == len(words):
            raise syntax_error()
        else:
            _set(wanted, services, option, words[at])
            at += 1
        yield b""
    return wanted


def _set(wanted: ClientFilter, services: FilterServices, option: bytes, value: bytes) -> None:
    """Add the condition of one option to the filter."""
    if option == b"skipme":
        skip = yes_or_no(text(value))
        if skip is None:
            raise syntax_error()
        wanted.skip_me = skip
    elif option in _MINIMUM_SECONDS:
        wanted.conditions[option] = _MINIMUM_SECONDS[option](value)
    elif option in _PREDICATES:
        wanted.conditions[option] = _PREDICATES[option](services, Option(value, text(option).upper(), "provided"))
    elif option.startswith(b"not-") and option[4:] in _PREDICATES:
        name = text(option).upper()
        wanted.conditions[option] = _negated(_PREDICATES[option[4:]](services, Option(value, name, name)))
    else:
        raise syntax_error()


def _negated(condition: Condition) -> Condition:
    return lambda client, now: not condition(client, now)


def kind_named(word: bytes) -> ClientKind:
    """
    Return the class of clients that a word names.

    :raises CommandError: if there is no such class.
    """
    kind = KINDS.get(word.lower())
    if kind is None:
        raise CommandError(f"ERR Unknown client type '{text(word)}'")
    return kind


def _of_kind(services: FilterServices, option: Option) -> Condition:
    kind = kind_named(option.value)
    return lambda client, now: client.kind is kind


def _of_user(services: FilterServices, option: Option) -> Condition:
    name = text(option.value)
    if not services.access.has_user(name):
        raise CommandError(f"ERR No such user '{name}'")
    return lambda client, now: client.user == name


def _with_text(value_of: Callable[[Client], bytes]) -> Reading:
    """Match clients whose property has exactly this value. An empty value matches no client."""

    def read(services: FilterServices, option: Option) -> Condition:
        value = option.value
        return lambda client, now: bool(value) and value_of(client) == value

    return read


def host_of(address: str) -> str:
    """Return the IP address in ``host:port``, without the brackets of IPv6; empty for a Unix socket."""
    host = address.rpartition(":")[0].strip("[]")
    return "" if host.startswith("/") else host


def _letters(option: Option, known: frozenset[str], kind: str) -> set[str]:
    letters = text(option.value)
    if not known.issuperset(letters):
        raise CommandError(f"ERR Unknown {kind} found in the {option.where} filter: {letters}")
    return set(letters)


def _with_flags(services: FilterServices, option: Option) -> Condition:
    """Match clients that have all of these flags; ``N`` stands for no flags."""
    letters = _letters(option, FLAGS, "flags")
    return lambda client, now: letters.issubset(flag_letters(client))


def _with_capabilities(services: FilterServices, option: Option) -> Condition:
    letters = _letters(option, CAPABILITIES, "capa")
    return lambda client, now: not letters


def _in_database(services: FilterServices, option: Option) -> Condition:
    """Match database 0, as all clients of a Sentinel are in it."""
    error_text = f"ERR {option.name} is not an integer or out of range"
    number = integer(option.value, error_text)
    if not -INT32_MAX - 1 <= number <= INT32_MAX:
        raise CommandError(error_text)
    last = int(services.options.others.get("databases", DATABASES)[0]) - 1
    if not 0 <= number <= last:
        raise CommandError(f"ERR {option.name} number should be between 0 and {last}")
    return lambda client, now: number == 0


def _minimum_seconds(word: str, since: Callable[[Client], Millis]) -> Callable[[bytes], Condition]:
    """Return a reader for the minimum number of seconds since a point in time."""

    def read(value: bytes) -> Condition:
        seconds = integer(value, f"ERR {word} is not an integer or out of range")
        if seconds < 1:
            raise CommandError(f"ERR {word} should be greater than 0")
        return lambda client, now: (now - since(client)) // 1000 >= seconds

    return read


_MINIMUM_SECONDS: Final = {
    b"maxage": _minimum_seconds("maxage", lambda client: client.connected_at),
    b"idle": _minimum_seconds("idle", lambda client: client.last_active),
}
"""Options with a minimum duration, which have no ``NOT-`` form."""

_PREDICATES: Final[dict[bytes, Reading]] = {
    b"type": _of_kind,
    b"user": _of_user,
    b"addr": _with_text(lambda client: data(client.address)),
    b"laddr": _with_text(lambda client: data(client.local_address)),
    b"name": _with_text(lambda client: client.name),
    b"flags": _with_flags,
    b"lib-name": _with_text(lambda client: client.library_name),
    b"lib-ver": _with_text(lambda client: client.library_version),
    b"db": _in_database,
    b"capa": _with_capabilities,
    b"ip": _with_text(lambda client: data(host_of(client.address))),
}
"""Options with a ``NOT-`` form."""
