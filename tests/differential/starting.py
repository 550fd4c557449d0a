"""Starts Sentinels from the configurations of a table, and tells what became of each."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import txsentinel
from tests.differential.configfile import state_lines
from tests.differential.conversation import Outcomes
from tests.differential.tablefile import CONFIGURATIONS, read_groups
from tests.servers import Connection, free_port
from txsentinel.demo.programs import sentinel_command

TIMEOUT = 60.0
"""Seconds that a start may take."""

RESOLUTION_TIMEOUT = 5.0
"""Seconds that the lookup of a name may take."""

ROOT = Path(txsentinel.__file__).resolve().parent.parent

_LOG_LINE = re.compile(r"\d+:[A-Z] \d\d \w{3} \d{4} [\d:.]+ ([.*#-]) (.*)")
_START_MESSAGES = re.compile("is starting|version=|^Configuration loaded|^WARNING Memory overcommit")
"""Warnings of Redis 7.0 that warn of nothing, and one about the machine."""


class Launcher:
    """Starts C Sentinels of one kind."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, directory: Path) -> None:
        """Start one from ``sentinel.conf`` in ``directory``; what it prints goes to ``output``."""
        with (directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                sentinel_command(self._kind, "sentinel.conf"),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def status(self) -> int | None:
        """Exit status of the one that was started last, ``None`` while it runs."""
        assert self._process is not None
        return self._process.poll()

    def kill(self) -> None:
        """End it, whatever it does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Nothing is left to be done."""


class OurLauncher(Launcher):
    """Starts ours, by way of a process that has imported everything already."""

    def __init__(self) -> None:
        super().__init__("txsentinel")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        self._fork_server = subprocess.Popen(
            [sys.executable, "-m", "tests.differential.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._pid = 0

    def start(self, directory: Path) -> None:
        self._pid = int(self._asked(f"start {directory}"))

    def status(self) -> int | None:
        answer = self._asked(f"status {self._pid}")
        return None if answer == "running" else int(answer)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        while self.status() is None:
            time.sleep(0.002)

    def close(self) -> None:
        assert self._fork_server.stdin is not None and self._fork_server.stdout is not None
        self._fork_server.stdin.close()
        self._fork_server.wait(TIMEOUT)
        self._fork_server.stdout.close()

    def _asked(self, line: str) -> str:
        assert self._fork_server.stdin is not None and self._fork_server.stdout is not None
        self._fork_server.stdin.write(line + "\n")
        self._fork_server.stdin.flush()
        return self._fork_server.stdout.readline().strip()


def try_all(launcher: Launcher, directory: Path) -> Outcomes:
    """Start one Sentinel after the other; case → what became of it."""
    outcomes: Outcomes = {}
    for path in sorted(CONFIGURATIONS.glob("*.txt")):
        for group in read_groups(path):
            for number, line in enumerate(group.lines):
                place = directory / f"{group.name}-{number}"
                place.mkdir(parents=True)
                outcomes[f"configuration/{group.name}: {line}"] = _tried(launcher, place, line)
    return outcomes


def _tried(launcher: Launcher, directory: Path, line: str) -> list[str]:
    port = free_port()
    names = {"port": str(port), "dir": str(directory), "zeros": "\0" * 4096}
    for name, mode in (("script", 0o700), ("plain", 0o600), ("included", 0o600)):
        (directory / name).write_text("" if name == "included" else "#!/bin/sh\n")
        (directory / name).chmod(mode)
        names[name] = str(directory / name)
    text = line
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    written = "\n".join(["port " + str(port), "bind 127.0.0.1", *(part.strip() for part in text.split(";;"))]) + "\n"
    config = directory / "sentinel.conf"
    config.write_text(written)
    launcher.start(directory)
    try:
        status = _awaited(launcher, port)
        if status is None:
            _flush(port)
            if "resolve-hostnames yes" in line and "announce-hostnames yes" not in line:
                _await_addresses(port, config)
            shown = ["runs", *state_lines(config.read_text(errors="surrogateescape"))]
        else:
            shown = [f"exit status {status}", *_messages((directory / "output").read_text(errors="surrogateescape"))]
    finally:
        launcher.kill()
    return [_masked(each, str(directory), str(port)) for each in shown]


def _awaited(launcher: Launcher, port: int) -> int | None:
    """The exit status, or ``None`` once it answers."""
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        status = launcher.status()
        if status is not None:
            return status
        with contextlib.suppress(OSError), Connection(port) as connection:
            connection.send("PING")
            connection.read_reply()
            return None
        time.sleep(0.003)
    raise AssertionError(f"neither started nor ended: port {port}")


def _flush(port: int) -> None:
    with Connection(port) as connection:
        for words in (("AUTH", "secret"), ("SENTINEL", "FLUSHCONFIG")):
            connection.send(*words)
            connection.read_reply()


def _await_addresses(port: int, config: Path) -> None:
    """Names are resolved without blocking the start: save until the file has addresses, or the time is over."""
    until = time.monotonic() + RESOLUTION_TIMEOUT
    while "localhost" in config.read_text(errors="surrogateescape") and time.monotonic() < until:
        time.sleep(0.02)
        _flush(port)


def _messages(output: str) -> list[str]:
    """What an operator is told: everything that is no log line, and of these the warnings."""
    messages = []
    for line in output.splitlines():
        logged = _LOG_LINE.fullmatch(line)
        if logged is not None:
            if logged[1] == "#" and not _START_MESSAGES.search(logged[2]):
                messages.append(logged[2])
        elif line.strip():
            messages.append(line)
    return messages


_MASKS: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]] = (
    (r"\(Redis [\d.]+\)|\(Version [\d.]+\)|\(txsentinel [\d.]+\)", "(<version>)"),
    (r"^sentinel myid [0-9a-f]{40}$", "sentinel myid <id>"),
)


def _masked(line: str, directory: str, port: str) -> str:
    line = line.replace(directory, "<dir>").replace(port, "<port>")
    for pattern, replacement in _MASKS:
        line = re.sub(pattern, replacement, line)
    return line
