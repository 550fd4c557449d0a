"""
A running Sentinel under attack by clients, servers, peers, scripts and files.

Each attack must cause a few clear log lines, lose and block nothing, use bounded memory, and not affect other clients
and a healthy master. With ``$TXSENTINEL_REPORT`` set, each attack prints the effect on the other client.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.interop.hostile import (
    HELLO_CHANNEL,
    INFO,
    Attacker,
    ClientMonitor,
    FakeServer,
    Script,
    endless,
    hang_up,
)
from tests.resp import bulk, pack
from tests.servers import (
    Connection,
    DeadlineExpired,
    Harness,
    ReplyError,
    SentinelProcess,
    free_port,
    info_fields,
    pairs,
    wait_for,
)

MEGABYTE = 1 << 20

TIMEOUT = 15.0
"""Seconds within which another client must get each reply; on an idle machine a tenth of one suffices."""


class AttackCase(SynchronousTestCase):
    """One Sentinel for all tests of a class, with one healthy master."""

    if not sys.platform.startswith("linux"):
        skip = "looks at processes as Linux shows them"

    password: ClassVar[str | None] = None
    extra: ClassVar[list[str]] = []
    harness: ClassVar[Harness]
    healthy: ClassVar[FakeServer]
    sentinel: ClassVar[SentinelProcess]

    @classmethod
    def setUpClass(cls) -> None:
        """Start the Sentinel."""
        cls.harness = Harness()
        cls.healthy = FakeServer()
        cls.sentinel = cls.harness.sentinel(
            "txsentinel",
            monitor=[("good", "127.0.0.1", cls.healthy.port, 1)],
            down_after=int(TIMEOUT * 1000),
            password=cls.password,
            extra=cls.extra,
        )
        cls.sentinel.start()

    @classmethod
    def tearDownClass(cls) -> None:
        """Stop the Sentinel."""
        cls.harness.close()
        cls.healthy.close()

    def setUp(self) -> None:
        self.lines_before = len(self.log_lines())
        self.watch = ClientMonitor(self.sentinel)

    def log_lines(self) -> list[str]:
        """Return all log lines."""
        return self.sentinel.log_text().splitlines()

    def logged(self) -> list[str]:
        """Return the log lines since the test began."""
        return self.log_lines()[self.lines_before :]

    def attacker(self) -> Attacker:
        """Open a connection, which is closed when the test ends."""
        attacker = Attacker(self.sentinel.port)
        self.addCleanup(attacker.socket.close)
        return attacker

    def assert_unharmed(self, megabytes: int, lines: int = 20) -> None:
        """Assert that it runs, served others, stayed below these limits of memory and log, and has its master up."""
        self.assertTrue(self.sentinel.running, self.sentinel.log_text()[-3000:])
        self.assertIsNone(self.watch.failure)
        self.assertLess(self.watch.slowest, TIMEOUT)
        self.assertLess(self.watch.grown, megabytes * MEGABYTE)
        logged = self.logged()
        self.assertLess(len(logged), lines, logged[:100])
        self.assertEqual([line for line in logged if "Traceback" in line or "+tilt" in line], [])
        wait_for(
            lambda: "name=good,status=ok" in str(self.sentinel.call("INFO", "sentinel")), SECONDS, "its master to be up"
        )

    def clients(self) -> int:
        """Return the number of connected clients."""
        return int(info_fields(self.sentinel.call("INFO", "clients"))["connected_clients"])


class ClientTests(AttackCase):
    """Attacks by clients."""

    extra: ClassVar[list[str]] = ["client-output-buffer-limit pubsub 1mb 512kb 5"]

    def test_random_bytes(self) -> None:
        """Random bytes on two hundred connections are answered with errors, or the connection is closed."""
        rng = random.Random(1)
        with self.watch:
            for _ in range(200):
                with self.attacker() as attacker:
                    attacker.send(rng.randbytes(rng.randrange(1, 5_000)))
        self.assert_unharmed(10)

    def test_half_commands(self) -> None:
        """A thousand clients that stop inside a command, or send it byte by byte, use little memory each."""
        with self.watch:
            half = [self.attacker() for _ in range(1_000)]
            for attacker in half:
                attacker.send(b"*2\r\n$4\r\nPI")
            slow = [self.attacker() for _ in range(50)]
            for byte in pack("PING"):
                for attacker in slow:
                    attacker.send(bytes((byte,)))
            self.assertEqual({attacker.receive() for attacker in slow}, {b"+PONG\r\n"})
            self.assertGreater(self.clients(), 1_000)
            for attacker in half + slow:
                attacker.socket.close()
            wait_for(lambda: self.clients() < 10, SECONDS, "the clients to be gone")
        self.assert_unharmed(40)

    def test_huge_headers(self) -> None:
        """A header above the limits is refused before memory is allocated."""
        with self.watch:
            for header, expected_error in (
                (b"*1\r\n$629145600\r\n", b"invalid bulk length"),
                (b"*2147483648\r\n", b"invalid multibulk length"),
                (b"*1\r\n$-1\r\n", b"invalid bulk length"),
                (b"x" * 70_000, b"too big inline request"),
                (b"*" + b"1" * 70_000, b"too big mbulk count string"),
            ):
                attacker = self.attacker()
                attacker.send(header)
                self.assertEqual(attacker.receive(), b"-ERR Protocol error: " + expected_error + b"\r\n")
                self.assertTrue(attacker.closed())
        self.assert_unharmed(20)

    def test_huge_requests(self) -> None:
        """A request with a valid header that never ends is cut off at a limit."""
        with self.watch:
            for header, piece in (
                (b"*1\r\n$524288000\r\n", b"x" * MEGABYTE),
                (b"*1000000\r\n", b"$1\r\na\r\n" * 10_000),
                (b"*2000000000\r\n", b"$0\r\n\r\n" * 10_000),
            ):
                attacker = self.attacker()
                attacker.send(header)
                pieces = 0
                while attacker.send(piece):
                    pieces += 1
                    self.assertLess(pieces * len(piece), 100 * MEGABYTE)
        self.assert_unharmed(100)

    def test_many_big_requests(self) -> None:
        """Clients below their own limits are closed when all together hold too much."""
        with self.watch:
            attackers = [self.attacker() for _ in range(12)]
            for attacker in attackers:
                attacker.send(b"*31\r\n" + (b"$1000000\r\n" + b"x" * 1_000_000 + b"\r\n") * 30)
            wait_for(lambda: self.clients() < 11, SECONDS, "some of them to be cut off")
        self.assert_unharmed(600)

    def test_deep_pipelines(self) -> None:
        """A hundred thousand commands whose replies are not read stay in the network, not in memory."""
        with self.watch:
            for words in (("PING", "x" * 1_000), ("INFO",), ("SENTINEL", "MASTERS"), ("COMMAND", "DOCS")):
                with self.attacker() as attacker:
                    attacker.send_without_reading(pack(*words) * 100_000, timeout=0.5)
        self.assert_unharmed(80)

    def test_pipeline_that_is_read(self) -> None:
        """Ten thousand commands at a time are all answered in the end, and other clients are served meanwhile."""
        with self.watch, Connection(self.sentinel.port, timeout=SECONDS) as client:
            for _ in range(2):
                for _ in range(10_000):
                    client.send("CLIENT", "LIST", "TYPE", "master")
                for _ in range(10_000):
                    self.assertEqual(client.read_reply(), "")
        self.assert_unharmed(40)

    def test_subscribers_that_do_not_read(self) -> None:
        """Subscribers that never read are closed during many events; those that read receive all events."""
        with self.watch, Connection(self.sentinel.port, timeout=SECONDS) as listener:
            stalled = [self.attacker() for _ in range(5)]
            patterns = [b"*" + b"*" * length for length in range(100)]
            for attacker in stalled:
                attacker.send(pack("PSUBSCRIBE", *patterns))
            listener.call("SUBSCRIBE", "+set")
            operator = Connection(self.sentinel.port, timeout=SECONDS)
            rounds, count = 0, 100
            while self.subscribers() > 1:
                rounds += 1
                self.assertLess(rounds, 60)
                for _ in range(count):
                    operator.send("SENTINEL", "SET", "good", "quorum", 1)
                self.assertEqual({str(operator.read_reply()) for _ in range(count)}, {"OK"})
                replies = [listener.read_reply() for _ in range(count)]
                self.assertEqual({frame[1] for frame in replies if isinstance(frame, list)}, {"+set"})
            operator.close()
        cut_off = [line for line in self.logged() if "output buffer limits" in line]
        self.assertEqual(len(cut_off), 5)
        self.lines_before = len(self.log_lines())
        self.assert_unharmed(60)

    def subscribers(self) -> int:
        """Return the number of subscribed clients."""
        return int(info_fields(self.sentinel.call("INFO", "clients"))["pubsub_clients"])

    def test_patterns(self) -> None:
        """Subscriptions of megabytes and thousands of them are refused; expensive patterns delay no other client."""
        with self.watch:
            for patterns in ([b"*a" * 30_000, b"x" * 60_000, b"y" * 60_000], [b"*%d" % n for n in range(20_000)]):
                attacker = self.attacker()
                attacker.send(pack("PSUBSCRIBE", *patterns))
                self.assertEqual(attacker.receive(), b"-ERR too many or too long subscriptions for one client\r\n")
            for pattern in (b"*a" * 1_000_000, b"[" + b"a-" * 1_000_000):
                attacker = self.attacker()
                attacker.send(pack("PSUBSCRIBE", pattern))
                self.assertIn(b"-ERR 'psubscribe' was given an argument of 200000", attacker.receive())
            pattern_client = self.attacker()
            pattern_client.send(pack("PSUBSCRIBE", *(b"*a*" * 30 + b"%d" % number for number in range(500))))
            for _ in range(20):
                self.sentinel.call("SENTINEL", "SET", "good", "quorum", 1)
            for pattern in (b"*a" * 30_000, b"[" + b"a-" * 30_000):
                client = self.attacker()
                client.send(pack("SENTINEL", "RESET", pattern))
                self.assertEqual(client.receive(), b":0\r\n")
        self.assert_unharmed(120, lines=60)

    def test_client_kills_itself(self) -> None:
        """A client may kill itself with a pipeline behind it; other clients are not affected."""
        with self.watch:
            client = self.attacker()
            client.send(b"CLIENT ID\r\n")
            number = client.receive()[1:-2]
            client.send(b"CLIENT KILL ID %b SKIPME no\r\n" % number + b"PING\r\n" * 1_000)
            self.assertTrue(client.closed())
        self.assert_unharmed(10)

    def test_browsers(self) -> None:
        """A thousand HTTP requests are closed, and a few of them are logged."""
        with self.watch:
            for _ in range(1_000):
                with self.attacker() as attacker:
                    attacker.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assert_unharmed(10)


class UnknownSenderTests(AttackCase):
    """Attacks by clients without the password."""

    password: ClassVar[str | None] = "let me in"

    def test_limits(self) -> None:
        """Unauthenticated clients may send little, and get errors."""
        with self.watch:
            for request, expected_error in (
                (b"*11\r\n", b"unauthenticated multibulk length"),
                (b"*2\r\n$16385\r\n", b"unauthenticated bulk length"),
                (b"x" * 2_000_000, b"too big inline request"),
            ):
                attacker = self.attacker()
                attacker.send_without_reading(request)
                self.assertIn(attacker.receive(), (b"-ERR Protocol error: " + expected_error + b"\r\n", b""))
                self.assertTrue(attacker.closed())
        self.assert_unharmed(10)

    def test_commands(self) -> None:
        """Unauthenticated clients can only log in."""
        with self.watch:
            attacker = self.attacker()
            for words in (
                ("PING",),
                ("SHUTDOWN",),
                ("PSUBSCRIBE", "*"),
                ("CLIENT", "KILL", "TYPE", "normal"),
                ("PUBLISH", HELLO_CHANNEL, "x"),
                ("SENTINEL", "RESET", "*"),
                ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "127.0.0.1", str(self.healthy.port), "5", "a" * 40),
            ):
                attacker.send(pack(*words))
                self.assertEqual(attacker.receive(), b"-NOAUTH Authentication required.\r\n")
            for secret in (b"", b"x" * 16_000, b"\0", b"let me i", b"let me in\0"):
                attacker.send(pack("AUTH", secret))
                self.assertTrue(attacker.receive().startswith(b"-WRONGPASS"))
        self.assert_unharmed(10)


class LimitedSentinel(SentinelProcess):
    """A Sentinel with few descriptors."""

    def command_line(self) -> list[str]:
        """The command line with a limit of descriptors."""
        return ["/bin/sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *super().command_line()]


class DescriptorTests(SynchronousTestCase):
    """Limits of descriptors."""

    def test_links_and_votes_come_first(self) -> None:
        """When clients use all their descriptors, links can still reconnect and the configuration can be saved."""
        healthy = FakeServer()
        self.addCleanup(healthy.close)
        harness = Harness()
        self.addCleanup(harness.close)
        sentinel = LimitedSentinel(
            "txsentinel", free_port(), harness.directory / "limited", [("good", "127.0.0.1", healthy.port, 1)]
        )
        self.addCleanup(sentinel.stop)
        sentinel.start()
        with Connection(sentinel.port) as operator:
            for _ in range(350):
                self.addCleanup(Attacker(sentinel.port).socket.close)

            def rejected() -> bytes:
                with Attacker(sentinel.port) as attacker:
                    reply = attacker.receive()
                    self.assertTrue(attacker.closed())
                    return reply

            # While many connect at once, some connections are closed without the error: no descriptor is left for it.
            wait_for(rejected, SECONDS, "an error")
            replies = {rejected() for _ in range(50)}
            self.assertEqual(replies, {b"-ERR max number of clients reached\r\n"})
            self.assertEqual(operator.call("SENTINEL", "FLUSHCONFIG"), "OK")
            self.assertEqual(operator.call("SENTINEL", "MONITOR", "more", "127.0.0.1", healthy.port, 1), "OK")
            wait_for(
                lambda: pairs(operator.call("SENTINEL", "MASTER", "more"))["flags"] == "master",
                SECONDS,
                "the second link",
            )
        lines = sentinel.log_text().splitlines()
        self.assertEqual(len([line for line in lines if "Rejected connection: the limit" in line]), 10)
        self.assertLess(len(lines), 40)


def unsolicited_messages(connection: socket.socket, words: object) -> bytes:
    """A subscription with fifty thousand messages at once."""
    message = b"*3\r\n$7\r\nmessage\r\n" + bulk(HELLO_CHANNEL) + bulk(b"x")
    return b"*3\r\n$9\r\nsubscribe\r\n" + bulk(HELLO_CHANNEL) + b":1\r\n" + message * 50_000


def info_with_replicas(count: int) -> bytes:
    """Return INFO of a master with that many replicas, none of which exists."""
    lines = b"".join(b"slave%d:ip=127.9.%d.%d,port=1,state=online\r\n" % (n, n >> 8, n & 255) for n in range(count))
    return INFO + lines


class ServerTests(AttackCase):
    """Masters with invalid replies."""

    def monitor_all(
        self, masters: dict[str, FakeServer], is_expected: Callable[[dict[str, dict[str, str]]], bool]
    ) -> dict[str, dict[str, str]]:
        """
        Monitor these masters at the same time until their state is as expected.

        :param is_expected: whether the state is as expected, given the fields of each master by its name.
        :returns: the fields.
        """
        for name, server in masters.items():
            self.addCleanup(server.close)
            self.sentinel.call("SENTINEL", "MONITOR", name, "127.0.0.1", server.port, 1)
            self.addCleanup(self.sentinel.call, "SENTINEL", "REMOVE", name)
            self.sentinel.call("SENTINEL", "SET", name, "down-after-milliseconds", 1_000)
        seen: dict[str, dict[str, str]] = {}

        def is_done() -> bool:
            seen.update({name: pairs(self.sentinel.call("SENTINEL", "MASTER", name)) for name in masters})
            return is_expected(seen)

        try:
            wait_for(is_done, SECONDS, "the expected state of the masters", 0.1)
        except DeadlineExpired as expired:
            shown = {name: (each["flags"], each["num-slaves"]) for name, each in seen.items()}
            self.fail(f"{expired}: {shown}")
        return seen

    def test_answers(self) -> None:
        """Endless invalid replies of every kind: masters without valid replies are down, others are probed as usual."""
        down: dict[str, dict[str, Script]] = {
            "silent": {"PING": b"", "INFO": b"", "PUBLISH": b""},
            "closes": {"PING": hang_up},
            "closes-at-once": {"CLIENT": hang_up},
            "web": {"CLIENT": b"HTTP/1.1 400 Bad Request\r\n\r\n"},
            "busy": dict.fromkeys(("PING", "INFO", "PUBLISH"), b"-BUSY no\r\n"),
            "misconf": {"PING": b"-MISCONF no\r\n"},
            "wordy": {"PING": b"-ERR " + b"x" * 1_000_000 + b"\r\n"},
        }
        up: dict[str, dict[str, Script]] = {
            "loading": dict.fromkeys(("PING", "INFO", "PUBLISH"), b"-LOADING no\r\n"),
            "null": {"INFO": b"$-1\r\n"},
            "array": {"INFO": b"*2\r\n$1\r\na\r\n:1\r\n", "PING": b"*1\r\n+PONG\r\n"},
            "number": {"PING": b":1\r\n"},
            "no-subscription": {"SUBSCRIBE": b"-ERR \xff\0 no\r\n"},
            # A fault of the configuration, of a server that is alive.
            "noauth": dict.fromkeys(("CLIENT", "PING", "INFO", "PUBLISH", "SUBSCRIBE"), b"-NOAUTH no\r\n"),
            "noperm": dict.fromkeys(("PING", "INFO", "PUBLISH"), b"-NOPERM no\r\n"),
        }
        either: dict[str, dict[str, Script]] = {
            "negative": {"INFO": b"$-2\r\n"},
            "nested": {"INFO": b"*1\r\n" * 1_000},
            "generous": {"PING": b"+PONG\r\n" * 3},
            "vast": {"INFO": b"$100000000\r\n" + b"x" * 5_000_000},
            "endless": {"INFO": endless(b"x" * 65_536, head=b"+")},
            "endless-array": {"INFO": endless(b"+a\r\n" * 10_000, head=b"*1000000\r\n")},
            "odd": {"SUBSCRIBE": b":1\r\n"},
            "unsolicited": {"SUBSCRIBE": unsolicited_messages},
        }
        with self.watch:
            masters = {name: FakeServer(script) for name, script in {**down, **up, **either}.items()}

            def is_expected(seen: dict[str, dict[str, str]]) -> bool:
                return (
                    all("s_down" in seen[name]["flags"] for name in down)
                    and not any("s_down" in seen[name]["flags"] for name in up)
                    and all(masters[name].count_of(b"PING") > 3 for name in up)
                    and all(server.attempts for server in masters.values())
                )

            self.monitor_all(masters, is_expected)
        self.assert_unharmed(150, lines=20 * len(masters))

    def test_info(self) -> None:
        """Invalid INFO changes nothing; INFO with too many replicas adds the permitted ones, its own address none."""
        invalid_infos = {
            "binary": bytes(range(256)) * 1_000,
            "empty": b"",
            "one-line": b"role:master" + b"x" * 1_000_000,
            "many-lines": b"slave0:ip=,port=1\r\n" * 100_000,
            "emperor": b"run_id:" + b"2" * 40 + b"\r\nrole:emperor\r\n",
            "numbers": INFO
            + b"slave0:ip=127.0.0.1,port=%b\r\nmaster_repl_offset:%b\r\n" % (b"9" * 5_000, b"9" * 5_000),
        }
        with self.watch:
            servers = {name: FakeServer(info=info) for name, info in invalid_infos.items()}
            servers["many"] = FakeServer(info=info_with_replicas(5_000))
            self.sentinel.call("SENTINEL", "DEBUG", "INFO-PERIOD", 200)
            self.addCleanup(self.sentinel.call, "SENTINEL", "DEBUG", "INFO-PERIOD", 10_000)

            def is_expected(seen: dict[str, dict[str, str]]) -> bool:
                # No second INFO is requested before the first reply was read.
                return (
                    all(server.count_of(b"INFO") > 2 for server in servers.values())
                    and {seen[name]["flags"] for name in invalid_infos} == {"master"}
                    and seen["many"]["num-slaves"] == "1000"
                )

            seen = self.monitor_all(servers, is_expected)
        self.assertEqual({seen[name]["num-slaves"] for name in invalid_infos}, {"0"})
        # Each replica is found, is down, and is so for a reason.
        self.assert_unharmed(150, lines=3 * 1_000 + 200)

    def test_own_address(self) -> None:
        """A replica that announces its master's address, or ours, is not ordered to follow itself."""
        script: dict[str, Script] = {}
        server = FakeServer(script)
        # The replicas are known only when the server has its port.
        server._info = INFO + b"slave0:ip=127.0.0.1,port=%d\r\nslave1:ip=127.0.0.1,port=%d\r\n" % (
            server.port,
            self.sentinel.port,
        )
        self.sentinel.call("SENTINEL", "DEBUG", "INFO-PERIOD", 200)
        self.addCleanup(self.sentinel.call, "SENTINEL", "DEBUG", "INFO-PERIOD", 10_000)
        self.monitor_all(
            {"mirror": server}, lambda seen: server.count_of(b"INFO") > 5 and seen["mirror"]["num-slaves"] != "0"
        )
        replicas = self.sentinel.call("SENTINEL", "REPLICAS", "mirror")
        assert isinstance(replicas, list)
        self.assertEqual([pairs(each)["port"] for each in replicas], [str(self.sentinel.port)])
        self.assertEqual(server.count_of(b"SLAVEOF"), 0)


