"""A subscriber of nanomsg, ``nanocat`` of Debian, and a surveyor of nng, which asks three Sentinels at once."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from examples.failover import MASTER, SECONDS, Arrivals, Integration, Missing
from txsentinel.demo import free_port, wait_for


class NngSubscriber(Integration):
    """Subscribes to ``+switch`` of three Sentinels, and asks them for the master."""

    title = "nng"

    def start(self, directory: Path) -> None:
        """Choose ports, and find the programs."""
        program = shutil.which("nanocat")
        if program is None:
            raise Missing("there is no nanocat: apt install nanomsg-utils")
        try:
            from examples.nng.surveyor import survey
        except ImportError:
            raise Missing("there is no pynng: pip install 'txsentinel[nng]'") from None
        self.program = program
        self.survey = survey
        self.pub = [f"tcp://127.0.0.1:{free_port()}" for _ in range(3)]
        self.respond = [f"tcp://127.0.0.1:{free_port()}" for _ in range(3)]
        self.arrivals = Arrivals()
        self.answers: list[dict[str, Any]] = []

    def extension_lines(self, sentinel: int) -> list[str]:
        """One socket of each kind."""
        return [f"nng pub {self.pub[sentinel]}", f"nng respond {self.respond[sentinel]}"]

    def watch(self) -> None:
        """Start the subscriber."""
        connections = [word for address in self.pub for word in ("--connect", address)]
        self.process = subprocess.Popen(
            [self.program, "--sub", "--subscribe", "+switch", "--ascii", *connections],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        """Keep the lines of the subscriber."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.arrivals.add(line.rstrip("\n"))

    def wait_known(self, address: str) -> float:
        """Wait for the event; then ask the Sentinels until all of them answer with the new address."""
        words = f"+switch-master {MASTER} "
        known = self.arrivals.wait_for(lambda line: str(line).startswith(words) and address in str(line), words)

        def agreed() -> bool:
            began = time.monotonic()
            self.answers = self.survey(MASTER, self.respond)
            self.survey_ms = (time.monotonic() - began) * 1000
            return len(self.answers) == 3 and {each["address"] for each in self.answers} == {address}

        wait_for(agreed, SECONDS, "three answers with the new address")
        return known

    def show(self) -> list[str]:
        """Return the answers to the survey."""
        lines = [f"{each['sentinel'][:8]} answers {each['address']}, {each['status']}" for each in self.answers]
        return [*lines, f"the survey took {self.survey_ms:.0f} ms, connections included"]

    def close(self) -> None:
        """End the subscriber."""
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()
            self.thread.join(SECONDS)
            assert self.process.stdout is not None
            self.process.stdout.close()
