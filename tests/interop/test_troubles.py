"""
Faults of real installations, each with what the Sentinel must state about it.

Each test stages one fault, and checks the explanation: the code of the verdict, the subject, the measured value and the
remedy; and the log and ``SENTINEL CKQUORUM`` where they report it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.explanations import (
    codes,
    commands,
    explanation,
    request,
    wait_explained,
    wait_verdict,
    wait_warning,
)
from tests.interop.fixtures import SECONDS
from tests.servers import Connection, Fleet, Harness, RedisProcess, ReplyError, SentinelProcess, missing, wait_for

RULES = (
    "allchannels -@all +multi +exec +ping +info +role +publish +subscribe +slaveof +config|rewrite +client|setname"
    " +client|kill +client|pause +client|unpause +failover +script|kill"
)
"""The commands that a user for Sentinels needs."""


def shorten_periods(sentinels: Iterable[SentinelProcess]) -> None:
    """Shorten the INFO and hello periods, but not so far that a busy machine makes INFO stale."""
    for sentinel in sentinels:
        sentinel.call("SENTINEL", "DEBUG", "INFO-PERIOD", 1000, "PUBLISH-PERIOD", 500)


class FaultTestCase(SynchronousTestCase):
    """Starts installations."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def setUp(self) -> None:
        """Prepare the clean-up."""
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.harness = self.stack.enter_context(Harness())

    def fleet(self, **settings: object) -> Fleet:
        """Create an installation that is not started."""
        options: dict[str, object] = {"down_after": 1_000, "failover_timeout": 10_000, **settings}
        return Fleet(self.harness, ["txsentinel"] * 3, "redis", **options)  # type: ignore[arg-type]

    def started(self, **settings: object) -> Fleet:
        """Start an installation, with short periods."""
        fleet = self.fleet(**settings)
        fleet.start()
        shorten_periods(fleet.sentinels)
        return fleet

    def start_apart(self, fleet: Fleet) -> None:
        """Start an installation whose Sentinels may not find each other."""
        for server in fleet.servers.values():
            server.start()
        for sentinel in fleet.sentinels:
            sentinel.start()
        shorten_periods(fleet.sentinels)

    def replicas(self, fleet: Fleet) -> list[RedisProcess]:
        """Return the replicas."""
        master = fleet.master_port()
        return [server for port, server in fleet.servers.items() if port != master]

    def ckquorum(self, sentinel: SentinelProcess) -> str:
        """Return the reply of CKQUORUM, whether it is an error or not."""
        try:
            return str(sentinel.call("SENTINEL", "CKQUORUM", "mymaster"))
        except ReplyError as error:
            return str(error)

    def wait_logged(self, sentinel: SentinelProcess, line: str) -> None:
        """Wait until the log has a line."""
        wait_for(lambda: line in sentinel.log_text(), SECONDS, f"line {line!r}")


