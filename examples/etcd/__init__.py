"""etcd, in which the Sentinels keep the address of the master; a client watches its key."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from examples.failover import MASTER, Arrivals, Integration, Missing
from txsentinel.demo.other_programs import EtcdProcess, find_program

KEY = f"/txsentinel/{MASTER}/master"


class EtcdStore(Integration):
    """
    An etcd, and ``etcdctl watch`` as its client.

    :param lines: more lines of settings.
    """

    title = "etcd"

    def __init__(self, lines: tuple[str, ...] = ()) -> None:
        self.arrivals = Arrivals()
        """The addresses that the watcher got."""

        self._lines = lines
        self._watcher: subprocess.Popen[str] | None = None
        self.etcd: EtcdProcess | None = None

    def start(self, directory: Path) -> None:
        """Start etcd."""
        if not find_program("etcd") or not find_program("etcdctl"):
            raise Missing("etcd and etcdctl are needed: apt-get install etcd-server etcd-client")
        self.etcd = EtcdProcess(directory / "etcd")
        self.etcd.start()

    def running(self) -> EtcdProcess:
        """Return the process, which was started."""
        if self.etcd is None:
            raise RuntimeError("etcd was not started")
        return self.etcd

    def extension_lines(self, sentinel: int) -> list[str]:
        """All Sentinels have the same settings."""
        return [f"etcd endpoint {self.running().endpoint}", *(f"etcd {line}" for line in self._lines)]

    def watch(self) -> None:
        """Have the client watch the key."""
        command = self.running().control_command("watch", "--rev=1", KEY)
        self._watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=self._read, args=[self._watcher], daemon=True).start()

    def _read(self, watcher: subprocess.Popen[str]) -> None:
        for line in watcher.stdout or ():
            word = line.strip()
            if word not in ("PUT", KEY):
                self.arrivals.add(word)

    def wait_known(self, address: str) -> float:
        """Wait until the client gets the address."""
        return self.arrivals.wait_for(lambda value: value == address, f"{address} in {KEY}")

    def show(self) -> list[str]:
        """Show all keys."""
        return [f"{key} = {value}" for key, value in self.running().values("/").items()]

    def close(self) -> None:
        """Stop both."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.wait()
        if self.etcd is not None:
            self.etcd.stop()
