"""Tests of ``INFO``, ``ROLE`` and ``SHUTDOWN``."""

from __future__ import annotations

import os

from tests.conftest import COMPILED
from tests.server.harness import FakeJob, ServerHarness, ServerTestCase
from txsentinel.config.generic import GenericOptions

SECTIONS = ["# Server", "# Clients", "# Stats", "# CPU", "# Sentinel"]


class InfoTests(ServerTestCase):
    """``INFO`` and its five sections."""

    def info(self, *sections: str) -> list[str]:
        """Return the lines of a reply."""
        reply = self.client.reply("INFO", *sections)
        assert isinstance(reply, bytes)
        return reply.decode().split("\r\n")

    def test_sections_in_fixed_order(self) -> None:
        """All sections are returned without an argument and for ``all``, ``default`` and ``everything``."""
        for words in ((), ("all",), ("Default",), ("everything",), ("invalid", "ALL")):
            self.assertEqual([line for line in self.info(*words) if line.startswith("#")], SECTIONS, words)

    def test_named_sections(self) -> None:
        """The named sections are returned in any order and letter case; unknown names add nothing."""
        lines = self.info("sentinel", "invalid", "SERVER")
        self.assertEqual([line for line in lines if line.startswith("#")], ["# Server", "# Sentinel"])
        self.assertEqual(lines[lines.index("# Sentinel") - 1], "")
        self.assertEqual(self.client.ask("INFO", "memory"), b"$0\r\n\r\n")

    def test_bulk_in_resp3(self) -> None:
        """The reply is a bulk string in both protocols."""
        self.client.ask("HELLO", 3)
        self.assertTrue(self.client.ask("INFO", "cpu").startswith(b"$"))

    def test_sentinel_section(self) -> None:
        """The section has exactly these lines, with one for each master."""
        self.harness.watch("other", 6380, 1).info_refreshed_at = self.harness.host.now()
        self.master.sdown_since = self.harness.host.now()
        self.master.odown_since = self.harness.host.now()
        self.harness.scripts.jobs = [FakeJob("/a", started_at=1), FakeJob("/b")]
        self.harness.core.simulate_crash.add("crash-after-promotion")
        self.assertEqual(
            self.info("sentinel"),
            [
                "# Sentinel",
                "sentinel_masters:2",
                "sentinel_tilt:0",
                "sentinel_tilt_since_seconds:-1",
                "sentinel_total_tilt:0",
                "sentinel_running_scripts:1",
                "sentinel_scripts_queue_length:2",
                "sentinel_simulate_failure_flags:2",
                "sentinel_storage:ok",
                "master0:name=mymaster,status=odown,address=127.0.0.1:6379,slaves=0,sentinels=1",
                "master1:name=other,status=ok,address=127.0.0.1:6380,slaves=0,sentinels=1",
                "sentinel_blocked_masters:2",
                "blocked0:name=mymaster,reasons=quorum+quorum-too-high+no-replica",
                "blocked1:name=other,reasons=no-replica",
                "",
            ],
        )

    def test_tilt(self) -> None:
        """Whole seconds since TILT began."""
        self.harness.core.tilt.since = self.harness.host.now() - 2_700
        self.harness.core.tilt.total = 3
        self.assertEqual(
            self.info("sentinel")[2:5], ["sentinel_tilt:1", "sentinel_tilt_since_seconds:2", "sentinel_total_tilt:3"]
        )

    def test_server_section(self) -> None:
        """Version, mode and the other fields that clients and operators use."""
        lines = self.info("server")
        for line in (
            "redis_version:7.2.4",
            "server_name:txsentinel",
            "txsentinel_version:9.9",
            f"txsentinel_build:{'compiled' if os.environ.get(COMPILED) else 'pure'}",
            "redis_mode:sentinel",
            "os:Linux 6.1 x86_64",
            "process_id:4242",
            f"run_id:{'f' * 40}",
            "tcp_port:26379",
            "uptime_in_seconds:90000",
            "uptime_in_days:1",
            "executable:/opt/txsentinel",
            "config_file:/etc/sentinel.conf",
            "listener0:name=tcp,bind=*,bind=-::*,port=26379",
        ):
            self.assertIn(line, lines)

    def test_listeners(self) -> None:
        """Configured listeners are numbered; others are absent."""
        self.harness = ServerHarness(
            GenericOptions(port=0, tls_port=6390, unixsocket="s.sock", dir="/run", bind=["::1"])
        )
        self.client = self.harness.connect()
        lines = self.info("server")
        self.assertEqual(
            [line for line in lines if line.startswith("listener")],
            ["listener1:name=unix,bind=/run/s.sock", "listener2:name=tls,bind=::1,port=6390"],
        )
        self.assertIn("tcp_port:6390", lines)

    def test_clients_section(self) -> None:
        """Only clients of the server are counted, not its own links."""
        self.harness.connect().ask("SUBSCRIBE", "x")
        lines = self.info("clients")
        self.assertEqual(lines[1:4], ["connected_clients:2", "cluster_connections:0", "maxclients:10000"])
        self.assertIn("pubsub_clients:1", lines)

    def test_stats_section(self) -> None:
        """Counters are live; what a Sentinel lacks is zero, with decimals where Redis has them."""
        self.client.ask("NOPE")
        self.client.ask("PING")
        lines = self.info("stats")
        for line in (
            "total_connections_received:1",
            "total_commands_processed:2",
            "total_error_replies:1",
            "rejected_connections:0",
            "keyspace_hits:0",
            "expired_stale_perc:0.00",
            "instantaneous_input_repl_kbps:0.00",
        ):
            self.assertIn(line, lines)

    def test_rates(self) -> None:
        """Rates cover the time between the latest two inspections of the clients."""
        self.harness.factory.inspect()
        for _ in range(10):
            self.client.ask("PING")
        self.harness.host.reactor.advance(2)
        self.harness.factory.inspect()
        self.assertIn("instantaneous_ops_per_sec:5", self.info("stats"))

    def test_cpu_section(self) -> None:
        """Seconds with six decimals."""
        self.assertEqual(self.info("cpu")[1:3], ["used_cpu_sys:1.500000", "used_cpu_user:2.250000"])


class RoleTests(ServerTestCase):
    """``ROLE``."""

    def test_names_of_masters(self) -> None:
        """The reply is ``sentinel`` and the list of master names, which may be empty."""
        self.assertEqual(self.client.reply("ROLE"), [b"sentinel", [b"mymaster"]])
        self.assertEqual(ServerHarness().connect().reply("ROLE"), [b"sentinel", []])


class ShutdownTests(ServerTestCase):
    """``SHUTDOWN``."""

    def test_no_reply(self) -> None:
        """The process is stopped, and the client gets no reply before its connection closes."""
        for words in ((), ("NOSAVE",), ("save", "now", "force")):
            self.client = self.harness.connect()
            self.assertEqual(self.client.ask("SHUTDOWN", *words), b"")
            self.assertTrue(self.client.closed)
        self.assertEqual(self.harness.stopped, 3)

    def test_refusals(self) -> None:
        """Contradicting options are refused and do not stop the process."""
        self.refused("ERR syntax error", "SHUTDOWN", "SAVE", "NOSAVE")
        self.refused("ERR syntax error", "SHUTDOWN", "x")
        self.refused("ERR syntax error", "SHUTDOWN", "ABORT", "NOW")
        self.refused("ERR No shutdown in progress.", "SHUTDOWN", "ABORT")
        self.assertEqual(self.harness.stopped, 0)
