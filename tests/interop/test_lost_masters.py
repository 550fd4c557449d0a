"""Three Sentinels of ours with Valkey, Redis 7 and Redis 6.2, whose masters are lost in every way."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import (
    LONG,
    SECONDS,
    file_words,
    leader_epoch,
    persistent_state,
    shorten_periods,
    shut_down,
    switches,
    wait_event,
    wait_moved,
)
from tests.servers import EventRecorder, Fleet, Harness, RedisProcess, SentinelProcess, missing, wait_for

KINDS = ("valkey", "redis", "redis-6.2")
DOWN_AFTER, FAILOVER_TIMEOUT = 1200, 4000


class LostMasterTests(SynchronousTestCase):
    """One group of three, one master with two replicas of every kind, all lost at once, repeatedly."""

    if missing("txsentinel", *KINDS):
        skip = missing("txsentinel", *KINDS)

    def begin(self, harness: Harness, stack: ExitStack) -> None:
        """Start everything and wait until it is stable."""
        self.fleets = [Fleet(harness, [], kind, name=f"master-{kind}", quorum=2) for kind in KINDS]
        monitor = [(fleet.name, "127.0.0.1", next(iter(fleet.servers)), 2) for fleet in self.fleets]
        self.sentinels = [
            harness.sentinel("txsentinel", monitor=monitor, down_after=DOWN_AFTER, failover_timeout=FAILOVER_TIMEOUT)
            for _ in range(3)
        ]
        for fleet in self.fleets:
            for server in fleet.servers.values():
                server.start(ready=False)
        for fleet in self.fleets:
            wait_for(lambda fleet=fleet: self.in_sync(fleet), SECONDS, "the replicas to be synchronized")  # type: ignore[misc]
            fleet.sentinels = self.sentinels
        for sentinel in self.sentinels:
            sentinel.start(ready=False)
        self.wait_stable()
        self.recorder = EventRecorder({sentinel.name: sentinel.port for sentinel in self.sentinels}).start()
        stack.callback(self.recorder.stop)

    @staticmethod
    def in_sync(fleet: Fleet) -> bool:
        """Whether the first master has both its replicas."""
        return next(iter(fleet.servers.values())).replication()["connected_slaves"] == "2"

    def wait_stable(self) -> None:
        """Wait until no Sentinel has a problem to report: no flag, every link up, every replica configured."""
        for sentinel in self.sentinels:
            sentinel.wait_ready()
        shorten_periods(self.sentinels)
        for fleet in self.fleets:
            fleet.wait_quiet(SECONDS)

    def lose_all(self, strike: Callable[[Fleet, RedisProcess], object]) -> list[RedisProcess]:
        """
        Take all masters away at once, and assert that the Sentinels agree on the next ones.

        :returns: the old masters.
        """
        began = time.monotonic()
        epochs = [max(fleet.config_epochs().values()) for fleet in self.fleets]
        lost = [fleet.master() for fleet in self.fleets]
        for fleet, master in zip(self.fleets, lost, strict=True):
            strike(fleet, master)
        for fleet, master, epoch in zip(self.fleets, lost, epochs, strict=True):
            new = wait_moved(fleet, master)
            self.assertGreater(min(fleet.config_epochs().values()), epoch)
            names = [sentinel.name for sentinel in self.sentinels]
            wait_event(self.recorder, began, "+switch-master", names, f"{fleet.name} ")
            moves = switches(self.recorder, began, fleet.name)
            self.assertEqual([*moves.values()], [[(str(master.port), str(new.port))]] * 3, fleet.name)
        return lost

    def restart(self, sentinel: SentinelProcess, end: Callable[[], None]) -> None:
        """End a Sentinel and start it again from its file: it has the same ID and knows the same instances."""
        before = {fleet.name: persistent_state(sentinel, fleet.name) for fleet in self.fleets}
        votes = {fleet.name: leader_epoch(sentinel, fleet.name) for fleet in self.fleets}
        end()
        sentinel.start(keep_config=True)
        for fleet in self.fleets:
            self.assertEqual(persistent_state(sentinel, fleet.name), before[fleet.name])
            self.assertEqual(leader_epoch(sentinel, fleet.name), votes[fleet.name])
        self.recorder.wait_subscribed()

    def test_every_loss_is_handled(self) -> None:
        """
        Killed, hung, shut down or replaced by a command: after each loss all Sentinels have the same new master
        with the same, higher config epoch; the old one returns as a replica; and Sentinels that were restarted in
        between,
        in order or by SIGKILL, continue from their files.
        """
        with Harness() as harness, ExitStack() as stack:
            self.begin(harness, stack)
            for _ in range(4 if LONG else 1):
                self.lose_in_every_way()
            self.assert_files_agree()

    def lose_in_every_way(self) -> None:
        """One loss of each kind, and a restart of each Sentinel."""
        first, second, third = self.sentinels

        for server in self.lose_all(lambda _, master: master.kill()):
            server.start(keep_config=True)
        self.wait_stable()

        self.restart(first, first.kill)
        self.restart(second, second.stop)
        self.wait_stable()

        for server in self.lose_all(lambda _, master: master.freeze()):
            server.thaw()
        self.wait_stable()

        self.restart(third, third.kill)
        self.wait_stable()

        for server in self.lose_all(lambda _, master: shut_down(master)):
            server.start(keep_config=True)
        self.wait_stable()

        self.lose_all(lambda fleet, _: second.call("SENTINEL", "FAILOVER", fleet.name))
        self.wait_stable()

    def assert_files_agree(self) -> None:
        """The state of the Sentinels equals that of their files."""
        for fleet in self.fleets:
            for sentinel in self.sentinels:
                words = file_words(sentinel.config_path)
                self.assertIn(["monitor", fleet.name, "127.0.0.1", str(fleet.master_port()), "2"], words)
                self.assertIn(["config-epoch", fleet.name, str(fleet.config_epochs()[sentinel.name])], words)
                known = {words[3] for words in words if words[:2] == ["known-replica", fleet.name]}
                self.assertEqual(known, {str(port) for port in fleet.servers} - {str(fleet.master_port())})
