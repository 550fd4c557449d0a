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
from txsentinel.server.access_control import refusal_text
from txsentinel.server.acl.file import AclFileError
from txsentinel.server.acl.rights import CATEGORIES, CHANNELS_AT_ONCE, Selector, lowered
from txsentinel.server.arguments import integer
from txsentinel.server.dispatch import wrong_arity
from txsentinel.server.handlers import CommandModule, refuse_without_subcommand
from txsentinel.server.replies import NO_REPLY, DeferredReply, Reply, Steps, Stepwise
from txsentinel.server.specification import (
    Command,
    container,
    integer_argument,
    multiple,
    oneof,
    optional,
    text_argument,
    word,
)
from txsentinel.server.steps import portions
from txsentinel.wire.resp import OK, ErrorReply, SetReply, Value, encode, text

if TYPE_CHECKING:
    from txsentinel.server.acl.users import User
    from txsentinel.server.clients import Client
    from txsentinel.server.services import AclServices

BITS: Final = 256
MAX_BITS: Final = 4096
BAD_BITS: Final = (
    "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096"
)
NOT_SAVED: Final = "ERR There was an error trying to save the ACLs. Please check the server logs for more information"
SHOWN_ENTRIES: Final = 10
"""Default number of entries that ``ACL LOG`` shows."""

FOR_ALL: Final = ("request_policy:all_nodes", "response_policy:all_succeeded")

read_command: Final = partial(
    Command, flags=("noscript", "loading", "stale"), categories=("slow",), since="6.0.0", group="server"
)
admin_command: Final = partial(
    Command,
    flags=("admin", "noscript", "loading", "stale"),
    categories=("admin", "slow", "dangerous"),
    since="6.0.0",
    group="server",
)
USERNAME: Final = text_argument("username")


