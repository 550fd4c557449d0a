"""The verbs explain, watch, run, set and diff over canned fleets."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from tests.cli.operator.runner import VerbCase
from tests.remote.samples import NAME, SENTINELS, fleet, master_report, replica, sentinel, unreachable
from txsentinel.cli.operator import explanation, settings, watching
from txsentinel.cli.operator.watching import environment_for
from txsentinel.model.plain import plain, unix_instant
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.connection import ConnectionSettings, ErrorAnswer, TlsFiles
from txsentinel.remote.doctor import gathering
from txsentinel.remote.events import LOST, ReceivedEvent
from txsentinel.remote.explaining import explain_fleet
from txsentinel.wire.values import Reply

DOWN: dict[str, Any] = {"flags": "master,s_down", "s_down_time": "41000", "last_ok_ping_reply": "42500"}


class FakeConnection:
    """Answers commands by a table; a value that is an exception is raised."""

    replies: dict[Endpoint, dict[str, Any]]
    called: list[tuple[Endpoint, str]]

    def __init__(self, endpoint: Endpoint, settings: ConnectionSettings) -> None:
        self.endpoint = endpoint

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *exception: object) -> None:
        assert len(exception) == 3

    def use_resp3(self) -> None:
        """Accepted."""
        self.called.append((self.endpoint, "HELLO 3"))

    def call(self, *words: str | int) -> Reply:
        """Return the answer to a command."""
        command = " ".join(map(str, words))
        self.called.append((self.endpoint, command))
        answer: Any = self.replies.get(self.endpoint, {}).get(command, ErrorAnswer("ERR unknown command"))
        if isinstance(answer, Exception):
            raise answer
        reply: Reply = answer
        return reply


def fake_connections(
    case: VerbCase, module: object, replies: dict[Endpoint, dict[str, Any]]
) -> list[tuple[Endpoint, str]]:
    """Let a module connect to these; return the list of commands that they receive."""
    called: list[tuple[Endpoint, str]] = []
    kind = type("Connection", (FakeConnection,), {"replies": replies, "called": called})
    case.patch(module, "RemoteConnection", kind)
    return called


def at(host: str) -> Endpoint:
    """The address of a Sentinel."""
    return Endpoint(host, 26379)


class ExplainTests(VerbCase):
    """``txsentinel explain``."""

    def test_of_c_sentinels(self) -> None:
        """The answer is computed; the status is 2 if something needs to be done."""
        zero = [replica("10.0.0.1", slave_priority="0")]
        self.fleet = fleet(*(sentinel(each, master_report(each, replicas=zero)) for each in SENTINELS))
        found = self.run_verb("explain", NAME)
        self.assertEqual(
            found.stdout,
            "mymaster 10.0.0.2:6379 is up, but could not be failed over: every replica has priority 0\n"
            " replicas    10.0.0.1:6379  unfit: priority 0\n"
            " would block every replica has priority 0\n"
            " any one of  10.0.0.1:6379 gets a priority above 0   (CONFIG SET replica-priority 100)\n"
            " source      computed from the reports of 3 Sentinels\n",
        )
        self.assertEqual(found.status, 2)

    def test_only_blocks(self) -> None:
        """``--why-not-now`` leaves the evidence out."""
        self.fleet = fleet(sentinel(SENTINELS[0], **DOWN), sentinel(SENTINELS[1]), unreachable(SENTINELS[2]))
        found = self.run_verb("explain", NAME, "--why-not-now")
        self.assertNotIn("replicas", found.stdout)
        self.assertIn("only 1 of quorum 2 consider it down", found.stdout)

    def test_of_ours(self) -> None:
        """A Sentinel of ours is asked, and its answer shown."""
        self.fleet = fleet(sentinel(SENTINELS[0], kind="txsentinel", version="0.2.0"), *fleet().sentinels[1:])
        answer = explain_fleet(agreement_on(self.fleet, NAME), Instant(1_800_000_000_000))
        called = fake_connections(
            self, explanation, {at(SENTINELS[0]): {f"TXSENTINEL EXPLAIN {NAME}": plain(answer, unix_instant)}}
        )
        found = self.run_verb("explain", NAME, "-o", "json")
        self.assertEqual(found.status, 0)
        shown = json.loads(found.stdout)
        self.assertEqual(shown["asked_at"], "2027-01-15T08:00:00.000Z")
        self.assertEqual(shown["source"], "by 10.0.0.11:26379 (txsentinel 0.2.0)")
        self.assertEqual(called, [(at(SENTINELS[0]), "HELLO 3"), (at(SENTINELS[0]), f"TXSENTINEL EXPLAIN {NAME}")])

    def test_older_ones_of_ours(self) -> None:
        """If the command is not known, the answer is computed, and the reason shown."""
        self.fleet = fleet(sentinel(SENTINELS[0], kind="txsentinel", version="0.2.0"), *fleet().sentinels[1:])
        fake_connections(self, explanation, {})
        found = self.run_verb("explain", NAME)
        self.assertEqual(found.status, 0)
        self.assertIn("computed from the reports of 3 Sentinels; 10.0.0.11:26379: ERR unknown command", found.stdout)

    def test_bad_duration(self) -> None:
        """A duration without a unit is refused."""
        self.fleet = fleet()
        found = self.run_verb("explain", NAME, "--since", "10")
        self.assertEqual(found.status, 64)
        self.assertIn("'10' is no duration", found.stderr)


class SetTests(VerbCase):
    """``txsentinel set`` and ``diff``."""

    def setUp(self) -> None:
        super().setUp()
        self.fleet = fleet(sentinel(SENTINELS[0]), sentinel(SENTINELS[1], quorum="3"), unreachable(SENTINELS[2]))
        done = {f"SENTINEL SET {NAME} quorum 2": b"OK", f"SENTINEL MASTER {NAME}": [b"quorum", b"2"]}
        self.called = fake_connections(self, settings, {at(SENTINELS[0]): done, at(SENTINELS[1]): dict(done)})

    def test_fleet(self) -> None:
        """All Sentinels are asked; one that does not answer makes the status 2."""
        found = self.run_verb("set", NAME, "quorum", "2", "--fleet", "-o", "tsv")
        self.assertEqual(found.status, 2)
        rows = [row.split("\t") for row in found.stdout.splitlines()]
        self.assertEqual(
            [row[2:] for row in rows[1:]], [["2", "2", ""], ["3", "2", ""], ["", "", "connection refused"]]
        )

    def test_one(self) -> None:
        """Without ``--fleet`` only the named Sentinels are changed."""
        found = self.run_verb("set", NAME, "quorum", "2", "--sentinel", SENTINELS[1])
        self.assertEqual(found.status, 0, found)
        self.assertEqual({endpoint for endpoint, _ in self.called}, {at(SENTINELS[1])})
        self.assertEqual(self.run_verb("set", NAME, "quorum", "2", "--sentinel", "10.9.9.9").status, 64)

    def test_refused(self) -> None:
        """The error of the Sentinel is shown."""
        found = self.run_verb("set", NAME, "x\x1b", "2", "--fleet")
        self.assertEqual(found.status, 2)
        self.assertIn("ERR unknown command", found.stdout)

    def test_diff(self) -> None:
        """All values of a setting that differs are shown, also of the Sentinels' own settings."""
        for host, value in zip(SENTINELS, (b"no", b"yes"), strict=False):
            fake = [b"resolve-hostnames", value, b"announce-ip", host.encode()]
            settings.RemoteConnection.replies[at(host)]["SENTINEL CONFIG GET *"] = fake  # type: ignore[attr-defined]
        self.patch(gathering, "RemoteConnection", settings.RemoteConnection)  # type: ignore[attr-defined]
        found = self.run_verb("diff")
        self.assertEqual(found.status, 2)
        self.assertIn("mymaster: quorum differs: 10.0.0.11:26379 has 2, 10.0.0.12:26379 has 3", found.stdout)
        self.assertIn(
            "Sentinels: resolve-hostnames differs: 10.0.0.11:26379 has no, 10.0.0.12:26379 has yes", found.stdout
        )
        self.assertNotIn("announce-ip", found.stdout)

    def test_no_difference(self) -> None:
        """Then the status is 0."""
        self.fleet = fleet()
        found = self.run_verb("diff", NAME)
        self.assertEqual((found.stdout, found.status), ("no setting of 1 master differs\n", 0))


