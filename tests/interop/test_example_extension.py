"""The example of an extension: its wheel is built, installed beside the project, checked by mypy, and run."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.servers import Harness, SentinelProcess, free_port, missing, pairs, wait_for

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "txsentinel-eventlog"


def execute(*words: str | Path, directory: Path) -> str:
    """Return the output of a command that must succeed."""
    done = subprocess.run([str(word) for word in words], cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{words}: {done.stdout}\n{done.stderr}")
    return done.stdout


class ExampleProcess(SentinelProcess):
    """A Sentinel of another Python with options of its own."""

    def __init__(self, port: int, directory: Path, python: Path, options: list[str], master_port: int) -> None:
        super().__init__("txsentinel", port, directory, [("m", "127.0.0.1", master_port, 1)], down_after=1000)
        self._python = python
        self._options = options

    def command_line(self) -> list[str]:
        """Return the command of the console script."""
        code = "from txsentinel.cli.main import main; main()"
        return [str(self._python), "-c", code, *self._options, str(self.config_path)]

    def environment(self) -> dict[str, str]:
        """Return the environment without the checkout, which would hide what is installed."""
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


class ExampleTests(SynchronousTestCase):
    """One environment for all, because it takes seconds to make."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def install(self, directory: Path) -> Path:
        """Build the wheel and install it into an environment that has the project too; return its interpreter."""
        source = directory / "source"
        shutil.copytree(EXAMPLE, source)
        build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", directory / "dist")
        execute(sys.executable, *build, directory=source)
        (wheel,) = (directory / "dist").glob("*.whl")
        environment = directory / "venv"
        venv.create(environment, symlinks=True)
        python = environment / "bin" / "python"
        # The project and its dependencies come from the environment of these tests, its paths included.
        (packages,) = environment.glob("lib/python*/site-packages")
        lines = [f"import site; site.addsitedir({each!r})" for each in site.getsitepackages()]
        (packages / "shared.pth").write_text("\n".join(lines) + "\n")
        install = ("-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
        execute(sys.executable, *install, directory=directory)
        return python

    def test_example(self) -> None:
        """The installed example is typed strictly, is listed, and logs what happens to a master."""
        with Harness() as harness:
            directory = harness.directory / "example"
            directory.mkdir()
            python = self.install(directory)
            config = directory / "pyproject.toml"
            shutil.copy(EXAMPLE / "pyproject.toml", config)
            checked = execute(python, "-m", "mypy", "--strict", "-p", "txsentinel_eventlog", directory=directory)
            self.assertIn("Success: no issues found in 1 source file", checked)
            self.run_example(harness, python)

    def run_example(self, harness: Harness, python: Path) -> None:
        """Run a Sentinel with the example beside a server, which is killed."""
        server = harness.redis("valkey")
        server.start()
        directory = harness.directory / "sentinel"
        directory.mkdir()
        settings = directory / "extensions.conf"
        settings.write_text("eventlog masters m\nguards crash-failover m on\n")
        sentinel = ExampleProcess(free_port(), directory, python, ["--extensions", str(settings)], server.port)
        self.addCleanup(sentinel.stop)
        sentinel.start()
        self.assertEqual(pairs(sentinel.call("SENTINEL", "MASTER", "m"))["crash-failover"], "on")
        log = directory / "sentinel.conf.d" / "eventlog" / "events.jsonl"
        wait_for(lambda: self.has_line(log, "status", "ok"), SECONDS, "a line about the master")
        server.kill()
        wait_for(lambda: self.has_line(log, "event", "+odown"), SECONDS, "the event")
        wait_for(lambda: self.has_line(log, "status", "odown"), SECONDS, "the change")
        sentinel.stop()
        self.assertEqual(os.stat(log.parent).st_mode & 0o777, 0o700)

    @staticmethod
    def has_line(log: Path, field: str, value: str) -> bool:
        """Whether a line of the file has this value."""
        if not log.exists():
            return False
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return any(line.get(field) == value for line in lines if line["master"] == "m")
