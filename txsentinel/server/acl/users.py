"""ACL users: passwords, permissions, and the rules that change them."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from txsentinel.server.acl.rights import SYNTAX_ERROR, Reason, Refusal, RuleError, Selector, lowered
from txsentinel.server.steps import PORTION, run_all
from txsentinel.wire.resp import data

if TYPE_CHECKING:
    from txsentinel.server.specification import Command
    from txsentinel.server.table import CommandTable

DEFAULT_USER: Final = "default"
"""The user of a connection before it logs in."""

MALFORMED_HASH: Final = (
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
)
NO_SUCH_PASSWORD: Final = "The password you are trying to remove from the user does not exist"

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_REASONS: Final = tuple(Reason)


class Unmatched(RuleError):
    """A selector without a closing parenthesis; ``start`` is the rule that opens it, ``index`` its index."""

    def __init__(self, index: int, start: str) -> None:
        super().__init__(f"Unmatched parenthesis in acl selector starting at '{start}'.")
        self.index = index
        self.start = start


def joined_selectors(rules: Sequence[str]) -> list[str]:
    """
    Join the words of each selector, and return the rules.

    :raises Unmatched: if a selector has no closing parenthesis.
    """
    return run_all(joining_selectors(rules, len(rules)))


def joining_selectors(rules: Sequence[str], maximum: int) -> Generator[bytes, None, list[str]]:
    """
    Do the same as :func:`joined_selectors` in steps.

    :param maximum: maximum number of words of one selector.
    :raises Unmatched: if a selector has no closing parenthesis.
    :raises RuleError: if a selector is longer.
    """
    joined: list[str] = []
    opened: int | None = None
    for index, rule in enumerate(rules):
        if not index % PORTION:
            yield b""
        if opened is not None and index - opened > maximum:
            raise RuleError(f"Selector of more than {maximum} rules")
        if opened is None:
            if rule.startswith("(") and not rule.endswith(")"):
                opened = index
            else:
                joined.append(rule)
        elif rule.endswith(")"):
            joined.append(" ".join(rules[opened : index + 1]))
            opened = None
    if opened is not None:
        raise Unmatched(opened, rules[opened])
    return joined


def digest_of(password: bytes) -> str:
    """Return the SHA-256 of a password, 64 hexadecimal digits. Only digests are stored."""
    return sha256(password).hexdigest()


class User:
    """
    One user, disabled and without permissions at first.

    Connections refer to their user, so it is changed in place by :meth:`become`.

    :param all_channels: whether new and reset users may use all channels, by ``acl-pubsub-default``.
    """

    __slots__ = (
        "_all_channels", "_table", "enabled", "name", "needs_no_password", "passwords", "sanitizes", "selectors",
        "unrestricted",
    )  # fmt: skip

    def __init__(self, name: str, table: CommandTable, all_channels: bool = False) -> None:
        self._table = table
        self.name = name
        self.enabled = False
        self.needs_no_password = False
        self.sanitizes = True
        """The flag ``sanitize-payload``. It is only shown, because a Sentinel has no RESTORE."""

        self.passwords: dict[str, None] = {}
        """Digests, in the order in which they were added."""

        self._all_channels = all_channels
        self.selectors = [Selector(table, all_channels)]
        """The selectors, the root first."""

        self.unrestricted = False
        """Whether everything is allowed; checked first for every request, as it holds for most users."""

    @property
    def root(self) -> Selector:
        """The selector that rules without parentheses change."""
        return self.selectors[0]

    @property
    def size(self) -> int:
        """Number of rules that describe the user; a selector counts as one."""
        return len(self.passwords) + len(self.selectors) + self.root.size

    @property
    def is_open(self) -> bool:
        """Whether login needs no password."""
        return self.enabled and self.needs_no_password

    def copy(self) -> User:
        """Return an independent copy."""
        copy = User(self.name, self._table, self._all_channels)
        copy.become(self)
        return copy

    def become(self, other: User) -> None:
        """Copy everything but the name from another user."""
        self.enabled, self.needs_no_password, self.sanitizes = other.enabled, other.needs_no_password, other.sanitizes
        self.passwords = dict(other.passwords)
        self.selectors = [each.copy() for each in other.selectors]
        self._update_unrestricted()

    # Changes by rules.

    def apply_all(self, rules: Sequence[str]) -> None:
        """
        Apply rules, each selector being one rule.

        :raises RuleError: for the first invalid rule; those before it are applied.
        """
        for rule in rules:
            self.apply(rule)

    def apply(self, rule: str) -> None:
        """
        Apply one rule.

        :raises RuleError: if it is invalid; nothing is changed then.
        """
        change = _WORDS.get(lowered(rule))
        if change is not None:
            change(self)
        elif rule[:1] in (">", "#"):
            self.passwords[self._digest(rule)] = None
            self.needs_no_password = False
        elif rule[:1] in ("<", "!"):
            digest = self._digest(rule)
            if digest not in self.passwords:
                raise RuleError(NO_SUCH_PASSWORD)
            del self.passwords[digest]
        elif rule.startswith("(") and rule.endswith(")"):
            selector = Selector(self._table, self._all_channels)
            for each in rule[1:-1].split(" "):
                if each.endswith(")"):
                    raise RuleError(SYNTAX_ERROR)  # In the output it would close the selector.
                selector.apply(each)
            self.selectors.append(selector)
        else:
            self.root.apply(rule)
        self._update_unrestricted()

    @staticmethod
    def _digest(rule: str) -> str:
        if rule[0] in "><":
            return digest_of(data(rule[1:]))
        if not _DIGEST.fullmatch(rule[1:]):
            raise RuleError(MALFORMED_HASH)
        return rule[1:]

    def _update_unrestricted(self) -> None:
        self.unrestricted = any(each.unlimited for each in self.selectors)

    def switch_on(self) -> None:
        """Apply ``on``."""
        self.enabled = True

    def switch_off(self) -> None:
        """Apply ``off``: refuse logins from now on. Existing connections stay logged in."""
        self.enabled = False

    def accept_any_password(self) -> None:
        """Apply ``nopass``: accept any password."""
        self.passwords, self.needs_no_password = {}, True

    def reset_passwords(self) -> None:
        """Apply ``resetpass``: accept no password."""
        self.passwords, self.needs_no_password = {}, False

    def sanitize(self) -> None:
        """Apply ``sanitize-payload``."""
        self.sanitizes = True

    def skip_sanitizing(self) -> None:
        """Apply ``skip-sanitize-payload``."""
        self.sanitizes = False

    def clear_selectors(self) -> None:
        """Apply ``clearselectors``: remove all selectors but the root."""
        del self.selectors[1:]

    def reset(self) -> None:
        """Apply ``reset``: restore the state of a new user."""
        self.become(User(self.name, self._table, self._all_channels))

    def require(self, *passwords: str) -> None:
        """Set the passwords as ``requirepass`` does: if all are empty, none is needed."""
        self.reset_passwords()
        self.passwords = {digest_of(data(password)): None for password in passwords if password}
        if not self.passwords:
            self.accept_any_password()

    # Authentication and authorization.

    def accepts(self, password: bytes) -> bool:
        """
        Whether the user is enabled and accepts this password.

        It is compared with all digests, each in constant time, so that the duration reveals only their number.
        """
        digest = digest_of(password)
        fits = [compare_digest(digest, each) for each in self.passwords]
        return self.enabled and (self.needs_no_password or any(fits))

    def refusal(self, command: Command, request: Sequence[bytes]) -> Refusal | None:
        """Return why the request is refused, the most specific reason of all selectors; ``None`` if it is allowed."""
        worst: Refusal | None = None
        for selector in self.selectors:
            refusal = selector.refusal(command, request)
            if refusal is None:
                return None
            if worst is None or _specificity(refusal) > _specificity(worst):
                worst = refusal
        return worst

    def can_receive(self, channel: bytes, is_pattern: bool) -> bool:
        """Whether any selector allows the channel."""
        return any(each.can_receive(channel, is_pattern) for each in self.selectors)

    def can_receive_all_of(self, other: User) -> bool:
        """Whether the channel patterns of this user include all those of ``other``."""
        if any(each.all_channels for each in self.selectors):
            return True
        if any(each.all_channels for each in other.selectors):
            return False
        own = {pattern for each in self.selectors for pattern in each.channels}
        return all(own.issuperset(each.channels) for each in other.selectors)

    # Output.

    def flags(self) -> list[str]:
        """Return the flags of ``ACL GETUSER``."""
        return [
            "on" if self.enabled else "off",
            *(["nopass"] if self.needs_no_password else []),
            "sanitize-payload" if self.sanitizes else "skip-sanitize-payload",
        ]

    def words(self) -> Iterator[str]:
        """Yield the rules that make a new user equal to this one; a selector is split into words."""
        yield from self.flags()
        yield from (f"#{digest}" for digest in self.passwords)
        yield from self.root.words()
        for selector in self.selectors[1:]:
            yield from f"({' '.join(selector.words())})".split(" ")

    def line(self) -> str:
        """Return the line of ``ACL LIST`` and of an ACL file."""
        return " ".join(["user", self.name, *self.words()])


_WORDS: Final[dict[str, Callable[[User], None]]] = {
    "on": User.switch_on,
    "off": User.switch_off,
    "nopass": User.accept_any_password,
    "resetpass": User.reset_passwords,
    "sanitize-payload": User.sanitize,
    "skip-sanitize-payload": User.skip_sanitizing,
    "clearselectors": User.clear_selectors,
    "reset": User.reset,
}
"""Rules that consist of one fixed word, in any letter case."""


def _specificity(refusal: Refusal) -> tuple[int, int]:
    return _REASONS.index(refusal.reason), refusal.position


def default_user(table: CommandTable, *passwords: str) -> User:
    """
    Return the initial ``default`` user.

    It may do everything, and needs one of the passwords unless all are empty.
    """
    user = User(DEFAULT_USER, table)
    user.apply_all(("on", "~*", "&*", "+@all"))
    user.require(*passwords)
    return user


def check_declaration(table: CommandTable, name: str, rules: Sequence[str]) -> str | None:
    """
    Return the error text for a ``user`` line of the configuration, or ``None`` if the line is valid.

    Names of commands are checked when the Sentinel starts, not when the line is read. The word in the error text is,
    as in the C servers, the second one before the invalid one.
    """
    words = ("user", name, *rules)
    user = User(name, table)
    try:
        joined = joined_selectors(rules)
    except Unmatched as error:
        return f"Error in user declaration '{words[error.index]}': {SYNTAX_ERROR}"
    for index, rule in enumerate(joined):
        try:
            user.apply(rule)
        except RuleError as error:
            if not error.unknown:
                return f"Error in user declaration '{words[index]}': {error}"
    return None