class PeerTests(AttackCase):
    """Attacks by fake Sentinels."""

    def hello(self, **fields: object) -> str:
        """Return a hello about the healthy master, valid except for these fields."""
        right = {
            "ip": "127.0.0.1",
            "port": 1,
            "id": "c" * 40,
            "epoch": 0,
            "name": "good",
            "master_ip": "127.0.0.1",
            "master_port": self.healthy.port,
            "config_epoch": 0,
        }
        return ",".join(str(field) for field in (right | fields).values())

    def publish(self, *hellos: str) -> None:
        """Publish hellos to the Sentinel."""
        with Connection(self.sentinel.port) as client:
            for hello in hellos:
                self.assertEqual(client.call("PUBLISH", HELLO_CHANNEL.decode(), hello), 1)

    def peers(self) -> list[dict[str, str]]:
        """Return its peers."""
        reply = self.sentinel.call("SENTINEL", "SENTINELS", "good")
        assert isinstance(reply, list)
        return [pairs(each) for each in reply]

    def test_hellos(self) -> None:
        """Invalid hellos change nothing, in memory or on disk, and the file is intact after a restart."""
        me = str(self.sentinel.call("SENTINEL", "MYID"))
        before = self.sentinel.config_path.read_bytes()
        with self.watch:
            self.publish(
                *("", ",", "," * 6, "," * 7, "," * 8, "x" * 1_000_000),
                self.hello(id=me, epoch=9, config_epoch=9, master_port=1),
                *(self.hello(port=port) for port in (0, 65_536, -1, "9" * 100)),
                *(self.hello(ip=ip) for ip in ("", "no.such.host", "fe80::1%\n", "::1%lo", "1.2.3.4.5")),
                *(self.hello(id=peer) for peer in ("", "a b", "a\nb", "\udcff" * 40, "x" * 100_000)),
                *(self.hello(name=name) for name in ("\udcff", "good\0", "GOOD")),
                *(self.hello(epoch=epoch, config_epoch=5, master_port=1) for epoch in (-1, (1 << 64) - 1, 1 << 60, 4)),
                *(self.hello(epoch=2, config_epoch=2, master_port=port) for port in (0, 65_536, "x")),
            )
        self.assertEqual(self.peers(), [])
        self.assertEqual(self.sentinel.config_path.read_bytes(), before)
        self.publish(*(self.hello(epoch=2, config_epoch=2, master_ip=ip) for ip in ("", "no.such.host", "::1%lo")))
        self.assert_unharmed(40)
        self.sentinel.stop()
        self.sentinel.start(keep_config=True)
        self.assertEqual(self.sentinel.call("SENTINEL", "MYID"), me)
        self.assertEqual(pairs(self.sentinel.call("SENTINEL", "MASTER", "good"))["config-epoch"], "0")
        self.sentinel.call("SENTINEL", "RESET", "*")

    def test_forged_sentinels(self) -> None:
        """Of a thousand forged Sentinels none is registered; a real one is, also among them."""
        real = FakeServer(sentinel_id="d" * 40)
        self.addCleanup(real.close)
        with self.watch:
            self.publish(*(self.hello(id=f"{number:040x}", port=1 + number) for number in range(1_000)))
            self.assertEqual(self.peers(), [])

            def registered() -> bool:
                self.publish(self.hello(id="d" * 40, port=real.port))
                return len(self.peers()) == 1

            wait_for(registered, SECONDS, "the real one to be registered", every=0.5)
            self.publish(*(self.hello(id=f"{number:040x}", port=real.port) for number in range(1_000)))
            self.assertEqual([peer["name"] for peer in self.peers()], ["d" * 40])
            self.sentinel.call("SENTINEL", "RESET", "*")
            self.assertEqual(self.peers(), [])
        self.assert_unharmed(40, lines=800)

    def test_opinions(self) -> None:
        """Invalid replies of peers are no opinion; the link is closed or the request repeated."""
        failing = FakeServer()
        self.addCleanup(failing.close)
        self.sentinel.call("SENTINEL", "MONITOR", "failing", "127.0.0.1", failing.port, 2)
        self.addCleanup(self.sentinel.call, "SENTINEL", "REMOVE", "failing")
        self.sentinel.call("SENTINEL", "SET", "failing", "down-after-milliseconds", 500)
        invalid = (
            b":1\r\n",
            b"+OK\r\n",
            b"-ERR no\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n:1\r\n$1\r\n*\r\n",
            b"*4\r\n:1\r\n$1\r\n*\r\n:0\r\n:0\r\n",
            b"*3\r\n$1\r\n1\r\n$1\r\n*\r\n:0\r\n",
            b"*3\r\n:1\r\n:1\r\n:0\r\n",
            b"*3\r\n*1\r\n:1\r\n$1\r\n*\r\n:0\r\n",
            b"*3\r\n:1\r\n$1\r\n*\r\n:99999999999999999999999\r\n",
            b"*3\r\n:1\r\n$100000\r\n" + b"z" * 100_000 + b"\r\n:3\r\n",
            b"%1\r\n:1\r\n:2\r\n",
            b"#t\r\n",
            b"*3\r\n#t\r\n$1\r\n*\r\n:0\r\n",
            b"invalid\r\n",
            b"",
        )
        peers = [
            FakeServer({"SENTINEL": answer}, sentinel_id=f"{number:040x}") for number, answer in enumerate(invalid)
        ]
        for number, peer in enumerate(peers):
            self.addCleanup(peer.close)
            self.publish(self.hello(name="failing", master_port=failing.port, id=f"{number:040x}", port=peer.port))

        def registered() -> bool:
            reply = self.sentinel.call("SENTINEL", "SENTINELS", "failing")
            return isinstance(reply, list) and len(reply) == len(peers)

        wait_for(registered, SECONDS, "all peers to be registered")
        with self.watch:
            failing.close()
            wait_for(lambda: all(peer.count_of(b"SENTINEL") > 1 for peer in peers), SECONDS, "all peers to be asked")
            time.sleep(1.0)
        flags = pairs(self.sentinel.call("SENTINEL", "MASTER", "failing"))["flags"]
        self.assertIn("s_down", flags)
        self.assertNotIn("o_down", flags)
        self.assert_unharmed(40, lines=120)

    def test_vote_requests(self) -> None:
        """Requests for votes in absurd epochs or for unknown candidates are answered, and no vote is given."""
        with self.watch, Connection(self.sentinel.port) as client:
            for epoch in (-1, 1 << 62, (1 << 63) - 1, (1 << 64) - 1, "x", ""):
                for candidate in ("a" * 40, "", "a b", "x" * 60_000):
                    answer: object
                    try:
                        words = ("127.0.0.1", self.healthy.port, epoch, candidate)
                        answer = client.call("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", *words)
                    except ReplyError as refusal:
                        answer = str(refusal)
                    self.assertIn(answer, ([0, "*", 0], "ERR value is not an integer or out of range"))
        self.assert_unharmed(40)


