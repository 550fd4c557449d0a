"""``redis-cli`` in shell scripts: a process per query, and one that stays subscribed."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import threading
from collections.abc import Sequence

from tests.clients.script import Plan, attempts, report_step, values


class Shell:
    """Runs ``redis-cli``."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.options = [plan.library, f"-{plan.protocol}"]
        if plan.authority is not None:
            self.options += ["--tls", "--cacert", plan.authority]
            self.options += ["--cert", plan.certificate or "", "--key", plan.private_key or ""]

    def sentinel(self, *words: str) -> str:
        """Return the reply of the first Sentinel that answers."""
        for _, port in self.plan.sentinels:
            try:
                return self.run(self.command(port, words, self.plan.sentinel_user), self.plan.sentinel_password)
            except subprocess.SubprocessError:
                continue
        raise AssertionError("no Sentinel answers")

    def master(self) -> int:
        """Return the port of the master."""
        return int(self.sentinel("sentinel", "get-master-addr-by-name", self.plan.name).split()[1])

    def replicas(self) -> list[int]:
        """Return the ports of the replicas that are up."""
        details = self.sentinel("sentinel", "replicas", self.plan.name)
        found = zip(
            re.findall(r"^port\s+(\d+)", details, re.M), re.findall(r"^flags\s+(\S+)", details, re.M), strict=True
        )
        return sorted(int(port) for port, flags in found if flags == "slave")

    def server(self, port: int, *words: str) -> str:
        """Return the reply of a server."""
        return self.run(self.command(port, words, self.plan.user), self.plan.password)

    def command(self, port: int, words: Sequence[str], user: str | None) -> list[str]:
        """Return the command line."""
        return [*self.options, "-p", str(port), *(["--user", user] if user else []), *words]

    def environment(self, password: str | None) -> dict[str, str]:
        """Return an environment with the password, which a list of processes must not show."""
        return {**os.environ, **({} if password is None else {"REDISCLI_AUTH": password})}

    def run(self, command: Sequence[str], password: str | None) -> str:
        """Return the output of a command; raise ``SubprocessError`` if it fails or returns an error."""
        done = subprocess.run(
            command, env=self.environment(password), capture_output=True, text=True, timeout=60, check=True
        )
        if re.match(r"(ERR|READONLY|NOAUTH|NOPERM|WRONGPASS|LOADING) ", done.stdout):
            raise subprocess.SubprocessError(done.stdout)
        return done.stdout.strip()

    def subscribe(self, lines: queue.Queue[str]) -> subprocess.Popen[str]:
        """Put the output of a subscription into ``lines``, line by line."""
        command = self.command(self.plan.sentinels[0][1], ["subscribe", "+switch-master"], self.plan.sentinel_user)
        process = subprocess.Popen(
            command, env=self.environment(self.plan.sentinel_password), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        stdout = process.stdout

        def read_lines() -> None:
            for line in stdout:
                lines.put(line.strip())

        threading.Thread(target=read_lines, daemon=True).start()
        return process


def main(plan: Plan) -> None:
    """Follow the master."""
    shell = Shell(plan)
    report_step("library", version=shell.run([plan.library, "--version"], None).split()[1])
    old = shell.master()
    replicas = shell.replicas()
    report_step("found", master=old, replicas=replicas)
    value = values()
    written = next(value)
    shell.server(old, "set", plan.key, written)
    report_step("read", port=read(shell, replicas[0], written))

    lines: queue.Queue[str] = queue.Queue()
    subscription = shell.subscribe(lines)
    try:
        while "+switch-master" not in lines.get(timeout=120):
            pass
        report_step("ready")
        received = False
        for _ in attempts():
            while not lines.empty():
                line = lines.get()
                if line.startswith(f"{plan.name} "):
                    received = True
                    report_step("event", payload=line)
            try:
                written = next(value)
                port = shell.master()
                shell.server(port, "set", plan.key, written)
            except subprocess.SubprocessError:
                continue
            if received and port != old:
                break
        report_step("wrote", port=port, value=written)
        remaining: list[int] = []
        for _ in attempts():
            remaining = shell.replicas()
            if remaining:
                break
        report_step("read again", port=read(shell, remaining[0], written))
    finally:
        subscription.terminate()


def read(shell: Shell, port: int, wanted: str) -> int:
    """Wait until a replica returns the written value; return its port."""
    for _ in attempts():
        try:
            if shell.server(port, "get", shell.plan.key) == wanted:
                return port
        except subprocess.SubprocessError:
            continue
    raise AssertionError("never reached")


if __name__ == "__main__":
    main(Plan.from_arguments())
