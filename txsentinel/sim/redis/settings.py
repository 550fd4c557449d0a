"""The settings of a simulated Redis, and its configuration file."""

from __future__ import annotations

from typing import Final

from txsentinel.wire.resp import data, text

Place = tuple[str, int]

DEFAULTS: Final = {
    "requirepass": "",
    "masterauth": "",
    "masteruser": "",
    "replica-priority": "100",
    "replica-announced": "yes",
    "replica-announce-ip": "",
    "replica-announce-port": "0",
    "replica-serve-stale-data": "yes",
    "replica-read-only": "yes",
    "repl-timeout": "60",
    "repl-ping-replica-period": "10",
    "repl-backlog-size": "1048576",
    "min-replicas-to-write": "0",
    "min-replicas-max-lag": "10",
}
"""Settings that CONFIG knows; every ``replica`` in a name may be spelt ``slave``."""


def canonical(name: str) -> str:
    """Return the name of a setting with ``replica`` for ``slave``."""
    return name.replace("slave", "replica")


def render(port: int, settings: dict[str, str], master: Place | None) -> bytes:
    """Return the contents of the configuration file."""
    lines = [f"port {port}"]
    lines += [f"{name} {value}" for name, value in settings.items() if value != DEFAULTS.get(name, "")]
    if master is not None:
        lines.append(f"replicaof {master[0]} {master[1]}")
    return data("\n".join(lines) + "\n")


def parse(contents: bytes) -> tuple[dict[str, str], Place | None]:
    """Return all settings and the configured master, if any."""
    settings, master = dict(DEFAULTS), None
    for line in text(contents).splitlines():
        name, _, value = line.partition(" ")
        if name == "replicaof":
            host, _, port = value.partition(" ")
            master = (host, int(port))
        elif name != "port":
            settings[name] = value
    return settings, master
