"""
A running Sentinel under attack: what clients, servers, peers, scripts and files can do to it.

Each time: clear words, but few of them; nothing lost, nothing stuck; bounded memory; and an honest client and a
healthy master that notice nothing. With ``$TXSENTINEL_REPORT`` set, each attack prints what it cost the client.
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
from tests.interop.hostile import HELLO_CHANNEL, INFO, Attacker, FakeServer, Script, Watch, bulk, endless, hang_up, pack
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

TIMEOUT = 5.0
"""Seconds that an honest client may ever have to wait; on an idle machine it is a tenth of one."""


class AttackCase(SynchronousTestCase):
    """One Sentinel for all tests of a class, over one healthy master."""

    if not sys.platform.startswith("linux"):
        skip = "looks at processes as Linux shows them"

    password: ClassVar[str | None] = None
    extra: ClassVar[list[str]] = []
    harness: ClassVar[Harness]
    healthy: ClassVar[FakeServer]
    sentinel: ClassVar[SentinelProcess]

    @classmethod
    def setUpClass(cls) -> None:
        """Start it."""
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
        """Stop it."""
        cls.harness.close()
        cls.healthy.close()

    def setUp(self) -> None:
        self.lines_before = len(self.log_lines())
        self.watch = Watch(self.sentinel)

    def log_lines(self) -> list[str]:
        """Everything it has logged."""
        return self.sentinel.log_text().splitlines()

    def logged(self) -> list[str]:
        """What it logged since the test began."""
        return self.log_lines()[self.lines_before :]

    def attacker(self) -> Attacker:
        """One more connection, closed when the test ends."""
        attacker = Attacker(self.sentinel.port)
        self.addCleanup(attacker.socket.close)
        return attacker

    def unharmed(self, megabytes: int, lines: int = 20) -> None:
        """It runs, served others meanwhile, took no more memory and log than that, and knows its master to be up."""
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
        """How many are connected."""
        return int(info_fields(self.sentinel.call("INFO", "clients"))["connected_clients"])


class ClientTests(AttackCase):
    """Whoever can connect."""

    extra: ClassVar[list[str]] = ["client-output-buffer-limit pubsub 1mb 512kb 5"]

    def test_garbage(self) -> None:
        """Random bytes from two hundred connections are answered by errors or by hanging up."""
        rng = random.Random(1)
        with self.watch:
            for _ in range(200):
                with self.attacker() as attacker:
                    attacker.send(rng.randbytes(rng.randrange(1, 5_000)))
        self.unharmed(10)

    def test_half_commands(self) -> None:
        """A thousand clients that stop in the middle of a command, or send it byte by byte, cost little each."""
        with self.watch:
            half = [self.attacker() for _ in range(1_000)]
            for attacker in half:
                attacker.send(b"*2\r\n$4\r\nPI")
            slow = [self.attacker() for _ in range(50)]
            for byte in pack("PING"):
                for attacker in slow:
                    attacker.send(bytes((byte,)))
            self.assertEqual({attacker.answer() for attacker in slow}, {b"+PONG\r\n"})
            self.assertGreater(self.clients(), 1_000)
            for attacker in half + slow:
                attacker.socket.close()
            wait_for(lambda: self.clients() < 10, SECONDS, "the clients to be gone")
        self.unharmed(40)

    def test_huge_headers(self) -> None:
        """A header beyond all limits is refused before any memory is given to what it announces."""
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
                self.assertEqual(attacker.answer(), b"-ERR Protocol error: " + expected_error + b"\r\n")
                self.assertTrue(attacker.closed())
        self.unharmed(20)

    def test_huge_requests(self) -> None:
        """A request that is allowed by its header and yet never ends is cut off at a bound."""
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
        self.unharmed(100)

    def test_many_big_requests(self) -> None:
        """Clients that keep within their own limits are cut off when all together hold too much."""
        with self.watch:
            attackers = [self.attacker() for _ in range(12)]
            for attacker in attackers:
                attacker.send(b"*31\r\n" + (b"$1000000\r\n" + b"x" * 1_000_000 + b"\r\n") * 30)
            wait_for(lambda: self.clients() < 11, 10.0, "some of them to be cut off")
        self.unharmed(600)

    def test_deep_pipelines(self) -> None:
        """A hundred thousand commands whose replies nobody reads are left in the network, not in memory."""
        with self.watch:
            for words in (("PING", "x" * 1_000), ("INFO",), ("SENTINEL", "MASTERS"), ("COMMAND", "DOCS")):
                with self.attacker() as attacker:
                    attacker.send_without_reading(pack(*words) * 100_000, timeout=0.5)
        self.unharmed(80)

    def test_pipeline_that_is_read(self) -> None:
        """Ten thousand commands at a time are all answered in the end, and others have their turn meanwhile."""
        with self.watch, Connection(self.sentinel.port, timeout=30.0) as client:
            for _ in range(2):
                for _ in range(10_000):
                    client.send("CLIENT", "LIST", "TYPE", "master")
                for _ in range(10_000):
                    self.assertEqual(client.read_reply(), "")
        self.unharmed(40)

    def test_subscribers_that_do_not_read(self) -> None:
        """Subscribers that never read are cut off in a storm of events; those that read miss nothing."""
        with self.watch, Connection(self.sentinel.port, timeout=30.0) as listener:
            stalled = [self.attacker() for _ in range(5)]
            patterns = [b"*" + b"*" * length for length in range(100)]
            for attacker in stalled:
                attacker.send(pack("PSUBSCRIBE", *patterns))
            listener.call("SUBSCRIBE", "+set")
            operator = Connection(self.sentinel.port, timeout=30.0)
            rounds, count = 0, 100
            while self.subscribers() > 1:
                rounds += 1
                self.assertLess(rounds, 60)
                for _ in range(count):
                    operator.send("SENTINEL", "SET", "good", "quorum", 1)
                self.assertEqual({str(operator.read_reply()) for _ in range(count)}, {"OK"})
                event_received = [listener.read_reply() for _ in range(count)]
                self.assertEqual({frame[1] for frame in event_received if isinstance(frame, list)}, {"+set"})
            operator.close()
        cut_off = [line for line in self.logged() if "output buffer limits" in line]
        self.assertEqual(len(cut_off), 5)
        self.lines_before = len(self.log_lines())
        self.unharmed(60)

    def subscribers(self) -> int:
        """How many clients are subscribed to something."""
        return int(info_fields(self.sentinel.call("INFO", "clients"))["pubsub_clients"])

    def test_patterns(self) -> None:
        """Subscriptions of megabytes, and thousands of them, are refused; mad patterns slow nobody down."""
        with self.watch:
            for patterns in ([b"*a" * 30_000, b"x" * 60_000, b"y" * 60_000], [b"*%d" % n for n in range(20_000)]):
                attacker = self.attacker()
                attacker.send(pack("PSUBSCRIBE", *patterns))
                self.assertEqual(attacker.answer(), b"-ERR too many or too long subscriptions for one client\r\n")
            for pattern in (b"*a" * 1_000_000, b"[" + b"a-" * 1_000_000):
                attacker = self.attacker()
                attacker.send(pack("PSUBSCRIBE", pattern))
                self.assertIn(b"-ERR 'psubscribe' was given an argument of 200000", attacker.answer())
            pattern_client = self.attacker()
            pattern_client.send(pack("PSUBSCRIBE", *(b"*a*" * 30 + b"%d" % number for number in range(500))))
            for _ in range(20):
                self.sentinel.call("SENTINEL", "SET", "good", "quorum", 1)
            for pattern in (b"*a" * 30_000, b"[" + b"a-" * 30_000):
                client = self.attacker()
                client.send(pack("SENTINEL", "RESET", pattern))
                self.assertEqual(client.answer(), b":0\r\n")
        self.unharmed(120, lines=60)

    def test_suicide(self) -> None:
        """A client may kill itself, with a pipeline behind it, and others see nothing of it."""
        with self.watch:
            client = self.attacker()
            client.send(b"CLIENT ID\r\n")
            number = client.answer()[1:-2]
            client.send(b"CLIENT KILL ID %b SKIPME no\r\n" % number + b"PING\r\n" * 1_000)
            self.assertTrue(client.closed())
        self.unharmed(10)

    def test_browsers(self) -> None:
        """A thousand web requests are cut off, and a few of them are logged."""
        with self.watch:
            for _ in range(1_000):
                with self.attacker() as attacker:
                    attacker.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.unharmed(10)


class UnknownSenderTests(AttackCase):
    """Whoever does not know the password."""

    password: ClassVar[str | None] = "let me in"

    def test_limits(self) -> None:
        """Strangers may send little, and are told so."""
        with self.watch:
            for request, expected_error in (
                (b"*11\r\n", b"unauthenticated multibulk length"),
                (b"*2\r\n$16385\r\n", b"unauthenticated bulk length"),
                (b"x" * 2_000_000, b"too big inline request"),
            ):
                attacker = self.attacker()
                attacker.send_without_reading(request)
                self.assertIn(attacker.answer(), (b"-ERR Protocol error: " + expected_error + b"\r\n", b""))
                self.assertTrue(attacker.closed())
        self.unharmed(10)

    def test_commands(self) -> None:
        """Nothing but logging in is done for them."""
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
                self.assertEqual(attacker.answer(), b"-NOAUTH Authentication required.\r\n")
            for secret in (b"", b"x" * 16_000, b"\0", b"let me i", b"let me in\0"):
                attacker.send(pack("AUTH", secret))
                self.assertTrue(attacker.answer().startswith(b"-WRONGPASS"))
        self.unharmed(10)


class CrampedSentinel(SentinelProcess):
    """One that may open few files and connections."""

    def command_line(self) -> list[str]:
        """The same, with a limit of its own."""
        return ["/bin/sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *super().command_line()]


class DescriptorTests(SynchronousTestCase):
    """Connections cost descriptors."""

    def test_links_and_votes_come_first(self) -> None:
        """When clients have used up what they may, links are still made anew and the configuration is saved."""
        healthy = FakeServer()
        self.addCleanup(healthy.close)
        harness = Harness()
        self.addCleanup(harness.close)
        sentinel = CrampedSentinel(
            "txsentinel", free_port(), harness.directory / "cramped", [("good", "127.0.0.1", healthy.port, 1)]
        )
        self.addCleanup(sentinel.stop)
        sentinel.start()
        with Connection(sentinel.port) as operator:
            multiplexer = [Attacker(sentinel.port) for _ in range(400)]
            for attacker in multiplexer:
                self.addCleanup(attacker.socket.close)
            # In a rush some are turned away without a word, when not even one more can be let in to be told.
            told = [answer for attacker in multiplexer[-50:] if (answer := attacker.answer())]
            self.assertEqual(set(told), {b"-ERR max number of clients reached\r\n"})
            self.assertTrue(all(attacker.closed() for attacker in multiplexer[-50:]))
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
    """A subscription that brings fifty thousand messages at once."""
    message = b"*3\r\n$7\r\nmessage\r\n" + bulk(HELLO_CHANNEL) + bulk(b"x")
    return b"*3\r\n$9\r\nsubscribe\r\n" + bulk(HELLO_CHANNEL) + b":1\r\n" + message * 50_000


def multiplexer(count: int) -> bytes:
    """INFO of a master with that many replicas, none of which exists."""
    lines = b"".join(b"slave%d:ip=127.9.%d.%d,port=1,state=online\r\n" % (n, n >> 8, n & 255) for n in range(count))
    return INFO + lines


class ServerTests(AttackCase):
    """Masters that answer anything but what they should."""

    def monitor_all(
        self, masters: dict[str, FakeServer], is_expected: Callable[[dict[str, dict[str, str]]], bool]
    ) -> dict[str, dict[str, str]]:
        """
        Watch these masters, all at once, until what is said of them is as it should be.

        :param settled: whether it is, given the fields of each by its name.
        :returns: the fields.
        """
        for name, server in masters.items():
            self.addCleanup(server.close)
            self.sentinel.call("SENTINEL", "MONITOR", name, "127.0.0.1", server.port, 1)
            self.addCleanup(self.sentinel.call, "SENTINEL", "REMOVE", name)
            self.sentinel.call("SENTINEL", "SET", name, "down-after-milliseconds", 1_000)
        seen: dict[str, dict[str, str]] = {}

        def look() -> bool:
            seen.update({name: pairs(self.sentinel.call("SENTINEL", "MASTER", name)) for name in masters})
            return is_expected(seen)

        try:
            wait_for(look, SECONDS, "the masters to be seen as they are", 0.1)
        except DeadlineExpired as expired:
            shown = {name: (each["flags"], each["num-slaves"]) for name, each in seen.items()}
            self.fail(f"{expired}: {shown}")
        return seen

    def test_answers(self) -> None:
        """Wrong answers of every kind, for ever: who answers nothing of use is down, others are looked at no less."""
        down: dict[str, dict[str, Script]] = {
            "silent": {"PING": b"", "INFO": b"", "PUBLISH": b""},
            "closes": {"PING": hang_up},
            "closes-at-once": {"CLIENT": hang_up},
            "web": {"CLIENT": b"HTTP/1.1 400 Bad Request\r\n\r\n"},
            "noauth": dict.fromkeys(("CLIENT", "PING", "INFO", "PUBLISH", "SUBSCRIBE"), b"-NOAUTH no\r\n"),
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
        }
        either: dict[str, dict[str, Script]] = {
            "negative": {"INFO": b"$-2\r\n"},
            "nested": {"INFO": b"*1\r\n" * 1_000},
            "generous": {"PING": b"+PONG\r\n" * 3},
            "vast": {"INFO": b"$100000000\r\n" + b"x" * 5_000_000},
            "endless": {"INFO": endless(b"x" * 65_536, head=b"+")},
            "endless-array": {"INFO": endless(b"+a\r\n" * 10_000, head=b"*1000000\r\n")},
            "odd": {"SUBSCRIBE": b":1\r\n"},
            "chatty": {"SUBSCRIBE": unsolicited_messages},
        }
        with self.watch:
            masters = {name: FakeServer(script) for name, script in {**down, **up, **either}.items()}

            def is_expected(seen: dict[str, dict[str, str]]) -> bool:
                return (
                    all("s_down" in seen[name]["flags"] for name in down)
                    and not any("s_down" in seen[name]["flags"] for name in up)
                    and all(masters[name].asked(b"PING") > 3 for name in up)
                    and all(server.attempts for server in masters.values())
                )

            self.monitor_all(masters, is_expected)
        self.unharmed(150, lines=20 * len(masters))

    def test_info(self) -> None:
        """INFO of rubbish changes nothing; one with too many replicas, or with itself as one, no more than it may."""
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
            servers["crowded"] = FakeServer(info=multiplexer(5_000))
            self.sentinel.call("SENTINEL", "DEBUG", "INFO-PERIOD", 200)
            self.addCleanup(self.sentinel.call, "SENTINEL", "DEBUG", "INFO-PERIOD", 10_000)

            def is_expected(seen: dict[str, dict[str, str]]) -> bool:
                # Nobody is asked a second time before the first answer was read.
                return (
                    all(server.asked(b"INFO") > 2 for server in servers.values())
                    and {seen[name]["flags"] for name in invalid_infos} == {"master"}
                    and seen["crowded"]["num-slaves"] == "1000"
                )

            seen = self.monitor_all(servers, is_expected)
        self.assertEqual({seen[name]["num-slaves"] for name in invalid_infos}, {"0"})
        self.unharmed(150, lines=2_200)

    def test_own_address(self) -> None:
        """A replica that announces its master's address, or ours, is not told to follow itself."""
        script: dict[str, Script] = {}
        server = FakeServer(script)
        server._info = INFO + b"slave0:ip=127.0.0.1,port=%d\r\nslave1:ip=127.0.0.1,port=%d\r\n" % (
            server.port,
            self.sentinel.port,
        )
        self.sentinel.call("SENTINEL", "DEBUG", "INFO-PERIOD", 200)
        self.addCleanup(self.sentinel.call, "SENTINEL", "DEBUG", "INFO-PERIOD", 10_000)
        self.monitor_all(
            {"mirror": server}, lambda seen: server.asked(b"INFO") > 5 and seen["mirror"]["num-slaves"] != "0"
        )
        replicas = self.sentinel.call("SENTINEL", "REPLICAS", "mirror")
        assert isinstance(replicas, list)
        self.assertEqual([pairs(each)["port"] for each in replicas], [str(self.sentinel.port)])
        self.assertEqual(server.asked(b"SLAVEOF"), 0)


