"""A user: may it log in, by which passwords, and with what permissions."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from txsentinel.server.acl.rights import SYNTAX_ERROR, Reason, Refusal, RuleError, Selector, lowered
from txsentinel.server.steps import PORTION, finished
from txsentinel.wire.resp import data

if TYPE_CHECKING:
    from txsentinel.server.table import Command

DEFAULT_USER: Final = "default"
"""Whom a connection belongs to until it logs in."""

MALFORMED_HASH: Final = (
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
)
NO_SUCH_PASSWORD: Final = "The password you are trying to remove from the user does not exist"

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_REASONS: Final = tuple(Reason)


class Unmatched(RuleError):
    """A selector is opened and not closed; ``index`` is that of the rule that opens it, ``start`` the rule."""

    def __init__(self, index: int, start: str) -> None:
        super().__init__(f"Unmatched parenthesis in acl selector starting at '{start}'.")
        self.index = index
        self.start = start


def joined_selectors(rules: Sequence[str]) -> list[str]:
    """
    The rules with each selector in one piece, which may have come as several words.

    :raises Unmatched: if a selector does not end.
    """
    return finished(joining_selectors(rules, len(rules)))


def joining_selectors(rules: Sequence[str], most: int) -> Generator[bytes, None, list[str]]:
    """
    What :func:`joined_selectors` does, in steps.

    :param most: words that one selector may consist of.
    :raises Unmatched: if a selector does not end.
    :raises RuleError: if one is longer.
    """
    joined: list[str] = []
    opened: int | None = None
    for index, rule in enumerate(rules):
        if not index % PORTION:
            yield b""
        if opened is not None and index - opened > most:
            raise RuleError(f"Selector of more than {most} rules")
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
    """What is kept of a password: its SHA-256, 64 hexadecimal digits."""
    return sha256(password).hexdigest()


class User:
    """
    One user; switched off and without any permission for a start.

    Connections refer to their user: it is changed in place, by :meth:`become`, so that they notice.

    :param all_channels: what ``acl-pubsub-default`` gives to whoever is new or reset.
    """

    __slots__ = ("_all_channels", "enabled", "name", "needs_no_password", "passwords", "sanitizes", "selectors",
                 "unrestricted")  # fmt: skip

    def __init__(self, name: str, all_channels: bool = False) -> None:
        self.name = name
        self.enabled = False
        self.needs_no_password = False
        self.sanitizes = True
        """Does RESTORE, which we do not have, look twice at what it is given? Shown, that is all."""

        self.passwords: dict[str, None] = {}
        """Digests, in the order in which they were added."""

        self._all_channels = all_channels
        self.selectors = [Selector(all_channels)]
        """The root first."""

        self.unrestricted = False
        """May do everything: the one thing that is asked for each request of most connections."""

    @property
    def root(self) -> Selector:
        """The permissions that rules outside of parentheses change."""
        return self.selectors[0]

    @property
    def size(self) -> int:
        """How many rules describe it, a selector being one."""
        return len(self.passwords) + len(self.selectors) + self.root.size

    @property
    def is_open(self) -> bool:
        """Can anybody log in, without a password?"""
        return self.enabled and self.needs_no_password

    def copy(self) -> User:
        """The same user, to be changed without harm."""
        twin = User(self.name, self._all_channels)
        twin.become(self)
        return twin

    def become(self, other: User) -> None:
        """Take over everything but the name."""
        self.enabled, self.needs_no_password, self.sanitizes = other.enabled, other.needs_no_password, other.sanitizes
        self.passwords = dict(other.passwords)
        self.selectors = [each.copy() for each in other.selectors]
        self._look()

    # How rules change it.

    def apply_all(self, rules: Sequence[str]) -> None:
        """
        Obey rules, selectors being in one piece.

        :raises RuleError: for the first that makes no sense; those before it have been obeyed.
        """
        for rule in rules:
            self.apply(rule)

    def apply(self, rule: str) -> None:
        """
        Obey one rule.

        :raises RuleError: if it makes no sense; nothing has changed then.
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
            selector = Selector(self._all_channels)
            for each in rule[1:-1].split(" "):
                if each.endswith(")"):
                    raise RuleError(SYNTAX_ERROR)  # Shown among others, it would end the selector.
                selector.apply(each)
            self.selectors.append(selector)
        else:
            self.root.apply(rule)
        self._look()

    @staticmethod
    def _digest(rule: str) -> str:
        if rule[0] in "><":
            return digest_of(data(rule[1:]))
        if not _DIGEST.fullmatch(rule[1:]):
            raise RuleError(MALFORMED_HASH)
        return rule[1:]

    def _look(self) -> None:
        self.unrestricted = any(each.unlimited for each in self.selectors)

    def switch_on(self) -> None:
        """``on``"""
        self.enabled = True

    def switch_off(self) -> None:
        """``off``: no more logins; whoever is in stays in."""
        self.enabled = False

    def open_up(self) -> None:
        """``nopass``: any password does."""
        self.passwords, self.needs_no_password = {}, True

    def forget_passwords(self) -> None:
        """``resetpass``: no password does."""
        self.passwords, self.needs_no_password = {}, False

    def sanitize(self) -> None:
        """``sanitize-payload``"""
        self.sanitizes = True

    def skip_sanitizing(self) -> None:
        """``skip-sanitize-payload``"""
        self.sanitizes = False

    def clear_selectors(self) -> None:
        """``clearselectors``: only the root stays."""
        del self.selectors[1:]

    def reset(self) -> None:
        """``reset``: as if it were new."""
        self.become(User(self.name, self._all_channels))

    def require(self, password: str) -> None:
        """Have this one password, or none if it is empty, as ``requirepass`` says it."""
        if password:
            self.forget_passwords()
            self.passwords[digest_of(data(password))] = None
        else:
            self.open_up()

    # What is asked.

    def accepts(self, password: bytes) -> bool:
        """
        Does this password let somebody in?

        All are compared, each in constant time: how long it takes tells only how many there are.
        """
        digest = digest_of(password)
        fits = [compare_digest(digest, each) for each in self.passwords]
        return self.enabled and (self.needs_no_password or any(fits))

    def refusal(self, command: Command, request: Sequence[bytes]) -> Refusal | None:
        """Why it may not run this request, the most specific reason that any selector has; ``None`` if it may."""
        worst: Refusal | None = None
        for selector in self.selectors:
            refusal = selector.refusal(command, request)
            if refusal is None:
                return None
            if worst is None or _weight(refusal) > _weight(worst):
                worst = refusal
        return worst

    def can_receive(self, channel: bytes, is_pattern: bool) -> bool:
        """Does any selector give the channel?"""
        return any(each.can_receive(channel, is_pattern) for each in self.selectors)

    def can_receive_all_of(self, other: User) -> bool:
        """Has it every channel that ``other`` has, pattern by pattern?"""
        if any(each.all_channels for each in self.selectors):
            return True
        if any(each.all_channels for each in other.selectors):
            return False
        own = {pattern for each in self.selectors for pattern in each.channels}
        return all(own.issuperset(each.channels) for each in other.selectors)

    # How it is shown.

    def flags(self) -> list[str]:
        """The words of ``ACL GETUSER``."""
        return [
            "on" if self.enabled else "off",
            *(["nopass"] if self.needs_no_password else []),
            "sanitize-payload" if self.sanitizes else "skip-sanitize-payload",
        ]

    def words(self) -> Iterator[str]:
        """The rules that make a new user the same as this one; selectors come as several words."""
        yield from self.flags()
        yield from (f"#{digest}" for digest in self.passwords)
        yield from self.root.words()
        for selector in self.selectors[1:]:
            yield from f"({' '.join(selector.words())})".split(" ")

    def line(self) -> str:
        """The line of ``ACL LIST`` and of an ACL file."""
        return " ".join(["user", self.name, *self.words()])


_WORDS: Final[dict[str, Callable[[User], None]]] = {
    "on": User.switch_on,
    "off": User.switch_off,
    "nopass": User.open_up,
    "resetpass": User.forget_passwords,
    "sanitize-payload": User.sanitize,
    "skip-sanitize-payload": User.skip_sanitizing,
    "clearselectors": User.clear_selectors,
    "reset": User.reset,
}
"""Rules that are one fixed word, in any letter case."""


def _weight(refusal: Refusal) -> tuple[int, int]:
    return _REASONS.index(refusal.reason), refusal.position


def default_user(password: str = "") -> User:
    """The user that every connection begins as: it may do everything, and needs ``password`` if there is one."""
    user = User(DEFAULT_USER)
    user.apply_all(("on", "~*", "&*", "+@all"))
    user.require(password)
    return user


def check_declaration(name: str, rules: Sequence[str]) -> str | None:
    """
    What is wrong with a ``user`` line of the configuration, or ``None``.

    Names of commands are looked at when the Sentinel starts, not when the line is read. The word that
    the complaint quotes is, as in the C servers, the one that stands two before the wrong one.
    """
    words = ("user", name, *rules)
    user = User(name)
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
