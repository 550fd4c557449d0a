"""``redis-cli``, as shell scripts use it: a process per question, and one that stays subscribed."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import threading
from collections.abc import Sequence

from tests.clients.script import Plan, report_step, tries, values


class Shell:
    """How to run it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.options = [plan.library, f"-{plan.protocol}"]
        if plan.authority is not None:
            self.options += ["--tls", "--cacert", plan.authority]
            self.options += ["--cert", plan.certificate or "", "--key", plan.private_key or ""]

    def sentinel(self, *words: str) -> str:
        """What a Sentinel answers, asking one after the other."""
        for _, port in self.plan.sentinels:
            try:
                return self.run(self.command(port, words, self.plan.sentinel_user), self.plan.sentinel_password)
            except subprocess.SubprocessError:
                continue
        raise AssertionError("no Sentinel answers")

    def master(self) -> int:
        """Port of the master."""
        return int(self.sentinel("sentinel", "get-master-addr-by-name", self.plan.name).split()[1])

    def replicas(self) -> list[int]:
        """Ports of the replicas that are up."""
        details = self.sentinel("sentinel", "replicas", self.plan.name)
        found = zip(
            re.findall(r"^port\s+(\d+)", details, re.M), re.findall(r"^flags\s+(\S+)", details, re.M), strict=True
        )
        return sorted(int(port) for port, flags in found if flags == "slave")

    def server(self, port: int, *words: str) -> str:
        """What a server answers."""
        return self.run(self.command(port, words, self.plan.user), self.plan.password)

    def command(self, port: int, words: Sequence[str], user: str | None) -> list[str]:
        """The command line."""
        return [*self.options, "-p", str(port), *(["--user", user] if user else []), *words]

    def environment(self, password: str | None) -> dict[str, str]:
        """The password goes by the environment, so that no list of processes shows it."""
        return {**os.environ, **({} if password is None else {"REDISCLI_AUTH": password})}

    def run(self, command: Sequence[str], password: str | None) -> str:
        """Output of a command; raises ``SubprocessError`` where it fails, or answers with an error."""
        done = subprocess.run(
            command, env=self.environment(password), capture_output=True, text=True, timeout=30, check=True
        )
        if re.match(r"(ERR|READONLY|NOAUTH|NOPERM|WRONGPASS|LOADING) ", done.stdout):
            raise subprocess.SubprocessError(done.stdout)
        return done.stdout.strip()

    def subscribe(self, message_task: queue.Queue[str]) -> subprocess.Popen[str]:
        """Print what a Sentinel announces, line by line into ``message_task``."""
        command = self.command(self.plan.sentinels[0][1], ["subscribe", "+switch-master"], self.plan.sentinel_user)
        process = subprocess.Popen(
            command, env=self.environment(self.plan.sentinel_password), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = process.stdout

        def pump() -> None:
            for line in lines:
                message_task.put(line.strip())

        threading.Thread(target=pump, daemon=True).start()
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
        while "+switch-master" not in lines.get(timeout=30):
            pass
        report_step("ready")
        message_task = False
        for _ in tries():
            while not lines.empty():
                line = lines.get()
                if line.startswith(f"{plan.name} "):
                    message_task = True
                    report_step("event", payload=line)
            try:
                written = next(value)
                port = shell.master()
                shell.server(port, "set", plan.key, written)
            except subprocess.SubprocessError:
                continue
            if message_task and port != old:
                break
        report_step("wrote", port=port, value=written)
        left: list[int] = []
        for _ in tries():
            left = shell.replicas()
            if left:
                break
        report_step("read again", port=read(shell, left[0], written))
    finally:
        subscription.terminate()


def read(shell: Shell, port: int, wanted: str) -> int:
    """Wait until a replica gives back what was written; its port."""
    for _ in tries():
        try:
            if shell.server(port, "get", shell.plan.key) == wanted:
                return port
        except subprocess.SubprocessError:
            continue
    raise AssertionError("never reached")


if __name__ == "__main__":
    main(Plan.from_arguments())
