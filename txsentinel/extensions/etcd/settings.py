"""The settings of the extension."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from txsentinel.extensions.setting_lines import one_of, seconds, shown
from txsentinel.extensions.store_settings import StoreSettings, check_encryption, parse_settings, split_endpoint
from txsentinel.model.extension_settings import ExtensionSetting

LAYOUTS: Final = ("plain", "confd")
NAMES: Final = (
    *("endpoint", "prefix", "layout", "confd-prefix", "masters", "gateway"),
    *("user", "password-file", "ca-file", "cert-file", "verify", "lease"),
)

EXAMPLE: Final = "http://127.0.0.1:2379"


@dataclass(frozen=True, slots=True)
class EtcdSettings(StoreSettings):
    """The settings."""

    confd: bool = False
    """Whether the keys that templates of confd iterate over are written, too."""

    confd_prefix: str = "/services/redis/"
    gateway: str = "/v3"
    """The path of the gateway: ``/v3`` since etcd 3.4, ``/v3beta`` in 3.3."""

    user: str = ""
    password_file: str = ""
    lease: float = 60.0
    """Seconds after which the keys of replicas end if no Sentinel renews them; 0 to publish no replicas."""


def parse(argument: str, lines: Iterable[ExtensionSetting]) -> EtcdSettings:
    """
    Parse the argument of ``--extension etcd:…``, an endpoint with ``;name=value`` after it, and lines of the file.

    :raises SettingError: for a line that is wrong, with its place.
    :raises ValueError: if the argument is wrong, or settings do not fit together.
    """
    settings = parse_settings(EtcdSettings(), argument, lines, NAMES, _endpoint, _with_one)
    if not settings.endpoints:
        raise ValueError(f"an endpoint is needed, such as {EXAMPLE}")
    if bool(settings.user) != bool(settings.password_file):
        raise ValueError("user and password-file must be set together")
    check_encryption(settings, "a password" if settings.user else "")
    return settings


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
    url = split_endpoint(text, EXAMPLE)
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("endpoint must have neither a login nor parameters; use user and password-file")
    return text.rstrip("/")
