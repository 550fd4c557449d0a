"""
Who may do what: the users, and what logging in, running a command and changing a user come to.

A connection refers to its :class:`~txsentinel.server.acl.users.User`, which is changed in place; whoever
logs in gets another. Users come from ``user`` lines or from the ``aclfile``, never from both. What
is changed by command goes back to where they came from: into the lines at once, into the file with ``ACL SAVE``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, DeferredLock

from txsentinel.config.quoting import written
from txsentinel.config.recovery import recovered
from txsentinel.core.errors import CommandError
from txsentinel.model.events import Level
from txsentinel.server.acl.file import AclFileError, parse_users, render_users
from txsentinel.server.acl.log import AclLog
from txsentinel.server.acl.rights import Reason, RuleError, has_blank
from txsentinel.server.acl.users import DEFAULT_USER, User, default_user, joined_selectors, joining_selectors
from txsentinel.server.clientline import client_line
from txsentinel.server.steps import portions
from txsentinel.wire.resp import data, text

if TYPE_CHECKING:
    from txsentinel.config.generic import GenericOptions
    from txsentinel.interfaces import IHost
    from txsentinel.server.acl.rights import Refusal
    from txsentinel.server.clients import Client
    from txsentinel.server.context import ServerContext
    from txsentinel.server.table import Command

BOTH_PLACES: Final = (
    "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is invalid. "
    "This setup is very likely to lead to configuration errors and security holes, please define either an ACL file "
    "or declare users directly in your redis.conf, but not both."
)
NO_FILE: Final = (
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER "
    "command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store "
    "users in the Redis configuration."
)

DISABLED: Final = (
    "The user '{}' is disabled (there is no 'on' modifier in the user description)."
    " Make sure this is not a configuration error."
)
WILL_NOT_LAST: Final = (
    "The user '{name}' is declared in an included file or on the command line: it is changed until the next start."
)
CRITICAL: Final = "Critical error while loading ACLs. Exiting."


class UnusableUsers(Exception):
    """The Sentinel cannot start with these users; ``lines`` are for the log."""

    def __init__(self, *lines: str) -> None:
        super().__init__(" ".join(lines))
        self.lines = lines


def _keep_nothing(lines: Sequence[str]) -> None:
    """For whoever has no configuration file."""


class AccessControl:
    """
    All users by name, and what was refused to them.

    Until :meth:`start` there is only ``default``, with the password of ``requirepass``.

    :param keep: makes ``user`` lines all that the configuration file has of them; called with each change
        by command, unless there is an ``aclfile``.
    """

    def __init__(
        self, options: GenericOptions, host: IHost, keep: Callable[[Sequence[str]], None] = _keep_nothing
    ) -> None:
        self.keep = keep
        self._options = options
        self._host = host
        self.default = default_user(options.requirepass)
        self._users = {DEFAULT_USER: self.default}
        self.log = AclLog(options.acllog_max_len)
        self._default_is_kept = False
        """Has the file to have a line for ``default``? Without need it has none: it would overrule ``requirepass``."""

        self._kept_elsewhere: Collection[str] = ()
        self._changes = 0
        """How often users were changed."""

        self._turns = DeferredLock()
        """Loading and saving happen one after the other, as they were asked for."""

    def start(self, kept_elsewhere: Collection[str], note: Callable[[Level, str], None]) -> None:
        """
        Take over the users that the configuration or the ACL file has.

        :param kept_elsewhere: users whose lines stand in an included file or on the command line; none are
            written for them, as a start with two lines for one user would fail.
        :param note: writes a line to the log.
        :raises UnusableUsers: if that cannot be done.
        """
        declared = self._options.users
        self._kept_elsewhere = kept_elsewhere
        if self._options.aclfile:
            if declared:
                raise UnusableUsers(BOTH_PLACES)
            try:
                self._adopt(self._parse(self._host.files.read(self._options.located(self._options.aclfile))))
            except OSError as error:
                raise UnusableUsers(f"Aborting Redis startup because of ACL errors: {self._unread(error)}") from None
            except AclFileError as error:
                raise UnusableUsers(f"Aborting Redis startup because of ACL errors: {error}") from None
        for name, rules in declared:
            self._declare(name, rules)
            if not self._users[name].enabled:
                note(Level.NOTICE, DISABLED.format(name))

    def _declare(self, name: str, rules: Sequence[str]) -> None:
        """Obey a ``user`` line."""
        if has_blank(name):
            raise UnusableUsers("Spaces not allowed in ACL usernames", CRITICAL)
        user = self._new(name)
        for rule in joined_selectors(rules):
            try:
                user.apply(rule)
            except RuleError as error:
                problem = f"Error loading ACL rule '{rule}' for the user named '{name}': {error}"
                raise UnusableUsers(problem, CRITICAL) from None
        self._users.setdefault(name, user).become(user)
        self._default_is_kept = self._default_is_kept or name == DEFAULT_USER

    def _new(self, name: str) -> User:
        return User(name, self._options.acl_pubsub_default == "allchannels")

    # What the server asks.

    def open_by_default(self) -> bool:
        """Is a new connection let in without a password?"""
        return self.default.is_open

    def knows(self, name: str) -> bool:
        """Is there such a user?"""
        return name in self._users

    def get(self, name: str) -> User | None:
        """The user of that name."""
        return self._users.get(name)

    def all_users(self) -> list[User]:
        """All users, by the bytes of their names."""
        return sorted(self._users.values(), key=lambda user: data(user.name))

    def recognize(self, context: ServerContext, client: Client, names: Sequence[str]) -> None:
        """
        Make the connection that of the first enabled user by one of these names; its certificate vouches for it.

        If there is none it stays what it was, and the log has an entry.
        """
        for name in names:
            user = self._users.get(name)
            if user is not None and user.enabled:
                client.account, client.authenticated = user, True
                return
        context.statistics.denied_certificates += 1
        name = names[0] if names else ""
        self._remember(client, Reason.CERTIFICATE, name, name)

    def log_in(self, context: ServerContext, client: Client, name: str, password: bytes, word: bytes) -> bool:
        """
        Make the connection that user's, if the user is there and enabled and the password fits.

        :param word: the command that asks for it, as it was spelled.
        :returns: whether that was done; if not, the connection stays what it was, and the log has an entry.
        """
        user = self._users.get(name)
        if user is None or not user.accepts(password):
            context.statistics.denied_logins += 1
            self._remember(client, Reason.AUTH, text(word), name)
            return False
        client.account, client.authenticated = user, True
        return True

    def authorize(self, context: ServerContext, client: Client, command: Command, request: Sequence[bytes]) -> None:
        """
        Complain, and remember it, if the client may not run this request.

        Whoever is unrestricted need not be asked about.

        :raises CommandError: with the refusal.
        """
        user = client.account
        refusal = user.refusal(command, request)
        if refusal is None:
            return
        if refusal.reason is Reason.COMMAND:
            context.statistics.denied_commands += 1
            self._remember(client, Reason.COMMAND, command.name, user.name)
            raise CommandError(f"NOPERM {explained(refusal, user, command, request)}")
        context.statistics.denied_channels += 1
        self._remember(client, Reason.CHANNEL, text(request[refusal.position]), user.name)
        raise CommandError("NOPERM No permissions to access a channel")

    def _remember(self, client: Client, reason: Reason, subject: str, user: str) -> None:
        host = self._host
        now = host.now()
        self.log.add(reason, subject, user, client_line(client, now), now, host.wall_clock())

    # What the commands change.

    def set_user(
        self, context: ServerContext, asking: Client, name: str, rules: Sequence[str]
    ) -> Generator[bytes, None, None]:
        """
        Make or change a user, by all of the rules or by none. Done in steps, of which the last one is the change.

        :raises CommandError: for the first rule that makes no sense.
        """
        if has_blank(name):
            raise CommandError("ERR Usernames can't contain spaces or null characters")
        limits = context.limits
        try:
            joined = yield from joining_selectors(rules, limits.user_rules)
        except RuleError as error:
            raise CommandError(f"ERR {error}") from None
        while True:
            changes = self._changes
            present = self._users.get(name)
            wanted = self._new(name) if present is None else present.copy()
            for rule in joined:
                try:
                    wanted.apply(rule)
                except RuleError as error:
                    raise CommandError(f"ERR Error in ACL SETUSER modifier '{rule}': {error}") from None
                if wanted.size > limits.user_rules:
                    raise CommandError(f"ERR Error in ACL SETUSER: more than {limits.user_rules} rules for one user")
                yield b""
            if changes == self._changes:
                break
            # Somebody else changed users between two steps: begin again with what they are now.
        if present is None and len(self._users) >= limits.users:
            raise CommandError(f"ERR Error in ACL SETUSER: more than {limits.users} users")
        self._changes += 1
        if present is None:
            self._users[name] = wanted
        else:
            self._change(context.clients, asking, present, wanted)
        self._default_is_kept = self._default_is_kept or name == DEFAULT_USER
        if name in self._kept_elsewhere:
            context.log_throttle.warn(self._host.now(), WILL_NOT_LAST, name=name)
        self._keep_lines()

    def delete_users(
        self, context: ServerContext, asking: Client, names: Sequence[bytes]
    ) -> Generator[bytes, None, int]:
        """
        Delete users and close their connections.

        Done in steps.

        :returns: how many there were.
        :raises CommandError: if one of them is ``default``; none is deleted then.
        """
        wanted: dict[str, None] = {}
        for portion in portions(names):
            for name in portion:
                if name == DEFAULT_USER.encode():
                    raise CommandError("ERR The 'default' user cannot be removed")
                user = self._users.get(text(name))
                if user is not None:
                    wanted[user.name] = None
            yield b""
        self._changes += 1
        gone = {user: None for user in (self._users.pop(name, None) for name in wanted) if user is not None}
        for client in context.clients:
            if client.account in gone:
                self._dismiss(client, asking)
        if gone:
            self._keep_lines()
        return len(gone)

    def load(self, context: ServerContext, asking: Client) -> Deferred[None]:
        """
        Take over what the ACL file says, all of it or nothing, after the saving that is under way.

        Connections of users that are gone are closed, and subscribers that lost a channel.

        :returns: fires when that is done; fails with :class:`AclFileError`.
        :raises CommandError: if there is no such file.
        """
        self._demand_file()

        async def read() -> None:
            try:
                contents = await self._host.files.fetch(self._options.located(self._options.aclfile))
            except OSError as error:
                raise AclFileError(self._unread(error)) from None
            # Parsed here, not in the thread that read it: names of commands are looked up in the table.
            gone = self._adopt(self._parse(contents), context.clients, asking)
            for client in context.clients:
                if client.account in gone:
                    self._dismiss(client, asking)

        return self._turns.run(lambda: Deferred.fromCoroutine(read()))

    def save(self) -> Deferred[None]:
        """
        Make the ACL file say what the users are now.

        :returns: fires once a power cut could not undo it; fails with the ``OSError`` of what went wrong.
        :raises CommandError: if there is no such file.
        """
        self._demand_file()
        contents = render_users(self.all_users())
        return self._turns.run(self._host.files.replace, self._options.located(self._options.aclfile), contents)

    def _demand_file(self) -> None:
        if not self._options.aclfile:
            raise CommandError(NO_FILE)

    def _unread(self, error: OSError) -> str:
        """The complaint about an ACL file that cannot be read."""
        return f"Error loading ACLs, opening file '{self._options.aclfile}': {error.strerror}"

    def _parse(self, contents: bytes) -> dict[str, User]:
        every_channel = self._options.acl_pubsub_default == "allchannels"
        return parse_users(self._options.aclfile, recovered(contents).contents, every_channel)

    def _adopt(
        self, users: dict[str, User], clients: Iterable[Client] = (), asking: Client | None = None
    ) -> list[User]:
        """
        Become these users, and return those that are gone.

        A file that says nothing of ``default`` leaves it as ``requirepass`` has it. The C servers open it to
        everybody then, whatever ``requirepass`` says.
        """
        self._changes += 1
        users.setdefault(DEFAULT_USER, default_user(self._options.requirepass))
        gone = [user for name, user in self._users.items() if name not in users]
        for user in gone:
            del self._users[user.name]
        for name, user in users.items():
            present = self._users.setdefault(name, user)
            if present is not user:
                self._change(clients, asking, present, user)
        return gone

    def _change(self, clients: Iterable[Client], asking: Client | None, user: User, wanted: User) -> None:
        """Make ``user`` what ``wanted`` is; subscribers that lose a channel by that are closed."""
        keeps_channels = wanted.can_receive_all_of(user)
        user.become(wanted)
        if keeps_channels:
            return
        for client in clients:
            if client.account is user and not _receives_own_events(client):
                self._dismiss(client, asking)

    def _dismiss(self, client: Client, asking: Client | None) -> None:
        """Close a connection that has lost its rights; the one that asked for this is told first that it was done."""
        client.account, client.authenticated = self.default, False
        if client is asking:
            client.connection.finish()
        else:
            client.connection.abort()

    def keep_in_file(self, keep: Callable[[Sequence[str]], None]) -> None:
        """
        Keep users by ``keep`` from now on.

        Where the file declares a password in clear text it is made to say the digest at once, as upstream.
        """
        self.keep = keep
        declared = (rules for name, rules in self._options.users if name not in self._kept_elsewhere)
        if any(rule.startswith(">") for rules in declared for rule in rules):
            self._keep_lines()

    def _keep_lines(self) -> None:
        if self._options.aclfile:
            return
        self.keep(
            [
                " ".join(["user", written(user.name), *map(written, user.words())])
                for user in self.all_users()
                if (user is not self.default or self._default_is_kept) and user.name not in self._kept_elsewhere
            ]
        )


def explained(refusal: Refusal, user: User, command: Command, request: Sequence[bytes]) -> str:
    """A refusal in words that name what was refused."""
    if refusal.reason is Reason.COMMAND:
        return f"User {user.name} has no permissions to run the '{command.name}' command"
    return f"User {user.name} has no permissions to access the '{text(request[refusal.position])}' channel"


def _receives_own_events(client: Client) -> bool:
    """May the client still hear all that it is subscribed to?"""
    user = client.account
    return all(user.can_receive(channel, False) for channel in client.channels) and all(
        user.can_receive(pattern, True) for pattern in client.patterns
    )