class ScriptTests(AttackCase):
    """Misbehaving scripts."""

    extra: ClassVar[list[str]] = ["sentinel deny-scripts-reconfig no"]

    def script(self, name: str, text: str) -> str:
        """Write an executable script."""
        path = self.harness.directory / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def test_misbehaving_scripts(self) -> None:
        """Scripts that hang, leave children, print much, or are no programs block nothing and are removed."""
        self.sentinel.call("SENTINEL", "DEBUG", "script-max-runtime", 1_000, "script-retry-delay", 60_000)
        marker = self.harness.directory / "ran"
        scripts = [
            self.script("hangs", "#!/bin/sh\ntrap '' TERM\nexec sleep 60\n"),
            self.script("forks", "#!/bin/sh\nsleep 5 &\nexit 2\n"),
            self.script("shouts", "#!/bin/sh\nhead -c 5000000 /dev/zero\nexit 2\n"),
            self.script("crashes", "#!/bin/sh\nkill -SEGV $$\n"),
            self.script("nothing", "#!/no/such/interpreter\n"),
            self.script("binary", "\x7fELF\0\0"),
            str(self.harness.directory),
        ]
        with self.watch:
            for path in scripts:
                self.sentinel.call("SENTINEL", "SET", "good", "notification-script", path)
                for _ in range(20):
                    self.sentinel.call("SENTINEL", "SET", "good", "quorum", 1)
            good = self.script("works", f"#!/bin/sh\necho ran > {marker}\n")
            self.sentinel.call("SENTINEL", "SET", "good", "notification-script", good)
            wait_for(marker.exists, SECONDS, "the turn of the script that works")
            self.sentinel.call("SENTINEL", "SET", "good", "notification-script", "")
        errors = [line for line in self.logged() if "-script-error" in line]
        self.assertGreaterEqual(len(errors), 5 * 20)
        self.lines_before = len(self.log_lines())
        self.assert_unharmed(20)


