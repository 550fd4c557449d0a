"""Reads the files with secrets again, so that passwords can be changed without a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred

from txsentinel.config.errors import DirectiveError
from txsentinel.config.generic import GenericOptions
from txsentinel.config.secret_options import (
    auth_pass_source,
    copy_requirepass,
    set_auth_pass,
    set_generic,
    set_sentinel_pass,
)
from txsentinel.config.secrets import SecretReference, secret_of
from txsentinel.core.sentinel import SentinelCore
from txsentinel.interfaces import IHost
from txsentinel.model.events import Level
from txsentinel.server.access_control import AccessControl


class SecretRenewal:
    """
    Reads all secrets that files have. Those that cannot be read, or are invalid, stay in use, and this is logged.

    New passwords are used for new connections. An environment variable of a running process does not change.

    :param secrets: reference → the secret that is in use.
    :param environment: has the directory with the credentials of systemd.
    """

    def __init__(
        self,
        secrets: Mapping[SecretReference, str],
        environment: Mapping[str, str],
        host: IHost,
        core: SentinelCore,
        access: AccessControl,
        generic: GenericOptions,
        note: Callable[[Level, str], None],
    ) -> None:
        self._secrets = dict(secrets)
        self._environment = environment
        self._host = host
        self._core = core
        self._access = access
        self._generic = generic
        self._note = note

    def __call__(self) -> Deferred[str]:
        """Read them; the result is what was wrong, empty if nothing was."""
        return Deferred.fromCoroutine(self._renew())

    async def _renew(self) -> str:
        problems = []
        for reference, known in list(self._secrets.items()):
            try:
                path = reference.path(self._environment)
                if path is None:
                    continue
                secret = secret_of(reference, await self._host.files.fetch(path))
            except OSError as error:
                reason = error.strerror or str(error)
                problems.append(f"{reference.subject}: {reference.source} cannot be read: {reason}")
            except DirectiveError as problem:
                problems.append(str(problem))
            else:
                if secret != known:
                    self._secrets[reference] = secret
                    self._use(reference, secret)
        for line in problems:
            self._note(Level.WARNING, f"A secret stays as it is: {line}")
        return "; ".join(problems)

    def _use(self, reference: SecretReference, secret: str) -> None:
        core, effect = self._core, "is used for new connections"
        if reference.master:
            master = core.registry.masters.get(reference.master)
            if master is None or reference.source != auth_pass_source(master.options, reference.upcoming):
                return  # It was removed; one of the same name that is monitored since has options of its own.
            set_auth_pass(master.options, reference, secret)
            core.administration.use_credentials(reference.master)
        elif reference.directive == "sentinel-pass":
            set_sentinel_pass(core.options, reference, secret)
            core.administration.use_credentials(None)
        elif reference.directive == "requirepass":
            if not self._access.renew_requirepass(lambda: set_generic(self._generic, reference, secret)):
                effect = "has no effect here: the user default has other passwords"
            copy_requirepass(self._generic, core.options)
            core.administration.use_credentials(None)
        else:
            set_generic(self._generic, reference, secret)
            effect = "is used when the key is read"
        place = "the second " if reference.upcoming else ""
        self._note(Level.NOTICE, f"{reference.source} has changed: {place}{reference.subject} {effect}.")
