"""The settings: where the API is, and which objects are those of which master."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from txsentinel.extensions.certificate_policy import authorities
from txsentinel.extensions.secret_file import SecretFile, secret_line
from txsentinel.extensions.setting_lines import shown, yes_or_no
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

SETTINGS: Final = (
    *("service", "pods", "port-name", "label", "namespace", "server", "token-file", "ca-file", "insecure"),
)

ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a Pod has the files of its service account."""

DEFAULT_LABEL: Final = "txsentinel/role"
DEFAULT_PORT_NAME: Final = "redis"

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LABEL: Final = re.compile(r"(?:[a-z0-9][a-z0-9.-]{0,251}/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_PORT_NAME: Final = re.compile(r"(?=.{0,15}$)(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """
    The settings.

    ``services`` has the name of a Service by the name of a master, ``pods`` the selector of the Pods of its servers.
    """

    services: Mapping[str, str]
    pods: Mapping[str, str]
    port_name: str
    label: str
    namespace: str
    server: str
    token: SecretFile[str]
    authorities: SecretFile[Any] | None

    def wants(self, master: str) -> bool:
        """Whether a master is published."""
        return master in self.services or master in self.pods


def read_settings(
    argument: str,
    lines: Iterable[ExtensionSetting],
    environment: Mapping[str, str] = os.environ,
    account: str = ACCOUNT,
) -> KubernetesSettings:
    """
    Return the settings of the file of the extensions. Those of a Pod are the default.

    :raises ValueError: if something is missing, or wrong in the Pod; :class:`SettingError` for a wrong line.
    """
    if argument:
        raise ValueError("its settings are lines of the file of --extensions, it has no argument")
    draft = _Draft()
    for line in lines:
        try:
            draft.add(line.name, line.values)
        except ValueError as error:
            raise SettingError(line, str(error)) from None
    return draft.finish(environment, account)


class _Draft:
    """The settings as far as they are read."""

    def __init__(self) -> None:
        self._services: dict[str, str] = {}
        self._pods: dict[str, str] = {}
        self._words: dict[str, str] = {}

    def add(self, name: str, values: tuple[str, ...]) -> None:
        if name not in SETTINGS:
            raise ValueError(f"unknown setting {shown(name)}; known: {', '.join(SETTINGS)}")
        if name in ("service", "pods"):
            if len(values) != 2:
                raise ValueError(
                    f"{name} needs a master and {'a Service' if name == 'service' else 'a label selector'}"
                )
            master, value = values
            if name == "service" and not _NAME.fullmatch(value):
                raise ValueError(f"{shown(value)} is no name of a Service")
            objects = self._services if name == "service" else self._pods
            if master in objects:
                raise ValueError(f"{name} is set twice for {shown(master)}")
            objects[master] = value
            return
        if len(values) != 1:
            raise ValueError(f"{name} needs one value, not {len(values)}")
        if name in self._words:
            raise ValueError(f"{name} is set twice")
        _CHECKS.get(name, lambda _: None)(values[0])
        self._words[name] = values[0]

    def finish(self, environment: Mapping[str, str], account: str) -> KubernetesSettings:
        words = self._words
        if not self._services and not self._pods:
            raise ValueError("kubernetes needs a line 'service MASTER SERVICE' or 'pods MASTER SELECTOR'")
        server = words.get("server", "")
        in_pod = not server
        if in_pod:
            host, port = (
                environment.get("KUBERNETES_SERVICE_HOST", ""),
                environment.get("KUBERNETES_SERVICE_PORT", "443"),
            )
            if not host:
                raise ValueError(
                    "this is no Pod, as KUBERNETES_SERVICE_HOST is not set; set server, namespace and token-file"
                )
            server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        if server.startswith("http://") and words.get("insecure") != "yes":
            raise ValueError("server must begin with https://; insecure yes allows http://")
        namespace = words.get("namespace", "")
        if not namespace:
            namespace = SecretFile(os.path.join(account, "namespace"), secret_line).value
        ca_file = words.get("ca-file") or (os.path.join(account, "ca.crt") if in_pod else "")
        return KubernetesSettings(
            services=self._services,
            pods=self._pods,
            port_name=words.get("port-name", DEFAULT_PORT_NAME),
            label=words.get("label", DEFAULT_LABEL),
            namespace=namespace,
            server=server.rstrip("/"),
            token=SecretFile(words.get("token-file") or os.path.join(account, "token"), secret_line),
            authorities=SecretFile(ca_file, authorities) if ca_file else None,
        )


def _server(value: str) -> None:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.username is not None:
        raise ValueError("server must be a URL such as https://10.96.0.1:443, without a user")


def _fits(name: str, value: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(value):
        raise ValueError(f"{name} cannot be {shown(value)}")


_CHECKS: Final[dict[str, Any]] = {
    "server": _server,
    "namespace": lambda value: _fits("namespace", value, _NAME),
    "label": lambda value: _fits("label", value, _LABEL),
    "port-name": lambda value: _fits("port-name", value, _PORT_NAME),
    "insecure": lambda value: yes_or_no("insecure", value),
}
