"""Tests of the ACL rule language: the effect of rules, their description, and the errors."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.config.configuration import load
from txsentinel.config.errors import ConfigError
from txsentinel.config.quoting import written
from txsentinel.server.acl.file import parse_users, render_users
from txsentinel.server.acl.rights import (
    CATEGORIES,
    CHANNELS_AFTER_ALL,
    KEYS_AFTER_ALL,
    NO_SUCH_WORD,
    SYNTAX_ERROR,
    Reason,
    Refusal,
    RuleError,
)
from txsentinel.server.acl.users import (
    MALFORMED_HASH,
    NO_SUCH_PASSWORD,
    Unmatched,
    User,
    check_declaration,
    default_user,
    joined_selectors,
)
from txsentinel.server.all_commands import TABLE

check_user = partial(check_declaration, TABLE)


def make_user(*rules: str) -> User:
    """Create a user from rules."""
    user = User("u", TABLE)
    user.apply_all(joined_selectors(rules))
    return user


def refused(user: User, *words: str) -> Refusal | None:
    """Return the reason why the user may not run this command."""
    request = [word.encode() for word in words]
    command = TABLE.find(request)
    assert command is not None
    return user.refusal(command, request)


class RuleTests(SynchronousTestCase):
    """Single rules and their combination."""

    def test_new_user_has_no_rights(self) -> None:
        """A new user is off, without passwords, commands, keys and channels."""
        user = make_user()
        self.assertEqual(user.line(), "user u off sanitize-payload resetchannels -@all")
        self.assertFalse(user.accepts(b""))
        self.assertEqual(refused(user, "PING"), Refusal(Reason.COMMAND, 0))

    def test_default_is_unrestricted(self) -> None:
        """The default user is unrestricted until a command is removed from it."""
        user = default_user(TABLE)
        self.assertEqual(user.line(), "user default on nopass sanitize-payload ~* &* +@all")
        self.assertTrue(user.unrestricted)
        user.apply("-shutdown")
        self.assertFalse(user.unrestricted)
        self.assertEqual(refused(user, "SHUTDOWN"), Refusal(Reason.COMMAND, 0))
        self.assertIsNone(refused(user, "SENTINEL", "MASTERS"))

    def test_unrestricted_needs_all_channels(self) -> None:
        """A user with all commands but not all channels is not unrestricted."""
        self.assertFalse(make_user("+@all").unrestricted)
        self.assertFalse(make_user("+@all", "(&*)").unrestricted)
        self.assertTrue(make_user("(+@all allchannels)").unrestricted)

    def test_login_cannot_be_removed(self) -> None:
        """``AUTH`` and ``HELLO`` cannot be removed."""
        user = make_user("-@all", "-auth", "-hello")
        self.assertIsNone(refused(user, "AUTH", "x"))
        self.assertIsNone(refused(user, "HELLO"))

    def test_containers(self) -> None:
        """A right to a container covers all its subcommands; each can be added or removed by itself."""
        user = make_user("+client", "-client|kill")
        self.assertIsNone(refused(user, "CLIENT", "LIST"))
        self.assertIsNotNone(refused(user, "CLIENT", "KILL", "x"))
        self.assertIsNone(refused(make_user("+sentinel|masters"), "SENTINEL", "MASTERS"))
        self.assertIsNotNone(refused(make_user("+sentinel|masters"), "SENTINEL", "MASTER", "x"))

    def test_categories(self) -> None:
        """The category of a container includes its subcommands; later rules take precedence."""
        user = make_user("+@all", "-@dangerous")
        for words in (["SENTINEL", "HELP"], ["SENTINEL", "MASTERS"], ["INFO"], ["ROLE"], ["SHUTDOWN"], ["ACL", "LIST"]):
            self.assertIsNotNone(refused(user, *words), words)
        self.assertIsNone(refused(user, "CLIENT", "ID"))
        user = make_user("+@connection")
        self.assertIsNone(refused(user, "CLIENT", "KILL", "x"))
        self.assertIsNotNone(refused(user, "SENTINEL", "MASTERS"))

    def test_every_category_is_known(self) -> None:
        """Every category of our commands is known, and a category without commands is allowed."""
        self.assertEqual(len(set(CATEGORIES)), 21)
        for entry in TABLE.everything():
            self.assertLessEqual(set(entry.categories), set(CATEGORIES), entry.name)
        for category in CATEGORIES:
            make_user(f"+@{category}", f"-@{category.upper()}")

    def test_channels(self) -> None:
        """Channels match by pattern, patterns literally; unsubscribing is always allowed."""
        user = make_user("+@pubsub", "&ok*", "&one")
        self.assertIsNone(refused(user, "SUBSCRIBE", "okay", "one"))
        self.assertEqual(refused(user, "SUBSCRIBE", "okay", "two"), Refusal(Reason.CHANNEL, 2))
        self.assertEqual(refused(user, "PSUBSCRIBE", "okay"), Refusal(Reason.CHANNEL, 1))
        self.assertIsNone(refused(user, "PSUBSCRIBE", "ok*", "one"))
        self.assertEqual(refused(user, "PUBLISH", "two", "ok"), Refusal(Reason.CHANNEL, 1))
        self.assertIsNone(refused(user, "UNSUBSCRIBE", "two"))

    def test_selectors(self) -> None:
        """One selector must allow the whole request; of several refusals the most specific one is reported."""
        user = make_user("+subscribe", "&a", "(+subscribe &b)")
        self.assertIsNone(refused(user, "SUBSCRIBE", "b"))
        self.assertEqual(refused(user, "SUBSCRIBE", "a", "b"), Refusal(Reason.CHANNEL, 2))
        self.assertEqual(refused(make_user("(+subscribe)"), "SUBSCRIBE", "x"), Refusal(Reason.CHANNEL, 1))

    def test_first_arguments(self) -> None:
        """A command without subcommands can be allowed with some first arguments, in any letter case."""
        user = make_user("+ping|Hello")
        self.assertIsNone(refused(user, "PING", "HELLO"))
        self.assertIsNotNone(refused(user, "PING"))
        self.assertIsNotNone(refused(make_user("+ping|hello", "-ping"), "PING", "hello"))

    def test_errors(self) -> None:
        """Each invalid rule has its error text and changes nothing."""
        for rule, text in {
            "bogus": SYNTAX_ERROR,
            "~a b": SYNTAX_ERROR,
            "&a\nb": SYNTAX_ERROR,
            "%X~a": SYNTAX_ERROR,
            "+ping|a\nuser": SYNTAX_ERROR,
            "+get": NO_SUCH_WORD,
            "-@nope": NO_SUCH_WORD,
            "#12": MALFORMED_HASH,
            "#" + "é" * 64: MALFORMED_HASH,
            "#" + "a" * 64 + "\n": MALFORMED_HASH,
            "<x": NO_SUCH_PASSWORD,
            "(~x) ~y)": SYNTAX_ERROR,
            "(on)": SYNTAX_ERROR,
            "db=1;2": SYNTAX_ERROR,
        }.items():
            user = make_user("on", "+ping")
            before = user.line()
            with self.assertRaises(RuleError) as raised:
                user.apply(rule)
            self.assertEqual(str(raised.exception), text, rule)
            self.assertEqual(raised.exception.unknown, text == NO_SUCH_WORD)
            self.assertEqual(user.line(), before)

    def test_pattern_behind_all_channels(self) -> None:
        """A pattern behind ``*`` has no effect, so it is refused, however ``*`` was given."""
        for rules, text in {
            ("~*", "~x"): KEYS_AFTER_ALL,
            ("%R~*", "%W~*", "~x"): KEYS_AFTER_ALL,
            ("allchannels", "&x"): CHANNELS_AFTER_ALL,
        }.items():
            with self.assertRaises(RuleError) as raised:
                make_user(*rules)
            self.assertEqual(str(raised.exception), text)

    def test_acl_pubsub_default(self) -> None:
        """``acl-pubsub-default allchannels`` gives new, reset users and new selectors all channels."""
        user = User("u", TABLE, all_channels=True)
        user.apply_all(("resetchannels", "reset", "(+ping)"))
        self.assertEqual(user.line(), "user u off sanitize-payload &* -@all (&* -@all +ping)")

    def test_passwords(self) -> None:
        """Each password is accepted, in clear or by digest; ``nopass`` removes all, a new one ends ``nopass``."""
        user = make_user("on", ">one", "#" + sha256(b"two").hexdigest(), ">one")
        self.assertEqual([user.accepts(word) for word in (b"one", b"two", b"three", b"")], [True, True, False, False])
        self.assertEqual(len(user.passwords), 2)
        user.apply("<one")
        self.assertFalse(user.accepts(b"one"))
        user.apply("nopass")
        self.assertTrue(user.accepts(b"anything"))
        user.apply(">two")
        self.assertFalse(user.accepts(b"anything"))
        user.apply("off")
        self.assertFalse(user.accepts(b"two"))

    def test_requirepass(self) -> None:
        """It is the only password of the default user; without it, none is needed."""
        self.assertTrue(default_user(TABLE, "pw").accepts(b"pw"))
        self.assertFalse(default_user(TABLE, "pw").accepts(b""))
        self.assertTrue(default_user(TABLE).is_open)


class SelectorArgumentTests(SynchronousTestCase):
    """A selector may be given as several arguments."""

    def test_joined(self) -> None:
        """The arguments from the opening parenthesis to the closing one are joined."""
        self.assertEqual(joined_selectors(["on", "(~x", "+ping)", "(a)", "off"]), ["on", "(~x +ping)", "(a)", "off"])

    def test_unmatched(self) -> None:
        """The first selector that is not closed is named."""
        with self.assertRaises(Unmatched) as raised:
            joined_selectors(["on", "(~x", "(+ping"])
        self.assertEqual(str(raised.exception), "Unmatched parenthesis in acl selector starting at '(~x'.")


class DeclarationTests(SynchronousTestCase):
    """``user`` lines, checked when the configuration is read."""

    def test_errors(self) -> None:
        """The error quotes the same word as the C servers."""
        prefix = "Error in user declaration '{}': "
        for line, text in {
            "user a bogus": prefix.format("user") + SYNTAX_ERROR,
            "user a on bogus": prefix.format("a") + SYNTAX_ERROR,
            "user a on ~* ~x": prefix.format("on") + KEYS_AFTER_ALL,
            "user a (~x": prefix.format("user") + SYNTAX_ERROR,
            "user": "Bad directive or wrong number of arguments",
        }.items():
            with self.assertRaises(ConfigError) as raised:
                load("s.conf", f"port 1\n{line}\n".encode(), check_user=check_user)
            error = raised.exception
            self.assertEqual((error.message, error.line_number, error.line), (text, 2, line))

    def test_unknown_commands_are_found_at_start(self) -> None:
        """Unknown commands are only found when the Sentinel starts."""
        loaded = load("s.conf", b"user a on +get\n", check_user=check_user)
        self.assertEqual(loaded.generic.users, [("a", ("on", "+get"))])

    def test_users_of_the_command_line(self) -> None:
        """Users of the command line are distinguished from users of the file."""
        loaded = load("s.conf", b"user a on\n", ["user b on"], check_user=check_user)
        self.assertEqual(loaded.users_elsewhere(), {"b"})


WORDS = """
    on off nopass resetpass reset sanitize-payload skip-sanitize-payload clearselectors allkeys resetkeys
    allchannels resetchannels allcommands nocommands +@all -@all ~* &* alldbs resetdbs +ping -ping +client
    -client|kill +client|kill +sentinel|masters +@dangerous -@dangerous +@fast -@connection +ping|x +info|Y
    %R~* %W~* %RW~* () (
"""
BEGINNINGS = ["~", "%R~", "%W~", "%RW~", "&", ">", "<", "+ping|", "db=", "+", "-", "+@"]
SINGLE_RULES = st.one_of(
    st.sampled_from(WORDS.split()),
    st.builds(str.__add__, st.sampled_from(BEGINNINGS), st.text(max_size=4)),
    st.text(max_size=6),
)
RULES = st.one_of(
    SINGLE_RULES,
    st.lists(SINGLE_RULES, max_size=4).map(lambda rules: f"({' '.join(rules)})"),
)


class FuzzTests(SynchronousTestCase):
    """Any rule is applied or refused, and the description of a user recreates it."""

    @settings(deadline=None)
    @given(st.lists(RULES, max_size=8))
    def test_rules(self, rules: list[str]) -> None:
        """Only ``RuleError`` is raised; a user made from another's description equals it."""
        user = User("u", TABLE)
        for rule in rules:
            before = user.line()
            try:
                user.apply(rule)
            except RuleError:
                self.assertEqual(user.line(), before)
        copy = User("u", TABLE)
        copy.apply_all(joined_selectors(list(user.words())))
        self.assert_same(user, copy)
        self.assert_same(user, parse_users("f", render_users([user]), partial(User, table=TABLE))["u"])
        line = " ".join(["user", "u", *map(written, user.words())])
        [(_, words)] = load("s.conf", line.encode("utf-8", "surrogateescape"), check_user=check_user).generic.users
        third = User("u", TABLE)
        third.apply_all(joined_selectors(words))
        self.assert_same(user, third)

    def assert_same(self, user: User, copy: User) -> None:
        """Assert equal descriptions and equal rights to every command."""
        self.assertEqual(copy.line(), user.line())
        for entry in TABLE.everything():
            for request in ([b"x"], [b"x", b"x"], [b"x", b"y"]):
                self.assertEqual(copy.refusal(entry, request) is None, user.refusal(entry, request) is None, entry.name)


class AliasTests(SynchronousTestCase):
    """Valkey's other names of the commands about masters."""

    ALIASES: ClassVar = {
        "sentinel|primaries": "sentinel|masters",
        "sentinel|primary": "sentinel|master",
        "sentinel|get-primary-addr-by-name": "sentinel|get-master-addr-by-name",
        "sentinel|is-primary-down-by-addr": "sentinel|is-master-down-by-addr",
    }

    def may(self, user: User, name: str) -> bool:
        """Return whether the user may run the command."""
        command = TABLE.named(name.encode())
        assert command is not None
        return user.refusal(command, [b"SENTINEL", b"x"]) is None

    def test_aliases_match_their_originals(self) -> None:
        """Each alias is marked as one and has the flags and categories of its original."""
        marked = {}
        for entry in TABLE.everything():
            if entry.alias_of:
                marked[entry.name] = entry.alias_of
                original = TABLE.named(entry.alias_of.encode())
                assert original is not None
                self.assertEqual((entry.categories, entry.flags), (original.categories, original.flags))
        self.assertEqual(marked, self.ALIASES)

    def test_both_ways(self) -> None:
        """A rule applies to both names, whichever it gives."""
        for alias, original in self.ALIASES.items():
            for named in (alias, original):
                user = User("u", TABLE)
                user.apply_all(("on", "-@all", f"+{named}"))
                self.assertEqual((self.may(user, alias), self.may(user, original)), (True, True), named)
                user.apply_all(("+@all", f"-{named}"))
                self.assertEqual((self.may(user, alias), self.may(user, original)), (False, False), named)
                self.assertTrue(self.may(user, "sentinel|replicas"))
                user.apply("+@dangerous")
                self.assertTrue(self.may(user, alias))

    def test_latest_rule_wins(self) -> None:
        """A later rule replaces an earlier one by the other name and is described as it was given."""
        user = User("u", TABLE)
        user.apply_all(("+@all", "-sentinel|masters", "+sentinel|primaries"))
        self.assertEqual(user.root.command_rules(), "+@all +sentinel|primaries")
        self.assertTrue(self.may(user, "sentinel|masters"))
        user.apply("-sentinel|masters")
        self.assertEqual(user.root.command_rules(), "+@all -sentinel|masters")
        self.assertFalse(self.may(user, "sentinel|primaries"))
        copy = User("u", TABLE)
        copy.apply_all(list(user.words()))
        self.assertEqual(copy.line(), user.line())
        self.assertFalse(self.may(copy, "sentinel|primaries"))
