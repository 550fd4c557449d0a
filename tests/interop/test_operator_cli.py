"""The verbs for operators against real Sentinels: three C ones, three of ours, and a mixed group."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import unittest
from itertools import count
from typing import Any, ClassVar

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.interop.test_prometheus import Prometheus
from tests.servers import (
    Connection,
    EventRecorder,
    Fleet,
    Harness,
    ReplyError,
    SentinelProcess,
    call,
    free_port,
    missing,
    pairs,
    wait_for,
)
from tests.tls.authority import Authority
from tests.tls.installation import TlsHarness
from tests.tls.test_with_real_binaries import needs_tls
from txsentinel.cli.operator import command
from txsentinel.cli.operator.fleet_metrics import page
from txsentinel.extensions.metrics.format import Format
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.connection import ConnectionSettings
from txsentinel.remote.fleet import read_fleet

KILLED_WHILE_HOLDING = """
import os, sys
from txsentinel.cli.operator import command, switching

def made(plan, settings, server_settings, limits, progress, log, stop):
    def watched(after_ms, text):
        progress(after_ms, text)
        if text.startswith("writes "):
            os._exit(9)
    return original(plan, settings, server_settings, limits, watched, log=log, stop=stop)

original, switching.Switchover = switching.Switchover, made
sys.exit(command.run(["switchover", "mymaster", "--yes", *sys.argv[1:]]))
"""
"""A program that ends without any cleanup when the writes are held or rejected."""


class Writer(threading.Thread):
    """Adds numbers to a set at the master that a Sentinel names, and remembers those that were acknowledged."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(daemon=True)
        self.key = key
        self.acknowledged: list[int] = []
        self._fleet = fleet
        self._stopped = threading.Event()

    def run(self) -> None:
        """Write until :meth:`stop` is called."""
        numbers = count()
        while not self._stopped.is_set():
            with contextlib.suppress(OSError, ReplyError):
                port = self._fleet.master_seen_by(self._fleet.sentinels[0])
                with Connection(port or 0, timeout=20.0) as connection:
                    while not self._stopped.is_set():
                        number = next(numbers)
                        connection.call("SADD", self.key, number)
                        self.acknowledged.append(number)
            self._stopped.wait(0.01)

    def stop(self) -> None:
        """Stop, and wait for the thread."""
        self._stopped.set()
        self.join(SECONDS)


