"""Commands put together by chance, and bytes that are none, through everything from the parser to the core."""

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
        b" master-reboot-down-after-period GET SET announce-ip announce-port resolve-hostnames announce-hostnames"
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
    """A few thousand steps; others by other seeds."""

    def setUp(self) -> None:
        self.dice = random.Random(20261121)

    def command(self) -> list[bytes]:
        """Something that may be a command."""
        dice = self.dice
        words = [dice.choice(COMMANDS)]
        if words[0] in SUBCOMMANDS and dice.random() < 0.97:
            words.append(dice.choice(SUBCOMMANDS[words[0]]))
        for _ in range(dice.choice((0, 0, 1, 1, 2, 2, 3, 4, 5, 8))):
            words.append(dice.choice(WORDS) if dice.random() < 0.93 else dice.randbytes(dice.randrange(12)))
        if words[0] == b"SENTINEL" and len(words) > 2 and dice.random() < 0.5:
            words[2] = b"mymaster"
        return words

    def harness(self) -> ServerHarness:
        """A Sentinel with its settings drawn, too."""
        options = SentinelOptions()
        options.resolve_hostnames = self.dice.random() < 0.3
        options.deny_scripts_reconfig = self.dice.random() < 0.5
        harness = ServerHarness(sentinel=options)
        harness.watch()
        return harness

    def send(self, client: RawConnection, data: bytes) -> None:
        """Bytes in two chunks."""
        cut = self.dice.randrange(len(data) + 1)
        for chunk in (data[:cut], data[cut:]):
            if not client.closed:
                client.protocol.dataReceived(chunk)

    def happen(self, harness: ServerHarness) -> None:
        """Time passes, the disk works or fails, the master says something."""
        chance = self.dice.random()
        now = harness.host.now()
        if chance < 0.3:
            harness.save()
        elif chance < 0.4:
            harness.fail()
        elif chance < 0.8:
            harness.host.reactor.advance(self.dice.choice((0.01, 0.5, 2.0, 30.0)))
            harness.core.sweep(harness.host.now(), int(harness.host.wall_clock() * 1000))
            harness.factory.inspect()
        else:
            for master in list(harness.core.registry.masters.values()):
                if master.link.address.resolved:
                    harness.bring_up(master.link)
                harness.core.info_reply(master.link, self.dice.choice(INFOS), now)
        harness.executor.drain()

    def test_nothing_raises(self) -> None:
        """Whatever is sent is answered or hung up on; the Sentinel lives, and a new client is served."""
        for _ in range(20):
            harness = self.harness()
            clients = [harness.connect() for _ in range(3)]
            for _ in range(200):
                place = self.dice.randrange(3)
                if clients[place].closed:
                    clients[place] = harness.connect()
                chance = self.dice.random()
                if chance < 0.8:
                    self.send(clients[place], pack(*self.command()))
                elif chance < 0.85:
                    self.send(clients[place], b"".join(pack(*self.command()) for _ in range(3)))
                elif chance < 0.9:
                    self.send(clients[place], self.dice.randbytes(self.dice.randrange(60)) + b"\r\n")
                else:
                    self.happen(harness)
                for client in clients:
                    client.raw()
            harness.context.clients.resume()
            self.assertEqual(harness.host.failures, [])
            self.assertTrue(harness.connect().ask("PING").startswith((b"+PONG", b"-NOAUTH")))

    def test_names_are_commands(self) -> None:
        """The words above are commands; else this would prove little."""
        harness = self.harness()
        for command in COMMANDS:
            if command not in (b"SHUTDOWN", b"QUIT"):
                self.assertNotIn(b"unknown command", harness.connect().ask(command))
