"""Tests of the TXSENTINEL container."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.extensions.fixture import publisher_state
from tests.model.records import BEGIN, RECORD
from tests.server.harness import MY_ID, ServerTestCase
from tests.server.test_sentinel_queries import NO_MASTER, ReportTestCase
from txsentinel.core.explaining import MAX_JOURNAL
from txsentinel.core.state import StorageError
from txsentinel.model.history import FailoverRecord, JournalKind
from txsentinel.model.history_json import records_of
from txsentinel.server.all_commands import TABLE
from txsentinel.server.shared_options import options_hash


class ReplyTests(ReportTestCase):
    """The replies, in RESP3."""

    def setUp(self) -> None:
        """Negotiate RESP3, which has maps and booleans."""
        super().setUp()
        self.client.ask("HELLO", 3)

    def map(self, *words: str) -> dict[bytes, Any]:
        """Return the map that a subcommand returns."""
        reply = self.client.reply("TXSENTINEL", *words)
        assert isinstance(reply, dict)
        return reply

    def test_explain(self) -> None:
        """The explanation is a map with all fields; points in time are milliseconds since 1970."""
        found = self.map("explain", "mymaster")
        self.assertEqual(found[b"verdict"][b"code"], b"healthy")
        self.assertEqual(found[b"by"], MY_ID.encode())
        self.assertEqual(found[b"asked_at"], int(self.harness.host.wall_clock() * 1000))
        self.assertEqual(found[b"address"], {b"host": b"127.0.0.1", b"port": 6379, b"address": b"127.0.0.1:6379"})
        self.assertIs(found[b"evidence"][b"connected"], True)
        self.assertEqual([each[b"name"] for each in found[b"replicas"]], [b"127.0.0.1:6380"])

    def test_explain_in_resp2(self) -> None:
        """A client without RESP3 gets a flat array, and numbers for booleans."""
        self.client.ask("HELLO", 2)
        reply = self.client.reply("TXSENTINEL", "EXPLAIN", "mymaster")
        assert isinstance(reply, list)
        found = dict(zip(reply[0::2], reply[1::2], strict=True))
        evidence = dict(zip(found[b"evidence"][0::2], found[b"evidence"][1::2], strict=True))
        self.assertEqual(evidence[b"connected"], 1)

    def test_publishers(self) -> None:
        """EXPLAIN warns of what a publisher failed to publish of the master, DOCTOR shows all publishers."""
        self.harness.context.publishers.add(lambda master: [publisher_state()])
        (warning,) = self.map("explain", "mymaster")[b"warnings"]
        self.assertEqual(
            warning,
            b"etcd (10.0.0.5:2379) has not been given the address 10.0.0.1:6379 with config epoch 7 since"
            b" 2027-01-15T08:00:00.000Z; 3 attempts failed, the last with: refused",
        )
        (publisher,) = self.map("doctor")[b"sentinel"][b"publishers"]
        self.assertEqual((publisher[b"publisher"], publisher[b"pending"]), (b"etcd", 1))
        self.assertEqual(publisher[b"warnings"][0], b"mymaster: " + warning)
        self.assertEqual(len(publisher[b"warnings"]), 2)

    def test_journal(self) -> None:
        """The latest records are included, as many as are requested."""
        for epoch in range(MAX_JOURNAL + 2):
            now = self.harness.host.now()
            self.harness.core.journal.write(JournalKind.VOTE_GIVEN, "mymaster", now, epoch=epoch, subject=MY_ID)
        whole = self.map("explain", "mymaster", "journal", "100")[b"journal"]
        self.assertEqual([each[b"epoch"] for each in whole], list(range(MAX_JOURNAL + 2)))
        self.assertEqual(self.map("explain", "mymaster", "JOURNAL", "2")[b"journal"], whole[-2:])
        self.assertEqual(self.map("explain", "mymaster", "JOURNAL", "0")[b"journal"], [])
        self.assertEqual(self.map("explain", "mymaster")[b"journal"], whole[-MAX_JOURNAL:])

    def test_history(self) -> None:
        """The records are maps, of one master or of all, as many as are requested."""
        asked = []

        def failovers(name: str | None, limit: int) -> list[FailoverRecord]:
            asked.append((name, limit))
            return [RECORD, replace(RECORD, epoch=6)][:limit] if name != "other" else []

        self.harness.context.failovers = failovers
        found = self.client.reply("TXSENTINEL", "HISTORY")
        assert isinstance(found, list)
        self.assertEqual([7, 6], [each[b"epoch"] for each in found])
        self.assertEqual(BEGIN, found[0][b"phases"][0][b"at"])
        self.assertEqual(b"10.0.0.1:6379", found[0][b"from_server"][b"address"][b"address"])
        self.assertEqual(found[:1], self.client.reply("TXSENTINEL", "history", "mymaster", "1"))
        self.assertEqual(found, self.client.reply("TXSENTINEL", "HISTORY", "*", "5"))
        self.assertEqual([(None, 10), ("mymaster", 1), (None, 5)], asked)
        # Records of a master that is not monitored any more are kept; without any, its name is an error.
        self.assertEqual(found, self.client.reply("TXSENTINEL", "HISTORY", "gone"))
        self.refused(NO_MASTER, "TXSENTINEL", "HISTORY", "other")
        self.refused("ERR the number of failovers is negative", "TXSENTINEL", "HISTORY", "*", "-1")
        self.refused("ERR value is not an integer or out of range", "TXSENTINEL", "HISTORY", "*", "x")
        self.refused("ERR syntax error", "TXSENTINEL", "HISTORY", "*", "1", "2")

    def test_acknowledge(self) -> None:
        """Who has seen a failover is recorded with the address and the comment; it needs the right to order one."""
        seen = []

        def acknowledge(record_id: str, by: str, comment: str) -> str | None:
            seen.append((record_id, by.split(":")[0], comment))
            return "ab12" if record_id == "01JE" else None

        self.harness.context.acknowledge = acknowledge
        self.assertEqual(b"+OK\r\n", self.client.ask("TXSENTINEL", "ACK", "01JE", "disk was full"))
        self.assertEqual(b"+OK\r\n", self.client.ask("TXSENTINEL", "ACK", "01JE"))
        self.refused("ERR No such record", "TXSENTINEL", "ACK", "01JF")
        self.assertEqual(("01JE", "disk was full"), (seen[0][0], seen[0][2]))
        self.assertTrue(seen[0][1].startswith("default from "), seen[0])
        self.refused("ERR syntax error", "TXSENTINEL", "ACK", "01JE", "a", "b", "c")
        self.refused("ERR the comment is longer than 1000 bytes", "TXSENTINEL", "ACK", "01JE", "x" * 1001)
        self.assertEqual(3, len(seen))
        command = TABLE.find([b"txsentinel", b"ack"])
        assert command is not None
        self.assertEqual("sentinel|failover", command.alias_of)

    def test_history_as_record(self) -> None:
        """A record can be made of the reply again."""
        self.harness.context.failovers = lambda name, limit: [RECORD]
        reply = self.client.reply("TXSENTINEL", "HISTORY")
        assert isinstance(reply, list)

        def decoded(value: Any) -> Any:
            if isinstance(value, bytes):
                return value.decode()
            if isinstance(value, list):
                return [decoded(each) for each in value]
            if isinstance(value, dict):
                return {key.decode(): decoded(each) for key, each in value.items()}
            return value

        self.assertEqual([RECORD], records_of(decoded(reply)))

    def test_agree(self) -> None:
        """The reply has what should be equal on all Sentinels, and the clock."""
        found = self.map("agree", "mymaster")
        self.assertEqual((found[b"host"], found[b"port"]), (b"127.0.0.1", 6379))
        self.assertEqual((found[b"config_epoch"], found[b"current_epoch"]), (0, 0))
        self.assertEqual(found[b"wall_clock_ms"], int(self.harness.host.wall_clock() * 1000))
        self.assertEqual(found[b"options_hash"], options_hash(self.master).encode())

    def test_hash_of_options(self) -> None:
        """The hash follows settings that decide, not passwords and paths."""
        before = options_hash(self.master)
        self.master.options.auth_pass, self.master.options.notification_script = "secret", "/bin/true"
        self.assertEqual(options_hash(self.master), before)
        self.master.options.down_after += 1
        self.assertNotEqual(options_hash(self.master), before)

    def test_doctor(self) -> None:
        """The state of the Sentinel, and of each link with its failures."""
        core, now = self.harness.core, self.harness.host.now()
        core.command_refused(self.replica.link, "PUBLISH", "NOPERM no", now)
        core.state.storage_error = StorageError("EACCES", "Permission denied", "/x/sentinel.conf")
        found = self.map("doctor", "mymaster")
        self.assertEqual(found[b"sentinel"][b"storage"][b"state"], b"failing")
        self.assertEqual(found[b"sentinel"][b"storage"][b"path"], b"/x/sentinel.conf")
        [master] = found[b"masters"]
        kinds = [each[b"kind"] for each in master[b"instances"]]
        self.assertEqual(kinds, [b"master", b"replica", b"sentinel"])
        replica = master[b"instances"][1]
        self.assertEqual(replica[b"refusals"], {b"PUBLISH": b"PUBLISH: NOPERM no"})
        self.assertEqual(replica[b"failure"][b"class"], b"noperm")
        self.assertEqual(self.map("doctor")[b"masters"], [master])

    def test_errors(self) -> None:
        """Unknown masters and wrong words are refused with the usual texts."""
        self.refused(NO_MASTER, "TXSENTINEL", "EXPLAIN", "nope")
        self.refused(NO_MASTER, "TXSENTINEL", "AGREE", "nope")
        self.refused(NO_MASTER, "TXSENTINEL", "DOCTOR", "nope")
        self.refused("ERR syntax error", "TXSENTINEL", "EXPLAIN", "mymaster", "JOURNAL")
        self.refused("ERR syntax error", "TXSENTINEL", "EXPLAIN", "mymaster", "x", "1")
        self.refused("ERR syntax error", "TXSENTINEL", "DOCTOR", "mymaster", "x")
        self.refused("ERR value is not an integer or out of range", "TXSENTINEL", "EXPLAIN", "mymaster", "JOURNAL", "x")
        self.refused("ERR the number of journal records is negative", "TXSENTINEL", "EXPLAIN", "m", "JOURNAL", "-1")
        self.refused("ERR unknown subcommand 'x'. Try TXSENTINEL HELP.", "TXSENTINEL", "x")
        self.refused("ERR wrong number of arguments for 'txsentinel' command", "TXSENTINEL")
        self.refused("ERR wrong number of arguments for 'txsentinel|agree' command", "TXSENTINEL", "agree")

    def test_help(self) -> None:
        """The help text names every other subcommand."""
        lines = self.client.reply("TXSENTINEL", "HELP")
        assert isinstance(lines, list)
        shown = {line.split()[0].lower() for line in lines[1:-2] if not line.startswith(b" ")}
        container = TABLE.by_word[b"txsentinel"]
        names = {each.name.partition("|")[2].encode() for each in TABLE.subcommands(container)}
        self.assertEqual(shown, names - {b"help"})


class RightsTests(ServerTestCase):
    """No rule names the container; rights are those of SENTINEL MASTERS."""

    def test_rights_of_the_nearest_command(self) -> None:
        """A user who may use SENTINEL MASTERS may use TXSENTINEL EXPLAIN, and nobody else."""
        for rule, allowed in (("+sentinel|masters", True), ("+sentinel", True), ("+ping", False), ("+@all", True)):
            self.client.ask("ACL", "SETUSER", "ops", "reset", "on", ">p", rule)
            client = self.harness.connect()
            client.ask("AUTH", "ops", "p")
            for words in (("EXPLAIN", "mymaster"), ("AGREE", "mymaster"), ("DOCTOR",)):
                reply = client.ask("TXSENTINEL", *words)
                self.assertEqual(not reply.startswith(b"-NOPERM"), allowed, (rule, words, reply))

    def test_no_rule_names_it(self) -> None:
        """C servers exit when they read such a rule, so it is an error here, too."""
        for rule in ("+txsentinel", "+txsentinel|explain", "-txsentinel|agree"):
            reply = self.client.ask("ACL", "SETUSER", "ops", rule)
            self.assertTrue(reply.startswith(b"-ERR Error in ACL SETUSER modifier"), reply)

    def test_nothing_lists_it(self) -> None:
        """COMMAND, COMMAND DOCS, COMMAND LIST, ACL CAT and SENTINEL HELP do not show the container."""
        for words in (("COMMAND",), ("COMMAND", "DOCS"), ("COMMAND", "LIST"), ("SENTINEL", "HELP")):
            self.assertNotIn(b"txsentinel|", self.client.ask(*words), words)
        for category in ("admin", "slow", "dangerous"):
            self.assertNotIn(b"txsentinel", self.client.ask("ACL", "CAT", category))
        self.assertEqual(self.client.ask("COMMAND", "INFO", "txsentinel"), b"*1\r\n$-1\r\n")
        self.assertEqual(self.client.ask("COMMAND", "INFO", "txsentinel|explain"), b"*1\r\n$-1\r\n")
        self.client.ask("ACL", "SETUSER", "ops", "on", "+@all", "-@dangerous")
        self.assertNotIn(b"txsentinel", self.client.ask("ACL", "LIST"))
