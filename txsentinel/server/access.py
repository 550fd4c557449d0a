"""Who may do what: the seam where the server asks, and the simplest answer, one optional password."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Final, Protocol

from txsentinel.wire.resp import data

if TYPE_CHECKING:
    from txsentinel.core.options import SentinelOptions
    from txsentinel.server.clients import Client
    from txsentinel.server.table import Command

DEFAULT_USER: Final = "default"


class AccessControl(Protocol):
    """What the server asks about users and their rights."""

    def open_by_default(self) -> bool:
        """Is a new connection let in without a password?"""

    def knows(self, user: str) -> bool:
        """Is there such a user?"""

    def password_accepted(self, user: str, password: bytes) -> bool:
        """Is this user known, enabled, and is the password one of its own (or none needed)?"""

    def authorize(self, client: Client, command: Command, request: Sequence[bytes]) -> None:
        """
        May the client run this request?

        :raises CommandError: with the refusal, if not.
        """


class SinglePassword:
    """One user, ``default``, who may do everything; ``requirepass`` is its password, if there is one."""

    def __init__(self, options: SentinelOptions) -> None:
        self._options = options

    def open_by_default(self) -> bool:
        """True as long as no password is set."""
        return not self._options.requirepass

    def knows(self, user: str) -> bool:
        """There is one."""
        return user == DEFAULT_USER

    def password_accepted(self, user: str, password: bytes) -> bool:
        """Compare digests, so that the time taken tells nothing of the password."""
        if user != DEFAULT_USER:
            return False
        wanted = self._options.requirepass
        if not wanted:
            return True
        return compare_digest(sha256(data(wanted)).digest(), sha256(password).digest())

    def authorize(self, client: Client, command: Command, request: Sequence[bytes]) -> None:
        """Everything is allowed to whoever got in."""
