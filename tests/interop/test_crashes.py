"""``crash-failover`` with real servers: killed masters are replaced at once, and nothing else is taken for a crash."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.servers import DeadlineExpired, Fleet, Harness, RedisProcess, missing, wait_for

DOWN_AFTER = 1_200_000
"""Milliseconds: longer than any test waits, so that a failover that waits for it fails the test, whatever the load."""

ENABLED = "#: txsentinel crash-failover mymaster on"


class CrashTestCase(SynchronousTestCase):
    """Three Sentinels over a master and two replicas."""

    if missing("redis"):
        skip = missing("redis")

    def start(self, *kinds: str, down_after: int = DOWN_AFTER) -> Fleet:
        """Start a stable group whose connections are older than a PING period."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        harness = stack.enter_context(Harness())
        kinds = kinds or ("txsentinel",) * 3
        fleet = Fleet(harness, kinds, "redis", down_after=down_after, failover_timeout=5_000, extra=[ENABLED])
        fleet.start()
        fleet.wait_quiet()
        time.sleep(1.5)
        return fleet

    def logs(self, fleet: Fleet) -> str:
        """Return the logs of all Sentinels."""
        return "".join(sentinel.log_text() for sentinel in fleet.sentinels)

    def assert_replaced(self, fleet: Fleet) -> None:
        """
        Kill the master, and check that another server accepts writes before down-after can have passed.

        A Sentinel that had no processor meanwhile discards its evidence by design; then the master is killed once more.
        """
        old = fleet.master()
        others = [server for server in fleet.servers.values() if server is not old]

        def writable() -> RedisProcess | None:
            # The Sentinels close the connections of clients while they order the new roles.
            for server in others:
                if server.replication()["role"] == "master" and server.call("SET", "written", "1") == "OK":
                    return server
            return None

        old.kill()
        try:
            master = wait_for(writable, SECONDS / 4, "a promotion long before down-after")
        except DeadlineExpired:
            old.start()
            fleet.wait_quiet()
            time.sleep(1.5)
            old.kill()
            master = wait_for(writable, SECONDS, f"a promotion long before down-after: {self.logs(fleet)}")
        self.assertIn("has crashed: its connection was lost", self.logs(fleet))
        self.assertIn("S_DOWN of master mymaster", self.logs(fleet))
        wait_for(lambda: fleet.master_port() == master.port, SECONDS, "the address at all Sentinels")


class KilledMasterTests(CrashTestCase):
    """SIGKILL."""

    def test_three_of_ours(self) -> None:
        """All Sentinels find the evidence."""
        self.assert_replaced(self.start())

    def test_beside_a_c_sentinel(self) -> None:
        """Two of ours are a quorum and a majority; the C Sentinel votes, and adopts the address."""
        self.assert_replaced(self.start("txsentinel", "txsentinel", "redis"))

    def test_twice(self) -> None:
        """The next master may crash as well."""
        fleet = self.start()
        old = fleet.master()
        self.assert_replaced(fleet)
        fleet.revive(old)
        fleet.wait_quiet()
        time.sleep(1.5)
        for sentinel in fleet.sentinels:
            sentinel.call("SENTINEL", "SET", "mymaster", "failover-timeout", "1000")
        time.sleep(2.5)
        self.assert_replaced(fleet)


