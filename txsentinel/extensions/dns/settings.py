"""The settings: server, zone and key, and the names of masters in the zone."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from txsentinel.extensions.secret_file import SecretFile
from txsentinel.extensions.setting_lines import argument_settings, seconds, shown
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

SETTINGS: Final = ("server", "zone", "key-file", "ttl", "name", "masters")

DEFAULT_PORT: Final = 53
DEFAULT_TTL: Final = 5

ALGORITHMS: Final = ("hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")

_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]{1,63})*", re.ASCII)
_SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", re.ASCII)
_WORDS_AND_COMMENTS: Final = re.compile(r"""("[^"]*")|/\*.*?\*/|//[^\n]*|#[^\n]*""", re.DOTALL)
"""Quoted words, the first group, in which nothing is a comment: Base64 may have two slashes; and comments."""

_KEY: Final = re.compile(
    r'\s*key\s+"?([A-Za-z0-9._-]+)"?\s*\{\s*algorithm\s+"?([A-Za-z0-9-]+)"?\s*;\s*secret\s+"?([A-Za-z0-9+/=]+)"?\s*;\s*\}\s*;\s*',
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A key for the signatures of messages."""

    name: str
    algorithm: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """
    The settings. ``server`` and ``port`` are those of the primary of the zone.

    ``names`` has names below the zone in place of the names of masters.
    """

    server: str
    port: int
    zone: str
    key: SecretFile[TsigKey]
    ttl: int
    names: dict[str, str]
    masters: tuple[str, ...]

    def wants(self, master: str) -> bool:
        """Whether a master is published."""
        return any(fnmatchcase(master, pattern) for pattern in self.masters)

    def relative_name(self, master: str) -> str:
        """
        Return the name of a master below the zone.

        :raises ValueError: if its name cannot be part of one, and none is set for it.
        """
        name = self.names.get(master, master)
        if not is_name(name):
            raise ValueError(f"{shown(master)} cannot be a name in a zone; a line 'dns name MASTER NAME' sets one")
        return name


def is_name(text: str) -> bool:
    """Whether a text is a name of letters, digits, ``-`` and ``_``, in labels separated by dots."""
    return len(text) <= 200 and _NAME.fullmatch(text) is not None


def read_settings(argument: str, lines: Iterable[ExtensionSetting]) -> DnsSettings:
    """
    Return the settings of the argument and of the file of the extensions. The file of the key is read.

    :raises ValueError: for a wrong argument; :class:`SettingError` for a wrong line.
    """
    draft = _Draft()
    for name, value in argument_settings(argument, "server"):
        draft.add(name, tuple(re.split("[ ,]+", value)))
    for line in lines:
        try:
            draft.add(line.name, line.values)
        except ValueError as error:
            raise SettingError(line, str(error)) from None
    return draft.finish()


class _Draft:
    """The settings as far as they are read."""

    def __init__(self) -> None:
        self._server: tuple[str, int] | None = None
        self._zone = ""
        self._key: SecretFile[TsigKey] | None = None
        self._ttl = DEFAULT_TTL
        self._names: dict[str, str] = {}
        self._masters: tuple[str, ...] = ()

    def add(self, name: str, values: tuple[str, ...]) -> None:
        if name not in SETTINGS:
            raise ValueError(f"unknown setting {shown(name)}; known: {', '.join(SETTINGS)}")
        if not values:
            raise ValueError(f"{name} needs a value")
        if name == "masters":
            self._masters += values
        elif name == "name":
            if len(values) != 2:
                raise ValueError("name needs a master and its name in the zone")
            if not is_name(values[1]):
                raise ValueError(f"{shown(values[1])} cannot be a name in a zone")
            self._names[values[0]] = values[1]
        elif len(values) > 1:
            raise ValueError(f"{name} needs one value, not {len(values)}")
        else:
            self._add_one(name, values[0])

    def _add_one(self, name: str, value: str) -> None:
        if name == "server":
            match = _SERVER.fullmatch(value)
            port = DEFAULT_PORT if match is None or match[2] is None else int(match[2])
            if match is None or not 0 < port < 65536:
                raise ValueError(
                    f"server must be HOST or HOST:PORT, with an IPv6 address in brackets, not {shown(value)}"
                )
            self._server = match[1].strip("[]"), port
        elif name == "zone":
            if not is_name(value.rstrip(".")):
                raise ValueError(f"zone must be the name of a zone, not {shown(value)}")
            self._zone = value.rstrip(".")
        elif name == "key-file":
            self._key = SecretFile(value, parse_key)
        else:
            ttl = seconds("ttl", value, 0, 86_400)
            if ttl != int(ttl):
                raise ValueError(f"ttl must be whole seconds, not {shown(value)}")
            self._ttl = int(ttl)

    def finish(self) -> DnsSettings:
        if self._server is None:
            raise ValueError("dns needs a server, the primary of the zone")
        if not self._zone:
            raise ValueError("dns needs a zone")
        if self._key is None:
            raise ValueError("dns needs a key-file, such as tsig-keygen writes; updates are always signed")
        masters = self._masters or ("*",)
        return DnsSettings(*self._server, self._zone, self._key, self._ttl, dict(self._names), masters)


def parse_key(contents: bytes) -> TsigKey:
    """
    Parse a file with one key, as BIND reads it and ``tsig-keygen`` writes it.

    :raises ValueError: if it is something else; the text has no part of it.
    """
    text = _WORDS_AND_COMMENTS.sub(lambda found: found[1] or " ", contents.decode("latin-1"))
    match = _KEY.fullmatch(text)
    if match is None:
        raise ValueError('it is not: key "NAME" { algorithm hmac-sha256; secret "BASE64"; };')
    algorithm = match[2].lower()
    if algorithm not in ALGORITHMS:
        raise ValueError(f"the algorithm must be one of {', '.join(ALGORITHMS)}")
    try:
        secret = b64decode(match[3], validate=True)
    except binascii.Error:
        raise ValueError("the secret is not Base64") from None
    if len(secret) < 16:
        raise ValueError("the secret has less than 16 bytes")
    return TsigKey(match[1], algorithm, secret)
