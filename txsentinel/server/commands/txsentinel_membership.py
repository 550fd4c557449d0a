"""The subcommands of TXSENTINEL that remove members of groups and drain hosts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.core.leaving import MAX_LEAVING
from txsentinel.core.membership import DEFAULT_FORGET_TIME, MAX_FORGET_TIME
from txsentinel.core.membership_state import MembershipRequest
from txsentinel.server.arguments import integer, refuse_control_characters, syntax_error
from txsentinel.server.commands.sentinel_changes import first_change, once_saved
from txsentinel.server.commands.sentinel_container import txsentinel
from txsentinel.server.draining import DEFAULT_PARK_TIME, MAX_WAIT, DrainOrder, drain, undo
from txsentinel.server.handlers import CommandModule
from txsentinel.server.membership_orders import (
    MemberName,
    MembershipServices,
    check,
    deferred_reply,
    forget_everywhere,
    members,
    remove,
    unpark_quietly,
    wall_now,
    withdraw,
)
from txsentinel.server.replies import Reply
from txsentinel.server.resetting import reset_in_turn
from txsentinel.server.specification import block, integer_argument, multiple, oneof, optional, text_argument, word
from txsentinel.wire.resp import OK, text

if TYPE_CHECKING:
    from txsentinel.model.timings import Millis
    from txsentinel.server.clients import Client

MAX_BY: Final = 200
"""Maximum length of the name of who ordered it, as another Sentinel passes it on."""

membership: Final = partial(txsentinel, acts=True)
"""Define a subcommand."""


class _Words:
    """The words of a request, taken one by one."""

    def __init__(self, request: Sequence[bytes], at: int) -> None:
        self._request = request
        self._at = at

    @property
    def left(self) -> bool:
        """Whether there are more."""
        return self._at < len(self._request)

    def take(self) -> bytes:
        """
        Return the next word.

        :raises CommandError: if there is none.
        """
        if not self.left:
            raise syntax_error()
        self._at += 1
        return self._request[self._at - 1]

    def token(self) -> str:
        """Return the next word in lower case."""
        return text(self.take()).lower()


def _duration(words: _Words, maximum: Millis) -> Millis:
    lasting = integer(words.take())
    if not 0 < lasting <= maximum:
        raise CommandError(f"ERR a time must be from 1 to {maximum} milliseconds")
    return lasting


def _port(raw: bytes) -> int:
    port = integer(raw, "ERR Invalid port")
    if not 0 < port <= 65535:
        raise CommandError("ERR Invalid port")
    return port


def _by(client: Client) -> str:
    return f"{client.user} from {client.address}"


class _Passed:
    """What a Sentinel adds when it passes an order on: when it was made, its ID, and who ordered it."""

    def __init__(self) -> None:
        self.requested_unix: Millis | None = None
        self.request_id = ""
        self.by = ""

    def read(self, token: str, words: _Words) -> bool:
        """Take the words after ``token``; return whether it is one of these."""
        if token == "at":
            self.requested_unix, self.request_id = integer(words.take()), text(words.take())
            if not self.request_id.replace("-", "").isalnum() or len(self.request_id) > 64:
                raise CommandError("ERR the ID of a request has 1 to 64 letters, digits and hyphens")
        elif token == "by":
            self.by = text(words.take())[:MAX_BY]
        else:
            return False
        return True

    def request(self, services: MembershipServices, client: Client, lasting: Millis) -> MembershipRequest | None:
        """Return the request; ``None`` if it was not passed on."""
        if self.requested_unix is None:
            return None
        wall = wall_now(services)
        # The clocks of two Sentinels differ: its end must not come before its beginning.
        requested = min(self.requested_unix, wall)
        return MembershipRequest(lasting, wall + lasting, requested, self.request_id, self.by or _by(client))


def forget(services: MembershipServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Remove a member that does not exist any more, here and at the other Sentinels of our kind.

    With ``AT``, which other Sentinels send, it is removed here only; with ``CHECK`` it is only checked, and the reply
    has the Sentinels that this one counts.

    :raises CommandError: if the syntax is wrong, or if it cannot be removed.
    """
    refuse_control_characters(request, 2, "TXSENTINEL FORGET")
    words = _Words(request, 2)
    name, form = text(words.take()), words.token()
    if form == "id":
        node = MemberName(name, sentinel_id=text(words.take()))
    elif form == "node":
        node = MemberName(name, host=text(words.take()), port=_port(words.take()))
    else:
        raise syntax_error()
    lasting, passed = DEFAULT_FORGET_TIME, _Passed()
    force = only_check = reset_c = False
    while words.left:
        token = words.token()
        if token == "for":
            lasting = _duration(words, MAX_FORGET_TIME)
        elif token == "force":
            force = True
        elif token == "resetc":
            reset_c = True
        elif token == "check":
            only_check = True
        elif not passed.read(token, words):
            raise syntax_error()
    if only_check:
        return members(services, node, force=force)
    since = first_change(services)
    made = passed.request(services, client, lasting)
    if made is None:
        reset = reset_in_turn if reset_c else None
        task = forget_everywhere(services, node, lasting, _by(client), force=force, reset=reset)
        return deferred_reply(services, task)
    removed = remove(services, check(services, node, force=force, majority=False), made)
    return once_saved(services, lambda: withdraw(services, removed), since)