class NoCrashTests(CrashTestCase):
    """Whatever leaves the process alive, or is announced, causes no failover before down-after."""

    def assert_kept(self, fleet: Fleet, port: int) -> None:
        """Check that no Sentinel has taken the master for crashed or down."""
        self.assertEqual(fleet.master_port(), port)
        self.assertNotIn("+sdown master", self.logs(fleet))
        self.assertNotIn("has crashed", self.logs(fleet))

    def test_frozen_master(self) -> None:
        """SIGSTOP: connections stay, and new ones are accepted by the kernel."""
        fleet = self.start()
        master = fleet.master()
        master.freeze()
        time.sleep(3.0)
        master.thaw()
        time.sleep(1.0)
        self.assert_kept(fleet, master.port)

    def test_starved_sentinels(self) -> None:
        """The Sentinels share one processor with programs of a much higher priority."""
        fleet = self.start()
        master = fleet.master()
        processor = min(os.sched_getaffinity(0))
        for sentinel in fleet.sentinels:
            os.sched_setaffinity(sentinel.pid, {processor})
            os.setpriority(os.PRIO_PROCESS, sentinel.pid, 19)
        loads = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
        try:
            for load in loads:
                os.sched_setaffinity(load.pid, {processor})
            time.sleep(5.0)
            master.call("CLIENT", "KILL", "TYPE", "normal")
            time.sleep(2.0)
        finally:
            for load in loads:
                load.kill()
                load.wait()
        time.sleep(1.0)
        self.assert_kept(fleet, master.port)

    def test_disconnected_clients(self) -> None:
        """CLIENT KILL closes all connections; new ones are accepted."""
        fleet = self.start()
        master = fleet.master()
        for _ in range(3):
            master.call("CLIENT", "KILL", "TYPE", "normal")
            master.call("CLIENT", "KILL", "TYPE", "pubsub")
            time.sleep(0.5)
        self.assert_kept(fleet, master.port)

    def test_restart_after_the_guard_is_off(self) -> None:
        """An operator switches the guard off, and restarts the master within down-after."""
        fleet = self.start()
        master = fleet.master()
        for sentinel in fleet.sentinels:
            self.assertEqual(sentinel.call("SENTINEL", "SET", "mymaster", "crash-failover", "off"), "OK")
        with contextlib.suppress(OSError, ConnectionError):
            master.call("SHUTDOWN", "NOSAVE")
        master.wait_ended(SECONDS)
        time.sleep(1.0)
        master.start(keep_config=True)
        time.sleep(2.0)
        self.assert_kept(fleet, master.port)

    def test_rejected_sentinels(self) -> None:
        """A proxy before the master closes all connections and refuses new ones, as firewalls do."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        harness = stack.enter_context(Harness())
        fleet = Fleet(harness, ("txsentinel",) * 3, "redis", down_after=DOWN_AFTER, extra=[ENABLED])
        master = next(iter(fleet.servers.values()))
        proxy = stack.enter_context(Proxy(master.port))
        for sentinel in fleet.sentinels:
            sentinel.monitor = [("mymaster", "127.0.0.1", proxy.port, 2)]
        for server in fleet.servers.values():
            server.start()
        for sentinel in fleet.sentinels:
            sentinel.start()

        def known() -> bool:
            found = [s.call("SENTINEL", "REPLICAS", "mymaster") for s in fleet.sentinels]
            return all(isinstance(each, list) and len(each) == 2 for each in found)

        wait_for(known, SECONDS, "the replicas")
        time.sleep(2.5)
        proxy.close()
        time.sleep(3.0)
        logs = self.logs(fleet)
        self.assertNotIn("has crashed", logs)
        self.assertNotIn("+sdown master", logs)
        self.assertEqual(master.replication()["role"], "master")


class Proxy:
    """Forwards connections to a port of 127.0.0.1 until it is closed."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, and refuse new ones."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            readable, _, _ = select.select([self._listener, *self._pairs], [], [], 0.01)
            for ready in readable:
                if ready is self._listener:
                    client = self._listener.accept()[0]
                    server = socket.create_connection(("127.0.0.1", self._target))
                    self._pairs[client], self._pairs[server] = server, client
                elif ready in self._pairs:
                    self._forward(ready)
        for each in [self._listener, *self._pairs]:
            each.close()

    def _forward(self, ready: socket.socket) -> None:
        other = self._pairs[ready]
        with contextlib.suppress(OSError):
            data = ready.recv(65_536)
            if data:
                other.sendall(data)
                return
        for each in (ready, other):
            self._pairs.pop(each, None)
            each.close()
