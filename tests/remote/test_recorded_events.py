"""Failovers that are made from events; the recording is of three redis-sentinel 7.0.15."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.operator.runner import VerbCase
from txsentinel.model.history import FailoverKind, FailoverRecord, Outcome, failover_group
from txsentinel.model.history_merge import merge
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.recorded_events import BadRecording, recorded_failovers

RECORDINGS = Path(__file__).parent / "recordings"
RECORDING = RECORDINGS / "redis-7.0-events.txt"


def line(second: int, channel: str, payload: str, master: str | None = "m", sentinels: str = "a:1") -> str:
    """Return a line of a recording."""
    at = f"2026-12-01T10:00:{second:02}.000+00:00"
    entry = {"at": at, "event": channel, "payload": payload, "master": master, "sentinels": [sentinels]}
    return json.dumps(entry) + "\n"


class RecordingTests(VerbCase):
    """The recording of real Sentinels: a failover, and one that was aborted."""

    def test_list(self) -> None:
        """Both failovers are listed."""
        found = self.run_verb("history", "--from", str(RECORDING))
        self.assertEqual((found.stdout, found.status), ((RECORDINGS / "redis-7.0-list.txt").read_text(), 0))
        self.assertEqual(
            self.run_verb("history", "other", "--from", str(RECORDING)).stdout, "no failover is recorded\n"
        )

    def test_details(self) -> None:
        """Phases with their times, the leader and the votes are shown."""
        found = self.run_verb("history", "--from", str(RECORDING), "--show", "01M8S6N8DT")
        self.assertEqual((found.stdout, found.status), ((RECORDINGS / "redis-7.0-details.txt").read_text(), 0))

    def test_leader(self) -> None:
        """The ID of the leader is that of its own vote."""
        switched, _ = recorded_failovers(RECORDING.read_text().splitlines(keepends=True))
        self.assertEqual(switched.leader, "edd1a3bb4ea156c7ead0a8e51ae84c463ae32e00")
        self.assertEqual((switched.group, switched.config_epoch), (failover_group("m", 1), 1))

    def test_two_recorders(self) -> None:
        """Two recorders that append to one file make no failover twice."""
        lines = RECORDING.read_text().splitlines(keepends=True)
        twice = recorded_failovers([*lines, *lines])
        self.assertEqual(twice, recorded_failovers(lines))
        self.assertEqual(len(merge([*twice, *twice])), 2)

    def test_refused(self) -> None:
        """Such failovers cannot be acknowledged, and another file is refused with its line."""
        self.assertEqual(self.run_verb("history", "ack", "01", "--from", str(RECORDING)).status, 64)
        path = Path(self.mktemp())
        path.write_text(line(1, "+sdown", "master m 10.0.0.1 6379") + "text\n")
        found = self.run_verb("history", "--from", str(path))
        self.assertEqual(found.status, 64)
        self.assertIn(f"{path}: line 2 is no event of 'txsentinel watch --record'", found.stderr)


class EventTests(VerbCase):
    """Other orders of events."""

    def failovers(self, *lines: str) -> list[FailoverRecord]:
        """Return the records."""
        return recorded_failovers(lines)

    def test_forced(self) -> None:
        """A failover of a master that was not down was ordered by an operator."""
        (found,) = self.failovers(
            line(1, "+new-epoch", "4", None),
            line(1, "+try-failover", "master m 10.0.0.1 6379"),
            line(2, "+switch-master", "m 10.0.0.1 6379 10.0.0.2 6379"),
        )
        self.assertEqual((found.kind, found.epoch, found.cause), (FailoverKind.FORCED, 4, "operator"))
        assert found.to_server is not None
        self.assertEqual(
            (found.from_server.address.host, found.to_server.address), ("10.0.0.1", Endpoint("10.0.0.2", 6379))
        )

    def test_second_attempt(self) -> None:
        """After an aborted failover the master is still down: the next one is automatic, with its own phases."""
        first, second = self.failovers(
            line(1, "+sdown", "master m 10.0.0.1 6379"),
            line(1, "+new-epoch", "1", None),
            line(1, "+try-failover", "master m 10.0.0.1 6379"),
            line(2, "-failover-abort-not-elected", "master m 10.0.0.1 6379"),
            line(5, "+new-epoch", "2", None),
            line(5, "+try-failover", "master m 10.0.0.1 6379"),
            line(6, "+switch-master", "m 10.0.0.1 6379 10.0.0.2 6379"),
        )
        self.assertEqual((first.outcome, first.epoch), (Outcome.NOT_ELECTED, 1))
        self.assertEqual((second.outcome, second.epoch, second.kind), (Outcome.SWITCHED, 2, FailoverKind.AUTOMATIC))
        self.assertEqual([each.phase for each in second.phases], ["campaign", "switched"])

    def test_no_failover(self) -> None:
        """A master that was down and came back, and one whose failover has not ended, make no record."""
        self.assertEqual(
            self.failovers(
                line(1, "+sdown", "master m 10.0.0.1 6379"),
                line(2, "-sdown", "master m 10.0.0.1 6379"),
                line(3, "+sdown", "master n 10.0.0.1 6379", "n"),
                line(3, "+try-failover", "master n 10.0.0.1 6379", "n"),
            ),
            [],
        )

    def test_interrupted(self) -> None:
        """A last line that was not written to its end is skipped; one before it is an error."""
        torn = line(2, "+switch-master", "m 10.0.0.1 6379 10.0.0.2 6379")[:-9]
        self.assertEqual(self.failovers(line(1, "+sdown", "master m 10.0.0.1 6379"), torn), [])
        self.assertRaises(BadRecording, self.failovers, torn + "\n")
