"""Programs that follow the master, as child processes: etcd, HAProxy and the TCP proxy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from txsentinel.demo.blocking import MAX_WAIT_SECONDS, REPLY_TIMEOUT_SECONDS, wait_for
from txsentinel.demo.processes import ChildProcess, free_port


def find_program(name: str) -> str | None:
    """Return the path of a program, also where only root has it on the path; ``None`` if it is not installed."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


class EtcdProcess(ChildProcess):
    """
    An etcd of one member.

    :param tls: further options; with any, clients must use TLS.
    """

    label = "etcd"

    def __init__(self, directory: Path, port: int | None = None, tls: Mapping[str, str | Path] | None = None) -> None:
        super().__init__(free_port() if port is None else port, directory)
        self.tls = dict(tls or {})
        self.control_options: list[str] = []
        """Options of ``etcdctl``."""

        self._peer_port = free_port()
        self._metrics_port = free_port()

    @property
    def endpoint(self) -> str:
        """The URL for clients."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def command_line(self) -> list[str]:
        """The command of etcd."""
        peer = f"http://127.0.0.1:{self._peer_port}"
        options: dict[str, str | Path] = {
            "name": "only",
            "data-dir": self.directory / "data",
            "listen-client-urls": self.endpoint,
            "advertise-client-urls": self.endpoint,
            "listen-metrics-urls": f"http://127.0.0.1:{self._metrics_port}",
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"only={peer}",
            "heartbeat-interval": "20",
            "election-timeout": "100",
            "logger": "zap",
            "log-outputs": "stderr",
            **self.tls,
        }
        return [find_program("etcd") or "etcd", *(f"--{name}={value}" for name, value in options.items())]

    def prepare(self) -> None:
        """Do nothing, as all options are on the command line."""

    def wait_ready(self, seconds: float = MAX_WAIT_SECONDS) -> None:
        """Wait until it has a leader, and so can write."""

        def healthy() -> bool:
            if not self.running:
                raise RuntimeError(f"{self.name} ended with status {self.exit_status}:\n{self.log_text()[-2000:]}")
            connection = HTTPConnection("127.0.0.1", self._metrics_port, timeout=REPLY_TIMEOUT_SECONDS)
            try:
                connection.request("GET", "/health")
                return bool(json.loads(connection.getresponse().read()).get("health") == "true")
            finally:
                connection.close()

        wait_for(healthy, seconds, f"{self.name} to be healthy")

    def control_command(self, *words: str) -> list[str]:
        """Return the command of ``etcdctl`` with these words."""
        return ["etcdctl", f"--endpoints={self.endpoint}", *self.control_options, *words]

    def control(self, *words: str) -> str:
        """Return the output of ``etcdctl``; it must succeed."""
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(
            self.control_command(*words), env=environment, capture_output=True, text=True, timeout=MAX_WAIT_SECONDS
        )
        if done.returncode:
            raise RuntimeError(f"etcdctl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def values(self, prefix: str) -> dict[str, str]:
        """Return all keys with a prefix."""
        lines = self.control("get", "--prefix", prefix).splitlines()
        return dict(zip(lines[::2], lines[1::2], strict=True))


class HaproxyProcess(ChildProcess):
    """
    A HAProxy.

    :param config: its whole configuration.
    """

    label = "haproxy"

    def __init__(self, directory: Path, port: int, config: str) -> None:
        super().__init__(port, directory)
        self.config = config
        self.config_path = directory / "haproxy.cfg"

    def command_line(self) -> list[str]:
        """The command of HAProxy: master and worker, so that a signal reloads it."""
        program = find_program("haproxy") or "haproxy"
        return [program, "-W", "-db", "-f", str(self.config_path)]

    def prepare(self) -> None:
        """Write the configuration."""
        self.config_path.write_text(self.config)

    def check(self) -> str:
        """Have HAProxy check the configuration; return what it prints, empty for nothing to report."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.prepare()
        command: Sequence[Any] = [find_program("haproxy") or "haproxy", "-c", "-q", "-f", self.config_path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_WAIT_SECONDS)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stderr


class ProxyProcess(ChildProcess):
    """
    A ``txsentinel proxy`` with a port for writing, one for reading and one for metrics.

    :param sentinels: their ports.
    :param options: further words of the command line.
    """

    label = "proxy"

    def __init__(self, directory: Path, master: str, sentinels: Sequence[int], options: Sequence[str] = ()) -> None:
        super().__init__(free_port(), directory)
        self.read_only_port = free_port()
        self.metrics_port = free_port()
        self.sentinels = list(sentinels)
        self._master = master
        self._options = list(options)

    def command_line(self) -> list[str]:
        """The command of the proxy."""
        ports = (("listen", self.port), ("read-only-listen", self.read_only_port), ("metrics", self.metrics_port))
        return [
            *(sys.executable, "-m", "txsentinel.cli.operator", "proxy", "--master", self._master),
            *("--sentinel", ",".join(f"127.0.0.1:{port}" for port in self.sentinels)),
            *(f"--{name}=tcp:{port}:interface=127.0.0.1" for name, port in ports),
            *self._options,
        ]

    def environment(self) -> dict[str, str]:
        """The environment, in which this package can be imported."""
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def prepare(self) -> None:
        """Do nothing, as all options are on the command line."""

    def metrics(self) -> dict[str, float]:
        """Return the samples by name and labels, as they stand on the page."""
        connection = HTTPConnection("127.0.0.1", self.metrics_port, timeout=REPLY_TIMEOUT_SECONDS)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}
