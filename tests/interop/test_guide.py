"""Executes every command of the operator's guide, on real servers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, shorten_periods, wait_moved
from tests.servers import Fleet, Harness, call, missing, wait_for
from txsentinel.cli.operator import command as command_line
from txsentinel.cli.operator.statuses import VerbFailed
from txsentinel.demo.programs import sentinel_command

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guide.rst"
CONSOLE_SCRIPT = [sys.executable, "-c", "from txsentinel.cli.main import main; main()"]
COMMAND = re.compile(r"    \$ (?P<words>.*?)(?:   # (?:status (?P<status>\d+)|(?P<any>any status)))?")
UNDERLINE = re.compile("-{3,}")
KNOWN_STATUSES = range(8)
"""What a verb may end with; 64 and above are mistakes in the command or its environment."""


OF_THEIR_OWN = ("check", "shadow")
"""What runs in a process of its own."""


READING = ("list", "topology", "replicas", "doctor", "diff")
"""Verbs whose result may change by itself."""


def in_a_process(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run the console script, and return its status and what it printed."""
    done = subprocess.run(
        [*CONSOLE_SCRIPT, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS * 2,
    )
    return done.returncode, done.stdout + done.stderr


@dataclass(frozen=True)
class GuideCommand:
    """A command of the guide; ``status`` is ``None`` if it depends on the servers of the test."""

    words: str
    status: int | None


def commands_by_section() -> dict[str, list[GuideCommand]]:
    """Return the commands of each section, in order."""
    found: dict[str, list[GuideCommand]] = {}
    section = ""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if UNDERLINE.fullmatch(following):
            section = line
            found[section] = []
        elif match := COMMAND.fullmatch(line):
            status = None if match["any"] else int(match["status"] or 0)
            found[section].append(GuideCommand(match["words"], status))
    return found


class GuideTests(SynchronousTestCase):
    """One group for the first sections, and one of C Sentinels for the last one."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    fleet: Fleet

    def setUp(self) -> None:
        self.sections = commands_by_section()
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.harness = self.stack.enter_context(Harness())

    def start(self, kind: str) -> None:
        """Start the group that the guide describes."""
        self.fleet = Fleet(self.harness, [kind] * 3, "redis", down_after=1500, failover_timeout=6000)
        self.fleet.start()
        if kind == "txsentinel":
            shorten_periods(self.fleet.sentinels)
        self.servers = list(self.fleet.servers.values())
        self.addresses = {f"10.0.0.{n}": server.port for n, server in enumerate(self.servers, 1)}
        self.sentinels = {f"10.0.0.{n}": sentinel for n, sentinel in enumerate(self.fleet.sentinels, 11)}

    def execute(self, command: GuideCommand) -> str:
        """Execute a command, and return what it printed."""
        if command.words.startswith("ssh "):
            return self.on_host(*command.words.split(" ")[1:])
        # Nobody waits for a week in a test.
        words = re.sub(r"10\.0\.0\.(\d+):(?:6379|26379)", self.address, command.words.replace("--for 7d", "--for 2s"))
        return self.run_verb(words, command)

    def address(self, match: re.Match[str]) -> str:
        """Return the address that an address of the guide stands for."""
        host = f"10.0.0.{match[1]}"
        port = self.addresses[host] if host in self.addresses else self.sentinels[host].port
        return f"127.0.0.1:{port}"

    def run_verb(self, words: str, command: GuideCommand) -> str:
        """Run ``txsentinel``, and check the status."""
        program, *arguments = shlex.split(words)
        self.assertEqual(program, "txsentinel")
        sentinels = next(f"127.0.0.1:{each.port}" for each in self.sentinels.values() if each.running)
        environment = {"TXSENTINEL_SENTINELS": sentinels}
        if arguments[0] in OF_THEIR_OWN:
            status, printed = in_a_process(arguments, environment)
        else:
            # Most of the time of such a process would be spent on imports.
            result = CliRunner().invoke(command_line.operator, arguments, env=environment, standalone_mode=False)
            if isinstance(result.exception, VerbFailed):
                status, printed = result.exception.status, f"{result.output}{result.exception}"
            elif result.exception is not None:
                raise result.exception
            else:
                status, printed = result.return_value or 0, result.output
        if command.status is not None and status != command.status and arguments[0] in READING:
            # As an operator would, look again: links are made anew after a restart.
            wait_for(lambda: self.run_quietly(arguments, environment) == command.status, SECONDS, command.words)
            return printed
        shown = f"$ {command.words}\n{printed}\nstatus {status}"
        if command.status is None:
            self.assertIn(status, KNOWN_STATUSES, shown)
        else:
            self.assertEqual(status, command.status, shown)
        return printed

    @staticmethod
    def run_quietly(arguments: list[str], environment: dict[str, str]) -> object:
        """Return the status of a verb that only reads."""
        result = CliRunner().invoke(command_line.operator, arguments, env=environment, standalone_mode=False)
        return result.exception.status if isinstance(result.exception, VerbFailed) else result.return_value or 0

    def on_host(self, host: str, *words: str) -> str:
        """Do what a command on another machine does."""
        if words[0] == "txsentinel":
            path = str(self.sentinels[host].config_path)
            return self.run_verb(f"txsentinel {words[1]} {path}", GuideCommand(" ".join(words), 0))
        action, unit = words[1], words[2]
        if unit == "redis":
            server = next(each for each in self.servers if each.port == self.addresses[host])
            server.stop()
            master = self.fleet.master_port()
            server.replica_of = None if master == server.port else master
            server.start()
            self.fleet.wait_quiet(SECONDS)
        elif action == "stop":
            self.sentinels[host].stop()
        else:
            sentinel = self.sentinels[host]
            sentinel.kind = unit
            sentinel.command = sentinel_command(unit, str(sentinel.config_path))
            sentinel.start(keep_config=True)
            shorten_periods([sentinel])
            if all(each.running for each in self.fleet.sentinels):
                self.fleet.wait_quiet(SECONDS)
        return ""

    def section(self, name: str, prepare: Callable[[GuideCommand], None] | None = None) -> list[str]:
        """Execute the commands of a section; ``prepare`` is called before each."""
        outputs = []
        commands = self.sections.pop(name)
        self.assertGreater(len(commands), 1)
        for command in commands:
            if prepare is not None:
                prepare(command)
            outputs.append(self.execute(command))
        return outputs

    def test_own_group(self) -> None:
        """The sections about a group of txsentinel."""
        self.start("txsentinel")
        outputs = "\n".join(self.section("Upgrade Redis without losing a write"))
        self.assertIn("PROVEN", outputs)
        self.section("A rack will be switched off")

        down = self.fleet.master()
        first, *others = self.fleet.sentinels
        for sentinel in others:
            sentinel.kill()
        down.kill()
        wait_for(lambda: self.is_stuck(first.port), SECONDS, "the explanation of a master that is down")

        def moved(command: GuideCommand) -> None:
            if command.words.startswith("txsentinel history"):
                others[1].start(keep_config=True)
                shorten_periods(self.fleet.sentinels)
                wait_moved(self.fleet, down)
                self.fleet.revive(down)
                self.fleet.wait_quiet(SECONDS)

        outputs = "\n".join(self.section("Why did it not fail over?", moved))
        self.assertIn("any one of", outputs)

        first.call("SENTINEL", "SET", self.fleet.name, "quorum", 3)

        def lost(command: GuideCommand) -> None:
            if command.words.startswith("txsentinel doctor"):
                gone = self.sentinels["10.0.0.13"]
                gone.kill()
                self.fleet.sentinels.remove(gone)
                wait_for(lambda: self.is_down(first.port, gone.port), SECONDS, "the loss of a Sentinel")

        self.section("Two Sentinels disagree", lost)
        self.assertEqual(list(self.sections), ["Moving from redis-sentinel in an afternoon"])

    def test_moving(self) -> None:
        """The section about a group of redis-sentinel."""
        self.start("redis")
        self.section("Moving from redis-sentinel in an afternoon")
        self.assertEqual({each.kind for each in self.fleet.sentinels}, {"txsentinel"})

    @staticmethod
    def is_stuck(port: int) -> bool:
        """Whether the master is down for one Sentinel, which cannot be elected."""
        explanation = str(call(port, "TXSENTINEL", "EXPLAIN", "mymaster"))
        return "majority_unreachable" in explanation and "s_down" in str(call(port, "SENTINEL", "MASTER", "mymaster"))

    def is_down(self, port: int, other: int) -> bool:
        """Whether one Sentinel considers another one down."""
        peers = call(port, "SENTINEL", "SENTINELS", "mymaster")
        assert isinstance(peers, list)
        return any(f"'{other}'" in str(each) and "s_down" in str(each) for each in peers)
