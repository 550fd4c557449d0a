"""Settings that the extensions for etcd and Consul have in common: endpoints, prefix, masters, certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from txsentinel.extensions.setting_lines import argument_settings, shown
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

LISTS: Final = ("endpoint", "masters")
"""Settings with several values, which are separated by commas in the argument."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The settings. Paths are absolute, prefixes end with a slash."""

    endpoints: tuple[str, ...] = ()
    """URLs without a slash at the end."""

    prefix: str = "/txsentinel/"
    masters: tuple[str, ...] = ()
    """Patterns of the names of masters; empty for all."""

    ca_file: str = ""
    cert_file: str = ""
    """A certificate and its key, for servers that demand one."""

    verify: float = 60.0
    """Seconds between two checks of what was published."""

    def wants(self, master: str) -> bool:
        """Whether a master is published."""
        return not self.masters or any(fnmatchcase(master, pattern) for pattern in self.masters)


Settings = TypeVar("Settings", bound=StoreSettings)


def parse_settings(
    settings: Settings,
    argument: str,
    lines: Iterable[ExtensionSetting],
    names: Sequence[str],
    endpoint: Callable[[str], str],
    with_one: Callable[[Settings, str, str], Settings],
) -> Settings:
    """
    Parse the argument of ``--extension``, an endpoint with ``;name=value`` after it, and lines of the file.

    :param settings: the defaults.
    :param names: the known settings.
    :param endpoint: checks an endpoint and returns it as it is kept.
    :param with_one: returns the settings with the value of a setting other than those of ``LISTS``.
    :raises SettingError: for a line that is wrong, with its place.
    :raises ValueError: if the argument is wrong.
    """

    def changed(settings: Settings, name: str, values: Iterable[str]) -> Settings:
        given = [value for value in values if value]
        if name not in names:
            raise ValueError(f"no such setting: {shown(name)} (known: {', '.join(names)})")
        if name == "endpoint" and given:
            return replace(settings, endpoints=settings.endpoints + tuple(endpoint(value) for value in given))
        if name == "masters" and given:
            return replace(settings, masters=settings.masters + tuple(given))
        if len(given) != 1:
            raise ValueError(f"{name} needs one value, not {len(given)}")
        return with_one(settings, name, given[0])

    for name, value in argument_settings(argument, "endpoint"):
        settings = changed(settings, name, value.split(",") if name in LISTS else [value])
    for line in lines:
        try:
            settings = changed(settings, line.name, line.values)
        except ValueError as error:
            raise SettingError(line, str(error)) from None
    return settings


def check_encryption(settings: StoreSettings, secret: str) -> None:
    """
    Check whether the files of certificates are used, and whether a secret is only sent where nobody else can read it.

    :param secret: the noun for the secret with its article; empty if there is none.
    :raises ValueError: if not.
    """
    if (settings.ca_file or settings.cert_file) and not any(map(_is_encrypted, settings.endpoints)):
        raise ValueError("ca-file and cert-file need https: endpoints")
    if secret and not all(_is_encrypted(url) or _is_local(url) for url in settings.endpoints):
        raise ValueError(f"{secret} is sent to https: endpoints only, or to this machine")


def _is_encrypted(url: str) -> bool:
    return url.startswith("https:")


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def split_endpoint(text: str, example: str) -> SplitResult:
    """
    Split the URL of an endpoint.

    :raises ValueError: if it is no URL with http or https and a host; the text has the example.
    """
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"endpoint must be a URL such as {example}, not {shown(text)}")
    return url
