"""One fleet for everything: a world for each kind of Sentinel that this machine has, all playing at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from tests.differential.conversation import Conversation, Outcomes
from tests.differential.environments import PEER_ID, Environment, IdlePeer
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
    with Harness() as harness, contextlib.closing(IdlePeer(PEER_ID)) as peer:
        environments = [Environment(harness, kind, peer) for kind in kinds]
        for environment in environments:
            environment.start_servers()
        for environment in environments:
            environment.start_sentinels()
        runners = [_Runner(environment) for environment in environments]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join()
        for runner in runners:
            if runner.problem is not None:
                raise runner.problem
        return {runner.environment.kind: runner.outcomes for runner in runners}


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


class _Runner(threading.Thread):
    """Plays everything to one world."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(name=environment.kind, daemon=True)
        self.environment = environment
        self.outcomes: Outcomes = {}
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            self.environment.wait_stable()
            self._run_tables(tables())
        except BaseException as problem:
            self.problem = problem

    def _run_tables(self, found: dict[str, Sequence[Group]]) -> None:
        with contextlib.closing(Conversation(self.environment)) as conversation:
            self.outcomes = conversation.outcomes
            for last in (False, True):
                for name, groups in found.items():
                    conversation.run(name, [group for group in groups if ("last" in group.options) is last])
