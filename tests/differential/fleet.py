"""One environment for each installed kind of Sentinel, all run at the same time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from tests.differential.conversation import Conversation, Outcomes
from tests.differential.environments import PEER_ID, Environment, IdlePeer
from tests.differential.starting import Launcher, OwnLauncher, try_all
from tests.differential.tablefile import TABLES, Group, read_groups
from tests.servers import Harness, available

OURS = "txsentinel"
THEIRS = ("valkey", "redis")


def tables() -> dict[str, list[Group]]:
    """Return all tables by name; the groups that change their environment come last."""
    return {path.stem: read_groups(path) for path in sorted(TABLES.glob("*.txt"))}


@cache
def outcomes() -> dict[str, Outcomes]:
    """
    Return the results of all tables for every kind of Sentinel; they are run once.

    To be called from the main thread, as the servers end with their parent thread.
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
    """Return the results of all configurations for every kind of Sentinel; run once, and from the main thread, too."""
    kinds = [kind for kind in (OURS, *THEIRS) if available(kind)]
    with Harness() as harness, ThreadPoolExecutor(len(kinds)) as threads:
        launchers = {kind: OwnLauncher() if kind == OURS else Launcher(kind) for kind in kinds}
        try:
            tried = {kind: threads.submit(try_all, each, harness.directory / kind) for kind, each in launchers.items()}
            return {kind: each.result() for kind, each in tried.items()}
        finally:
            threads.shutdown()
            for launcher in launchers.values():
                launcher.close()


class _Runner(threading.Thread):
    """Runs everything against one environment."""

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

    def _run_tables(self, found: Mapping[str, Sequence[Group]]) -> None:
        with contextlib.closing(Conversation(self.environment)) as conversation:
            self.outcomes = conversation.outcomes
            for last in (False, True):
                for name, groups in found.items():
                    conversation.run(name, [group for group in groups if ("last" in group.options) is last])
