"""Who sends a request: the login by password, token or Unix socket, and the sessions."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from txsentinel.extensions.http.limits import MIN_LOGIN_FAILURE_SECONDS, LoginFailures
from txsentinel.extensions.http.problem import Problem
from txsentinel.extensions.http.tokens import TokenTable
from txsentinel.interfaces import IOperator
from txsentinel.model.snapshots import Principal

SESSION_SECONDS: Final = 8 * 3600
MAX_SESSIONS: Final = 256
"""Sessions; the oldest ends when there are more."""

LOCAL_USER: Final = "default"
"""The user of the ACL that clients of a Unix socket are, if they run as root or as the user of this process."""


@dataclass(frozen=True, slots=True)
class RequestCredentials:
    """
    What a request has to identify its sender.

    ``authorization`` is the header of that name; ``peer_uid`` the user at the other end of a Unix socket;
    ``certificate`` the verified one of a TLS client. ``browser``
    is whether a browser sent it: it must not ask its user for a password, because it would send that with requests
    that other sites cause.
    """

    authorization: str | None
    origin: str
    peer_uid: int | None = None
    browser: bool = False
    certificate: object = None


@dataclass(frozen=True, slots=True)
class Session:
    """A login that a token stands for, until a time of the reactor's clock."""

    principal: Principal
    ends_at: float


class Sessions:
    """Tokens that were given for a password, in memory only. Only their hashes are kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def create(self, user: str) -> str:
        """Return a new token for a user."""
        token = f"txs_{secrets.token_urlsafe(32)}"
        self._sessions[hash_of(token)] = Session(Principal(user, "token", "session"), self._clock() + SESSION_SECONDS)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def user(self, token: str) -> str | None:
        """Return the user of a token, ``None`` if it is unknown or has expired."""
        session = self._sessions.get(hash_of(token))
        if session is None:
            return None
        if session.ends_at <= self._clock():
            del self._sessions[hash_of(token)]
            return None
        return session.principal.user

    def end(self, token: str) -> bool:
        """Make a token invalid. Return whether it was valid."""
        return self._sessions.pop(hash_of(token), None) is not None


def hash_of(token: str) -> str:
    """Return the hash of a token, as the file of tokens has it. Tokens are random, so it needs no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Authenticator:
    """
    Finds the principal of a request.

    :param own_uid: the user of the operating system that this process runs as.
    """

    def __init__(self, reactor: IReactorTime, operator: IOperator, tokens: TokenTable, own_uid: int) -> None:
        self._reactor = reactor
        self._operator = operator
        self._tokens = tokens
        self._own_uid = own_uid
        self.sessions = Sessions(reactor.seconds)
        self.failures = LoginFailures(reactor.seconds)

    def principal(self, credentials: RequestCredentials) -> Deferred[Principal | None]:
        """
        Return who sent a request.

        A failed login is answered no sooner than ``MIN_LOGIN_FAILURE_SECONDS`` after it was received, and not at all
        evaluated while there are too many from one address.

        :returns: fires with ``None`` without a login if the ACL requires one; fails with ``Problem`` if a login fails.
        """
        authorization = credentials.authorization
        if authorization is None:
            if credentials.peer_uid is not None and credentials.peer_uid in (0, self._own_uid):
                return succeed(Principal(LOCAL_USER, "local-socket", f"unix uid={credentials.peer_uid}"))
            found = None
            if credentials.certificate is not None:
                found = self._operator.by_certificate(credentials.certificate, credentials.origin)
            return succeed(found or self._operator.anonymous(credentials.origin))
        delay = self.failures.retry_after(credentials.origin)
        if delay > 0:
            return fail(
                Problem(
                    429,
                    "too_many_failures",
                    "too many failed logins from this address",
                    headers=[("Retry-After", str(int(delay) + 1))],
                )
            )
        scheme, _, value = authorization.partition(" ")
        found = self._by_scheme(scheme.lower(), value.strip(), credentials.origin)
        if found is not None:
            return succeed(found)
        self.failures.add(credentials.origin)
        problem = login_required(credentials.browser, "wrong_credentials", "the login is wrong, or has expired")
        late: Deferred[Principal | None] = deferLater(self._reactor, MIN_LOGIN_FAILURE_SECONDS)
        late.addCallback(lambda _: fail(problem))
        return late

    def _by_scheme(self, scheme: str, value: str, origin: str) -> Principal | None:
        if scheme == "bearer":
            user = self.sessions.user(value) or self._tokens.user(hash_of(value))
            return None if user is None else Principal(user, "token", origin)
        pair = basic_credentials(value) if scheme == "basic" else None
        if pair is None:
            return None
        principal = self._operator.authenticate(pair[0], pair[1], origin)
        if principal is not None and principal.user == LOCAL_USER:
            # A user without a password accepts any: that is no login.
            return self._operator.anonymous(origin) or principal
        return principal


def basic_credentials(value: str) -> tuple[str, str] | None:
    """Return user and password of Basic authentication; ``None`` if they are malformed."""
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon and "\0" not in value else None


def bearer_token(authorization: str | None) -> str | None:
    """Return the token in a header ``Authorization``."""
    scheme, _, value = (authorization or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def login_required(browser: bool, code: str = "login_required", detail: str = "a login is required") -> Problem:
    """Return the answer for who must log in."""
    challenge = 'Bearer realm="txsentinel"'
    if not browser:
        challenge += ', Basic realm="txsentinel", charset="UTF-8"'
    return Problem(401, code, detail, headers=[("WWW-Authenticate", challenge)])