class FileTests(SynchronousTestCase):
    """Invalid configuration files. The tests of the configuration have the errors of single lines."""

    def test_refused(self) -> None:
        """Each is refused at once, with status 1 and a message on standard error that names the file or the line."""
        harness = Harness()
        self.addCleanup(harness.close)
        directory = harness.directory
        loop = directory / "loop.conf"
        cases: list[tuple[Path, bytes | None, str]] = [
            (directory, None, "Is a directory"),
            (directory / "garbage.conf", b"\x01\xfe garbage \xff\n" * 1_000, "at line 1"),
            (directory / "long.conf", b"port 0\n" + b"x" * 10_000_000 + b"\n", "at line 2"),
            (loop, f"port 0\ninclude {loop}\n".encode(), "Too many levels of included files"),
        ]
        started = []
        for path, text, expected_error in cases:
            if text is not None:
                path.write_bytes(text)
            sentinel = SentinelProcess("txsentinel", 0, directory)
            # The path of the file is part of the command line, which the process builds.
            sentinel.command[-1] = str(path)
            process = subprocess.Popen(
                sentinel.command_line(),
                cwd=directory,
                env=sentinel.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            self.addCleanup(process.kill)
            started.append((path, expected_error, process))
        for path, expected_error, process in started:
            output = process.communicate(timeout=SECONDS)[0].decode(errors="replace")
            self.assertEqual((path, process.returncode), (path, 1), output[:2000])
            self.assertIn(expected_error, output)
            self.assertLess(len(output), 1_000)
            self.assertNotIn("Traceback", output)