def cat(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the full names, each container before its subcommands."""
    if len(request) > 3:
        raise CommandError(helptexts.wrong_form("ACL", request[1]))
    if len(request) == 2:
        return list(CATEGORIES)
    category = lowered(text(request[2]))
    if category not in CATEGORIES:
        raise CommandError(f"ERR Unknown category '{text(request[2][:128])}'")
    return [entry.name for entry in services.access.commands.everything() if category in entry.categories]


def deluser(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the number of deleted users."""
    return Stepwise(services.access.delete_users(client, request[2:]))


def dryrun(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return ``OK`` or the text of the refusal. The latter is no error reply, because DRYRUN itself succeeded."""
    user = services.access.get(text(request[2]))
    if user is None:
        raise CommandError(f"ERR User '{text(request[2])}' not found")
    inner = request[3:]
    entry = services.table.find(inner)
    if entry is None or entry.hidden:
        raise CommandError(f"ERR Command '{text(inner[0])}' not found")
    if not entry.accepts(len(inner)):
        raise wrong_arity(entry)
    return Stepwise(_dry_run(user, entry, inner))


def _dry_run(user: User, entry: Command, inner: Sequence[bytes]) -> Steps:
    """Authorize the request as its execution would, a few channels at a time."""
    refusal = user.refusal(entry, inner)
    if refusal is not None:
        return refusal_text(refusal, user, entry, inner)
    if entry.name in ("subscribe", "psubscribe"):
        for portion in portions(inner, CHANNELS_AT_ONCE + 1, size=1):
            words = [inner[0], *portion]
            refusal = user.refusal(entry, words)
            if refusal is not None:
                return refusal_text(refusal, user, entry, words)
            yield b""
    return OK


def genpass(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return hexadecimal digits from the system's random generator for secrets."""
    if len(request) > 3:
        raise CommandError(helptexts.wrong_form("ACL", request[1]))
    bits = integer(request[2]) if len(request) == 3 else BITS
    if not 0 < bits <= MAX_BITS:
        raise CommandError(BAD_BITS)
    digits = (bits + 3) // 4
    return os.urandom((digits + 1) // 2).hex()[:digits]


def getuser(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map, or null for an unknown user."""
    user = services.access.get(text(request[2]))
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


def list_(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the lines ordered by name."""

    def steps() -> Steps:
        users = services.access.all_users()
        yield b"*%d\r\n" % len(users)
        for user in users:
            yield encode(user.line(), client.protocol)
        return NO_REPLY

    return Stepwise(steps())


def users(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the names in order."""
    return [user.name for user in services.access.all_users()]


def setuser(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Apply all rules or none."""

    def steps() -> Steps:
        rules: list[str] = []
        for portion in portions(request, 3):
            rules += map(text, portion)
            yield b""
        yield from services.access.set_user(client, text(request[2]), rules)
        return OK

    return Stepwise(steps())


def load(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Apply the whole file or nothing of it."""
    return DeferredReply(_answered(services.access.load(client), AclFileError, lambda error: f"ERR {error}"))


def save(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Reply when the file is durable."""

    def error_line(error: Exception) -> str:
        now, path = services.host.now(), services.options.aclfile
        services.log_throttle.warn(now, "The ACL file {path} could not be saved: {error}", path=path, error=str(error))
        return NOT_SAVED

    return DeferredReply(_answered(services.access.save(), OSError, error_line))


def _answered(done: Deferred[None], expected: type[Exception], explain: Callable[[Exception], str]) -> Deferred[Value]:
    """Return ``OK`` for success and an error reply for an expected failure; pass other failures on."""

    def failed(failure: Failure) -> Value | Failure:
        error = failure.value
        return ErrorReply(explain(error)) if isinstance(error, expected) else failure

    return done.addCallbacks(lambda _: OK, failed)


def log(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map for each entry, the latest first."""
    if len(request) > 3:
        raise CommandError(helptexts.wrong_form("ACL", request[1]))
    if len(request) == 3 and request[2].lower() == b"reset":
        services.access.log.clear()
        return OK
    count = integer(request[2]) if len(request) == 3 else SHOWN_ENTRIES
    return services.access.log.shown(count, services.host.now())


def whoami(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the name of the user."""
    return client.account.name


def acl_help(services: AclServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the lines of the help text."""
    return helptexts.ACL


COMMANDS: Final[CommandModule[AclServices]] = {
    container(
        "acl",
        arity=-2,
        categories=("slow",),
        since="6.0.0",
        summary="Container of the commands for users and permissions",
        group="server",
    ): refuse_without_subcommand,
    read_command(
        "acl|cat",
        arity=-2,
        summary="Lists the ACL categories, or the commands in one of them",
        arguments=(optional(text_argument("category")),),
    ): cat,
    admin_command(
        "acl|deluser",
        arity=-3,
        summary="Deletes users and closes their connections",
        complexity="O(N) where N is the number of connections",
        tips=FOR_ALL,
        arguments=(multiple(USERNAME),),
    ): deluser,
    admin_command(
        "acl|dryrun",
        arity=-4,
        since="7.0.0",
        summary="Checks whether a user may execute a command, without executing it",
        arguments=(USERNAME, text_argument("command"), optional(multiple(text_argument("arg")))),
    ): dryrun,
    read_command(
        "acl|genpass", arity=-2, summary="Generates a random password", arguments=(optional(integer_argument("bits")),)
    ): genpass,
    admin_command(
        "acl|getuser",
        arity=3,
        summary="Returns the permissions of a user",
        complexity="O(N) where N is the number of rules of the user",
        arguments=(USERNAME,),
        history=(
            ("6.2.0", "Added Pub/Sub channels."),
            ("7.0.0", "Added selectors; keys and channels are returned as rules."),
            ("9.1.0", "Added databases."),
        ),
    ): getuser,
    admin_command("acl|list", arity=2, summary="Returns all users as lines of an ACL file", complexity="O(N)"): list_,
    admin_command("acl|users", arity=2, summary="Lists the names of all users", complexity="O(N)"): users,
    admin_command(
        "acl|setuser",
        arity=-3,
        summary="Creates a user or changes its permissions",
        complexity="O(N) where N is the number of rules",
        tips=FOR_ALL,
        arguments=(USERNAME, optional(multiple(text_argument("rule")))),
        history=(
            ("6.2.0", "Added rules for Pub/Sub channels."),
            ("7.0.0", "Added selectors and read or write access to keys."),
            ("9.1.0", "Added rules for databases."),
        ),
    ): setuser,
    admin_command("acl|load", arity=2, summary="Reloads the ACL file", complexity="O(N)"): load,
    admin_command(
        "acl|save", arity=2, summary="Saves the users to the ACL file", complexity="O(N)", tips=FOR_ALL
    ): save,
    admin_command(
        "acl|log",
        arity=-2,
        summary="Returns the latest denied logins and commands, or clears them",
        complexity="O(N) where N is the number of entries",
        arguments=(optional(oneof("operation", integer_argument("count"), word("RESET"))),),
        history=(("7.2.0", "Added the ID and the timestamps of each entry."),),
    ): log,
    read_command("acl|whoami", arity=2, summary="Returns the user name of the connection"): whoami,
    Command(
        "acl|help",
        arity=2,
        flags=("loading", "stale"),
        categories=("slow",),
        since="6.0.0",
        summary="Returns the help text of the subcommands",
        group="server",
    ): acl_help,
}
