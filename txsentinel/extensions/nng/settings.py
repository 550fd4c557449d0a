"""The settings: addresses to listen on, and certificates."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

from txsentinel.extensions.setting_lines import shown, yes_or_no
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

SETTINGS: Final = ("pub", "respond", "tls-certificate", "tls-authorities", "insecure")

_TCP: Final = re.compile(r"(?:tls\+)?tcp://(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.*-]+):([0-9]{1,5})", re.ASCII)
_IPC: Final = re.compile(r"ipc:///[\x21-\x7e]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class NngSettings:
    """
    The settings.

    ``pub`` and ``respond`` are addresses in the notation of nng. The certificate file has the key, too.
    """

    pub: tuple[str, ...] = ()
    respond: tuple[str, ...] = ()
    tls_certificate: str = ""
    tls_authorities: str = ""
    insecure: bool = False


def read_settings(argument: str, lines: Iterable[ExtensionSetting]) -> NngSettings:
    """
    Return the settings of the argument, ``name=value`` separated by semicolons, and of the file of the extensions.

    :raises ValueError: for a wrong argument, or what is not safe; :class:`SettingError` for a wrong line.
    """
    settings = NngSettings()
    for word in argument.split(";") if argument else ():
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"expected name=value, such as pub=tcp://127.0.0.1:8028, not {shown(word)}")
        settings = _with(settings, name.strip(), value.strip())
    for line in lines:
        try:
            if len(line.values) != 1:
                raise ValueError(f"{line.name} needs one value, not {len(line.values)}")
            settings = _with(settings, line.name, line.values[0])
        except ValueError as error:
            raise SettingError(line, str(error)) from None
    _check(settings)
    return settings


def _with(settings: NngSettings, name: str, value: str) -> NngSettings:
    if name == "pub":
        return replace(settings, pub=(*settings.pub, _address(name, value)))
    if name == "respond":
        return replace(settings, respond=(*settings.respond, _address(name, value)))
    if name == "tls-certificate":
        return replace(settings, tls_certificate=_file(name, value))
    if name == "tls-authorities":
        return replace(settings, tls_authorities=_file(name, value))
    if name == "insecure":
        return replace(settings, insecure=yes_or_no(name, value))
    raise ValueError(f"unknown setting {shown(name)}; known: {', '.join(SETTINGS)}")


def _address(name: str, value: str) -> str:
    match = _TCP.fullmatch(value)
    if match is None and not _IPC.fullmatch(value):
        raise ValueError(
            f"{name} must be tcp://ADDRESS:PORT, tls+tcp://ADDRESS:PORT or ipc:///PATH, not {shown(value)}"
        )
    if match is not None and int(match[2]) > 65535:
        raise ValueError(f"{name} has the port {match[2]}, which is above 65535")
    return value


def _file(name: str, value: str) -> str:
    # The working directory changes later.
    path = os.path.abspath(value)
    try:
        with open(path, "rb"):
            return path
    except OSError as error:
        raise ValueError(f"{name}: the file {path!a} cannot be read: {error.strerror}") from None


def _check(settings: NngSettings) -> None:
    """
    Refuse what is not safe, or not complete.

    :raises ValueError: with what to do.
    """
    addresses = settings.pub + settings.respond
    if not addresses:
        raise ValueError("an address is needed, such as pub=tcp://127.0.0.1:8028 or respond=tcp://127.0.0.1:8029")
    for address in addresses:
        if address.startswith("tls+"):
            if not settings.tls_certificate:
                raise ValueError(f"{shown(address)} needs tls-certificate, a file with certificate and key")
            if settings.tls_authorities:
                continue
        if not settings.insecure and not _is_local(address):
            raise ValueError(
                f"{shown(address)} would let all clients read the state, because these sockets have no login; use an "
                "address of this machine only, tls+tcp:// with tls-authorities, or insecure yes"
            )


def _is_local(address: str) -> bool:
    match = _TCP.fullmatch(address)
    if match is None:
        return True
    host = match[1].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
