"""Files are exchanged with real C Sentinels, in both directions."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.config.state import FakeCore, add_peer, add_replica, address, make_master
from tests.servers import call, free_port, missing
from txsentinel.config.configuration import Configuration, load
from txsentinel.config.directives import HEAD, TAIL, apply_set, owner_of
from txsentinel.config.records import record_lines
from txsentinel.config.rendering import master_lines, own_head_lines, own_tail_lines
from txsentinel.core.durable_records import ALL_MASTERS
from txsentinel.core.options import GuardOptions
from txsentinel.demo.programs import sentinel_command

TIMEOUT = 10.0
"""Maximum time in seconds until a Sentinel answers its first PING."""

HAND_WRITTEN = """\
# Sentinel of the cache group
port {port}
bind 127.0.0.1
loglevel notice
# --- monitored groups ---


sentinel monitor cache 127.0.0.1 {closed} 1
sentinel down-after-milliseconds cache 5000
sentinel parallel-syncs cache 1
sentinel auth-pass cache s3cret

sentinel monitor other 127.0.0.1 {other} 2
# keep this comment
sentinel deny-scripts-reconfig no
sentinel known-replica cache 127.0.0.1 {replica}
sentinel known-sentinel other 127.0.0.1 {peer} {peer_id}
"""

RECORDED_AT = 1_800_000_000_000

RECORDS = f"""\
#: txsentinel pause cache {RECORDED_AT + 60_000} at={RECORDED_AT} id=a1 scope=failover by="al ice" reason="a \\"b\\""
#: txsentinel pause * {RECORDED_AT + 60_000} at={RECORDED_AT} id=a2 withdrawn=yes
#: txsentinel forgotten cache 10.0.0.9:6379 {RECORDED_AT + 60_000} at={RECORDED_AT} id=a3
#: txsentinel parked cache 10.0.0.8:6379 {RECORDED_AT + 60_000} at={RECORDED_AT} id=a4
"""

PEER_ID = "77ec4d67f56e286dd23ba435f0b1f4ff93bde731"


def core_of(loaded: Configuration) -> FakeCore:
    """Return the state that a configuration describes."""
    core = FakeCore(options=loaded.sentinel, current_epoch=loaded.current_epoch)
    for record in loaded.masters:
        master = core.add(make_master(record.name, record.host, record.port))
        master.options, master.config_epoch = record.options, record.config_epoch
        master.leader_epoch = record.leader_epoch
        for host, port in record.replicas:
            add_replica(master, address(host, port))
        for host, port, run_id in record.sentinels:
            add_peer(master, run_id, address(host, port))
    core.records.restore(loaded.records, 0, RECORDED_AT)
    return core


def rewritten(loaded: Configuration, core: FakeCore) -> bytes:
    """Return the file of ``loaded`` with the state of ``core``."""
    document = loaded.document
    document.put(HEAD, own_head_lines(core.options, document))
    for name, master in core.registry.masters.items():
        records = record_lines(core.records.of_master(name))
        document.put(owner_of(name), [*master_lines(master, by_hostname=False), *records])
    records = record_lines(core.records.of_master(ALL_MASTERS))
    document.put(TAIL, [*own_tail_lines(core.options, core.current_epoch), *records])
    return document.render()


class FileExchange:
    """Guarantees for every C Sentinel."""

    kind: str

    def setUp(self) -> None:
        """Set up a hand-written file in a directory of its own."""
        case = self.case()
        directory = Path(case.mktemp()).absolute()
        directory.mkdir(parents=True)
        self.file = directory / "sentinel.conf"
        self.port = free_port()
        ports = {name: free_port() for name in ("closed", "other", "replica", "peer")}
        self.file.write_text(HAND_WRITTEN.format(port=self.port, peer_id=PEER_ID, **ports))
        self.closed = ports["closed"]
        self.process: subprocess.Popen[bytes] | None = None
        case.addCleanup(self.stop)

    def case(self) -> SynchronousTestCase:
        """The test case that is mixed in."""
        assert isinstance(self, SynchronousTestCase)
        return self

    def start(self) -> None:
        """Start the C Sentinel with the file, and wait until it answers."""
        log = self.file.with_suffix(".log").open("wb")
        with log:
            self.process = subprocess.Popen(
                sentinel_command(self.kind, str(self.file)), stdout=log, stderr=log, cwd=self.file.parent
            )
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                call(self.port, "PING")
                return
            except OSError:
                output = self.file.with_suffix(".log").read_text(errors="replace")
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.case().fail(f"{self.kind} does not accept the file:\n{output}\n{self.file.read_text()}")
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it, if it is running."""
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            process.wait(TIMEOUT)

    def load(self) -> Configuration:
        """Read the file with txsentinel."""
        return load(str(self.file), self.file.read_bytes(), environment={})

    def test_there_and_back(self) -> None:
        """txsentinel reads what C wrote, C reads what txsentinel made of that, and both have the same state."""
        case = self.case()
        self.start()
        my_id = call(self.port, "SENTINEL", "MYID") if self.kind != "redis-6.2" else None
        call(self.port, "SENTINEL", "MONITOR", "third", "127.0.0.1", 1, 3)
        call(self.port, "SENTINEL", "SET", "third", "auth-pass", "secret")
        call(self.port, "SENTINEL", "SET", "cache", "rename-command", "SCRIPT", "scr-x")
        call(self.port, "SENTINEL", "FLUSHCONFIG")
        self.stop()

        loaded = self.load()
        masters = {record.name: record for record in loaded.masters}
        case.assertEqual(sorted(masters), ["cache", "other", "third"])
        case.assertIn(my_id, (None, loaded.sentinel.my_id))
        case.assertEqual(masters["third"].options.auth_pass, "secret")
        case.assertEqual(masters["cache"].options.renamed_commands, {"SCRIPT": "scr-x"})
        case.assertEqual(masters["cache"].options.down_after, 5000)
        case.assertEqual([sentinel[2] for sentinel in masters["other"].sentinels], [PEER_ID])

        core = core_of(loaded)
        cache = core.registry.masters["cache"]
        cache.options.auth_pass = 'two words, "quotes" and\na line end'
        cache.options.renamed_commands["CONFIG"] = "a b"
        cache.config_epoch = cache.leader_epoch = core.current_epoch = 12
        add_replica(cache, address("::1", 7))
        add_peer(cache, PEER_ID, address("127.0.0.1", 8))
        core.add(make_master("a spaced 'name'", "127.0.0.1", 9, quorum=5))
        del core.registry.masters["third"]
        loaded.document.drop(owner_of("third"))
        written = rewritten(loaded, core)
        self.file.write_bytes(written)
        self.start()
        case.assertEqual(call(self.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "a spaced 'name'"), ["127.0.0.1", "9"])
        case.assertEqual(
            call(self.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "cache"), ["127.0.0.1", str(self.closed)]
        )
        case.assertIsNone(call(self.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "third"))
        for word, count in (("REPLICAS", 2), ("SENTINELS", 1)):
            listed = call(self.port, "SENTINEL", word, "cache")
            assert isinstance(listed, list)
            case.assertEqual(len(listed), count, word)
        self.stop()
        case.assertEqual(self.file.read_bytes(), written, "with an ID in the file, C has no reason to rewrite it")

    def test_settings_that_c_does_not_have(self) -> None:
        """C ignores them, keeps them in their places when it rewrites the file, and txsentinel finds them again."""
        case = self.case()
        secret = self.file.with_suffix(".pass")
        secret.write_text("by reference")
        secret.chmod(0o600)
        above = "#: txsentinel lineage cache strict\n#: txsentinel nobody knows this\n" + RECORDS
        above += f"#: txsentinel secret auth-pass cache file:{secret}\n"
        self.file.write_text(above + self.file.read_text())
        ours = self.load()
        core = core_of(ours)
        options = core.registry.masters["cache"].options
        for option, value in (("crash-failover", "on"), ("fence-after", "1500")):
            apply_set(options, option, [value], deny_scripts=True, executable=lambda path: False)
        self.file.write_bytes(rewritten(ours, core))
        before = [line for line in self.file.read_text().splitlines() if line.startswith("#: ")]
        case.assertEqual(len(before), 9, before)

        self.start()
        call(self.port, "SENTINEL", "SET", "cache", "quorum", 4)
        call(self.port, "SENTINEL", "SET", "cache", "down-after-milliseconds", 1400)
        call(self.port, "SENTINEL", "REMOVE", "other")
        call(self.port, "SENTINEL", "MONITOR", "third", "127.0.0.1", 1, 3)
        call(self.port, "SENTINEL", "FLUSHCONFIG")
        self.stop()

        text = self.file.read_text()
        case.assertTrue(text.startswith(above), text)
        case.assertEqual([line for line in text.splitlines() if line.startswith("#: ")], before)
        theirs = self.load()
        masters = {record.name: record.options for record in theirs.masters}
        case.assertEqual(sorted(masters), ["cache", "third"])
        case.assertEqual(masters["cache"].guards, options.guards)
        case.assertEqual((masters["cache"].quorum, masters["cache"].down_after), (4, 1400))
        case.assertEqual(masters["cache"].guards.fence_delay(1400), 1399)
        case.assertEqual(masters["third"].guards, GuardOptions())
        case.assertEqual(theirs.records, ours.records)
        case.assertEqual(len(theirs.records), 4)
        case.assertEqual((masters["cache"].auth_pass, masters["cache"].next_auth_pass), ("by reference", "s3cret"))
        case.assertEqual(len(theirs.warnings), 3, theirs.warnings)

    def test_same_result(self) -> None:
        """From one hand-written file, both write files with the same state and the same comments."""
        case = self.case()
        ours = self.load()
        self.start()
        call(self.port, "SENTINEL", "FLUSHCONFIG")
        self.stop()
        theirs = self.load()
        ours.sentinel.my_id = theirs.sentinel.my_id
        text = rewritten(ours, core_of(ours))
        again = load(str(self.file), text)
        case.assertEqual(again.masters, sorted(theirs.masters, key=lambda record: record.name))
        case.assertEqual(again.sentinel, theirs.sentinel)
        comments = [line for line in self.file.read_text().splitlines() if line.startswith("#")]
        case.assertEqual([line for line in text.decode().splitlines() if line.startswith("#")], comments)


class RedisTests(FileExchange, SynchronousTestCase):
    """The installed Redis."""

    kind = "redis"
    if missing(kind):
        skip = missing(kind)


class OldRedisTests(FileExchange, SynchronousTestCase):
    """Redis 6.2."""

    kind = "redis-6.2"
    if missing(kind):
        skip = missing(kind)


class ValkeyTests(FileExchange, SynchronousTestCase):
    """Valkey 9."""

    kind = "valkey"
    if missing(kind):
        skip = missing(kind)


class Redis82Tests(FileExchange, SynchronousTestCase):
    """Redis 8.2."""

    kind = "redis-8.2"
    if missing(kind):
        skip = missing(kind)


class Valkey81Tests(FileExchange, SynchronousTestCase):
    """Valkey 8.1."""

    kind = "valkey-8.1"
    if missing(kind):
        skip = missing(kind)
