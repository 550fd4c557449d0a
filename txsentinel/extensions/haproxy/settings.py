"""The settings of the extension."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from txsentinel.extensions.http.settings import parse_listener
from txsentinel.extensions.setting_lines import argument_settings, seconds, shown
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

NAMES: Final = ("agent", "socket", "server", "verify")

_SERVER: Final = re.compile(r"([A-Za-z0-9_.:-]+)/([A-Za-z0-9_.:-]+)", re.ASCII)
_TCP: Final = re.compile(r"(.+):([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class HaproxyServer:
    """A server in the configuration of HAProxy whose address is that of a master."""

    master: str
    backend: str
    server: str

    def __str__(self) -> str:
        """Return ``backend/server``, as commands name it."""
        return f"{self.backend}/{self.server}"


@dataclass(frozen=True, slots=True)
class HaproxySettings:
    """The settings."""

    agents: tuple[str, ...] = ()
    """Endpoint strings that answer agent checks."""

    sockets: tuple[str, ...] = ()
    """Endpoint strings of runtime sockets."""

    servers: tuple[HaproxyServer, ...] = ()
    verify: float = 30.0
    """Seconds between two checks of the addresses that HAProxy has, which it forgets when it is reloaded."""


def parse(argument: str, lines: Iterable[ExtensionSetting]) -> HaproxySettings:
    """
    Parse the argument of ``--extension haproxy:…``, an endpoint for agent checks with ``;name=value``, and lines.

    :raises SettingError: for a line that is wrong, with its place.
    :raises ValueError: if the argument is wrong, or settings do not fit together.
    """
    settings = HaproxySettings()
    for name, value in argument_settings(argument, "agent"):
        words = value.split(",") if name == "server" else [value]
        for each in words:
            settings = _with(settings, name, each.split() if name == "server" else [each])
    for line in lines:
        try:
            settings = _with(settings, line.name, line.values)
        except ValueError as error:
            raise SettingError(line, str(error)) from None
    if not settings.agents and not settings.sockets:
        raise ValueError("an endpoint for agent checks or a runtime socket is needed: agent tcp:8027, or socket PATH")
    if bool(settings.sockets) != bool(settings.servers):
        raise ValueError(
            "a runtime socket needs servers, and they need a socket: socket PATH, server MASTER BACKEND/SERVER"
        )
    return settings


def _with(settings: HaproxySettings, name: str, values: Iterable[str]) -> HaproxySettings:
    given = [value for value in values if value]
    if name not in NAMES:
        raise ValueError(f"no such setting: {shown(name)} (known: {', '.join(NAMES)})")
    if name == "server":
        return replace(settings, servers=(*settings.servers, _server(given, settings.servers)))
    if len(given) != 1:
        raise ValueError(f"{name} needs one value, not {len(given)}")
    value = given[0]
    if name == "agent":
        return replace(settings, agents=(*settings.agents, parse_listener(value).description))
    if name == "socket":
        return replace(settings, sockets=(*settings.sockets, socket_endpoint(value)))
    return replace(settings, verify=seconds(name, value, 1, 86_400))


def _server(values: list[str], known: tuple[HaproxyServer, ...]) -> HaproxyServer:
    if len(values) != 2:
        raise ValueError("server needs the name of a master, and BACKEND/SERVER")
    match = _SERVER.fullmatch(values[1])
    if match is None:
        raise ValueError(f"server must be BACKEND/SERVER as in the configuration of HAProxy, not {shown(values[1])}")
    if any((each.backend, each.server) == match.groups() for each in known):
        raise ValueError(f"the server {shown(values[1])} is set twice")
    return HaproxyServer(values[0], match[1], match[2])


def socket_endpoint(text: str) -> str:
    """
    Return the endpoint string of a runtime socket: a path, or ``host:port``.

    :raises ValueError: if it is neither.
    """
    if "/" in text:
        return "unix:" + os.path.abspath(text).replace("\\", "\\\\").replace(":", "\\:")
    match = _TCP.fullmatch(text)
    if match is None or not 0 < int(match[2]) < 65536:
        raise ValueError(f"socket must be the path of a Unix socket, or host:port, not {shown(text)}")
    return f"tcp:{match[1].strip('[]').replace(':', chr(92) + ':')}:{match[2]}"