class FakeStream:
    """Events that were written in advance; then none."""

    events: list[ReceivedEvent]

    def __init__(self, *arguments: object) -> None:
        self.waiting = list(self.events)
        self.closed = False

    def next_event(self, seconds: float) -> ReceivedEvent | None:
        """The next one."""
        return self.waiting.pop(0) if self.waiting else None

    def close(self) -> None:
        """Remember it."""
        self.closed = True


class WatchTests(VerbCase):
    """``txsentinel watch``."""

    def watch(self, *words: str) -> str:
        """Run the verb over a few events."""
        self.fleet = fleet()
        events = [
            ReceivedEvent(1_800_000_000.0, at(SENTINELS[0]), "+sdown", "master mymaster 10.0.0.2 6379"),
            ReceivedEvent(1_800_000_000.1, at(SENTINELS[1]), "+sdown", "master mymaster 10.0.0.2 6379"),
            ReceivedEvent(1_800_000_000.2, at(SENTINELS[1]), "+sdown", "master other 10.0.0.9 6379"),
            ReceivedEvent(1_800_000_000.3, at(SENTINELS[2]), LOST, "evil\x1b[2J"),
        ]
        self.patch(watching, "EventStream", type("Stream", (FakeStream,), {"events": events}))
        # The events are older than any window, so each would be due at once: merge those that are there already.
        self.patch(time, "time", lambda: 1_800_000_000.4)
        found = self.run_verb("watch", *words, "--for", "20ms")
        self.assertEqual(found.status, 0)
        return found.stdout

    def test_lines(self) -> None:
        """Equal events are one line; names are escaped."""
        lines = self.watch().splitlines()
        self.assertEqual(
            lines[0],
            "08:00:00.000  +sdown                     master mymaster 10.0.0.2 6379"
            "   [2 of 3 10.0.0.11:26379, 10.0.0.12:26379]",
        )
        self.assertEqual(lines[2], r"08:00:00.300  (connection lost: 10.0.0.13:26379: evil\x1b[2J)")
        self.assertEqual(len(lines), 3)

    def test_one_master(self) -> None:
        """Events of other masters are left out."""
        self.assertNotIn("other", self.watch(NAME))

    def test_json(self) -> None:
        """Each line is a JSON document."""
        first = json.loads(self.watch("-o", "json").splitlines()[0])
        self.assertEqual((first["master"], first["at"]), (NAME, "2027-01-15T08:00:00.000+00:00"))
        self.assertEqual(len(first["sentinels"]), 2)

    def test_record(self) -> None:
        """The events are appended to a file, too."""
        path = self.mktemp()
        self.watch("--record", path)
        self.watch("--record", path)
        with open(path, encoding="utf-8") as stream:
            self.assertEqual(len([json.loads(each) for each in stream]), 6)


