"""Tests of the command table and of ``COMMAND``, which describes it."""

from __future__ import annotations

import unittest

from tests.server.harness import ServerHarness, ServerTestCase
from txsentinel.config.errors import ConfigError
from txsentinel.config.generic import GenericOptions
from txsentinel.server.all_commands import TABLE


class DispatchTests(ServerTestCase):
    """Looking up commands, and the errors for unknown ones."""

    def test_unknown_command(self) -> None:
        """The error echoes name and arguments, each argument quoted with a blank behind it."""
        self.refused("ERR unknown command 'FoO', with args beginning with: ", "FoO")
        self.refused("ERR unknown command 'x', with args beginning with: 'a' 'b c' ", "x", "a", "b c")
        self.refused("ERR unknown command '', with args beginning with: ", "")

    def test_echo_is_bounded_and_cleaned(self) -> None:
        """At most 128 bytes of each are echoed, line ends become blanks, and a NUL byte ends the text."""
        self.refused(f"ERR unknown command '{'n' * 128}', with args beginning with: ", "n" * 200)
        first, rest = "a" * 100, "b" * 25
        self.refused(
            f"ERR unknown command 'x', with args beginning with: '{first}' '{rest}' ", "x", first, "b" * 90, "c"
        )
        self.refused("ERR unknown command 'x', with args beginning with: 'a  b' 'c' ", "x", "a\r\nb", "c\0d")

    def test_subcommands(self) -> None:
        """The error shows the container in capitals and the subcommand as it was sent."""
        self.refused("ERR unknown subcommand 'nope'. Try SENTINEL HELP.", "sentinel", "nope", "x")
        self.refused("ERR unknown subcommand 'nope'. Try COMMAND HELP.", "command", "nope")
        self.refused("ERR wrong number of arguments for 'sentinel' command", "SENTINEL")
        self.refused("ERR wrong number of arguments for 'sentinel|master' command", "SENTINEL", "MASTER")

    def test_data_commands_are_unknown(self) -> None:
        """Commands that a Sentinel does not have are unknown."""
        for word in ("CONFIG", "MULTI", "GET", "MONITOR", "DEBUG", "SELECT", "ECHO", "RESET", "REPLICAOF", "EVAL"):
            self.assertTrue(self.client.ask(word, "x").startswith(b"-ERR unknown command"), word)

    def test_renamed(self) -> None:
        """A renamed command has only its new name, or none; unknown commands cannot be renamed."""
        self.harness = ServerHarness(GenericOptions(renamed_commands={"shutdown": "", "sentinel": "watcher"}))
        client = self.harness.connect()
        self.assertTrue(client.ask("SHUTDOWN").startswith(b"-ERR unknown command"))
        self.assertTrue(client.ask("SENTINEL", "MYID").startswith(b"-ERR unknown command"))
        self.assertEqual(client.ask("WATCHER", "MYID"), b"$40\r\n" + b"a" * 40 + b"\r\n")
        with self.assertRaises(ConfigError):
            ServerHarness(GenericOptions(renamed_commands={"get": "g"}))


