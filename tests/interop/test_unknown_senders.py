"""Strangers who reach the port of a Sentinel, or may publish on a server, and a master that dies meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, hurry, listing, wait_moved
from tests.servers import Connection, Fleet, Harness, ReplyError, missing, wait_for

INVENTED = 400
REQUESTS_PER_SECOND = 12
LEAP = 1 << 20


class UnknownSenderTests(SynchronousTestCase):
    """Three Sentinels of ours over one master with two replicas."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def setUp(self) -> None:
        """Everything runs and is at rest."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        harness = stack.enter_context(Harness())
        self.fleet = Fleet(harness, ["txsentinel"] * 3, "valkey", down_after=1_000, failover_timeout=30_000)
        self.fleet.start()
        hurry(self.fleet.sentinels)
        self.fleet.wait_quiet(SECONDS)
        self.ids = [str(sentinel.call("SENTINEL", "MYID")) for sentinel in self.fleet.sentinels]
        self.master = self.fleet.master()

    def hello(self, peer_id: str, ip: str, port: int, epoch: int) -> str:
        """A hello about the master."""
        return f"{ip},{port},{peer_id},{epoch},{self.fleet.name},127.0.0.1,{self.master.port},0"

    def invented(self) -> list[str]:
        """Hellos of Sentinels that are not there."""
        places = [f"127.0.{50 + number // 200}.{1 + number % 200}" for number in range(INVENTED)]
        return [self.hello(f"{number:040x}", ip, 26379, 1_000) for number, ip in enumerate(places)]

    def publish(self, port: int, hellos: list[str]) -> None:
        """Publish them there."""
        with Connection(port) as client:
            for hello in hellos:
                client.call("PUBLISH", "__sentinel__:hello", hello)

    def failed_over(self) -> None:
        """The master dies, and another one is agreed upon."""
        self.master.kill()
        wait_moved(self.fleet, self.master)

    def test_invented_sentinels(self) -> None:
        """Hundreds of them, named to each Sentinel and through the master, are nobody, and prevent nothing."""
        for port in (*(sentinel.port for sentinel in self.fleet.sentinels), self.master.port):
            self.publish(port, self.invented())
        for sentinel in self.fleet.sentinels:
            named = {peer["name"] for peer in listing(sentinel, "SENTINELS", self.fleet.name)}
            self.assertEqual(named, set(self.ids) - {str(sentinel.call("SENTINEL", "MYID"))})
        self.failed_over()

    def test_strangers_at_the_addresses_of_peers(self) -> None:
        """Neither displace them nor move them away."""
        for sentinel in self.fleet.sentinels:
            for other, peer_id in zip(self.fleet.sentinels, self.ids, strict=True):
                if other is not sentinel:
                    self.publish(sentinel.port, [self.hello("e" * 40, "127.0.0.1", other.port, 7)])
                    self.publish(sentinel.port, [self.hello(peer_id, "127.0.0.1", 1, 7)])
        self.failed_over()

    def test_epochs_led_apart(self) -> None:
        """Sentinels of which one was led far away meet again."""
        victim, duplicate, other = self.fleet.sentinels
        for step in range(1, 4):
            hello = self.hello(self.ids[1], "127.0.0.1", duplicate.port, step * LEAP)

            def led(hello: str = hello, step: int = step) -> bool:
                self.publish(victim.port, [hello])
                found = victim.config_path.read_text().split("sentinel current-epoch ")[-1].split()[0]
                return int(found) >= step * LEAP

            wait_for(led, SECONDS, f"{victim.name} to be led {step} leaps away", every=0.2)
        with Connection(other.port) as client:
            for step in range(1, 7):
                words = ("127.0.0.1", self.master.port, step * LEAP - step, "f" * 40)
                client.call("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", *words)
        self.failed_over()

    def test_forged_requests_for_votes(self) -> None:
        """A dozen a second, in the names of strangers, peers and the Sentinel itself, hold up nothing."""
        over = threading.Event()
        attackers = [
            threading.Thread(target=self.forge, args=(sentinel.port, over.wait)) for sentinel in self.fleet.sentinels
        ]
        for attacker in attackers:
            attacker.start()
        try:
            wait_for(lambda: over.wait(1.0) is False, SECONDS, "a second of it")
            self.failed_over()
        finally:
            over.set()
            for attacker in attackers:
                attacker.join()

    def forge(self, port: int, over: Callable[[float], bool]) -> None:
        """Ask for votes until it is over, each time in an epoch above the one before and above the answer."""
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
