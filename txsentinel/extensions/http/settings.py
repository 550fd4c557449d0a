"""The settings of the extension, and whether they are safe."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final

from txsentinel.extensions.http.problem import shown
from txsentinel.extensions.http.proxying import Network, trusted_network
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

LOOPBACK: Final = {"tcp": "127.0.0.1", "ssl": "127.0.0.1", "tcp6": "::1"}
"""The default interface by the type of an endpoint."""

SOCKET_MODE: Final = "600"
"""The default access mode of Unix sockets: the user that the Sentinel runs as."""

_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9][a-z0-9._-]{0,252}", re.ASCII)
_WORDS: Final = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """
    The settings.

    ``listen`` are endpoint strings of Twisted; ``server_names`` names that clients may use besides literal addresses;
    ``token_file`` is the path of the file of tokens, empty for none.
    """

    listen: tuple[str, ...] = ()
    insecure: bool = False
    """Whether to serve on public addresses without TLS, or without any user that has a password."""

    server_names: tuple[str, ...] = ()
    token_file: str = ""
    client_ca: str = ""
    """The path of the authorities for the certificates of clients, empty to ask for none."""

    trusted_proxies: tuple[Network, ...] = ()
    """Where connections come from that begin with a header of the PROXY protocol."""

    metrics_login: bool = False
    """Whether metrics need a login."""

    redis_exporter_names: bool = True
    """Whether metrics have the names of redis_exporter, too."""

    metrics_peer_info: bool = False
    """Whether metrics have one sample for each other Sentinel of each master."""

    metrics_replica_lag: bool = False
    """Whether metrics have the lag of each replica also with very many masters."""


@dataclass(frozen=True, slots=True)
class Listener:
    """An endpoint with what decides whether it is safe; ``interface`` is empty if it is not an IP address."""

    description: str
    interface: str
    encrypted: bool
    local: bool
    """Whether only this machine can connect."""

    options: Mapping[str, str] = field(default_factory=dict)
    """The parameters by their names, of an endpoint with TLS."""


def parse_argument(argument: str) -> HttpSettings:
    """
    Parse the argument of ``--extension http:…``: an endpoint, and settings ``;name=value`` after it.

    :raises ValueError: with what is wrong.
    """
    endpoint, *words = argument.split(";")
    settings = HttpSettings(listen=(parse_listener(endpoint).description,)) if endpoint else HttpSettings()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"expected name=value after a semicolon, not {shown(word)}")
        settings = _with(settings, name.strip(), value.strip())
    return settings


def add_settings(settings: HttpSettings, lines: Iterable[ExtensionSetting]) -> HttpSettings:
    """
    Add the settings of the file of the extensions; ``listen`` and ``server-names`` may be repeated.

    :raises SettingError: for an unknown name or a wrong value.
    """
    for line in lines:
        try:
            if line.name not in ("server-names", "trusted-proxy") and len(line.values) != 1:
                raise ValueError(f"{line.name} needs one value, not {len(line.values)}")
            settings = _with(settings, line.name, " ".join(line.values))
        except ValueError as error:
            raise SettingError(line, str(error)) from None
    return settings


def _with(settings: HttpSettings, name: str, value: str) -> HttpSettings:
    if name == "listen":
        return replace(settings, listen=(*settings.listen, parse_listener(value).description))
    if name == "server-names":
        names = tuple(each.lower().rstrip(".") for each in re.split("[ ,]+", value) if each)
        for each in names:
            if not _NAME.fullmatch(each):
                raise ValueError(f"server-names has {shown(each)}, which is no host name")
        return replace(settings, server_names=settings.server_names + names)
    if name == "trusted-proxy":
        networks = []
        for each in re.split("[ ,]+", value):
            try:
                networks.append(trusted_network(each))
            except ValueError:
                raise ValueError(f"trusted-proxy has {shown(each)}, which is no address and no network") from None
        return replace(settings, trusted_proxies=settings.trusted_proxies + tuple(networks))
    if name == "client-ca":
        return replace(settings, client_ca=os.path.abspath(value))
    if name == "insecure":
        return replace(settings, insecure=_yes_or_no(name, value))
    if name == "metrics-login":
        return replace(settings, metrics_login=_yes_or_no(name, value))
    if name == "redis-exporter-names":
        return replace(settings, redis_exporter_names=_yes_or_no(name, value))
    if name == "metrics-peer-info":
        return replace(settings, metrics_peer_info=_yes_or_no(name, value))
    if name == "metrics-replica-lag":
        return replace(settings, metrics_replica_lag=_yes_or_no(name, value))
    if name == "tokens":
        # The working directory changes later.
        return replace(settings, token_file=os.path.abspath(value))
    raise ValueError(
        f"unknown setting {shown(name)}; known: listen, server-names, tokens, client-ca, trusted-proxy, "
        "insecure, metrics-login, metrics-peer-info, metrics-replica-lag, redis-exporter-names"
    )


def _yes_or_no(name: str, value: str) -> bool:
    if value not in _WORDS:
        raise ValueError(f"{name} must be yes or no, not {shown(value)}")
    return _WORDS[value]


def parse_listener(description: str) -> Listener:
    """
    Parse an endpoint string, and complete it with safe defaults: the loopback interface, and a socket for one user.

    :raises ValueError: for an unknown type, or a TCP endpoint without a valid port.
    """
    words = re.findall(r"((?:\\.|[^:\\])*)(?::|$)", description)[:-1] or [description]
    words = [re.sub(r"\\(.)", r"\1", word) for word in words]
    kind = words[0]
    options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    if kind in LOOPBACK:
        port = options.get("port", words[1] if len(words) > 1 else "")
        if not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
            raise ValueError(f"the endpoint {shown(description)} has no valid port")
        interface = options.get("interface")
        if interface is None:
            interface = LOOPBACK[kind]
            description += ":interface=" + interface.replace(":", "\\:")
        parameters = {**options, "port": port, "interface": interface} if kind == "ssl" else {}
        return Listener(description, interface, kind == "ssl", is_loopback(interface), parameters)
    if kind == "unix":
        if "mode" not in options:
            description += f":mode={SOCKET_MODE}"
        return Listener(description, "", False, True)
    if kind == "systemd":
        return Listener(description, "", False, False)
    raise ValueError(f"the endpoint {shown(description)} is none of tcp, tcp6, ssl, unix and systemd")


def is_loopback(interface: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        return ip_address(interface).is_loopback
    except ValueError:
        return interface == "localhost"


def check_safe(listener: Listener, has_passwords: bool, insecure: bool) -> None:
    """
    Refuse a public address without encryption, or without any user that has a password.

    :raises ValueError: with what to do.
    """
    if listener.local or insecure:
        return
    if listener.description.startswith("systemd:"):
        return  # Its address is known only once it listens.
    if not listener.encrypted:
        raise ValueError(
            f"{shown(listener.description)} would send passwords over the network in clear text; use ssl:, an "
            "interface of this machine only, or insecure=yes"
        )
    if not has_passwords:
        raise ValueError(
            f"{shown(listener.description)} would let all clients read the state, because no user of the ACL has a "
            "password; set requirepass or a user directive, or insecure=yes"
        )
