"""The name server of BIND 9 as a child process, without rights of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from txsentinel.demo.blocking import MAX_WAIT_SECONDS, wait_for
from txsentinel.demo.other_programs import find_program
from txsentinel.demo.processes import ChildProcess, free_port

_CONFIG: Final = """
include "{key}";
options {{
    directory "{directory}";
    pid-file "{directory}/pid";
    session-keyfile "{directory}/session.key";
    managed-keys-directory "{directory}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no;
    notify no;
    dnssec-validation no;
    empty-zones-enable no;
}};
controls {{ }};
zone "{zone}" {{
    type primary;
    file "{directory}/zone.db";
    update-policy {{ grant {name} zonesub A AAAA CNAME SRV TXT; }};
}};
"""

_ZONE: Final = """$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 1
@ NS ns
ns A 127.0.0.1
"""


class NamedProcess(ChildProcess):
    """
    The primary of one zone on a free port of 127.0.0.1.

    :param key_file: with one key, which may update the zone.
    :param key_name: its name.
    """

    label = "named"

    def __init__(self, directory: Path, zone: str, key_file: Path, key_name: str = "sentinels") -> None:
        super().__init__(free_port(), directory)
        self.zone = zone
        self._key_file = key_file
        self._key_name = key_name
        self._starts = 0

    def command_line(self) -> list[str]:
        """The command of the server, in the foreground and with one thread."""
        self._starts += 1
        return [find_program("named") or "named", "-g", "-n", "1", "-c", str(self.directory / "named.conf")]

    def prepare(self) -> None:
        """Write the configuration, and the zone without any master."""
        config = _CONFIG.format(
            key=self._key_file, directory=self.directory, port=self.port, zone=self.zone, name=self._key_name
        )
        (self.directory / "named.conf").write_text(config)
        for old in self.directory.glob("zone.db*"):
            old.unlink()
        (self.directory / "zone.db").write_text(_ZONE)

    def wait_ready(self, seconds: float = MAX_WAIT_SECONDS) -> None:
        """Wait until it has loaded the zone and listens."""

        def runs() -> bool:
            if not self.running:
                raise RuntimeError(f"{self.name} ended with status {self.exit_status}:\n{self.log_text()[-2000:]}")
            return self.log_text().count(" running\n") >= self._starts

        wait_for(runs, seconds, f"{self.name} to run")
