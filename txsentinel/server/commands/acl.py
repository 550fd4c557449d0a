"""The ACL container: shows and changes users and their permissions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txsentinel.core.errors import CommandError
from txsentinel.server import helptexts
from txsentinel.server.acl.control import explained
from txsentinel.server.acl.file import AclFileError
from txsentinel.server.acl.rights import CATEGORIES, CHANNELS_AT_ONCE, Selector, lowered
from txsentinel.server.arguments import integer
from txsentinel.server.dispatch import wrong_arity
from txsentinel.server.replies import NO_REPLY, DeferredReply, Reply, Steps, Stepwise
from txsentinel.server.steps import portions
from txsentinel.server.syntax import integer as whole_number
from txsentinel.server.syntax import multiple, oneof, optional, text_argument, word
from txsentinel.server.table import TABLE, command, container
from txsentinel.wire.resp import OK, ErrorReply, SetReply, Value, encode, text

if TYPE_CHECKING:
    from txsentinel.server.acl.users import User
    from txsentinel.server.clients import Client
    from txsentinel.server.context import ServerContext
    from txsentinel.server.table import Command

BITS: Final = 256
MAX_BITS: Final = 4096
BAD_BITS: Final = (
    "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096"
)
NOT_SAVED: Final = "ERR There was an error trying to save the ACLs. Please check the server logs for more information"
SHOWN_ENTRIES: Final = 10
"""Default number of entries that ``ACL LOG`` shows."""

FOR_ALL: Final = ("request_policy:all_nodes", "response_policy:all_succeeded")

container(
    "ACL",
    arity=-2,
    categories=("slow",),
    since="6.0.0",
    summary="Holds the commands about users and their rights",
    group="server",
)

read_command: Final = partial(
    command, "ACL", flags=("noscript", "loading", "stale"), categories=("slow",), since="6.0.0", group="server"
)
admin_command: Final = partial(
    command,
    "ACL",
    flags=("admin", "noscript", "loading", "stale"),
    categories=("admin", "slow", "dangerous"),
    since="6.0.0",
    group="server",
)
USERNAME: Final = text_argument("username")


@read_command(
    "CAT",
    arity=-2,
    summary="Lists the categories of commands, or the commands of one",
    arguments=(optional(text_argument("category")),),
)
def cat(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the full names, each container before its subcommands."""
    if len(request) > 3:
        raise CommandError(helptexts.wrong_form("ACL", request[1]))
    if len(request) == 2:
        return list(CATEGORIES)
    category = lowered(text(request[2]))
    if category not in CATEGORIES:
        raise CommandError(f"ERR Unknown category '{text(request[2][:128])}'")
    return [entry.name for entry in TABLE.everything() if category in entry.categories]


