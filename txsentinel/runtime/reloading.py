"""The effect of SIGHUP: secrets, certificates and the ACL file are read again."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.python.failure import Failure

from txsentinel.config.generic import GenericOptions
from txsentinel.model.events import Level
from txsentinel.server.access_control import AccessControl
from txsentinel.server.acl.file import AclFileError
from txsentinel.tls.activation import TlsSupport


class Reload:
    """
    Reads the files again that the configuration names. Invalid contents are logged, and the previous ones stay in use.

    The configuration file itself is not read again: it is the state of the Sentinel, which ``SENTINEL SET`` and
    ``SENTINEL CONFIG SET`` change.
    """

    def __init__(
        self,
        secrets: Callable[[], Deferred[str]],
        tls: TlsSupport,
        access: AccessControl,
        options: GenericOptions,
        note: Callable[[Level, str], None],
    ) -> None:
        self._secrets = secrets
        self._tls = tls
        self._access = access
        self._options = options
        self._note = note

    def __call__(self) -> Deferred[str]:
        """Reload; the result is what was wrong, empty if nothing was."""
        return Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> str:
        # The passphrase of the key first.
        problems = [await self._secrets()]
        problems += await gatherResults([self._tls.renew(), self._reload_users()])
        return "; ".join(filter(None, problems))

    def _reload_users(self) -> Deferred[str]:
        if not self._options.aclfile:
            return succeed("")
        return self._access.load().addCallbacks(self._loaded, self._not_loaded)

    def _loaded(self, result: None) -> str:
        self._note(Level.NOTICE, f"The users were reloaded from {self._options.aclfile}.")
        return ""

    def _not_loaded(self, failure: Failure) -> str:
        if not isinstance(failure.value, AclFileError):
            failure.raiseException()
        problem = str(failure.value)
        self._note(Level.WARNING, f"The users stay as they are: {problem}")
        return problem