class VerbCase(SynchronousTestCase):
    """One group for all tests of a class, which leave it as they found it."""

    kinds: ClassVar[tuple[str, ...]] = ()
    server_kind: ClassVar[str] = "redis"
    # No process is considered down while it only waits for a busy processor.
    options: ClassVar[dict[str, Any]] = {"down_after": 10_000}
    harness_kind: ClassVar[type[Harness]] = Harness
    harness: ClassVar[Harness]
    fleet: ClassVar[Fleet]

    @classmethod
    def setUpClass(cls) -> None:
        cls.harness = cls.harness_kind()
        try:
            cls.fleet = Fleet(cls.harness, cls.kinds, cls.server_kind, **cls.options)
            cls.fleet.start()
        except BaseException:
            cls.harness.close()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        cls.harness.close()

    errors = ""
    """What the last verb printed on standard error."""

    def run_verb(self, *words: str) -> tuple[int, str]:
        """Run a verb, starting from the first Sentinel; return its status and what it printed."""
        environment = {"TXSENTINEL_SENTINELS": f"127.0.0.1:{self.fleet.sentinels[0].port}"} | self.state_home()
        with CliRunner().isolation(None, {"XDG_CONFIG_HOME": "/nonexistent"} | environment) as (out, errors, *_):
            status = command.run(words)
            sys.stderr.flush()
            self.errors = errors.getvalue().decode()
            return status, out.getvalue().decode()

    def state_home(self) -> dict[str, str]:
        """Return the variable with the directory in which changed settings are recorded."""
        return {"XDG_STATE_HOME": str(self.harness.directory / "state")}

    def check_reading(self) -> None:
        """Check the verbs that only read."""
        port = self.fleet.master_port()
        status, listed = self.run_verb("list", "-o", "json")
        self.assertEqual(status, 0, listed)
        found = json.loads(listed)
        self.assertEqual([each["id"] is None for each in found["sentinels"]], [False] * 3)
        kinds = {each["address"]["port"]: each["kind"] for each in found["sentinels"]}
        self.assertEqual(kinds, {each.port: each.kind for each in self.fleet.sentinels})
        self.assertEqual(self.run_verb("master", "mymaster"), (0, f"127.0.0.1:{port}\n"))
        status, replicas = self.run_verb("replicas", "mymaster", "-o", "tsv")
        expected = {f"127.0.0.1\t{each}" for each in self.fleet.servers if each != port}
        self.assertEqual((status, set(replicas.splitlines()[1:])), (0, expected))
        status, tree = self.run_verb("topology", "mymaster")
        self.assertEqual(status, 0, tree)
        self.assertTrue(tree.startswith(f"127.0.0.1:{port}"), tree)
        self.assertEqual(tree.count("next to be promoted"), 1, tree)
        self.assertEqual(self.run_verb("master", "other"), (1, ""))

    def check_explained(self) -> None:
        """Check that the group is explained as healthy, and names the replica of the topology."""
        status, text = self.run_verb("explain", "mymaster", "-o", "json")
        self.assertEqual(status, 0, text)
        found = json.loads(text)
        self.assertEqual(found["verdict"]["code"], "healthy")
        # Offsets grow with each PING of the master, so Sentinels that were asked at different times may differ.
        wait_for(self.names_one_replica, SECONDS, "one replica in the explanation and in the topology")
        self.assertEqual([each["reports_down"] for each in found["agreement"]["voters"]], [False] * 3)

    def names_one_replica(self) -> bool:
        """Whether the explanation and the topology have the same replica as the next master."""
        promoted = json.loads(self.run_verb("explain", "mymaster", "-o", "json")[1])["would_promote"]
        return f"{promoted} " in self.run_verb("topology", "mymaster")[1].partition("next to be promoted")[0]

    def check_settings(self) -> None:
        """Check that a setting is changed everywhere, and that a difference is found."""
        self.assertEqual(self.run_verb("diff")[0], 0)
        self.assertEqual(self.run_verb("set", "mymaster", "parallel-syncs", "2")[0], 0)
        status, text = self.run_verb("diff", "mymaster")
        self.assertEqual(status, 2)
        self.assertIn(f"127.0.0.1:{self.fleet.sentinels[0].port} has 2, the others 1", text)
        self.assertEqual(self.run_verb("set", "mymaster", "parallel-syncs", "1", "--fleet")[0], 0)
        self.assertEqual(self.run_verb("diff")[0], 0)

    def check_switchover(self, *words: str) -> None:
        """Check that a master under writes is moved, and that no acknowledged write is lost."""
        for each in self.fleet.sentinels:
            each.call("SENTINEL", "DEBUG", "INFO-PERIOD", 300)
        before = self.fleet.master_port()
        writers = [Writer(self.fleet, f"set{number}") for number in range(6)]
        for writer in writers:
            writer.start()
        try:
            wait_for(lambda: all(len(writer.acknowledged) > 50 for writer in writers), SECONDS, "writes")
            # The last INFO may be older than the new period allows.
            wait_for(lambda: self.run_verb("switchover", "mymaster", "--dry-run")[0] == 0, SECONDS, "the conditions")
            status, text = self.run_verb("switchover", "mymaster", "--yes", "--max-pause", "60s", "-o", "json", *words)
            counts = [len(writer.acknowledged) for writer in writers]
            wait_for(
                lambda: all(
                    len(writer.acknowledged) > count + 50 for writer, count in zip(writers, counts, strict=True)
                ),
                SECONDS,
                "writes at the new master",
            )
        finally:
            for writer in writers:
                writer.stop()
        self.assertTrue(text, f"status {status}: {self.errors}")
        receipt = json.loads(text)
        self.assertEqual((status, receipt["verdict"]), (0, "proven"), text)
        self.assertEqual(receipt["old"]["address"]["port"], before)
        after = self.fleet.wait_quiet()
        self.assertEqual(receipt["new"]["address"]["port"], after)
        for writer in writers:
            present = {int(each) for each in call(after, "SMEMBERS", writer.key)}  # type: ignore[union-attr, arg-type]
            self.assertEqual(set(writer.acknowledged) - present, set())
        self.assertEqual(receipt["resyncs"], {"partial": 2, "full": 0})
        # Nothing is held there any more: a write is answered.
        refused = self.assertRaises(ReplyError, call, before, "SET", "color", "red")
        self.assertIn("READONLY", str(refused))
        for server in self.fleet.servers.values():
            self.assertEqual(server.call("CONFIG", "GET", "min-replicas-to-write"), ["min-replicas-to-write", "0"])
        for server in self.fleet.servers.values():
            self.assertEqual(server.call("CONFIG", "GET", "replica-priority"), ["replica-priority", "100"])

    def check_all(self, *words: str) -> None:
        """Check all verbs that leave the group as it is; ``words`` are options of the switchover."""
        self.check_reading()
        self.check_explained()
        self.check_settings()
        self.check_switchover(*words)


