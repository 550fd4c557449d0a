"""Records with an end: in files, in the core, and back in files."""

from __future__ import annotations

from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.config.disk import MemoryDisk
from tests.config.state import FakeCore, FakeHost, make_master
from txsentinel.config.configuration import Configuration, load
from txsentinel.config.errors import ConfigError
from txsentinel.config.quoting import decoded, split_line
from txsentinel.config.records import MAX_WORD, read_record, record_lines
from txsentinel.config.store import ConfigStore
from txsentinel.core.durable_records import (
    ALL_MASTERS,
    MAX_RECORD_PERIOD,
    DurableRecord,
    DurableRecords,
    RecordKey,
    RecordKind,
)
from txsentinel.core.options import SentinelOptions
from txsentinel.core.sentinel import SentinelCore
from txsentinel.interfaces import IHost
from txsentinel.model.timings import Limits, Timings
from txsentinel.runtime.restoring import restore_state

MONITOR = "sentinel monitor m 10.0.0.1 6379 2\n"
AT = 1_800_000_000_000
"""When the records were requested, by the wall clock."""

PAUSE = RecordKey(RecordKind.PAUSE, "m")


def pause(period: int = 60_000, at: int = AT, request_id: str = "a", *, withdrawn: bool = False) -> DurableRecord:
    """Return a pause of the master m."""
    return DurableRecord(PAUSE, at + period, at, request_id, "alice", "why", withdrawn)


def read(text: str, files: dict[str, bytes] | None = None) -> Configuration:
    """Read a file."""
    return load("/etc/sentinel.conf", text.encode(), disk=MemoryDisk(files))


_words = st.text(max_size=12)
_records = st.builds(
    DurableRecord,
    st.builds(RecordKey, st.just(RecordKind.PARKED), _words.filter(bool), _words.filter(bool)),
    st.integers(AT + 1, AT + MAX_RECORD_PERIOD),
    st.just(AT),
    st.from_regex(r"[0-9A-Za-z-]{1,64}", fullmatch=True),
    _words,
    _words,
    st.booleans(),
)


class LineTests(SynchronousTestCase):
    """Single comments."""

    @settings(max_examples=50)
    @given(_records)
    def test_there_and_back(self, record: DurableRecord) -> None:
        """Every record is read as it was written, whatever its words contain."""
        (line,) = record_lines([record])
        words = split_line(line.text.encode())
        assert words is not None
        self.assertEqual(read_record([decoded(word) for word in words[2:]]), record)
        self.assertNotIn("\n", line.text)

    def test_settings(self) -> None:
        """The settings of a kind are read; words are accepted in any order."""
        record = read(f"{MONITOR}#: txsentinel pause m {AT + 1} scope=hands-off id=x at={AT}\n").records[0]
        self.assertEqual(record.settings, (("scope", "hands-off"),))
        self.assertEqual((record.setting("scope"), record.setting("require", "none")), ("hands-off", "none"))

    def test_refused(self) -> None:
        """A bad record prevents the start, with the file, the line and what is wrong."""
        end, at = f"{AT + 1}", f"at={AT} id=x"
        for comment, problem in (
            ("pause m", "'pause' must be followed by a master and its end"),
            ("forgotten m", "'forgotten' must be followed by a master, a subject and its end"),
            (f'parked m "" {end} {at}', "'parked' must be followed by a master, a subject and its end"),
            (f"pause m soon {at}", "the end of 'pause' must be a time in milliseconds since 1970"),
            (f"pause m -5 {at}", "the end of 'pause' must be a time in milliseconds since 1970"),
            (f"pause m {end} id=x", "'pause' lacks at="),
            (f"pause m {end} at={AT}", "'pause' lacks id="),
            (f"pause m {end} at=now id=x", "at= of 'pause' must be a time in milliseconds since 1970"),
            (
                f"pause m {AT + MAX_RECORD_PERIOD + 1} {at}",
                f"the end of 'pause' must be at most {MAX_RECORD_PERIOD} ms from at=",
            ),
            (f"pause m {end} {at} for=1h", "for= of 'pause' must be a number of milliseconds"),
            (f"pause m {end} at={AT} id=a/b", "id= of 'pause' must be 1 to 64 letters, digits and hyphens"),
            (f"pause m {end} {at} withdrawn=no", "withdrawn= of 'pause' must be yes"),
            (f"pause m {end} {at} {at}", "'pause' has at= twice"),
            (f"pause m {end} {at} scope=all", "scope= of 'pause' must be one of failover, hands-off"),
            (f"pause m {end} {at} reason={'x' * (MAX_WORD + 1)}", "reason= of 'pause' is longer than 1000 characters"),
            (
                f"parked m h:1 {end} {at} scope=failover",
                "the words at the end of 'parked' may be at=, id=, by=, reason=, withdrawn=, run-id=",
            ),
            (f'pause m {end} {at} reason="open', "unbalanced quotes"),
        ):
            error = self.assertRaises(ConfigError, read, f"{MONITOR}#: txsentinel {comment}\n")
            self.assertEqual(error.message, f"In /etc/sentinel.conf: {problem}.")
            self.assertEqual((error.line_number, error.line), (2, f"#: txsentinel {comment}"))

    def test_included_file_is_named(self) -> None:
        """An error in an included file names that file."""
        files = {"/etc/more.conf": b"#: txsentinel pause m\n"}
        error = self.assertRaises(ConfigError, read, f"{MONITOR}include /etc/more.conf\n", files)
        self.assertIn("In /etc/more.conf: ", error.message)

    def test_unknown_master(self) -> None:
        """A record for a master that is not monitored is reported and has no effect; one for all masters has."""
        text = f"#: txsentinel pause m {AT + 1} at={AT} id=x\n#: txsentinel pause * {AT + 1} at={AT} id=x\n"
        configuration = read(text)
        self.assertEqual([record.key.master for record in configuration.records], [ALL_MASTERS])
        warning = "/etc/sentinel.conf, line 1: 'm' is not monitored, 'pause' has no effect."
        self.assertEqual(configuration.warnings, [warning])