class CommandTests(ServerTestCase):
    """``COMMAND`` and its subcommands."""

    def test_info(self) -> None:
        """Each entry has ten elements; unknown names are null, and subcommands can be queried."""
        self.assertEqual(
            self.client.ask("COMMAND", "INFO", "PING", "nope", "sentinel|Masters"),
            b"*3\r\n*10\r\n$4\r\nping\r\n:-1\r\n*1\r\n+fast\r\n:0\r\n:0\r\n:0\r\n*2\r\n+@fast\r\n+@connection\r\n"
            b"*2\r\n$25\r\nrequest_policy:all_shards\r\n$29\r\nresponse_policy:all_succeeded\r\n*0\r\n*0\r\n"
            b"$-1\r\n*10\r\n$16\r\nsentinel|masters\r\n:2\r\n*1\r\n+admin\r\n:0\r\n:0\r\n:0\r\n"
            b"*3\r\n+@admin\r\n+@slow\r\n+@dangerous\r\n*0\r\n*0\r\n*0\r\n",
        )

    def test_resp3_uses_sets(self) -> None:
        """In RESP3 flags, categories and tips are sets, and so is the empty list of subcommands."""
        self.client.ask("HELLO", 3)
        self.assertEqual(
            self.client.ask("COMMAND", "INFO", "role"),
            b"*1\r\n*10\r\n$4\r\nrole\r\n:1\r\n~4\r\n+noscript\r\n+loading\r\n+stale\r\n+fast\r\n:0\r\n:0\r\n:0\r\n"
            b"~3\r\n+@admin\r\n+@fast\r\n+@dangerous\r\n~0\r\n~0\r\n~0\r\n",
        )

    def test_all_and_count(self) -> None:
        """``COMMAND``, ``COMMAND INFO`` and ``COMMAND COUNT`` are consistent and leave out hidden commands."""
        everything = self.client.reply("COMMAND")
        assert isinstance(everything, list)
        self.assertEqual(self.client.reply("COMMAND", "INFO"), everything)
        self.assertEqual(self.client.reply("COMMAND", "COUNT"), len(everything))
        self.assertNotIn(b"quit", [entry[0] for entry in everything])

    def test_list(self) -> None:
        """``COMMAND LIST`` lists all names, or those that match a filter."""
        names = self.client.reply("COMMAND", "LIST")
        assert isinstance(names, list)
        self.assertIn(b"sentinel|get-master-addr-by-name", names)
        self.assertIn(b"client|setinfo", names)
        self.assertEqual(
            self.client.reply("COMMAND", "LIST", "FILTERBY", "PATTERN", "*SUBSCRIBE"),
            [b"subscribe", b"psubscribe", b"unsubscribe", b"punsubscribe"],
        )
        self.assertEqual(self.client.reply("COMMAND", "LIST", "filterby", "module", "x"), [])
        self.assertEqual(self.client.reply("COMMAND", "LIST", "FILTERBY", "ACLCAT", "nope"), [])
        in_pubsub = self.client.reply("COMMAND", "LIST", "FILTERBY", "ACLCAT", "pubsub")
        assert isinstance(in_pubsub, list)
        self.assertEqual(len(in_pubsub), 5)
        self.refused("ERR syntax error", "COMMAND", "LIST", "x")
        self.refused("ERR syntax error", "COMMAND", "LIST", "FILTERBY", "x", "y")

    def test_docs(self) -> None:
        """Maps have no empty entries; unknown names are left out; arguments are nested."""
        docs = self.client.reply("COMMAND", "DOCS", "nope", "role", "sentinel|config")
        assert isinstance(docs, list)
        self.assertEqual(docs[0::2], [b"role", b"sentinel|config"])
        self.assertEqual(docs[1][0::2], [b"summary", b"since", b"group", b"complexity"])
        self.assertEqual(docs[3][0::2], [b"summary", b"since", b"group", b"complexity", b"history", b"arguments"])
        [action] = docs[3][-1]
        self.assertEqual(action[:4], [b"name", b"action", b"type", b"oneof"])
        self.assertEqual(
            action[-1][1],
            [b"name", b"parameter", b"type", b"string", b"display_text", b"parameter", b"token", b"GET",
             b"flags", [b"multiple"]],
        )  # fmt: skip

    def test_docs_of_all_commands(self) -> None:
        """Subcommands are nested in their containers; ``SLAVES`` is marked as deprecated."""
        docs = self.client.reply("COMMAND", "DOCS")
        assert isinstance(docs, list)
        by_name = dict(zip(docs[0::2], docs[1::2], strict=True))
        self.assertNotIn(b"sentinel|slaves", by_name)
        self.assertEqual(by_name[b"sentinel"][-2], b"subcommands")
        inner = by_name[b"sentinel"][-1]
        slaves = dict(zip(inner[0::2], inner[1::2], strict=True))[b"sentinel|slaves"]
        self.assertEqual(
            slaves[8:14],
            [b"doc_flags", [b"deprecated"], b"deprecated_since", b"5.0.0", b"replaced_by", b"`SENTINEL REPLICAS`"],
        )

    def test_keys(self) -> None:
        """No command has keys."""
        self.refused("ERR The command has no key arguments", "COMMAND", "GETKEYS", "sentinel", "masters")
        self.refused("ERR Invalid command specified", "COMMAND", "GETKEYSANDFLAGS", "get", "x")

    def test_help(self) -> None:
        """Each container has ``HELP``, which begins with the same line."""
        for word in ("COMMAND", "CLIENT", "SENTINEL"):
            lines = self.client.reply(word, "HELP")
            assert isinstance(lines, list)
            first = f"{word} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:".encode()
            self.assertEqual(lines[0], first)
            self.assertEqual(lines[-2:], [b"HELP", b"    Show this text."])


class TableTests(unittest.TestCase):
    """The command table."""

    def test_help_names_every_subcommand_of_sentinel(self) -> None:
        """``SENTINEL HELP`` lists every subcommand, except other spellings of one."""
        from txsentinel.server import helptexts

        spellings = {"slaves", "primaries", "primary", "get-primary-addr-by-name", "is-primary-down-by-addr"}
        for container, texts in (("sentinel", helptexts.SENTINEL), ("client", helptexts.CLIENT)):
            words = {line.text.split(" ")[0].lower() for line in texts}
            for entry in TABLE.subcommands(TABLE.by_word[container.encode()]):
                word = entry.name.split("|")[1]
                self.assertTrue(word in words or word in spellings, entry.name)

    def test_every_entry_is_documented(self) -> None:
        """Each entry has a summary without a full stop and its ACL categories."""
        for entry in TABLE.everything():
            self.assertTrue(entry.summary and not entry.summary.endswith("."), entry.name)
            self.assertTrue({"fast", "slow"} & set(entry.categories), entry.name)
