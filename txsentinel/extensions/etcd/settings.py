"""The settings of the extension."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

from txsentinel.extensions.setting_lines import argument_settings, one_of, seconds, shown
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

LAYOUTS: Final = ("plain", "confd")
NAMES: Final = (
    *("endpoint", "prefix", "layout", "confd-prefix", "masters", "gateway"),
    *("user", "password-file", "ca-file", "cert-file", "verify", "lease"),
)


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """The settings. Paths are absolute, prefixes end with a slash."""

    endpoints: tuple[str, ...] = ()
    """URLs without a slash at the end."""

    prefix: str = "/txsentinel/"
    confd: bool = False
    """Whether the keys that templates of confd iterate over are written, too."""

    confd_prefix: str = "/services/redis/"
    masters: tuple[str, ...] = ()
    """Patterns of the names of masters; empty for all."""

    gateway: str = "/v3"
    """The path of the gateway: ``/v3`` since etcd 3.4, ``/v3beta`` in 3.3."""

    user: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    """A certificate and its key, for servers that demand one."""

    verify: float = 60.0
    """Seconds between two checks of what was published."""

    lease: float = 60.0
    """Seconds after which the keys of replicas end if no Sentinel renews them; 0 to publish no replicas."""

    def wants(self, master: str) -> bool:
        """Whether a master is published."""
        return not self.masters or any(fnmatchcase(master, pattern) for pattern in self.masters)


def parse(argument: str, lines: Iterable[ExtensionSetting]) -> EtcdSettings:
    """
    Parse the argument of ``--extension etcd:…``, an endpoint with ``;name=value`` after it, and lines of the file.

    :raises SettingError: for a line that is wrong, with its place.
    :raises ValueError: if the argument is wrong, or settings do not fit together.
    """
    settings = EtcdSettings()
    for name, value in argument_settings(argument, "endpoint"):
        settings = _with(settings, name, value.split(",") if name in ("endpoint", "masters") else [value])
    for line in lines:
        try:
            settings = _with(settings, line.name, line.values)
        except ValueError as error:
            raise SettingError(line, str(error)) from None
    _check(settings)
    return settings


def _check(settings: EtcdSettings) -> None:
    if not settings.endpoints:
        raise ValueError("an endpoint is needed, such as http://127.0.0.1:2379")
    if bool(settings.user) != bool(settings.password_file):
        raise ValueError("user and password-file must be set together")
    encrypted = {url.startswith("https:") for url in settings.endpoints}
    if settings.user and False in encrypted and not all(_is_local(url) for url in settings.endpoints):
        raise ValueError("a password is sent to https: endpoints only, or to this machine")
    if (settings.ca_file or settings.cert_file) and True not in encrypted:
        raise ValueError("ca-file and cert-file need https: endpoints")


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return url.startswith("https:") or host in ("localhost", "::1") or host.startswith("127.")


def _with(settings: EtcdSettings, name: str, values: Iterable[str]) -> EtcdSettings:
    given = [value for value in values if value]
    if name == "endpoint" and given:
        return replace(settings, endpoints=settings.endpoints + tuple(_endpoint(value) for value in given))
    if name == "masters" and given:
        return replace(settings, masters=settings.masters + tuple(given))
    if name not in NAMES:
        raise ValueError(f"no such setting: {shown(name)} (known: {', '.join(NAMES)})")
    if len(given) != 1:
        raise ValueError(f"{name} needs one value, not {len(given)}")
    return _with_one(settings, name, given[0])


def _with_one(settings: EtcdSettings, name: str, value: str) -> EtcdSettings:
    if name in ("prefix", "confd-prefix"):
        if not value.strip("/"):
            raise ValueError(f"{name} must have a name besides slashes, not {shown(value)}")
        prefix = value.rstrip("/") + "/"
        return replace(settings, prefix=prefix) if name == "prefix" else replace(settings, confd_prefix=prefix)
    if name == "layout":
        return replace(settings, confd=one_of(name, value, LAYOUTS) == "confd")
    if name == "gateway":
        return replace(settings, gateway="/" + value.strip("/"))
    if name == "user":
        return replace(settings, user=value)
    if name == "password-file":
        return replace(settings, password_file=os.path.abspath(value))
    if name == "ca-file":
        return replace(settings, ca_file=os.path.abspath(value))
    if name == "cert-file":
        return replace(settings, cert_file=os.path.abspath(value))
    if name == "verify":
        return replace(settings, verify=seconds(name, value, 1, 86_400))
    return replace(settings, lease=0.0 if value == "off" else seconds(name, value, 10, 86_400))


def _endpoint(text: str) -> str:
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"endpoint must be a URL such as http://127.0.0.1:2379, not {shown(text)}")
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("endpoint must have neither a login nor parameters; use user and password-file")
    return text.rstrip("/")