class SentinelTests(FaultTestCase):
    """Sentinels that are missing, or cannot be reached."""

    def test_majority_is_dead(self) -> None:
        """Two of three Sentinels are dead: who is missing since when, why, and what to start."""
        fleet = self.started()
        first, *others = fleet.sentinels
        for sentinel in others:
            sentinel.kill()
        found = wait_explained(first, lambda each: "quorum_unreachable" in codes(each), "the peers to be down")
        self.assertEqual(found["verdict"]["code"], "healthy")
        self.assertIn("could not be failed over", found["verdict"]["text"])
        self.assertIn("NOQUORUM 1 usable", self.ckquorum(first))
        fleet.master().kill()
        found = wait_verdict(first, "quorum_unreachable")
        self.assertIn("the quorum is 2 and only 1 of 3 Sentinels can be reached", found["verdict"]["text"])
        for sentinel in others:
            self.assertIn(f"127.0.0.1:{sentinel.port} is down for ", found["verdict"]["text"])
        self.assertIn("refused", found["verdict"]["text"])
        started = {each["who"].rpartition(":")[2] for each in found["unblock"] if each["do"].startswith("start")}
        self.assertEqual(started, {str(sentinel.port) for sentinel in others})
        self.assertIn("SENTINEL FAILOVER mymaster", commands(found))
        self.wait_logged(first, "No failover of mymaster: the quorum is 2 and only 1 of 3 Sentinels can be reached")
        for sentinel in others:
            self.wait_logged(first, f"the Sentinel at 127.0.0.1:{sentinel.port} is down for ")

    def test_quorum_above_the_sentinels(self) -> None:
        """The quorum is 4 and there are 3 Sentinels: stated from the start on, with the command that mends it."""
        fleet = self.started()
        for sentinel in fleet.sentinels:
            sentinel.call("SENTINEL", "SET", "mymaster", "quorum", 4)
        first = fleet.sentinels[0]
        found = wait_explained(first, lambda each: codes(each) == ["quorum_unreachable"], "fresh INFO")
        self.assertIn("the quorum is 4 and only 3 Sentinels are known", found["verdict"]["text"])
        self.assertEqual(commands(found), ["SENTINEL SET mymaster quorum 3"])
        self.assertIn("The quorum is 4 and only 3 Sentinels are known", self.ckquorum(first))
        fleet.master().kill()
        wait_verdict(first, "quorum_unreachable")
        wanted = ["SENTINEL SET mymaster quorum 3", "SENTINEL FAILOVER mymaster"]
        wait_explained(first, lambda each: commands(each) == wanted, "all Sentinels to agree")
        self.wait_logged(first, "No failover of mymaster: the quorum is 4 and only 3 Sentinels are known")

    def test_different_settings(self) -> None:
        """Two Sentinels of a group have different quorums: their answers to AGREE and their logs show it."""
        fleet = self.started()
        first, second, third = fleet.sentinels
        second.call("SENTINEL", "SET", "mymaster", "quorum", 3)
        answers = [request(each, "TXSENTINEL", "AGREE", "mymaster") for each in (first, second, third)]
        self.assertEqual([each["quorum"] for each in answers], [2, 3, 2])
        hashes = [each["options_hash"] for each in answers]
        self.assertEqual(hashes[0], hashes[2])
        self.assertNotEqual(hashes[0], hashes[1])
        self.assertEqual({each["port"] for each in answers}, {fleet.master_port()})
        place = f"127.0.0.1:{second.port}"
        self.wait_logged(first, f"The quorum of master mymaster is 2 here, and 3 at the Sentinel {place}. Set the same")
        self.wait_logged(second, "The quorum of master mymaster is 3 here, and 2 at the Sentinel ")

    def test_one_way(self) -> None:
        """A peer announces a wrong port: its hellos arrive, its address refuses."""
        fleet = self.fleet()
        fleet.sentinels[2].extra.append("sentinel announce-port 9")
        self.start_apart(fleet)
        wait_warning(fleet.sentinels[0], "127.0.0.1:9", "hellos", "announce-port")
        line = "at 127.0.0.1:9: Connection refused. Its hellos arrive through a server"
        self.wait_logged(fleet.sentinels[0], line)

    def test_passwords_differ(self) -> None:
        """A peer requires another password."""
        fleet = self.fleet()
        fleet.sentinels[2].password = "another"
        self.start_apart(fleet)
        wait_warning(fleet.sentinels[0], f":{fleet.sentinels[2].port}", "NOAUTH", "requirepass", "sentinel-pass")
        line = f"127.0.0.1:{fleet.sentinels[2].port} answered PING with NOAUTH"
        self.wait_logged(fleet.sentinels[0], line)
        self.wait_logged(fleet.sentinels[0], "is sentinel-pass, or requirepass of both, right?")

    def test_copied_id(self) -> None:
        """Two Sentinels have one ID."""
        fleet = self.fleet()
        for sentinel in fleet.sentinels[:2]:
            sentinel.extra.append(f"sentinel myid {'a' * 40}")
        self.start_apart(fleet)
        found = wait_warning(fleet.sentinels[0], f"port {fleet.sentinels[1].port}", "has the ID of this one")
        self.assertIn("sentinel myid", " ".join(found["warnings"]))
        self.wait_logged(fleet.sentinels[0], "has the ID of this one and is ignored")

    def test_storage(self) -> None:
        """The directory disappears: no failover by this Sentinel, with path and reason."""
        fleet = self.started()
        first = fleet.sentinels[0]
        away = first.directory.with_name("away")
        first.directory.rename(away)
        self.addCleanup(away.rename, first.directory)
        with contextlib.suppress(ReplyError):
            first.call("SENTINEL", "FLUSHCONFIG")
        found = wait_explained(first, lambda each: codes(each) == ["storage_failing"], "saving to fail")
        self.assertIn(str(first.config_path), found["blocked_by"][0]["text"])
        self.assertIn("ENOENT", found["blocked_by"][0]["text"])
        self.assertEqual(commands(found), ["SENTINEL FLUSHCONFIG"])
        self.assertIn("annot save its votes", self.ckquorum(first))
        # The log was in that directory, too.
        logged = (away / first.log_path.name).read_text()
        self.assertIn(f"cannot save its votes to {first.config_path}: ENOENT", logged)

    def test_tilt(self) -> None:
        """The process stood still: for how long, and until when it decides nothing."""
        fleet = self.started()
        first = fleet.sentinels[0]
        first.call("SENTINEL", "DEBUG", "tilt-trigger", 500)
        first.freeze()
        time.sleep(1.5)
        first.thaw()
        found = wait_verdict(first, "tilt")
        self.assertIn("this process stood still for ", found["verdict"]["text"])
        [timer] = [each for each in found["timers"] if each["what"] == "tilt_ends"]
        self.assertEqual(found["blocked_by"][0]["until"], timer["due_at"])
        self.assertGreater(timer["due_at"], found["asked_at"])
        self.wait_logged(first, "TILT: this process stood still for ")


