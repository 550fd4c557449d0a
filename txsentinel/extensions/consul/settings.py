"""The settings of the extension."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from txsentinel.extensions.setting_lines import seconds, shown, yes_or_no
from txsentinel.extensions.store_settings import StoreSettings, check_encryption, parse_settings, split_endpoint
from txsentinel.model.extension_settings import ExtensionSetting

NAMES: Final = (
    "endpoint",
    "prefix",
    "masters",
    "service",
    "node",
    "dc",
    "token-file",
    "ca-file",
    "cert-file",
    "verify",
)
FILES: Final = ("token-file", "ca-file", "cert-file")

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:8500"

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ConsulSettings(StoreSettings):
    """The settings."""

    prefix: str = "txsentinel/"
    service: bool = False
    """Whether servers are registered as services, too, which DNS answers about."""

    node: str = "txsentinel"
    """The node of these services, which is no member of the cluster."""

    dc: str = ""
    token_file: str = ""


def parse(argument: str, lines: Iterable[ExtensionSetting]) -> ConsulSettings:
    """
    Parse the argument of ``--extension consul:…``, an endpoint with ``;name=value`` after it, and lines of the file.

    :raises SettingError: for a line that is wrong, with its place.
    :raises ValueError: if the argument is wrong, or settings do not fit together.
    """
    settings = parse_settings(ConsulSettings(), argument, lines, NAMES, _endpoint, _with_one)
    settings = settings if settings.endpoints else replace(settings, endpoints=(DEFAULT_ENDPOINT,))
    check_encryption(settings, "a token" if settings.token_file else "")
    return settings


def _with_one(settings: ConsulSettings, name: str, value: str) -> ConsulSettings:
    if name in FILES:
        path = os.path.abspath(value)
        if name == "token-file":
            return replace(settings, token_file=path)
        return replace(settings, ca_file=path) if name == "ca-file" else replace(settings, cert_file=path)
    if name == "prefix":
        if not value.strip("/"):
            raise ValueError(f"prefix must have a name besides slashes, not {shown(value)}")
        return replace(settings, prefix=value.strip("/") + "/")
    if name == "service":
        return replace(settings, service=yes_or_no(name, value))
    if name == "verify":
        return replace(settings, verify=seconds(name, value, 1, 86_400))
    if not _WORD.fullmatch(value):
        raise ValueError(f"{name} must have letters, digits, '_', '.' and '-' only, not {shown(value)}")
    return replace(settings, node=value) if name == "node" else replace(settings, dc=value)


def _endpoint(text: str) -> str:
    url = split_endpoint(text, DEFAULT_ENDPOINT)
    if url.username or url.password or url.query or url.fragment or url.path.strip("/"):
        raise ValueError("endpoint must have neither a login nor a path nor parameters; use token-file")
    return text.rstrip("/")