class StoredTests(SynchronousTestCase):
    """Records of the core."""

    def setUp(self) -> None:
        """Set up an empty store that counts changes."""
        self.changes: list[str | None] = []

        def changed(master: str | None) -> int:
            self.changes.append(master)
            return len(self.changes)

        self.records = DurableRecords(changed)

    def test_last_request_counts(self) -> None:
        """The record with the later request is kept, in whatever order they arrive; of two at once by ID."""
        first, second = pause(at=AT), pause(at=AT + 1, withdrawn=True)
        self.assertTrue(self.records.put(second, 10))
        self.assertFalse(self.records.put(first, 10))
        self.assertFalse(self.records.put(second, 99))
        self.assertTrue(self.records.put(pause(at=AT + 1, request_id="b"), 10))
        self.assertEqual(self.changes, ["m", "m"])

    def test_in_force(self) -> None:
        """A record has an effect until its end, unless it was withdrawn."""
        self.records.put(pause(), 10)
        self.assertEqual(len(list(self.records.in_force(RecordKind.PAUSE, 9))), 1)
        self.assertEqual(list(self.records.in_force(RecordKind.PAUSE, 10)), [])
        self.assertEqual(list(self.records.in_force(RecordKind.PARKED, 9)), [])
        self.records.put(pause(at=AT + 1, withdrawn=True), 20)
        self.assertEqual(list(self.records.in_force(RecordKind.PAUSE, 9)), [])

    def test_expired(self) -> None:
        """What has ended is dropped and the master saved again."""
        self.records.put(pause(), 10)
        self.assertEqual((self.records.expire(9), self.records.next_end()), ([], 10))
        self.assertEqual([held.record for held in self.records.expire(10)], [pause()])
        self.assertEqual((len(self.records), self.records.next_end(), self.changes), (0, None, ["m", "m"]))

    def test_undone(self) -> None:
        """A change that could not be saved is undone."""
        self.records.put(pause(), 10)
        before = self.records.get(PAUSE)
        self.records.put(pause(at=AT + 1), 20)
        self.records.replace(PAUSE, before)
        self.assertEqual(self.records.get(PAUSE), before)
        self.records.replace(PAUSE, None)
        self.assertIsNone(self.records.get(PAUSE))

    def test_restored(self) -> None:
        """After a restart the rest of the period is left, by the wall clock."""
        self.records.restore([pause(60_000)], 5_000, AT + 20_000)
        self.assertEqual(self.records.next_end(), 45_000)
        self.assertEqual(self.changes, [])

    def test_restored_too_late(self) -> None:
        """What ended while the process was stopped is left out."""
        self.records.restore([pause(60_000)], 5_000, AT + 60_000)
        self.assertEqual(len(self.records), 0)

    def test_clock_set_back(self) -> None:
        """A wall clock that was set back does not prolong a record beyond the period that was granted."""
        self.records.restore([pause(60_000)], 5_000, AT - 3_600_000)
        self.assertEqual(self.records.next_end(), 65_000)

    def test_clock_of_another_is_ahead(self) -> None:
        """A request whose time is by a clock that is ahead has the period that was granted after a restart."""
        for granted, left in (((("for", "60000"),), 60_000), ((), 3_600_000)):
            record = DurableRecord(PAUSE, AT + 3_600_000, AT + 7_200_000, "a", settings=granted)
            records = DurableRecords(lambda master: 0)
            records.restore([record], 0, AT)
            self.assertEqual(records.next_end(), left)