class ServerTests(FaultTestCase):
    """Replicas that cannot be promoted, and masters that are not what they seem."""

    def test_priorities(self) -> None:
        """Every replica has priority 0: stated while the master is well, and when it is down."""
        fleet = self.started()
        first = fleet.sentinels[0]
        for server in self.replicas(fleet):
            server.call("CONFIG", "SET", "replica-priority", 0)
        found = wait_explained(first, lambda each: codes(each) == ["all_priority_zero"], "INFO with the priorities")
        self.assertIsNone(found["would_promote"])
        self.assertEqual(found["replicas"][0]["unfit"]["code"], "priority_zero")
        self.assertEqual(commands(found), ["CONFIG SET replica-priority 100"] * 2)
        self.assertIn("its priority is 0", self.ckquorum(first))
        fleet.master().kill()
        wait_verdict(first, "all_priority_zero")
        self.wait_logged(first, "No failover of mymaster: no replica can be promoted")

    def test_no_replicas(self) -> None:
        """There is no replica."""
        fleet = self.started(replicas=0)
        first = fleet.sentinels[0]
        found = wait_explained(first, lambda each: codes(each) == ["no_replicas"], "INFO of the master")
        self.assertEqual(commands(found), [f"REPLICAOF 127.0.0.1 {fleet.master_port()}"])
        self.assertIn("No replica is known", self.ckquorum(first))

    def test_stale_replicas(self) -> None:
        """The replicas lose their link: for how long and the limit, and after that why none is promoted."""
        fleet = self.started()
        first, master = fleet.sentinels[0], fleet.master()
        replicas = self.replicas(fleet)
        for server in replicas:
            # The master refuses the password, so the replica cannot synchronize again.
            server.call("CONFIG", "SET", "masterauth", "wrong")
        master.call("CONFIG", "SET", "requirepass", "")
        for server in replicas:
            server.call("CLIENT", "KILL", "TYPE", "master")
        wait_warning(first, f":{replicas[0].port}", "has had no link to its master for", "10.0 s")
        unfit = wait_explained(
            first,
            lambda each: (
                {(row["unfit"] or {}).get("code") for row in each["replicas"]} == {"master_link_down_too_long"}
                and each["replicas"][0]["unfit"]["limit"] == 10_000
            ),
            "the limit to pass",
        )
        reason = unfit["replicas"][0]["unfit"]
        self.assertGreater(reason["measured"], reason["limit"])
        master.kill()
        # The remedy is known when the others have been asked, too.
        found = wait_explained(
            first, lambda each: each["verdict"]["code"] == "no_fit_replica" and commands(each) != [], "a remedy"
        )
        self.assertIn("it was without its master for ", found["verdict"]["text"])
        self.assertIn("(the limit is ", found["verdict"]["text"])
        self.assertTrue(commands(found)[0].startswith("SENTINEL SET mymaster down-after-milliseconds "))
        self.assertIn("lost", found["unblock"][0]["do"])

    def test_monitored_replica(self) -> None:
        """The monitored address is that of a replica: whose, and how to monitor its master."""
        master = self.harness.redis("redis")
        replica = self.harness.redis("redis", replica_of=master.port)
        for server in (master, replica):
            server.start()
        sentinel = self.harness.sentinel("txsentinel", monitor=[("mymaster", "127.0.0.1", replica.port, 1)])
        sentinel.start()
        shorten_periods([sentinel])
        found = wait_verdict(sentinel, "monitors_replica")
        follows = f"127.0.0.1:{replica.port} is a replica of 127.0.0.1 port {master.port}"
        self.assertIn(follows, found["verdict"]["text"])
        self.assertIn(f"SENTINEL MONITOR mymaster 127.0.0.1 {master.port} 1", commands(found)[0])
        self.wait_logged(sentinel, f"No failover of mymaster: {follows}")

    def test_names(self) -> None:
        """A replica announces a name while names are not resolved."""
        fleet = self.started()
        replica = self.replicas(fleet)[0]
        replica.call("CONFIG", "SET", "replica-announce-ip", "replica.example")
        replica.call("CLIENT", "KILL", "TYPE", "master")
        wait_warning(fleet.sentinels[0], "replica.example", "resolve-hostnames")
        self.wait_logged(fleet.sentinels[0], "Ignored a replica of mymaster at 'replica.example'")
        self.wait_logged(fleet.sentinels[0], "not resolved without 'sentinel resolve-hostnames yes'")

    def test_script(self) -> None:
        """A script that has written keeps the master busy: SCRIPT KILL is refused."""
        fleet = self.started()
        master = fleet.master()
        first = fleet.sentinels[0]
        for server in self.replicas(fleet):
            server.call("CONFIG", "SET", "replica-priority", 0)
        wait_explained(first, lambda each: codes(each) == ["all_priority_zero"], "INFO with the priorities")
        master.call("CONFIG", "SET", "lua-time-limit", 100)
        connection = Connection(master.port)
        self.addCleanup(connection.close)
        connection.send("EVAL", "redis.call('set', 'x', '1') while true do end", 0)
        # It does not end by SIGTERM.
        self.addCleanup(master.kill)
        found = wait_warning(first, f":{master.port}", "kept busy by a script", "UNKILLABLE")
        self.assertIn("busy", found["sdown"]["why"])
        self.wait_logged(first, "answers BUSY; SCRIPT KILL was answered by UNKILLABLE")

    def test_lost_data(self) -> None:
        """The master restarts without its data, before it is down."""
        fleet = self.started(down_after=60_000)
        master = fleet.master()
        for key in range(20):
            master.call("SET", f"key{key}", "value")
        first = fleet.sentinels[0]
        cached = ("SENTINEL", "INFO-CACHE", "mymaster")
        wait_for(lambda: str(first.call(*cached)).count("keys=20") == 3, SECONDS, "INFO of all servers with the keys")
        master.kill()
        master.start()
        wait_warning(first, f":{master.port} came back without its data", "had 20 keys")
        self.wait_logged(first, f"mymaster at 127.0.0.1:{master.port}: it came back without its data: it has no keys")

    def test_refused_writes(self) -> None:
        """The master refuses writes, as no replica acknowledges."""
        fleet = self.started()
        master = fleet.master()
        master.call("CONFIG", "SET", "min-replicas-to-write", 1)
        for server in self.replicas(fleet):
            server.kill()
        wait_warning(fleet.sentinels[0], f":{master.port} is up, but refuses writes", "min-replicas-to-write")


