"""Commands that only newer servers support, and host names, with real servers."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, shorten_periods, wait_event, wait_moved
from tests.servers import Connection, EventRecorder, Fleet, Harness, ReplyError, SentinelProcess, missing, wait_for


class Counter(threading.Thread):
    """A client that increments a key on the master, and records what was acknowledged."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._done = threading.Event()
        self.acknowledged = 0

    def run(self) -> None:
        """Increment until stopped or disconnected, which a server does when its role changes."""
        try:
            with Connection(self._port) as connection:
                while not self._done.is_set():
                    self.acknowledged = int(str(connection.call("INCR", "count")))
        except (OSError, ReplyError):
            return

    def stop(self) -> None:
        """Stop; the number of acknowledged commands is final."""
        self._done.set()
        self.join(SECONDS)


class CoordinatedTests(SynchronousTestCase):
    """``SENTINEL FAILOVER <name> COORDINATED``."""

    def fleet(self, stack: ExitStack, kind: str) -> Fleet:
        """Start three Sentinels of ours with servers of that kind, and wait until they are stable."""
        if missing("txsentinel", kind):
            raise SkipTest(missing("txsentinel", kind))
        harness = stack.enter_context(Harness())
        fleet = Fleet(harness, ["txsentinel"] * 3, kind, down_after=1000, failover_timeout=4000)
        fleet.start()
        shorten_periods(fleet.sentinels)
        fleet.wait_quiet(SECONDS)
        return fleet

    def order_failover(self, fleet: Fleet, sentinel: SentinelProcess) -> None:
        """Order a failover, as soon as the INFO of a replica is recent enough."""
        words = ("SENTINEL", "FAILOVER", fleet.name, "coordinated")
        wait_for(lambda: sentinel.call(*words) == "OK", SECONDS, "the order to be taken")

    def test_no_write_is_lost(self) -> None:
        """The master hands over while an application writes: all acknowledged writes are on the new master."""
        with ExitStack() as stack:
            fleet = self.fleet(stack, "valkey")
            old = fleet.master()
            counter = Counter(old.port)
            counter.start()
            wait_for(lambda: counter.acknowledged > 10, SECONDS, "the application to write")
            self.order_failover(fleet, fleet.sentinels[1])
            new = wait_moved(fleet, old)
            counter.stop()
            self.assertGreaterEqual(int(str(new.call("GET", "count"))), counter.acknowledged)
            wait_for(lambda: new.call("INCR", "count"), SECONDS, "writes to go on")
            self.assertEqual(old.call("ROLE")[0], "slave")  # type: ignore[index]
            fleet.wait_quiet(SECONDS)

    def test_refusals(self) -> None:
        """
        A wrong argument is an error; a server that denies the command ends the attempt at once, and writes continue.
        """
        with ExitStack() as stack:
            fleet = self.fleet(stack, "redis")
            first = fleet.sentinels[0]
            with self.assertRaisesRegex(ReplyError, "ERR Unknown failover option specified"):
                first.call("SENTINEL", "FAILOVER", fleet.name, "GENTLY")
            old = fleet.master()
            old.call("ACL", "SETUSER", "default", "-failover")
            recorder = EventRecorder(fleet.ports).start()
            stack.callback(recorder.stop)
            since = time.monotonic()
            self.order_failover(fleet, first)
            wait_event(recorder, since, "-failover-abort-master-timeout", [first.name])
            self.assertIn("cannot hand over", first.log_text())
            self.assertEqual(old.call("SET", "still", "writable", timeout=5.0), "OK")
            self.assertEqual(fleet.master().port, old.port)


class HostnameTests(SynchronousTestCase):
    """``resolve-hostnames`` and ``announce-hostnames``."""

    def test_a_master_by_name(self) -> None:
        """A group that has its master and each other by name discovers all, agrees, and fails over."""
        if missing("txsentinel", "valkey"):
            raise SkipTest(missing("txsentinel", "valkey"))
        with ExitStack() as stack:
            harness = stack.enter_context(Harness())
            master = harness.redis("valkey")
            replica = harness.redis("valkey", replica_of=master.port)
            names = [f"sentinel {word} yes" for word in ("resolve-hostnames", "announce-hostnames")]
            sentinels = [
                harness.sentinel(
                    "txsentinel",
                    monitor=[("db", "localhost", master.port, 2)],
                    down_after=700,
                    extra=[*names, "sentinel announce-ip localhost"],
                )
                for _ in range(3)
            ]
            for process in (master, replica, *sentinels):
                process.start()
            shorten_periods(sentinels)

            def complete() -> bool:
                return all(
                    len(s.call("SENTINEL", "SENTINELS", "db")) == 2  # type: ignore[arg-type]
                    and len(s.call("SENTINEL", "REPLICAS", "db")) == 1  # type: ignore[arg-type]
                    for s in sentinels
                )

            wait_for(complete, SECONDS, "the Sentinels to know each other")
            replies = [sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "db") for sentinel in sentinels]
            self.assertEqual(replies, [["localhost", str(master.port)]] * 3)
            master.kill()

            def moved() -> bool:
                ports = [s.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "db")[1] for s in sentinels]  # type: ignore[index]
                return ports == [str(replica.port)] * 3

            wait_for(moved, SECONDS, "agreement on the replica")
            self.assertIn("localhost", sentinels[0].config_path.read_text())