class SavedTests(SynchronousTestCase):
    """From the file to the core and back."""

    def test_every_save_has_them(self) -> None:
        """The lines are kept in their places by every save, and left out once their records have ended."""
        text = (
            f'# above\n#: txsentinel pause m {AT + 9} at={AT} id=x by="alice"\n# between\n'
            f"#: txsentinel pause * {AT + 5} at={AT} id=y\n{MONITOR}sentinel myid {'f' * 40}\n"
        )
        configuration = read(text)
        host, core = FakeHost(), FakeCore()
        core.add(make_master("m"))
        core.records = DurableRecords(lambda master: 0)
        core.records.restore(configuration.records, 0, AT)
        store = ConfigStore(
            cast(IHost, host), "/etc/sentinel.conf", configuration.document, core, lambda g: None, lambda g, e: None
        )
        store.note_dirty([None, "m"])
        store.commit_soon(1)
        host.reactor.advance(0)
        self.assertTrue(host.files.done().startswith(text))
        core.records.expire(5)
        core.records.put(pause(at=AT + 1), 9)
        store.note_dirty([None, "m"])
        store.commit_soon(2)
        host.reactor.advance(0)
        line = f'#: txsentinel pause m {AT + 60_001} at={AT + 1} id=a by="alice" reason="why"'
        self.assertTrue(host.files.done().startswith(f"# above\n{line}\n# between\nsentinel monitor m "))

    def test_removed_master(self) -> None:
        """The records of a master go when it is removed; they are back if the removal cannot be saved."""
        core = SentinelCore(SentinelOptions(my_id="a" * 40), Timings(), Limits(), lambda n: 0)
        restore_state(core, read(f"{MONITOR}#: txsentinel pause m {AT + 9} at={AT} id=x\n"), 0, AT)
        before = core.records.of_master("m")
        self.assertEqual(len(before), 1)
        removed = core.administration.remove("m", 1)
        self.assertEqual(core.records.of_master("m"), [])
        core.administration.readmit(removed, 1)
        self.assertEqual(core.records.of_master("m"), before)

    def test_dropped_by_a_sweep(self) -> None:
        """The sweep drops what has ended, which is a change to save."""
        core = SentinelCore(SentinelOptions(my_id="a" * 40), Timings(), Limits(), lambda n: 0)
        restore_state(core, read(f"{MONITOR}#: txsentinel pause m {AT + 9} at={AT} id=x\n"), 0, AT)
        core.outbox.take_dirty()
        core.sweep(8, AT + 8)
        self.assertEqual((len(core.records), core.outbox.take_dirty()), (1, set()))
        core.sweep(9, AT + 9)
        self.assertEqual((len(core.records), core.outbox.take_dirty()), (0, {"m"}))
