"""The settings: where to send traces, and which."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

from txsentinel.extensions.secret_file import SecretFile
from txsentinel.extensions.setting_lines import argument_settings, seconds, shown
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

SETTINGS: Final = ("endpoint", "headers-file", "masters", "delay")

DEFAULT_DELAY: Final = 12.0
"""Seconds. What belongs to a failover after its end, such as the clients of the old master, is known within ten."""

_HEADER: Final = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*[=:]\s*(\S.*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class OtelSettings:
    """
    The settings.

    ``endpoint`` is the whole address of a collector; empty for that of the variables ``OTEL_EXPORTER_OTLP_…``.
    """

    endpoint: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    masters: tuple[str, ...] = ()
    delay: float = DEFAULT_DELAY

    def wants(self, master: str) -> bool:
        """Whether failovers of a master are sent."""
        return not self.masters or any(fnmatchcase(master, pattern) for pattern in self.masters)


def read_settings(argument: str, lines: Iterable[ExtensionSetting]) -> OtelSettings:
    """
    Return the settings of the argument, and of the file of the extensions.

    :raises ValueError: for a wrong argument; :class:`SettingError` for a wrong line.
    """
    settings = OtelSettings()
    for name, value in argument_settings(argument, "endpoint"):
        settings = _with(settings, name, tuple(re.split("[ ,]+", value)))
    for line in lines:
        try:
            settings = _with(settings, line.name, line.values)
        except ValueError as error:
            raise SettingError(line, str(error)) from None
    return settings


def _with(settings: OtelSettings, name: str, values: tuple[str, ...]) -> OtelSettings:
    if name not in SETTINGS:
        raise ValueError(f"unknown setting {shown(name)}; known: {', '.join(SETTINGS)}")
    if name == "masters":
        if not values:
            raise ValueError("masters needs a value")
        return replace(settings, masters=settings.masters + values)
    if len(values) != 1:
        raise ValueError(f"{name} needs one value, not {len(values)}")
    if name == "endpoint":
        return replace(settings, endpoint=_endpoint(values[0]))
    if name == "headers-file":
        return replace(settings, headers=SecretFile(os.path.abspath(values[0]), parse_headers).value)
    return replace(settings, delay=seconds(name, values[0], 0.0, 600.0))


def _endpoint(text: str) -> str:
    """Return the address; a collector without a path gets that of OTLP."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("endpoint must be a URL such as http://127.0.0.1:4318")
    if parts.username is not None or parts.password is not None:
        raise ValueError("endpoint must not contain a user or password; use headers-file")
    return text if parts.path not in ("", "/") else f"{text.rstrip('/')}/v1/traces"


def parse_headers(contents: bytes) -> dict[str, str]:
    """
    Parse lines of ``name=value``.

    :raises ValueError: for another line; the text has its number and no part of it.
    """
    found = {}
    for number, line in enumerate(contents.decode("latin-1").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _HEADER.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"line {number} is not name=value")
        found[match[1].lower()] = match[2]
    return found
