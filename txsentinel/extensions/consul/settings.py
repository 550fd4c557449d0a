"""The settings of the extension."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

from txsentinel.extensions.setting_lines import argument_settings, seconds, shown, yes_or_no
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

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
class ConsulSettings:
    """The settings. Paths are absolute; the prefix ends with a slash."""

    endpoints: tuple[str, ...] = ()
    """URLs without a slash at the end."""

    prefix: str = "txsentinel/"
    masters: tuple[str, ...] = ()
    """Patterns of the names of masters; empty for all."""

    service: bool = False
    """Whether servers are registered as services, too, which DNS answers about."""

    node: str = "txsentinel"
    """The node of these services, which is no member of the cluster."""

    dc: str = ""
    token_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    verify: float = 60.0
    """Seconds between two checks of what was published."""

    def wants(self, master: str) -> bool:
        """Whether a master is published."""
        return not self.masters or any(fnmatchcase(master, pattern) for pattern in self.masters)


def parse(argument: str, lines: Iterable[ExtensionSetting]) -> ConsulSettings:
    """
    Parse the argument of ``--extension consul:…``, an endpoint with ``;name=value`` after it, and lines of the file.

    :raises SettingError: for a line that is wrong, with its place.
    :raises ValueError: if the argument is wrong, or settings do not fit together.
    """
    settings = ConsulSettings()
    for name, value in argument_settings(argument, "endpoint"):
        settings = _with(settings, name, value.split(",") if name in ("endpoint", "masters") else [value])
    for line in lines:
        try:
            settings = _with(settings, line.name, line.values)
        except ValueError as error:
            raise SettingError(line, str(error)) from None
    settings = settings if settings.endpoints else replace(settings, endpoints=(DEFAULT_ENDPOINT,))
    encrypted = {url.startswith("https:") for url in settings.endpoints}
    if (settings.ca_file or settings.cert_file) and True not in encrypted:
        raise ValueError("ca-file and cert-file need https: endpoints")
    if settings.token_file and not all(_is_private(url) for url in settings.endpoints):
        raise ValueError("a token is sent to https: endpoints only, or to this machine")
    return settings


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return url.startswith("https:") or host in ("localhost", "::1") or host.startswith("127.")


def _with(settings: ConsulSettings, name: str, values: Iterable[str]) -> ConsulSettings:
    given = [value for value in values if value]
    if name not in NAMES:
        raise ValueError(f"no such setting: {shown(name)} (known: {', '.join(NAMES)})")
    if name == "endpoint" and given:
        return replace(settings, endpoints=settings.endpoints + tuple(_endpoint(value) for value in given))
    if name == "masters" and given:
        return replace(settings, masters=settings.masters + tuple(given))
    if len(given) != 1:
        raise ValueError(f"{name} needs one value, not {len(given)}")
    value = given[0]
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
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"endpoint must be a URL such as {DEFAULT_ENDPOINT}, not {shown(text)}")
    if url.username or url.password or url.query or url.fragment or url.path.strip("/"):
        raise ValueError("endpoint must have neither a login nor a path nor parameters; use token-file")
    return text.rstrip("/")
