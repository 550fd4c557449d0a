"""Sentinels with a read-only main file and a state file, in a group with a C Sentinel."""

from __future__ import annotations

import os
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, file_words, persistent_state, shorten_periods, wait_moved
from tests.servers import Fleet, Harness, missing, pairs


class StateFileTests(SynchronousTestCase):
    """``sentinel state-config-file``."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def test_failover_and_restart(self) -> None:
        """The main file is never written; all state is there after SIGKILL."""
        with ExitStack() as stack:
            harness = stack.enter_context(Harness())
            kinds = ["txsentinel", "redis", "txsentinel"]
            fleet = Fleet(harness, kinds, "redis", down_after=1500, failover_timeout=4000)
            own_sentinels = [sentinel for sentinel in fleet.sentinels if sentinel.kind == "txsentinel"]
            main = {}
            for sentinel in own_sentinels:
                sentinel.directory.mkdir(parents=True, exist_ok=True)
                sentinel.prepare()
                state = sentinel.directory / "state.conf"
                with sentinel.config_path.open("a") as file:
                    file.write(f"sentinel state-config-file {state}\n")
                main[sentinel.name] = sentinel.config_path, sentinel.config_path.read_bytes()
                os.chmod(sentinel.config_path, 0o444)
                sentinel.prepare = lambda: None  # type: ignore[method-assign]
            fleet.start()
            shorten_periods(own_sentinels)
            old = fleet.master()
            old.kill()
            new = wait_moved(fleet, old)
            fleet.revive(old)
            fleet.wait_quiet(SECONDS)
            first = own_sentinels[0]
            self.assertEqual(first.call("SENTINEL", "SET", "mymaster", "parallel-syncs", 3), "OK")
            first.config_path = first.directory / "state.conf"
            before = persistent_state(first, "mymaster")
            first.kill()
            first.start(keep_config=True)
            self.assertEqual(persistent_state(first, "mymaster"), before)
            self.assertEqual(before["address"], ("127.0.0.1", str(new.port)))
            self.assertEqual(pairs(first.call("SENTINEL", "MASTER", "mymaster"))["parallel-syncs"], "3")
            self.assertNotIn("down-after-milliseconds", {words[0] for words in file_words(first.config_path)})
            for path, contents in main.values():
                self.assertEqual(path.read_bytes(), contents)