class RedisTests(VerbCase):
    """Three redis-sentinel."""

    kinds = ("redis", "redis", "redis")
    if missing("redis"):
        skip = missing("redis")

    def test_verbs(self) -> None:
        """All Sentinels are found from one address, agree, and are explained and changed."""
        self.check_all()

    def test_metrics(self) -> None:
        """The page of ``serve-metrics`` has the values that the Sentinels answer themselves."""
        endpoints = [Endpoint("127.0.0.1", each.port) for each in self.fleet.sentinels]
        text = page(read_fleet(endpoints[:1], ConnectionSettings()), Format.TEXT).decode()
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        for sentinel in self.fleet.sentinels:
            fields = pairs(sentinel.call("SENTINEL", "MASTER", "mymaster"))
            own = f'sentinel="127.0.0.1:{sentinel.port}"'
            names = f'{own},master_name="mymaster",master_address="127.0.0.1:{fields["port"]}"'
            expected = {
                "slaves": fields["num-slaves"],
                "sentinels": str(int(fields["num-other-sentinels"]) + 1),
                "setting_ckquorum": fields["quorum"],
                "setting_failover_timeout": fields["failover-timeout"],
                "setting_down_after_milliseconds": fields["down-after-milliseconds"],
                "config_epoch": fields["config-epoch"],
            }
            shown = {name: found.get(f"redis_sentinel_master_{name}{{{names}}}") for name in expected}
            self.assertEqual(shown, expected)
            self.assertEqual(found[f"redis_sentinel_masters{{{own}}}"], "1")
        promtool = shutil.which("promtool")
        if promtool:
            done = subprocess.run(
                [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=SECONDS
            )
            # The name is that of redis_exporter.
            problems = [line for line in done.stderr.splitlines() if "use base unit" not in line]
            self.assertEqual(problems, [])

    def test_scraped(self) -> None:
        """A Prometheus that scrapes ``serve-metrics`` has what the replicas lack, and why one would not be promoted."""
        if shutil.which("prometheus") is None:
            raise unittest.SkipTest("prometheus is not installed")
        for each in self.fleet.sentinels:
            each.call("SENTINEL", "DEBUG", "INFO-PERIOD", 300)
        port, environment = free_port(), os.environ | self.state_home()
        words = ["serve-metrics", "--listen", f"tcp:{port}:interface=127.0.0.1"]
        words += ["--sentinel", f"127.0.0.1:{self.fleet.sentinels[0].port}"]
        prometheus = Prometheus(free_port(), self.harness.directory / "prometheus", [port])
        self.addCleanup(prometheus.stop)
        before = self.fleet.master_port()
        replicas = {f"127.0.0.1:{each}": server for each, server in self.fleet.servers.items() if each != before}
        first = next(iter(replicas.values()))
        first.call("CONFIG", "SET", "replica-priority", 0)
        self.addCleanup(first.call, "CONFIG", "SET", "replica-priority", 100)
        with subprocess.Popen([sys.executable, "-m", "txsentinel.cli.operator", *words], env=environment) as served:
            try:
                prometheus.start()
                sentinels = {f"127.0.0.1:{each.port}": 1.0 for each in self.fleet.sentinels}
                query = 'txsentinel_replica_unfit{reason="priority_zero"}'
                wait_for(lambda: prometheus.values(query, "sentinel") == sentinels, SECONDS, "the reason")
                lags = prometheus.values("txsentinel_replica_lag_bytes", "replica")
                self.assertEqual(set(lags), set(replicas))
                self.assertTrue(all(each >= 0 for each in lags.values()), lags)
                self.assertEqual(prometheus.values("up"), {f"127.0.0.1:{port}": 1.0})
            finally:
                served.terminate()

    def test_following(self) -> None:
        """``run`` restarts its program when the master moves, and ``watch`` shows the move."""
        path = self.harness.directory / "seen"
        environment = os.environ | {"TXSENTINEL_SENTINELS": f"127.0.0.1:{self.fleet.sentinels[0].port}"}
        start = [sys.executable, "-m", "txsentinel.cli.operator"]
        for each in self.fleet.sentinels:
            each.call("SENTINEL", "DEBUG", "INFO-PERIOD", 300)
        before = self.fleet.master_port()
        write = f"echo $REDIS_PORT >>{path}; exec sleep 1000"
        with (
            subprocess.Popen([*start, "watch", "-o", "json"], env=environment, stdout=subprocess.PIPE) as watch,
            subprocess.Popen([*start, "run", "mymaster", "--", "sh", "-c", write], env=environment) as run,
        ):
            try:
                assert watch.stdout is not None
                self.assertIn(b"connected", watch.stdout.readline())
                wait_for(path.exists, SECONDS, "the program")
                self.fleet.sentinels[1].call("SENTINEL", "FAILOVER", "mymaster")
                wait_for(lambda: len(path.read_text().splitlines()) > 1, SECONDS, "the program to be restarted")
                moved = next(json.loads(line) for line in watch.stdout if b"+switch-master" in line)
            finally:
                run.terminate()
                watch.terminate()
        after = self.fleet.wait_quiet()
        self.assertEqual(path.read_text().split(), [str(before), str(after)])
        self.assertEqual(moved["payload"], f"mymaster 127.0.0.1 {before} 127.0.0.1 {after}")
        self.assertEqual(run.returncode, 128 + signal.SIGTERM)

    def test_killed(self) -> None:
        """The writes go on at the master before a Sentinel considers it down, and none is lost."""
        for each in self.fleet.sentinels:
            each.call("SENTINEL", "DEBUG", "INFO-PERIOD", 300)
        before = self.fleet.master_port()
        environment = os.environ | {"TXSENTINEL_SENTINELS": f"127.0.0.1:{self.fleet.sentinels[0].port}"}
        environment |= self.state_home()
        recorder = EventRecorder(self.fleet.ports).start()
        self.addCleanup(recorder.stop)
        writer = Writer(self.fleet, "killed")
        writer.start()
        try:
            wait_for(lambda: len(writer.acknowledged) > 50, SECONDS, "writes")
            ended = subprocess.run([sys.executable, "-c", KILLED_WHILE_HOLDING], env=environment, capture_output=True)
            self.assertEqual(ended.returncode, 9, ended)
            self.assertIn(b"writes held", ended.stdout)
            held = len(writer.acknowledged)
            wait_for(lambda: len(writer.acknowledged) > held + 50, SECONDS, "writes to go on")
        finally:
            writer.stop()
        self.assertEqual(self.fleet.wait_quiet(), before)
        self.assertEqual([each.payload for each in recorder.events if each.channel == "+sdown"], [])
        present = {int(each) for each in call(before, "SMEMBERS", writer.key)}  # type: ignore[union-attr, arg-type]
        self.assertEqual(set(writer.acknowledged) - present, set())
        self.check_restored({"replica-priority": "100"})
        ended = subprocess.run(
            [sys.executable, "-c", KILLED_WHILE_HOLDING, "--method", "reject"], env=environment, capture_output=True
        )
        self.assertEqual(ended.returncode, 9, ended)
        refused = self.assertRaises(ReplyError, call, before, "SET", "color", "red")
        self.assertIn("NOREPLICAS", str(refused))
        self.check_restored({"replica-priority": "100", "min-replicas-to-write": "0"})

    def check_restored(self, expected: dict[str, str]) -> None:
        """Check that what was left is reported and set back."""
        findings = json.loads(self.run_verb("doctor", "-o", "json")[1])[0]["findings"]
        left = {each["text"].partition(" of ")[0] for each in findings if each["check"] == "D21"}
        self.assertEqual(left, set(expected))
        status, text = self.run_verb("restore")
        self.assertEqual((status, text.count("is set back from")), (0, len(expected)), text)
        for name, value in expected.items():
            found = {server.call("CONFIG", "GET", name)[1] for server in self.fleet.servers.values()}  # type: ignore[index]
            self.assertEqual(found, {value})
        self.assertEqual(self.run_verb("restore"), (0, "no setting is recorded as changed\n"))


class PauseTests(VerbCase):
    """A pause of three redis-sentinel whose master is lost."""

    kinds = ("redis", "redis", "redis")
    options: ClassVar[dict[str, Any]] = {"failover_timeout": 2000}
    if missing("redis"):
        skip = missing("redis")

    def test_pause(self) -> None:
        """While the votes are renewed there is no failover although all agree; after the end there is one."""
        environment = os.environ | {"TXSENTINEL_SENTINELS": f"127.0.0.1:{self.fleet.sentinels[0].port}"}
        words = ["pause", "mymaster", "--for", "10m", "--reason", "test"]
        start = [sys.executable, "-m", "txsentinel.cli.operator", *words]
        with subprocess.Popen(start, env=environment, stdout=subprocess.PIPE) as pause:
            try:
                assert pause.stdout is not None
                pause.stdout.readline()
                self.assertIn(b"GUARANTEED: 3 C Sentinels held", pause.stdout.readline())
                master = self.fleet.master()
                master.kill()
                wait_for(self.all_agree, SECONDS, "all to consider it down")
                # Without the pause one of them campaigns within a second.
                for _ in range(2):
                    self.assertIn(b"GUARANTEED", pause.stdout.readline())
                self.assertTrue(self.all_agree())
                self.assertEqual(self.fleet.master_port(), master.port)
            finally:
                pause.terminate()
            self.assertIn(b"may start a failover from", pause.stdout.read())
        self.assertEqual(pause.returncode, 0)
        wait_for(lambda: self.fleet.master_port() != master.port, SECONDS, "the failover")

    def all_agree(self) -> bool:
        """Whether all Sentinels consider the master down by agreement."""
        return all("o_down" in self.run_flags(each) for each in self.fleet.sentinels)

    def run_flags(self, sentinel: SentinelProcess) -> str:
        """Return the flags of the master at one Sentinel."""
        return pairs(sentinel.call("SENTINEL", "MASTER", "mymaster"))["flags"]


class TlsTests(VerbCase):
    """Two redis-sentinel and one of ours that accept TLS only, with certificates on all sides."""

    kinds = ("redis", "redis", "txsentinel")
    harness_kind = TlsHarness
    if missing("redis"):
        skip = missing("redis")

    @classmethod
    def setUpClass(cls) -> None:
        needs_tls("redis-cli", "--help")
        super().setUpClass()

    def test_verbs(self) -> None:
        """Sentinels and servers are read and switched over; an unknown authority is the reason for a refusal."""
        harness = self.harness
        assert isinstance(harness, TlsHarness)
        issued = harness.authority.issue("operator")
        options = ["--tls-ca", str(harness.authority.certificate), "--tls-cert", str(issued.certificate)]
        options += ["--tls-key", str(issued.key)]
        for each in self.fleet.sentinels:
            each.call("SENTINEL", "DEBUG", "INFO-PERIOD", 300)
        status, text = self.run_verb("list", "mymaster", *options)
        self.assertEqual(status, 0, text)
        ready = ("switchover", "mymaster", "--dry-run", *options)
        wait_for(lambda: self.run_verb(*ready)[0] == 0, SECONDS, "the conditions")
        status, text = self.run_verb("switchover", "mymaster", "--yes", "--max-pause", "60s", *options)
        self.assertEqual(status, 0, text)
        self.assertIn("PROVEN", text)
        self.fleet.wait_quiet()
        status, text = self.run_verb("watch", "--for", "500ms", *options)
        self.assertIn("(connected: ", text)
        self.assertNotIn("lost", text)
        status, text = self.run_verb("doctor", "-o", "json", *options)
        self.assertLess(status, 2, text)
        other = Authority(harness.directory / "other", "other")
        self.assertEqual(self.run_verb("list", "--tls-ca", str(other.certificate)), (69, ""))
        self.assertEqual(self.run_verb("list"), (69, ""))


class ValkeyTests(VerbCase):
    """Three valkey-sentinel."""

    kinds = ("valkey", "valkey", "valkey")
    server_kind = "valkey"
    if missing("valkey"):
        skip = missing("valkey")

    def test_verbs(self) -> None:
        """All Sentinels are found from one address, agree, and are explained and changed."""
        self.check_all("--method", "reject")


class OwnTests(VerbCase):
    """Three of ours."""

    kinds = ("txsentinel", "txsentinel", "txsentinel")
    if missing("redis"):
        skip = missing("redis")

    def test_verbs(self) -> None:
        """All Sentinels agree, are explained and changed, and record the switchover."""
        self.check_all()
        self.check_switchover("--method", "reject")
        status, text = self.run_verb("history", "mymaster", "-o", "json")
        self.assertEqual(status, 0, text)
        newest = json.loads(text)[0]["record"]
        self.assertEqual((newest["outcome"], newest["loss"]["verdict"]), ("switched", "none"))
        self.assertEqual(newest["to_server"]["address"]["port"], self.fleet.master_port())
        status, text = self.run_verb("explain", "mymaster")
        self.assertIn("source      by 127.0.0.1:", text)
        self.assertIn("journal", text)


class MixedTests(VerbCase):
    """One of ours and two C ones, of which one then ends."""

    kinds = ("txsentinel", "redis", "redis")
    if missing("redis"):
        skip = missing("redis")

    def test_verbs(self) -> None:
        """All Sentinels are found from one address, agree, and are explained and changed."""
        self.check_all()

    def test_doctor(self) -> None:
        """What is broken on real servers is found: rights, quorum, and replicas that may not be promoted."""
        fleet = self.fleet
        for each in fleet.sentinels:
            each.call("SENTINEL", "DEBUG", "INFO-PERIOD", 300)
        master = fleet.master()
        replicas = [server for server in fleet.servers.values() if server is not master]
        sound = self.checks("--active")
        self.assertEqual({check for check, severity in sound if severity == "error"}, set())
        master.call("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-slaveof", "-client|pause")
        fleet.sentinels[0].call("SENTINEL", "SET", "mymaster", "quorum", "4")
        for server in replicas:
            server.call("CONFIG", "SET", "replica-priority", 0)
        try:
            path = fleet.sentinels[0].directory / "secret"
            path.write_text("secret")
            wait_for(lambda: ("D04", "error") in self.checks(), SECONDS, "the priorities to be seen")
            found = self.checks("--active", "--server-user", "limited", "--server-password-file", str(path))
        finally:
            master.call("ACL", "DELUSER", "limited")
            fleet.sentinels[0].call("SENTINEL", "SET", "mymaster", "quorum", "2")
            for server in replicas:
                server.call("CONFIG", "SET", "replica-priority", 100)
            wait_for(lambda: ("D04", "error") not in self.checks(), SECONDS, "the priorities to be restored")
        self.assertLessEqual(
            {("D04", "error"), ("D05", "error"), ("D05", "warning"), ("D09", "warning"), ("D19", "note")}, found
        )

    def checks(self, *words: str) -> set[tuple[str, str]]:
        """Run the doctor and return the identifiers and severities of what it finds."""
        status, text = self.run_verb("doctor", "mymaster", "-o", "json", *words)
        self.assertLess(status, 3, text)
        return {(each["check"], each["severity"]) for each in json.loads(text)[0]["findings"]}

    def test_unreachable(self) -> None:
        """A Sentinel that ended is shown with the reason, and a majority still agrees."""
        ended = self.fleet.sentinels[2]
        ended.kill()
        try:
            status, listed = self.run_verb("list", "mymaster")
            self.assertEqual(status, 2)
            self.assertIn("agreed by 2 of 3", listed)
            self.assertIn("connection refused", listed)
            self.assertEqual(self.run_verb("master", "mymaster")[0], 0)
        finally:
            ended.start(keep_config=True)
            self.fleet.wait_quiet()