class RunTests(VerbCase):
    """``txsentinel run``; the programs are real ones."""

    def test_status(self) -> None:
        """The program gets the address, and its status is that of the verb."""
        self.fleet = fleet()
        self.patch(watching, "EventStream", type("Stream", (FakeStream,), {"events": []}))
        path = self.mktemp()
        code = f"import os, sys; open({path!r}, 'w').write(os.environ['REDIS_URL']); sys.exit(7)"
        found = self.run_verb("run", NAME, "--", sys.executable, "-c", code)
        self.assertEqual(found.status, 7)
        with open(path, encoding="utf-8") as stream:
            self.assertEqual(stream.read(), "redis://10.0.0.2:6379")

    def test_mistakes(self) -> None:
        """A program that does not exist is 127; no majority is 3; a signal that does not exist is 64."""
        self.fleet = fleet()
        self.patch(watching, "EventStream", type("Stream", (FakeStream,), {"events": []}))
        self.assertEqual(self.run_verb("run", NAME, "--", "/nonexistent").status, 127)
        self.assertEqual(self.run_verb("run", NAME, "--signal", "X", "--", "true").status, 64)
        self.fleet = fleet(sentinel(SENTINELS[0]), *(unreachable(each) for each in SENTINELS[1:]))
        self.assertEqual(self.run_verb("run", NAME, "--", "true").status, 3)

    def test_environment(self) -> None:
        """User and password are encoded; IPv6 addresses have brackets."""
        found = environment_for(Endpoint("::1", 6379), ConnectionSettings("a/b", "p@ss:w", TlsFiles()))
        self.assertEqual(found["REDIS_URL"], "rediss://a%2Fb:p%40ss%3Aw@[::1]:6379")
        self.assertEqual((found["REDIS_HOST"], found["REDIS_PORT"]), ("::1", "6379"))
