"""Sends random commands and random bytes through parser, server and core."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import MY_ID, PEER_ID, RawConnection, ServerHarness
from txsentinel.core.options import SentinelOptions
from txsentinel.wire.resp import pack

SUBCOMMANDS = {
    b"SENTINEL": (
        b"MASTERS MASTER REPLICAS SLAVES SENTINELS MYID IS-MASTER-DOWN-BY-ADDR GET-MASTER-ADDR-BY-NAME RESET FAILOVER"
        b" PENDING-SCRIPTS MONITOR REMOVE SET FLUSHCONFIG CKQUORUM INFO-CACHE SIMULATE-FAILURE CONFIG DEBUG HELP"
    ).split(),
    b"CLIENT": (
        b"ID LIST KILL SETNAME GETNAME INFO REPLY PAUSE UNPAUSE TRACKING TRACKINGINFO CACHING NO-EVICT SETINFO UNBLOCK"
        b" GETREDIR HELP"
    ).split(),
    b"COMMAND": b"COUNT DOCS INFO LIST GETKEYS HELP".split(),
    b"ACL": b"WHOAMI LIST USERS CAT GETUSER SETUSER DELUSER DRYRUN LOG GENPASS HELP".split(),
}
COMMANDS = (
    *b"PING AUTH HELLO INFO ROLE PUBLISH SUBSCRIBE PSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SHUTDOWN QUIT".split(),
    *SUBCOMMANDS,
    *SUBCOMMANDS,
)
WORDS = (
    *(
        b"mymaster m2 127.0.0.1 6379 0 1 -1 2 5 * ? [a-z]* quorum down-after-milliseconds failover-timeout"
        b" parallel-syncs notification-script client-reconfig-script auth-pass auth-user rename-command"
        b" master-reboot-down-after-period crash-failover fence-after lineage strict as-c"
        b" GET SET announce-ip announce-port resolve-hostnames announce-hostnames"
        b" sentinel-user sentinel-pass loglevel /good/x /bad ID ADDR TYPE normal pubsub USER SKIPME yes no MAXAGE on"
        b" off SKIP FILTERBY PATTERN default +@all >pw nopass crash-after-election info-period 3 SETNAME everything"
        b" 99999999999999999999 9223372036854775807 -9223372036854775808 __sentinel__:hello LIB-NAME BCAST REDIRECT"
        b" PREFIX coordinated ALL WRITE TIMEOUT ::1 fe80::1%x"
    ).split(),
    b"",
    b"\xff\xfe",
    b"a\0b",
    b"a b",
    b"\r\n",
    b"x" * 300,
    MY_ID.encode(),
    PEER_ID.encode(),
    f"127.0.0.1,26380,{PEER_ID},0,mymaster,127.0.0.1,6379,0".encode(),
    f"127.0.0.1,26380,{PEER_ID},3,mymaster,127.0.0.1,6380,3".encode(),
)
INFOS = (
    None,
    b"role:master\r\nrun_id:" + b"1" * 40 + b"\r\nslave0:ip=127.0.0.1,port=6380,state=online\r\n",
    b"role:slave\r\nmaster_host:x\r\nmaster_port:-5\r\n",
    b"slave0:\xff\0",
)


class RandomRequestTests(SynchronousTestCase):
    """A few thousand steps with one seed; other seeds take other steps."""

    def setUp(self) -> None:
        self.rng = random.Random(20261121)

    def command(self) -> list[bytes]:
        """Return a random command, which may be valid."""
        rng = self.rng
        words = [rng.choice(COMMANDS)]
        if words[0] in SUBCOMMANDS and rng.random() < 0.97:
            words.append(rng.choice(SUBCOMMANDS[words[0]]))
        for _ in range(rng.choice((0, 0, 1, 1, 2, 2, 3, 4, 5, 8))):
            words.append(rng.choice(WORDS) if rng.random() < 0.93 else rng.randbytes(rng.randrange(12)))
        if words[0] == b"SENTINEL" and len(words) > 2 and rng.random() < 0.5:
            words[2] = b"mymaster"
        return words

    def harness(self) -> ServerHarness:
        """Return a Sentinel with random settings."""
        options = SentinelOptions()
        options.resolve_hostnames = self.rng.random() < 0.3
        options.deny_scripts_reconfig = self.rng.random() < 0.5
        harness = ServerHarness(sentinel=options)
        harness.watch()
        return harness

    def send(self, client: RawConnection, data: bytes) -> None:
        """Send bytes in two chunks."""
        cut = self.rng.randrange(len(data) + 1)
        for chunk in (data[:cut], data[cut:]):
            if not client.closed:
                client.protocol.dataReceived(chunk)

    def random_event(self, harness: ServerHarness) -> None:
        """Let time pass, complete or fail writes, or let the master send ``INFO``."""
        draw = self.rng.random()
        now = harness.host.now()
        if draw < 0.3:
            harness.save()
        elif draw < 0.4:
            harness.fail()
        elif draw < 0.8:
            harness.host.reactor.advance(self.rng.choice((0.01, 0.5, 2.0, 30.0)))
            harness.core.sweep(harness.host.now(), int(harness.host.wall_clock() * 1000))
            harness.factory.inspect()
        else:
            for master in list(harness.core.registry.masters.values()):
                if master.link.address.resolved:
                    harness.bring_up(master.link)
                harness.core.info_reply(master.link, self.rng.choice(INFOS), now)
        harness.executor.drain()

    def test_nothing_raises(self) -> None:
        """Any input is answered or closes its connection; the Sentinel keeps running and serves a new client."""
        for _ in range(20):
            harness = self.harness()
            clients = [harness.connect() for _ in range(3)]
            for _ in range(200):
                index = self.rng.randrange(3)
                if clients[index].closed:
                    clients[index] = harness.connect()
                draw = self.rng.random()
                if draw < 0.8:
                    self.send(clients[index], pack(*self.command()))
                elif draw < 0.85:
                    self.send(clients[index], b"".join(pack(*self.command()) for _ in range(3)))
                elif draw < 0.9:
                    self.send(clients[index], self.rng.randbytes(self.rng.randrange(60)) + b"\r\n")
                else:
                    self.random_event(harness)
                for client in clients:
                    client.raw()
            harness.context.clients.resume()
            self.assertEqual(harness.host.failures, [])
            self.assertTrue(harness.connect().ask("PING").startswith((b"+PONG", b"-NOAUTH")))

    def test_names_are_commands(self) -> None:
        """The words above are commands, without which this test would prove little."""
        harness = self.harness()
        for command in COMMANDS:
            if command not in (b"SHUTDOWN", b"QUIT"):
                self.assertNotIn(b"unknown command", harness.connect().ask(command))
