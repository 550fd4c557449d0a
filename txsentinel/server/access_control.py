"""
Access control: the users, login, authorization of requests, and changes of users.

A connection refers to its :class:`~txsentinel.server.acl.users.User`, which is changed in place; a login assigns
another. Users come from ``user`` lines or from the ``aclfile``, never from both. Changes by command are saved where
the users came from: in the lines at once, in the file by ``ACL SAVE``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, DeferredLock

from txsentinel.config.quoting import written
from txsentinel.config.recovery import recovered
from txsentinel.core.errors import CommandError
from txsentinel.model.events import Level
from txsentinel.model.log_throttle import LogThrottle
from txsentinel.model.timings import Limits
from txsentinel.server.acl.file import AclFileError, parse_users, render_users
from txsentinel.server.acl.log import AclLog
from txsentinel.server.acl.rights import Reason, RuleError, has_white_space
from txsentinel.server.acl.users import DEFAULT_USER, User, default_user, joined_selectors, joining_selectors
from txsentinel.server.clientline import client_line
from txsentinel.server.clients import Client, ClientRegistry
from txsentinel.server.statistics import Statistics
from txsentinel.server.steps import portions
from txsentinel.wire.resp import data, text

if TYPE_CHECKING:
    from txsentinel.config.generic import GenericOptions
    from txsentinel.interfaces import IHost
    from txsentinel.server.acl.rights import Refusal
    from txsentinel.server.specification import Command
    from txsentinel.server.table import CommandTable

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
NOT_PERSISTENT: Final = (
    "The user '{name}' is declared in an included file or on the command line: the change is lost at the next start."
)
CRITICAL: Final = "Critical error while loading ACLs. Exiting."


class UnusableUsers(Exception):
    """The Sentinel cannot start with these users; ``lines`` are the lines for the log."""

    def __init__(self, *lines: str) -> None:
        super().__init__(" ".join(lines))
        self.lines = lines


def _keep_nothing(lines: Sequence[str]) -> None:
    """Save nothing, where there is no configuration file."""


class AccessControl:
    """
    All users by name, and the log of refusals.

    Before :meth:`start` there is only ``default``, with the password of ``requirepass``.

    :param commands: the table of all commands that rules can name, before ``rename-command``.
    :param keep: replaces all ``user`` lines of the configuration file; called after each change by command, unless
        there is an ``aclfile``.
    :param clients: the connections that a change of their user may close.
    :param statistics: counts the refusals.
    """

    def __init__(
        self,
        options: GenericOptions,
        host: IHost,
        commands: CommandTable,
        *,
        keep: Callable[[Sequence[str]], None] = _keep_nothing,
        clients: ClientRegistry | None = None,
        limits: Limits | None = None,
        log_throttle: LogThrottle | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        self.commands = commands
        self._keep = keep
        self._options = options
        self._host = host
        self._clients = ClientRegistry() if clients is None else clients
        self._limits = limits or Limits()
        self._log_throttle = log_throttle or LogThrottle()
        self._statistics = statistics or Statistics()
        self.default = default_user(commands, options.requirepass, options.next_requirepass)
        self._users = {DEFAULT_USER: self.default}
        self.log = AclLog(options.acllog_max_len)
        self.started = False
        """Whether :meth:`start` was called."""

        self._default_is_kept = False
        """Whether the file needs a line for ``default``. Such a line overrules ``requirepass``."""

        self._kept_elsewhere: Collection[str] = ()
        self._changes = 0
        """Number of changes of users since the start."""

        self._turns = DeferredLock()
        """Serializes loading and saving in the order of the requests."""

    def start(self, kept_elsewhere: Collection[str], note: Callable[[Level, str], None]) -> None:
        """
        Create the users that the configuration or the ACL file declares.

        :param kept_elsewhere: users that an included file or the command line declares; no lines are written for
            them, because a start with two lines for one user would fail.
        :param note: writes a line to the log.
        :raises UnusableUsers: if a declaration is invalid or the ACL file cannot be read.
        """
        self.started = True
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
        """Create the user of a ``user`` line."""
        if has_white_space(name):
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

    def _required(self) -> User:
        return default_user(self.commands, self._options.requirepass, self._options.next_requirepass)

    def renew_requirepass(self, change: Callable[[], object]) -> bool:
        """
        Change the passwords of ``requirepass`` by ``change``.

        :returns: whether the user ``default`` has them now. It keeps its own if a user line, the ACL file or a command
            has given it others.
        """
        has_them = self.default.passwords == self._required().passwords
        change()
        if has_them:
            self.default.require(self._options.requirepass, self._options.next_requirepass)
        return has_them

    def _new(self, name: str) -> User:
        return User(name, self.commands, self._options.acl_pubsub_default == "allchannels")

    # Queries by the server.

    def open_by_default(self) -> bool:
        """Whether a new connection needs no password."""
        return self.default.is_open

    def has_user(self, name: str) -> bool:
        """Whether there is a user of that name."""
        return name in self._users

    def get(self, name: str) -> User | None:
        """Return the user of that name, or ``None``."""
        return self._users.get(name)

    def all_users(self) -> list[User]:
        """Return all users, ordered by the bytes of their names."""
        return sorted(self._users.values(), key=lambda user: data(user.name))

    def log_in_by_certificate(self, client: Client, names: Sequence[str]) -> None:
        """
        Log the connection in as the first enabled user with one of these names, which are those of its certificate.

        If there is none, the user of the connection does not change, and the ACL log gets an entry.
        """
        for name in names:
            user = self._users.get(name)
            if user is not None and user.enabled:
                client.account, client.authenticated = user, True
                return
        self._statistics.denied_certificates += 1
        name = names[0] if names else ""
        self._log_refusal(client, Reason.CERTIFICATE, name, name)

    def log_in(self, client: Client, name: str, password: bytes, word: bytes) -> bool:
        """
        Log the connection in as a user, if the user exists and is enabled and the password is correct.

        :param word: the name of the command, as the client spelled it.
        :returns: whether it succeeded; if not, the user of the connection does not change, and the ACL log gets an
            entry.
        """
        user = self._users.get(name)
        if user is None or not user.accepts(password):
            self._statistics.denied_logins += 1
            self._log_refusal(client, Reason.AUTH, text(word), name)
            return False
        client.account, client.authenticated = user, True
        return True

    def authorize(self, client: Client, command: Command, request: Sequence[bytes]) -> None:
        """
        Refuse and log a request that the client may not execute.

        This need not be called for unrestricted users.

        :raises CommandError: with the refusal.
        """
        user = client.account
        refusal = user.refusal(command, request)
        if refusal is None:
            return
        if refusal.reason is Reason.COMMAND:
            self._statistics.denied_commands += 1
            self._log_refusal(client, Reason.COMMAND, command.name, user.name)
            raise CommandError(f"NOPERM {refusal_text(refusal, user, command, request)}")
        self._statistics.denied_channels += 1
        self._log_refusal(client, Reason.CHANNEL, text(request[refusal.position]), user.name)
        raise CommandError("NOPERM No permissions to access a channel")

    def _log_refusal(self, client: Client, reason: Reason, subject: str, user: str) -> None:
        host = self._host
        now = host.now()
        self.log.add(reason, subject, user, client_line(client, now), now, host.wall_clock())

    # Changes by commands.

    def set_user(self, requester: Client, name: str, rules: Sequence[str]) -> Generator[bytes, None, None]:
        """
        Create or change a user by all of the rules or by none. Works in steps; the last one makes the change.

        :raises CommandError: for the first invalid rule.
        """
        if has_white_space(name):
            raise CommandError("ERR Usernames can't contain spaces or null characters")
        limits = self._limits
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
            # Users were changed between two steps: begin again with their present state.
        if present is None and len(self._users) >= limits.users:
            raise CommandError(f"ERR Error in ACL SETUSER: more than {limits.users} users")
        self._changes += 1
        if present is None:
            self._users[name] = wanted
        else:
            self._change(requester, present, wanted)
        self._default_is_kept = self._default_is_kept or name == DEFAULT_USER
        if name in self._kept_elsewhere:
            self._log_throttle.warn(self._host.now(), NOT_PERSISTENT, name=name)
        self._keep_lines()

    def delete_users(self, requester: Client, names: Sequence[bytes]) -> Generator[bytes, None, int]:
        """
        Delete users and close their connections. Works in steps.

        :returns: the number of deleted users.
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
        for client in self._clients:
            if client.account in gone:
                self._log_out(client, requester)
        if gone:
            self._keep_lines()
        return len(gone)

    def load(self, requester: Client | None = None) -> Deferred[None]:
        """
        Replace the users by those of the ACL file, all of them or none, after a save that is under way.

        Connections of deleted users are closed, and those of subscribers that lost a channel.

        :param requester: the client that gets its reply before its own connection is closed; ``None`` for none.
        :returns: fires when it is done; fails with :class:`AclFileError`.
        :raises CommandError: if no ACL file is configured.
        """
        self._demand_file()

        async def read() -> None:
            try:
                contents = await self._host.files.fetch(self._options.located(self._options.aclfile))
            except OSError as error:
                raise AclFileError(self._unread(error)) from None
            # Parsed in the reactor's thread, because it looks commands up in the table.
            gone = self._adopt(self._parse(contents), requester)
            for client in self._clients:
                if client.account in gone:
                    self._log_out(client, requester)

        return self._turns.run(lambda: Deferred.fromCoroutine(read()))

    def save(self) -> Deferred[None]:
        """
        Write the present users to the ACL file.

        :returns: fires when the file is durable; fails with the ``OSError`` of the operation that failed.
        :raises CommandError: if no ACL file is configured.
        """
        self._demand_file()
        contents = render_users(self.all_users())
        return self._turns.run(self._host.files.replace, self._options.located(self._options.aclfile), contents)

    def _demand_file(self) -> None:
        if not self._options.aclfile:
            raise CommandError(NO_FILE)

    def _unread(self, error: OSError) -> str:
        """Return the error text for an ACL file that cannot be read."""
        return f"Error loading ACLs, opening file '{self._options.aclfile}': {error.strerror}"

    def _parse(self, contents: bytes) -> dict[str, User]:
        return parse_users(self._options.aclfile, recovered(contents).contents, self._new)

    def _adopt(self, users: dict[str, User], requester: Client | None = None) -> list[User]:
        """
        Replace the users by these, and return the deleted ones.

        If the file does not declare ``default``, its password is that of ``requirepass``. The C servers need no
        password in that case, whatever ``requirepass`` is.
        """
        self._changes += 1
        users.setdefault(DEFAULT_USER, self._required())
        gone = [user for name, user in self._users.items() if name not in users]
        for user in gone:
            del self._users[user.name]
        for name, user in users.items():
            present = self._users.setdefault(name, user)
            if present is not user:
                self._change(requester, present, user)
        return gone

    def _change(self, requester: Client | None, user: User, wanted: User) -> None:
        """Give ``user`` the permissions of ``wanted``, and close subscribers that lose a channel by that."""
        keeps_channels = wanted.can_receive_all_of(user)
        user.become(wanted)
        if keeps_channels:
            return
        for client in self._clients:
            if client.account is user and not _receives_own_events(client):
                self._log_out(client, requester)

    def _log_out(self, client: Client, requester: Client | None) -> None:
        """Close a connection that has lost its permissions; the requesting one gets its reply first."""
        client.account, client.authenticated = self.default, False
        if client is requester:
            client.connection.finish()
        else:
            client.connection.abort()

    def hide_passwords(self) -> None:
        """Replace the passwords in clear text in the configuration file by their digests, as in C."""
        declared = (rules for name, rules in self._options.users if name not in self._kept_elsewhere)
        if any(rule.startswith(">") for rules in declared for rule in rules):
            self._keep_lines()

    def _keep_lines(self) -> None:
        if self._options.aclfile:
            return
        self._keep(
            [
                " ".join(["user", written(user.name), *map(written, user.words())])
                for user in self.all_users()
                if (user is not self.default or self._default_is_kept) and user.name not in self._kept_elsewhere
            ]
        )


def refusal_text(refusal: Refusal, user: User, command: Command, request: Sequence[bytes]) -> str:
    """Return the text of a refusal, which names the command or the channel."""
    if refusal.reason is Reason.COMMAND:
        return f"User {user.name} has no permissions to run the '{command.name}' command"
    return f"User {user.name} has no permissions to access the '{text(request[refusal.position])}' channel"


def _receives_own_events(client: Client) -> bool:
    """Whether the client may still receive everything that it is subscribed to."""
    user = client.account
    return all(user.can_receive(channel, False) for channel in client.channels) and all(
        user.can_receive(pattern, True) for pattern in client.patterns
    )
