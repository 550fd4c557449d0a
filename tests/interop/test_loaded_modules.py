"""
The modules that running Sentinels have loaded, and that they load none when they are needed.

Each module costs memory and start time, and one that is imported for the first time during a failover can fail then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

import twisted
import txsentinel
from tests.interop import loaded_modules
from tests.interop.fixtures import SECONDS, shorten_periods, wait_moved
from tests.servers import Fleet, Harness, SentinelProcess, missing, wait_for

FORBIDDEN: Final = frozenset(
    (
        *("OpenSSL", "argparse", "asyncio", "email", "hypothesis", "ssl", "subprocess", "tempfile", "twisted.web"),
        *("txredisapi", "txsentinel.client", "txsentinel.demo", "txsentinel.extensions.http", "txsentinel.remote"),
        *("txsentinel.sim", "typing_extensions", "unittest"),
    )
)
"""What the console script does not load with any version of Python and Twisted."""

RECORDER = """
import os, signal, sys

def write_modules(*_):
    # Those with this hook have been deferred and not been executed.
    hooks = {name: vars(module).get("__getattr__") for name, module in sys.modules.items()}
    found = [name for name, hook in hooks.items() if type(hook).__name__ != "_Execution"]
    with open("modules.new", "w") as file:
        file.write(" ".join(found))
    os.rename("modules.new", "modules")

signal.signal(signal.SIGUSR1, write_modules)
"""
"""Has a process write its modules to a file when it is asked to."""

SCRIPT = f"""
{RECORDER}
sys.argv[0] = "txsentinel"
from txsentinel.cli.main import main
main()
"""

TWISTD = f"""
{RECORDER}
sys.argv[0] = "twistd"
from twisted.scripts.twistd import run
run()
"""

NOTIFICATION = """\
#!/bin/sh
echo "$@" >> "$(dirname "$0")/notified"
"""


def start_of_interpreter() -> set[str]:
    """Return the modules of an interpreter that runs the recorder only."""
    code = RECORDER + "print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=SECONDS)
    return set(found.stdout.split())


def modules_of(sentinel: SentinelProcess) -> set[str]:
    """Return the modules that a Sentinel has executed so far."""
    path = sentinel.directory / "modules"
    path.unlink(missing_ok=True)
    os.kill(sentinel.pid, signal.SIGUSR1)
    wait_for(path.exists, SECONDS, "the modules")
    return set(path.read_text().split())


def own_modules(top: Path) -> set[str]:
    """Return the names of all modules of the package in a directory."""
    found = set()
    for path in (top / "txsentinel").rglob("*.py"):
        parts = path.relative_to(top).with_suffix("").parts
        found.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def expected(*names: str) -> set[str]:
    """Return the modules of this project, and those in the named lists."""
    own = {
        name
        for name in own_modules(Path(txsentinel.__file__).parent.parent)
        if name.count(".") == 0 or name.split(".")[1] in loaded_modules.PACKAGES
    }
    own -= set(loaded_modules.NOT_LOADED.split())
    return own.union(*(getattr(loaded_modules, name).split() for name in ("ALSO_LOADED", "OTHERS", *names)))


class LoadedModulesTests(SynchronousTestCase):
    """Two Sentinels, one by each way of starting, over a master and a replica."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def start(self, harness: Harness) -> Fleet:
        """Start everything."""
        self.notified = harness.directory / "notified"
        script = harness.directory / "notify"
        script.write_text(NOTIFICATION)
        script.chmod(0o755)
        extra = [f"sentinel notification-script mymaster {script}", "set-proc-title no"]
        fleet = Fleet(harness, ["txsentinel"] * 2, "redis", replicas=1, quorum=1, down_after=400, extra=extra)
        for sentinel, command in zip(
            fleet.sentinels, ([SCRIPT], [TWISTD, "-n", "--pidfile=", "sentinel"]), strict=True
        ):
            sentinel.command = [sys.executable, "-c", *command, str(sentinel.config_path)]
        fleet.start()
        shorten_periods(fleet.sentinels)
        return fleet

    def check(self, started: set[str], wanted: set[str]) -> None:
        """Compare the modules after the start with the listed ones."""
        if (sys.version_info[:2], twisted.__version__) == loaded_modules.VERSIONS:
            # Modules in C that others are made of, and what the compiled build adds.
            found = {name for name in started if not name.startswith("_") and "__mypyc" not in name}
            self.assertEqual(
                sorted(found - wanted), [], "A Sentinel loads these, which loaded_modules.py does not list"
            )
            self.assertEqual(
                sorted(wanted - found), [], "A Sentinel does not load these, which loaded_modules.py lists"
            )

    def exercise(self, fleet: Fleet) -> None:
        """Have the master replaced by a failover, by one on demand, and by a switchover."""
        by_script, by_twistd = fleet.sentinels
        first = fleet.master()
        first.kill()
        wait_moved(fleet, first)
        first.start()
        wait_for(lambda: not fleet.quiet_problems(), SECONDS, "the old master to be a replica")
        second = fleet.master()
        by_script.call("SENTINEL", "FAILOVER", fleet.name)
        wait_moved(fleet, second)
        wait_for(lambda: not fleet.quiet_problems(), SECONDS, "the second master to be a replica")
        third = fleet.master()
        by_twistd.call("TXSENTINEL", "SWITCHOVER", fleet.name)
        wait_moved(fleet, third)
        wait_for(self.notified.exists, SECONDS, "a script")

    def test_modules(self) -> None:
        """The modules after the start are the listed ones; failovers, switchovers and scripts load no others."""
        with Harness() as harness:
            fleet = self.start(harness)
            present = start_of_interpreter()
            started = [modules_of(sentinel) - present for sentinel in fleet.sentinels]
            self.assertEqual({name for name in FORBIDDEN if name in started[0]}, set())
            self.check(started[0], expected("BY_SCRIPT") - present)
            self.check(started[1], expected("BY_TWISTD") - present)
            self.exercise(fleet)
            for sentinel, before in zip(fleet.sentinels, started, strict=True):
                added = modules_of(sentinel) - present - before
                self.assertLessEqual(added, set(loaded_modules.AFTERWARDS.split()), sentinel.name)