class PeerTests(AttackCase):
    """Sentinels that are none."""

    def hello(self, **fields: object) -> str:
        """A hello about the healthy master, right but for these fields."""
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

    def told(self, *hellos: str) -> None:
        """Tell the Sentinel."""
        with Connection(self.sentinel.port) as client:
            for hello in hellos:
                self.assertEqual(client.call("PUBLISH", HELLO_CHANNEL.decode(), hello), 1)

    def peers(self) -> list[dict[str, str]]:
        """What it says of its peers."""
        reply = self.sentinel.call("SENTINEL", "SENTINELS", "good")
        assert isinstance(reply, list)
        return [pairs(each) for each in reply]

    def test_hellos(self) -> None:
        """Hellos that make no sense change nothing, in memory or on disk, and a restart finds everything in order."""
        me = str(self.sentinel.call("SENTINEL", "MYID"))
        before = self.sentinel.config_path.read_bytes()
        with self.watch:
            self.told(
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
        self.told(*(self.hello(epoch=2, config_epoch=2, master_ip=ip) for ip in ("", "no.such.host", "::1%lo")))
        self.unharmed(40)
        self.sentinel.stop()
        self.sentinel.start(keep_config=True)
        self.assertEqual(self.sentinel.call("SENTINEL", "MYID"), me)
        self.assertEqual(pairs(self.sentinel.call("SENTINEL", "MASTER", "good"))["config-epoch"], "0")
        self.sentinel.call("SENTINEL", "RESET", "*")

    def test_crowd(self) -> None:
        """Of a thousand invented Sentinels none is believed in; one that is there is, also in the midst of them."""
        real = FakeServer(sentinel_id="d" * 40)
        self.addCleanup(real.close)
        with self.watch:
            self.told(*(self.hello(id=f"{number:040x}", port=1 + number) for number in range(1_000)))
            self.assertEqual(self.peers(), [])

            def filed() -> bool:
                self.told(self.hello(id="d" * 40, port=real.port))
                return len(self.peers()) == 1

            wait_for(filed, 10.0, "the real one to be filed", every=0.5)
            self.told(*(self.hello(id=f"{number:040x}", port=real.port) for number in range(1_000)))
            self.assertEqual([peer["name"] for peer in self.peers()], ["d" * 40])
            self.sentinel.call("SENTINEL", "RESET", "*")
            self.assertEqual(self.peers(), [])
        self.unharmed(40, lines=800)

    def test_opinions(self) -> None:
        """Whatever peers answer instead of an opinion, it is none; they lose their connection or are asked again."""
        failing = FakeServer()
        self.addCleanup(failing.close)
        self.sentinel.call("SENTINEL", "MONITOR", "failing", "127.0.0.1", failing.port, 2)
        self.addCleanup(self.sentinel.call, "SENTINEL", "REMOVE", "failing")
        self.sentinel.call("SENTINEL", "SET", "failing", "down-after-milliseconds", 500)
        nonsense = (
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
            b"nonsense\r\n",
            b"",
        )
        peers = [
            FakeServer({"SENTINEL": answer}, sentinel_id=f"{number:040x}") for number, answer in enumerate(nonsense)
        ]
        for number, peer in enumerate(peers):
            self.addCleanup(peer.close)
            self.told(self.hello(name="failing", master_port=failing.port, id=f"{number:040x}", port=peer.port))

        def filed() -> bool:
            reply = self.sentinel.call("SENTINEL", "SENTINELS", "failing")
            return isinstance(reply, list) and len(reply) == len(peers)

        wait_for(filed, 10.0, "everybody to be filed")
        with self.watch:
            failing.close()
            wait_for(lambda: all(peer.asked(b"SENTINEL") > 1 for peer in peers), SECONDS, "everybody to be asked")
            time.sleep(1.0)
        flags = pairs(self.sentinel.call("SENTINEL", "MASTER", "failing"))["flags"]
        self.assertIn("s_down", flags)
        self.assertNotIn("o_down", flags)
        self.unharmed(40, lines=120)

    def test_vote_requests(self) -> None:
        """Requests for votes in absurd epochs or for nobody are answered, and nobody is voted for."""
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
        self.unharmed(40)


class ScriptTests(AttackCase):
    """Scripts that do not behave."""

    extra: ClassVar[list[str]] = ["sentinel deny-scripts-reconfig no"]

    def script(self, name: str, text: str) -> str:
        """One that may be run."""
        path = self.harness.directory / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def test_misbehaviour(self) -> None:
        """Scripts that hang, leave children, shout, or are no programs hold up nobody, and their places become free."""
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
        self.unharmed(20)


class FileTests(SynchronousTestCase):
    """Configuration files that are none. What their lines may say is tested with the configuration."""

    def test_refused(self) -> None:
        """Each is refused at once, with status 1 and a few words on standard error that name the file or the line."""
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
            sentinel._command[-1] = str(path)
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
            output = process.communicate(timeout=30)[0].decode(errors="replace")
            self.assertEqual((path, process.returncode), (path, 1), output[:2000])
            self.assertIn(expected_error, output)
            self.assertLess(len(output), 1_000)
            self.assertNotIn("Traceback", output)