@admin_command(
    "DELUSER",
    arity=-3,
    summary="Deletes users and closes their connections",
    complexity="O(N) where N is the number of connections",
    tips=FOR_ALL,
    arguments=(multiple(USERNAME),),
)
def deluser(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the number of deleted users."""
    return Stepwise(context.access.delete_users(context, client, request[2:]))


@admin_command(
    "DRYRUN",
    arity=-4,
    since="7.0.0",
    summary="Tells whether a user may run a command, without running it",
    arguments=(USERNAME, text_argument("command"), optional(multiple(text_argument("arg")))),
)
def dryrun(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return ``OK`` or the text of the refusal. The latter is no error reply, because DRYRUN itself succeeded."""
    user = context.access.get(text(request[2]))
    if user is None:
        raise CommandError(f"ERR User '{text(request[2])}' not found")
    inner = request[3:]
    entry = context.table.find(inner)
    if entry is None or entry.hidden:
        raise CommandError(f"ERR Command '{text(inner[0])}' not found")
    if not entry.accepts(len(inner)):
        raise wrong_arity(entry)
    return Stepwise(_dry_run(user, entry, inner))


def _dry_run(user: User, entry: Command, inner: Sequence[bytes]) -> Steps:
    """Authorize the request as its execution would, a few channels at a time."""
    refusal = user.refusal(entry, inner)
    if refusal is not None:
        return explained(refusal, user, entry, inner)
    if entry.name in ("subscribe", "psubscribe"):
        for portion in portions(inner, CHANNELS_AT_ONCE + 1, size=1):
            words = [inner[0], *portion]
            refusal = user.refusal(entry, words)
            if refusal is not None:
                return explained(refusal, user, entry, words)
            yield b""
    return OK


@read_command(
    "GENPASS",
    arity=-2,
    summary="Makes up a password",
    arguments=(optional(whole_number("bits")),),
)
def genpass(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return hexadecimal digits from the system's random generator for secrets."""
    if len(request) > 3:
        raise CommandError(helptexts.wrong_form("ACL", request[1]))
    bits = integer(request[2]) if len(request) == 3 else BITS
    if not 0 < bits <= MAX_BITS:
        raise CommandError(BAD_BITS)
    digits = (bits + 3) // 4
    return os.urandom((digits + 1) // 2).hex()[:digits]


@admin_command(
    "GETUSER",
    arity=3,
    summary="Shows what a user may do",
    complexity="O(N) where N is the number of rules of the user",
    arguments=(USERNAME,),
    history=(
        ("6.2.0", "Shows Pub/Sub channels."),
        ("7.0.0", "Shows selectors, and keys and channels as rules."),
        ("9.1.0", "Shows databases."),
    ),
)
def getuser(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map, or null for an unknown user."""
    user = context.access.get(text(request[2]))
    if user is None:
        return None
    shown: dict[str, Value] = {"flags": SetReply(user.flags()), "passwords": list(user.passwords)}
    shown.update(_permissions(user.root))
    shown["selectors"] = [_permissions(each) for each in user.selectors[1:]]
    return shown


def _permissions(selector: Selector) -> dict[str, Value]:
    return {
        "commands": selector.command_rules(),
        "keys": selector.key_rules(),
        "channels": selector.channel_rules(),
        "databases": selector.database_rules(),
    }


@admin_command("LIST", arity=2, summary="Shows all users as lines of an ACL file", complexity="O(N)")
def list_(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the lines ordered by name."""

    def steps() -> Steps:
        users = context.access.all_users()
        yield b"*%d\r\n" % len(users)
        for user in users:
            yield encode(user.line(), client.protocol)
        return NO_REPLY

    return Stepwise(steps())


@admin_command("USERS", arity=2, summary="Lists the names of all users", complexity="O(N)")
def users(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the names in order."""
    return [user.name for user in context.access.all_users()]


@admin_command(
    "SETUSER",
    arity=-3,
    summary="Makes a user, or changes what it may do",
    complexity="O(N) where N is the number of rules",
    tips=FOR_ALL,
    arguments=(USERNAME, optional(multiple(text_argument("rule")))),
    history=(
        ("6.2.0", "Knows Pub/Sub channels."),
        ("7.0.0", "Knows selectors and kinds of access to keys."),
        ("9.1.0", "Knows databases."),
    ),
)
def setuser(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Apply all rules or none."""

    def steps() -> Steps:
        rules: list[str] = []
        for portion in portions(request, 3):
            rules += map(text, portion)
            yield b""
        yield from context.access.set_user(context, client, text(request[2]), rules)
        return OK

    return Stepwise(steps())


@admin_command("LOAD", arity=2, summary="Reads the ACL file anew", complexity="O(N)")
def load(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Apply the whole file or nothing of it."""
    return DeferredReply(_answered(context.access.load(context, client), AclFileError, lambda error: f"ERR {error}"))


@admin_command("SAVE", arity=2, summary="Writes the ACL file", complexity="O(N)", tips=FOR_ALL)
def save(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Reply when the file is durable."""

    def error_line(error: Exception) -> str:
        now, path = context.host.now(), context.options.aclfile
        context.log_throttle.warn(now, "The ACL file {path} could not be saved: {error}", path=path, error=str(error))
        return NOT_SAVED

    return DeferredReply(_answered(context.access.save(), OSError, error_line))


def _answered(done: Deferred[None], expected: type[Exception], explain: Callable[[Exception], str]) -> Deferred[Value]:
    """Return ``OK`` for success and an error reply for an expected failure; pass other failures on."""

    def failed(failure: Failure) -> Value | Failure:
        error = failure.value
        return ErrorReply(explain(error)) if isinstance(error, expected) else failure

    return done.addCallbacks(lambda _: OK, failed)


@admin_command(
    "LOG",
    arity=-2,
    summary="Shows what was refused lately, or forgets it",
    complexity="O(N) where N is the number of entries shown",
    arguments=(optional(oneof("operation", whole_number("count"), word("RESET"))),),
    history=(("7.2.0", "Shows number and times of each entry."),),
)
def log(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map for each entry, the latest first."""
    if len(request) > 3:
        raise CommandError(helptexts.wrong_form("ACL", request[1]))
    if len(request) == 3 and request[2].lower() == b"reset":
        context.access.log.clear()
        return OK
    count = integer(request[2]) if len(request) == 3 else SHOWN_ENTRIES
    return context.access.log.shown(count, context.host.now())


@read_command("WHOAMI", arity=2, summary="Tells whom this connection is logged in as")
def whoami(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the name of the user."""
    return client.account.name


@command(
    "ACL",
    "HELP",
    arity=2,
    flags=("loading", "stale"),
    categories=("slow",),
    since="6.0.0",
    summary="Explains the subcommands",
    group="server",
)
def acl_help(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the lines of the help text."""
    return helptexts.ACL