class PermissionTests(FaultTestCase):
    """A user that lacks one right, and a wrong password."""

    def restricted(self, *removed: str) -> Fleet:
        """Create an installation whose Sentinels log in as a user without some rights."""
        fleet = self.fleet(extra=["sentinel auth-user mymaster watcher", "sentinel auth-pass mymaster secret"])
        rules = " ".join(word for word in RULES.split() if word not in removed)
        for server in fleet.servers.values():
            server.extra.append(f'user watcher on ">secret" {rules}')
        return fleet

    def test_wrong_password(self) -> None:
        """The password is rotated on the servers: neither master nor replicas are called down."""
        fleet = self.started(password="secret")
        first = fleet.sentinels[0]
        for server in fleet.servers.values():
            server.call("CONFIG", "SET", "requirepass", "another")
            server.password = "another"
            for kind in ("normal", "pubsub"):
                server.call("CLIENT", "KILL", "TYPE", kind)
        found = wait_verdict(first, "auth_failing")
        self.assertIn("AUTH: WRONGPASS", found["verdict"]["text"])
        self.assertIn("is auth-pass right?", found["verdict"]["text"])

        def refused(each: dict[str, object]) -> bool:
            rows = each["replicas"]
            assert isinstance(rows, list)
            texts = {row["unfit"] and row["unfit"]["text"] for row in rows}
            return texts == {"it answers PING with NOAUTH"} and codes(each) == ["auth_failing"]

        found = wait_explained(first, refused, "the replicas to refuse PING")
        self.assertIn("SENTINEL SET mymaster auth-pass <password>", commands(found))
        self.wait_logged(first, "answered AUTH with WRONGPASS")
        self.wait_logged(first, "is auth-pass right?")

    def test_no_info(self) -> None:
        """The user may not INFO: the replicas are unknown."""
        fleet = self.restricted("+info")
        self.start_apart(fleet)
        first = fleet.sentinels[0]
        found = wait_explained(first, lambda each: "not_permitted" in codes(each), "INFO to be refused")
        [block] = [each for each in found["blocked_by"] if each["code"] == "not_permitted"]
        self.assertIn("INFO: NOPERM", block["text"])
        self.assertIn("its replicas are unknown", block["text"])
        self.assertIn("ACL SETUSER watcher +info", commands(found))
        self.assertIn("NOPERM", self.ckquorum(first))
        self.wait_logged(first, "answered INFO with NOPERM")
        self.wait_logged(first, "its role and its replicas are unknown")

    def test_no_publish(self) -> None:
        """The user may not PUBLISH: no Sentinel discovers another one."""
        fleet = self.restricted("+publish")
        self.start_apart(fleet)
        wanted = ["not_permitted", "quorum_unreachable"]
        found = wait_explained(fleet.sentinels[0], lambda each: codes(each) == wanted, "PUBLISH to be refused")
        [block] = [each for each in found["blocked_by"] if each["code"] == "not_permitted"]
        self.assertIn("PUBLISH: NOPERM", block["text"])
        self.assertIn("ACL SETUSER watcher +publish &__sentinel__:hello", commands(found))
        self.wait_logged(fleet.sentinels[0], "answered PUBLISH with NOPERM")

    def test_no_ping(self) -> None:
        """The user may not PING: the master is not judged, and not failed over."""
        fleet = self.restricted("+ping")
        self.start_apart(fleet)
        found = wait_verdict(fleet.sentinels[0], "not_permitted")
        self.assertIn("PING: NOPERM", found["verdict"]["text"])
        self.assertIsNone(found["sdown"]["since"])
        self.wait_logged(fleet.sentinels[0], "answered PING with NOPERM")
        self.assertNotIn("+sdown master", fleet.sentinels[0].log_text())

    def test_no_promotion(self) -> None:
        """The user may not SLAVEOF: the leader states which replica refused what."""
        fleet = self.restricted("+slaveof")
        fleet.start()
        shorten_periods(fleet.sentinels)
        fleet.master().kill()

        def refused() -> bool:
            found = [explanation(sentinel) for sentinel in fleet.sentinels]
            verdicts = [each["verdict"] for each in found]
            texts = [each["text"] for each in verdicts if each["code"] == "not_permitted"]
            if not any("SLAVEOF NO ONE with NOPERM" in text for text in texts):
                raise ReplyError(str([each["verdict"] for each in found]))
            return True

        wait_for(refused, SECONDS, "a Sentinel to report the refusal", every=0.1)
        line = "refused to change its role: SLAVEOF NO ONE was answered by NOPERM"
        self.assertTrue(any(line in sentinel.log_text() for sentinel in fleet.sentinels))
