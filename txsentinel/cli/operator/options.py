"""The options that all verbs have, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from txsentinel.cli.operator.profile import default_path, read_profile
from txsentinel.cli.operator.screen import FORMATS
from txsentinel.cli.operator.statuses import UNAVAILABLE, USAGE, VerbFailed
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.addresses import BadAddress, parse_endpoints
from txsentinel.remote.connection import ConnectionSettings, TlsFiles
from txsentinel.remote.fleet import FleetReport, read_fleet

SENTINELS_VARIABLE: Final = "TXSENTINEL_SENTINELS"
PROFILE_VARIABLE: Final = "TXSENTINEL_PROFILE"
PASSWORD_VARIABLE: Final = "TXSENTINEL_PASSWORD"
SERVER_PASSWORD_VARIABLE: Final = "TXSENTINEL_SERVER_PASSWORD"
DEFAULT_SENTINELS: Final = "127.0.0.1:26379"

OTHER_SENTINELS: Final = "name one that runs: --sentinel HOST:PORT, or {}=HOST:PORT in the environment"

NEEDS_PASSWORD: Final = "give its password: --password-file FILE, or {} in the environment; --user for another user"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class FleetAccess:
    """Where the Sentinels are, how to connect to them and to the servers, and how to show the result."""

    seeds: tuple[Endpoint, ...]
    settings: ConnectionSettings
    server_settings: ConnectionSettings
    form: str = "table"
    watch: float | None = None
    discover: bool = True

    def read(self, names: Collection[str] | None = None, details: bool = True) -> FleetReport:
        """
        Read the Sentinels.

        :raises VerbFailed: if none answers.
        """
        fleet = read_fleet(self.seeds, self.settings, names, details, self.discover)
        if not fleet.reachable:
            raise VerbFailed(
                "no Sentinel answers: " + "; ".join(f"{each.endpoint}: {each.problem}" for each in fleet.sentinels),
                UNAVAILABLE,
                self._hints(fleet),
            )
        return fleet

    def _hints(self, fleet: FleetReport) -> list[str]:
        """Return what to do if no Sentinel answers."""
        if any((each.problem or "").startswith("NOAUTH") for each in fleet.sentinels):
            return [NEEDS_PASSWORD.format(PASSWORD_VARIABLE)]
        return [OTHER_SENTINELS.format(SENTINELS_VARIABLE)] if self.seeds == parse_endpoints(DEFAULT_SENTINELS) else []


def secret(path: str | None, variable: str, environment: Mapping[str, str]) -> str | None:
    """
    Return a password: the first line of a file, else the value of a variable, else ``None``.

    :raises VerbFailed: if the file cannot be read.
    """
    if path is None:
        return environment.get(variable)
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise VerbFailed(f"cannot read the password from {path}: {error.strerror}", USAGE) from None
    if not lines or not lines[0]:
        raise VerbFailed(f"the first line of {path} should have the password, but is empty", USAGE)
    return lines[0]


def access_of(given: Mapping[str, Any], environment: Mapping[str, str]) -> FleetAccess:
    """
    Combine options, environment and profile; the first of them that has a value counts.

    :raises VerbFailed: if a value is unusable.
    """
    path = Path(given["profile_file"]) if given["profile_file"] else default_path(environment)
    profile = read_profile(path, given["profile"] or environment.get(PROFILE_VARIABLE))

    def value(option: str) -> Any:
        found = given[option.replace("-", "_")]
        return profile.get(option) if found in (None, False) else found

    words = given["sentinel"] or environment.get(SENTINELS_VARIABLE) or profile.get("sentinels") or DEFAULT_SENTINELS
    try:
        seeds = parse_endpoints(str(words))
    except BadAddress as error:
        raise VerbFailed(str(error), USAGE) from None
    tls = None
    if value("tls") or value("tls-ca") or value("tls-cert") or value("tls-insecure"):
        tls = TlsFiles(
            value("tls-ca"),
            value("tls-cert"),
            value("tls-key"),
            bool(value("tls-verify-hostname")),
            bool(value("tls-insecure")),
        )
    password = secret(value("password-file"), PASSWORD_VARIABLE, environment)
    server_password = secret(value("server-password-file"), SERVER_PASSWORD_VARIABLE, environment)
    if value("user") is not None and password is None:
        raise VerbFailed("--user needs --password-file", USAGE)
    if value("server-user") is not None and server_password is None:
        raise VerbFailed("--server-user needs --server-password-file", USAGE)
    timeout = given["timeout"]
    return FleetAccess(
        seeds,
        ConnectionSettings(value("user"), password, tls, timeout),
        ConnectionSettings(value("server-user"), server_password, tls, timeout),
        given["output"],
        given["watch"],
        not given["no_discovery"],
    )


_COMMON: Final = (
    click.option("--sentinel", metavar="HOST:PORT[,...]", help=f"Sentinels to start from; or {SENTINELS_VARIABLE}."),
    click.option("--no-discovery", is_flag=True, help="Ask only these Sentinels, and not those that they know."),
    click.option("--user", help="User of the ACL of the Sentinels."),
    click.option("--password-file", metavar="FILE", help=f"Password of the Sentinels; or {PASSWORD_VARIABLE}."),
    click.option("--server-user", help="User of the ACL of the data servers."),
    click.option(
        "--server-password-file", metavar="FILE", help=f"Password of the data servers; or {SERVER_PASSWORD_VARIABLE}."
    ),
    click.option("--tls", is_flag=True, help="Connect by TLS."),
    click.option("--tls-ca", metavar="FILE", help="Certificates of the authorities to trust."),
    click.option("--tls-cert", metavar="FILE", help="Certificate to present."),
    click.option("--tls-key", metavar="FILE", help="Its key, if that is in another file."),
    click.option("--tls-verify-hostname", is_flag=True, help="Require certificates to name the host."),
    click.option("--tls-insecure", is_flag=True, help="Accept any certificate."),
    click.option(
        "--timeout", type=click.FloatRange(0.05, 600), default=3.0, show_default=True, help="Seconds for each answer."
    ),
    click.option("--profile", help=f"Table of the profile file; or {PROFILE_VARIABLE}."),
    click.option("--profile-file", metavar="FILE", help="By default ~/.config/txsentinel.toml."),
    click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="Format."),
    click.option("-w", "--watch", type=click.FloatRange(0.1), metavar="SECONDS", help="Repeat until interrupted."),
)

NAMES: Final = (
    "sentinel",
    "no_discovery",
    "user",
    "password_file",
    "server_user",
    "server_password_file",
    "tls",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "tls_verify_hostname",
    "tls_insecure",
    "timeout",
    "profile",
    "profile_file",
    "output",
    "watch",
)
"""The parameters that the common options have."""


def common(function: Callable[..., int]) -> Callable[..., int]:
    """Give a verb the common options; its first parameter is the `FleetAccess` that they describe."""

    @wraps(function)  # which also copies the options that the verb declared below this decorator
    def verb(**given: Any) -> int:
        access = access_of({name: given.pop(name) for name in NAMES}, os.environ)
        return function(access, **given)

    for option in reversed(_COMMON):
        verb = option(verb)
    return verb
