"""Starts Sentinels from the configurations of a table, and reports the results."""

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

from tests.differential.configfile import state_lines
from tests.differential.conversation import Outcomes
from tests.differential.tablefile import CONFIGURATIONS, read_groups
from tests.servers import Connection, free_port
from txsentinel.demo.programs import sentinel_command

TIMEOUT = 120.0
"""Timeout of a start in seconds."""

RESOLUTION_TIMEOUT = 60.0
"""Timeout of the lookup of a name in seconds."""

ROOT = Path(__file__).resolve().parents[2]

_LOG_LINE = re.compile(r"\d+:[A-Z] \d\d \w{3} \d{4} [\d:.]+ ([.*#-]) (.*)")
_START_MESSAGES = re.compile("is starting|version=|^Configuration loaded|^WARNING Memory overcommit")
"""Warnings of Redis 7.0 without meaning, and one about the machine."""


class Launcher:
    """Starts C Sentinels of one kind."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, directory: Path) -> None:
        """Start one from ``sentinel.conf`` in ``directory``; its output is written to ``output``."""
        with (directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                sentinel_command(self._kind, "sentinel.conf"),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def status(self) -> int | None:
        """Return the exit status of the last one, ``None`` while it runs."""
        assert self._process is not None
        return self._process.poll()

    def kill(self) -> None:
        """Kill it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Do nothing: no process is left."""


class OwnLauncher(Launcher):
    """Starts ours by a process that has imported everything already."""

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
        self._pid = int(self._call(f"start {directory}"))

    def status(self) -> int | None:
        reply = self._call(f"status {self._pid}")
        return None if reply == "running" else int(reply)

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

    def _call(self, line: str) -> str:
        assert self._fork_server.stdin is not None and self._fork_server.stdout is not None
        self._fork_server.stdin.write(line + "\n")
        self._fork_server.stdin.flush()
        return self._fork_server.stdout.readline().strip()


def try_all(launcher: Launcher, directory: Path) -> Outcomes:
    """Start one Sentinel after the other; return the result by case."""
    outcomes: Outcomes = {}
    for path in sorted(CONFIGURATIONS.glob("*.txt")):
        for group in read_groups(path):
            for number, line in enumerate(group.lines):
                place = directory / f"{group.name}-{number}"
                place.mkdir(parents=True)
                outcomes[f"configuration/{group.name}: {line}"] = _try_one(launcher, place, line)
    return outcomes


def _try_one(launcher: Launcher, directory: Path, line: str) -> list[str]:
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
        status = _wait_started(launcher, port)
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


def _wait_started(launcher: Launcher, port: int) -> int | None:
    """Return the exit status, or ``None`` once it answers."""
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
    """Names are resolved without blocking the start: save until the file has addresses, or until the timeout."""
    until = time.monotonic() + RESOLUTION_TIMEOUT
    while "localhost" in config.read_text(errors="surrogateescape") and time.monotonic() < until:
        time.sleep(0.02)
        _flush(port)


def _messages(output: str) -> list[str]:
    """Return the output without log lines, and the warnings of the log."""
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
