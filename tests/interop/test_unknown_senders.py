"""Unauthenticated clients of a Sentinel, or clients that publish on a server, while a master dies."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, listing, shorten_periods, wait_moved
from tests.servers import Connection, Fleet, Harness, ReplyError, missing, wait_for

FORGED = 400
REQUESTS_PER_SECOND = 12
EPOCH_STEP = 1 << 20


class UnknownSenderTests(SynchronousTestCase):
    """Three Sentinels of ours with one master and two replicas."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def setUp(self) -> None:
        """Start everything and wait until it is stable."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        harness = stack.enter_context(Harness())
        self.fleet = Fleet(harness, ["txsentinel"] * 3, "valkey", down_after=1_000, failover_timeout=30_000)
        self.fleet.start()
        shorten_periods(self.fleet.sentinels)
        self.fleet.wait_quiet(SECONDS)
        self.ids = [str(sentinel.call("SENTINEL", "MYID")) for sentinel in self.fleet.sentinels]
        self.master = self.fleet.master()

    def hello(self, peer_id: str, ip: str, port: int, epoch: int) -> str:
        """Return a hello about the master."""
        return f"{ip},{port},{peer_id},{epoch},{self.fleet.name},127.0.0.1,{self.master.port},0"

    def forged_hellos(self) -> list[str]:
        """Return hellos of forged Sentinels."""
        places = [f"127.0.{50 + number // 200}.{1 + number % 200}" for number in range(FORGED)]
        return [self.hello(f"{number:040x}", ip, 26379, 1_000) for number, ip in enumerate(places)]

    def publish(self, port: int, hellos: list[str]) -> None:
        """Publish hellos at that port."""
        with Connection(port) as client:
            for hello in hellos:
                client.call("PUBLISH", "__sentinel__:hello", hello)

    def assert_fails_over(self) -> None:
        """Kill the master; assert that it is replaced."""
        self.master.kill()
        wait_moved(self.fleet, self.master)

    def test_forged_sentinels(self) -> None:
        """
        Hundreds of them, published to each Sentinel and through the master, are not registered and prevent nothing.
        """
        for port in (*(sentinel.port for sentinel in self.fleet.sentinels), self.master.port):
            self.publish(port, self.forged_hellos())
        for sentinel in self.fleet.sentinels:
            announced = {peer["name"] for peer in listing(sentinel, "SENTINELS", self.fleet.name)}
            self.assertEqual(announced, set(self.ids) - {str(sentinel.call("SENTINEL", "MYID"))})
        self.assert_fails_over()

    def test_forged_sentinels_at_addresses_of_peers(self) -> None:
        """Forged hellos at the addresses of peers neither displace nor move the peers."""
        for sentinel in self.fleet.sentinels:
            for other, peer_id in zip(self.fleet.sentinels, self.ids, strict=True):
                if other is not sentinel:
                    self.publish(sentinel.port, [self.hello("e" * 40, "127.0.0.1", other.port, 7)])
                    self.publish(sentinel.port, [self.hello(peer_id, "127.0.0.1", 1, 7)])
        self.assert_fails_over()

    def test_raised_epochs(self) -> None:
        """Sentinels of which one was raised to a high epoch converge again."""
        raised, duplicate, other = self.fleet.sentinels
        for step in range(1, 4):
            hello = self.hello(self.ids[1], "127.0.0.1", duplicate.port, step * EPOCH_STEP)

            def raise_epoch(hello: str = hello, step: int = step) -> bool:
                self.publish(raised.port, [hello])
                found = raised.config_path.read_text().split("sentinel current-epoch ")[-1].split()[0]
                return int(found) >= step * EPOCH_STEP

            wait_for(raise_epoch, SECONDS, f"{raised.name} to adopt epoch step {step}", every=0.2)
        with Connection(other.port) as client:
            for step in range(1, 7):
                words = ("127.0.0.1", self.master.port, step * EPOCH_STEP - step, "f" * 40)
                client.call("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", *words)
        self.assert_fails_over()

    def test_forged_requests_for_votes(self) -> None:
        """A dozen per second, in the names of unknown Sentinels, peers and the Sentinel itself, delay no failover."""
        over = threading.Event()
        attackers = [
            threading.Thread(target=self.forge, args=(sentinel.port, over.wait)) for sentinel in self.fleet.sentinels
        ]
        for attacker in attackers:
            attacker.start()
        try:
            wait_for(lambda: over.wait(1.0) is False, SECONDS, "a second of it")
            self.assert_fails_over()
        finally:
            over.set()
            for attacker in attackers:
                attacker.join()

    def forge(self, port: int, over: Callable[[float], bool]) -> None:
        """Request votes until stopped, each in an epoch above the previous one and that of the reply."""
        epoch = 0
        names = [*self.ids, "f" * 40]
        with contextlib.suppress(OSError), Connection(port) as client:
            while not over(1 / REQUESTS_PER_SECOND):
                epoch += 1
                words = ("127.0.0.1", self.master.port, epoch, names[epoch % len(names)])
                with contextlib.suppress(ReplyError):
                    answer = client.call("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", *words)
                    if isinstance(answer, list) and isinstance(answer[2], int):
                        epoch = max(epoch, answer[2])
