"""The settings: which addresses get what, in which format, and with which secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import urlsplit

from txsentinel.extensions.certificate_policy import authorities
from txsentinel.extensions.notifications import KINDS
from txsentinel.extensions.secret_file import SecretFile, secret_line
from txsentinel.extensions.setting_lines import argument_settings, one_of, shown, yes_or_no
from txsentinel.extensions.webhooks.signature import parse_key
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

FORMATS: Final = ("cloudevents", "slack", "pagerduty")
SENDERS: Final = ("leader", "all")

PAGERDUTY_URL: Final = "https://events.pagerduty.com/v2/enqueue"

DEFAULT_EVENTS: Final = {
    "cloudevents": ("+switch-master",),
    "slack": ("+switch-master",),
    "pagerduty": ("+odown", "-odown", "+switch-master"),
}
DEFAULT_SENDER: Final = {"cloudevents": "leader", "slack": "leader", "pagerduty": "all"}
"""PagerDuty merges what several Sentinels report of one master into one incident, and each of them also ends it."""

ARGUMENT_TARGET: Final = "default"
"""The name of the target in the argument of the extension."""

SETTINGS: Final = ("url", "url-file", "secret-file", "ca-file", "format", "events", "masters", "send", "insecure")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """One address with what it gets. :meth:`url` may be a secret, so it is part of no text."""

    name: str
    url: Callable[[], str] = field(repr=False)
    format: str
    secrets: tuple[SecretFile[str], ...]
    """The keys of the signature, or the routing key of PagerDuty; the newest last."""

    authorities: SecretFile[Any] | None
    """Those that the server may be signed by, in place of those of the system."""

    files: tuple[SecretFile[Any], ...]
    """All files, including that of the address."""

    events: tuple[str, ...]
    masters: tuple[str, ...]
    send: str

    def wants(self, kind: str, master: str | None) -> bool:
        """Whether it gets notifications of a kind on a master; what concerns no master passes each filter of names."""
        if not any(fnmatchcase(kind, pattern) for pattern in self.events):
            return False
        return master is None or any(fnmatchcase(master, pattern) for pattern in self.masters)


@dataclass(slots=True)
class _Draft:
    """The settings of one target as far as they are read."""

    first: ExtensionSetting
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    places: dict[str, ExtensionSetting] = field(default_factory=dict)

    def add(self, line: ExtensionSetting, name: str, values: tuple[str, ...]) -> None:
        if not values:
            raise ValueError(f"{name} needs a value")
        if name in ("secret-file", "events", "masters"):
            values = self.values.get(name, ()) + values
        elif len(values) > 1:
            raise ValueError(f"{name} needs one value, not {len(values)}")
        elif name in self.values:
            raise ValueError(f"{name} is set twice")
        self.values[name] = values
        self.places[name] = line

    def one(self, name: str, default: str) -> str:
        return self.values.get(name, (default,))[0]


def read_targets(argument: str, lines: Iterable[ExtensionSetting]) -> tuple[WebhookTarget, ...]:
    """
    Return the targets of the argument, and of the lines ``<setting> <target> <value>``. The files of secrets are read.

    :raises ValueError: for a wrong argument; :class:`SettingError` for a wrong line.
    """
    drafts: dict[str, _Draft] = {}
    for name, value in argument_settings(argument, "url"):
        values = tuple(re.split("[ ,]+", value)) if name in ("events", "masters") else (value,)
        _add(drafts, ExtensionSetting(name, (ARGUMENT_TARGET, *values)))
    for line in lines:
        _add(drafts, line)
    return tuple(_target(name, draft) for name, draft in drafts.items())


def _add(drafts: dict[str, _Draft], line: ExtensionSetting) -> None:
    try:
        if line.name not in SETTINGS:
            raise ValueError(f"unknown setting {shown(line.name)}; known: {', '.join(SETTINGS)}")
        if not line.values:
            raise ValueError(f"{line.name} needs the name of a target, and a value")
        target = line.values[0]
        if not _NAME.fullmatch(target):
            raise ValueError(f"{shown(target)} is no name of a target: letters, digits, '_', '.' and '-' are allowed")
        drafts.setdefault(target, _Draft(line)).add(line, line.name, line.values[1:])
    except ValueError as error:
        raise SettingError(line, str(error)) from None


def _target(name: str, draft: _Draft) -> WebhookTarget:
    """Check the settings of a target as a whole."""
    line = draft.first
    try:
        for setting, check in _CHECKS.items():
            line = draft.places.get(setting, draft.first)
            for value in draft.values.get(setting, ()):
                check(value)
        line = draft.first
        form = draft.one("format", "cloudevents")
        insecure = draft.one("insecure", "no") == "yes"
        files: list[SecretFile[Any]] = []
        if "url-file" in draft.values:
            line = draft.places["url-file"]
            if "url" in draft.values:
                raise ValueError(f"the target {name} has both url and url-file")
            file = SecretFile(draft.one("url-file", ""), lambda contents: _url(secret_line(contents), insecure))
            files.append(file)
            url = _value_of(file)
        else:
            line = draft.places.get("url", draft.first)
            text = draft.one("url", PAGERDUTY_URL if form == "pagerduty" else "")
            if not text:
                raise ValueError(f"the target {name} has no url")
            _url(text, insecure)
            url = _constant(text)
        line = draft.places.get("secret-file", draft.first)
        secrets = _secrets(name, form, insecure, draft.values.get("secret-file", ()))
        line = draft.places.get("ca-file", draft.first)
        trusted = SecretFile(draft.one("ca-file", ""), authorities) if "ca-file" in draft.values else None
    except ValueError as error:
        raise SettingError(line, str(error)) from None
    return WebhookTarget(
        name=name,
        url=url,
        format=form,
        secrets=secrets,
        authorities=trusted,
        files=(*files, *secrets, *([] if trusted is None else [trusted])),
        events=draft.values.get("events", DEFAULT_EVENTS[form]),
        masters=draft.values.get("masters", ("*",)),
        send=draft.one("send", DEFAULT_SENDER[form]),
    )


def _value_of(file: SecretFile[str]) -> Callable[[], str]:
    return lambda: file.value


def _constant(text: str) -> Callable[[], str]:
    return lambda: text


def _secrets(name: str, form: str, insecure: bool, paths: tuple[str, ...]) -> tuple[SecretFile[str], ...]:
    if form == "slack" and paths:
        raise ValueError(
            "secret-file has no use with the format slack; the secret of Slack is its address: use url-file"
        )
    if form == "pagerduty" and len(paths) != 1:
        raise ValueError(f"the target {name} needs one secret-file, with the routing key of PagerDuty")
    if form == "cloudevents" and not paths and not insecure:
        raise ValueError(f"the target {name} has no secret-file, so nothing would be signed; insecure yes allows that")
    if len(paths) > 2:
        raise ValueError("there may be two secret-file, the present one and the next one")
    return tuple(SecretFile(path, parse_key if form == "cloudevents" else secret_line) for path in paths)


def _url(text: str, insecure: bool) -> str:
    """
    Return an address that is fit to send to.

    :raises ValueError: if it is not. The text does not have the address, which may be a secret.
    """
    try:
        parts = urlsplit(text)
        valid = parts.hostname is not None and (parts.port is None or parts.port > 0) and text.isascii()
    except ValueError:
        valid = False
    if not valid or " " in text:
        raise ValueError("the address is no URL with a host")
    if parts.scheme not in ("https", "http"):
        raise ValueError("the address must begin with https://")
    if parts.scheme == "http" and not insecure:
        raise ValueError("the address must begin with https://; insecure yes allows http://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the address must not contain a user or password")
    return text


def _event_pattern(pattern: str) -> None:
    if not any(fnmatchcase(kind, pattern) for kind in KINDS):
        raise ValueError(f"events has {shown(pattern)}, which fits no channel; failover is for finished failovers")


_CHECKS: Final[dict[str, Callable[[str], object]]] = {
    "format": lambda value: one_of("format", value, FORMATS),
    "send": lambda value: one_of("send", value, SENDERS),
    "insecure": lambda value: yes_or_no("insecure", value),
    "events": _event_pattern,
}
