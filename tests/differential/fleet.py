"""One fleet for everything: a world for each kind of Sentinel that this machine has, all playing at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from tests.differential.conversation import Conversation, Outcomes
from tests.differential.environments import PEER_ID, CalmPeer, Simulation
from tests.differential.starting import Launcher, OurLauncher, try_all
from tests.differential.tablefile import TABLES, Group, read_groups
from tests.servers import Harness, available

OURS = "txsentinel"
THEIRS = ("valkey", "redis")


def tables() -> dict[str, list[Group]]:
    """All tables by name; the groups that move their world come last."""
    return {path.stem: read_groups(path) for path in sorted(TABLES.glob("*.txt"))}


@cache
def outcomes() -> dict[str, Outcomes]:
    """
    What every kind of Sentinel made of all tables; played once, however often this is called.

    To be called from the main thread, with which the servers would end.
    """
    kinds = [kind for kind in (OURS, *THEIRS) if available(kind)]
    with Harness() as harness, contextlib.closing(CalmPeer(PEER_ID)) as peer:
        worlds = [Simulation(harness, kind, peer) for kind in kinds]
        for world in worlds:
            world.start_servers()
        for world in worlds:
            world.start_sentinels()
        players = [_Player(world) for world in worlds]
        for player in players:
            player.start()
        for player in players:
            player.join()
        for player in players:
            if player.problem is not None:
                raise player.problem
        return {player.world.kind: player.outcomes for player in players}


@cache
def starts() -> dict[str, Outcomes]:
    """What every kind of Sentinel made of all configurations; tried once, and from the main thread, too."""
    kinds = [kind for kind in (OURS, *THEIRS) if available(kind)]
    with Harness() as harness, ThreadPoolExecutor(len(kinds)) as threads:
        launchers = {kind: OurLauncher() if kind == OURS else Launcher(kind) for kind in kinds}
        try:
            tried = {kind: threads.submit(try_all, each, harness.directory / kind) for kind, each in launchers.items()}
            return {kind: each.result() for kind, each in tried.items()}
        finally:
            threads.shutdown()
            for launcher in launchers.values():
                launcher.close()


class _Player(threading.Thread):
    """Plays everything to one world."""

    def __init__(self, world: Simulation) -> None:
        super().__init__(name=world.kind, daemon=True)
        self.world = world
        self.outcomes: Outcomes = {}
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            self.world.settle()
            self._play(tables())
        except BaseException as problem:
            self.problem = problem

    def _play(self, found: dict[str, Sequence[Group]]) -> None:
        with contextlib.closing(Conversation(self.world)) as conversation:
            self.outcomes = conversation.outcomes
            for last in (False, True):
                for name, groups in found.items():
                    conversation.play(name, [group for group in groups if ("last" in group.options) is last])