def drain_host(services: MembershipServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Move the masters away from a host, and exclude its servers from promotion; or undo that.

    :raises CommandError: if the syntax is wrong.
    """
    refuse_control_characters(request, 2, "TXSENTINEL DRAIN")
    host, port, at = text(request[2]), None, 3
    if len(request) > 3 and request[3].isdigit():
        port, at = _port(request[3]), 4
    words = _Words(request, at)
    wait, parking = 0, DEFAULT_PARK_TIME
    flags: set[str] = set()
    while words.left:
        token = words.token()
        if token == "wait":
            wait = _duration(words, MAX_WAIT)
        elif token == "park":
            parking = _duration(words, MAX_FORGET_TIME)
        elif token in ("undo", "dryrun", "parallel"):
            flags.add(token)
        else:
            raise syntax_error()
    order = DrainOrder(host, port, _by(client), wait, parking, "parallel" in flags, "dryrun" in flags)
    if "undo" in flags:
        if len(flags) > 1:
            raise CommandError("ERR UNDO excludes DRYRUN and PARALLEL")
        first_change(services)
        return deferred_reply(services, undo(services, order))
    first_change(services)
    return deferred_reply(services, drain(services, order))


def park(services: MembershipServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Have the servers at an address not promoted; other Sentinels pass it on from a drain.

    :raises CommandError: if the syntax is wrong.
    """
    refuse_control_characters(request, 2, "TXSENTINEL PARK")
    words = _Words(request, 2)
    host, port = _host_and_port(words)
    lasting: Millis | None = None
    passed = _Passed()
    while words.left:
        token = words.token()
        if token == "for":
            lasting = _duration(words, MAX_FORGET_TIME)
        elif not passed.read(token, words):
            raise syntax_error()
    made = None if lasting is None else passed.request(services, client, lasting)
    if made is None:
        raise CommandError("ERR FOR and AT are required: TXSENTINEL DRAIN parks the servers of a host")
    since = first_change(services)
    count = services.core.parking.park_host(host, port, made, services.host.now())
    return once_saved(services, lambda: unpark_quietly(services, host, port), since, count)


def unpark(services: MembershipServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Permit the promotion of the servers at an address again; other Sentinels pass it on.

    :raises CommandError: if the syntax is wrong.
    """
    refuse_control_characters(request, 2, "TXSENTINEL UNPARK")
    words = _Words(request, 2)
    host, port = _host_and_port(words)
    passed = _Passed()
    while words.left:
        if not passed.read(words.token(), words):
            raise syntax_error()
    since = first_change(services)
    count = services.core.parking.unpark_host(host, port, services.host.now(), passed.by or _by(client))
    return once_saved(services, None, since, count)


def leaving(services: MembershipServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Note that Sentinels are about to be stopped, or stay after all; the one that drains their host sends this.

    :raises CommandError: if the syntax is wrong.
    """
    refuse_control_characters(request, 2, "TXSENTINEL LEAVING")
    period = integer(request[2])
    if not 0 <= period <= MAX_LEAVING:
        raise CommandError(f"ERR the period must be between 0 and {MAX_LEAVING}")
    if any(len(each) != ID_LENGTH for each in request[3:]):
        raise CommandError("ERR the ID of a Sentinel has 40 characters")
    core, now = services.core, services.host.now()
    core.leaving.announced([text(each) for each in request[3:]], period, now, wall_now(services))
    return OK


def _host_and_port(words: _Words) -> tuple[str, int | None]:
    host, raw = text(words.take()), words.take()
    return host, None if raw == b"*" else _port(raw)


ID_LENGTH: Final = 40

_NODE: Final = oneof(
    "node",
    block("address", text_argument("ip", token="NODE"), integer_argument("port")),
    text_argument("sentinel-id", token="ID"),
)

COMMANDS: Final[CommandModule[MembershipServices]] = {
    membership(
        "txsentinel|forget",
        arity=-5,
        since="0.2.0",
        alias_of="sentinel|reset",
        summary="Removes a Sentinel or replica that does not exist any more, at all Sentinels of our kind",
        arguments=(
            text_argument("master-name"),
            _NODE,
            optional(integer_argument("milliseconds", token="FOR")),
            optional(word("FORCE")),
            optional(word("RESETC")),
        ),
    ): forget,
    membership(
        "txsentinel|drain",
        arity=-3,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Moves the masters away from a host that is about to be stopped",
        arguments=(
            text_argument("ip"),
            optional(integer_argument("port")),
            optional(integer_argument("milliseconds", token="WAIT")),
            optional(integer_argument("milliseconds", token="PARK")),
            optional(word("UNDO")),
            optional(word("DRYRUN")),
            optional(word("PARALLEL")),
        ),
    ): drain_host,
    membership(
        "txsentinel|leaving",
        arity=-4,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Notes that Sentinels are about to be stopped; sent by the one that drains their host",
        arguments=(integer_argument("milliseconds"), multiple(text_argument("sentinel-id"))),
    ): leaving,
    membership(
        "txsentinel|park",
        arity=-4,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Excludes the servers of a host from promotion; passed on by other Sentinels",
        arguments=(text_argument("ip"), text_argument("port")),
    ): park,
    membership(
        "txsentinel|unpark",
        arity=-4,
        since="0.2.0",
        alias_of="sentinel|failover",
        summary="Permits the promotion of the servers of a host again; passed on by other Sentinels",
        arguments=(text_argument("ip"), text_argument("port")),
    ): unpark,
}
