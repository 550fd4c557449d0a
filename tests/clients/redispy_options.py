"""Connection options of redis-py and valkey-py, and the exceptions that they raise while there is no master."""

from __future__ import annotations

from typing import Any

from tests.clients.script import Plan


def access(plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return keyword arguments for connections to the servers and to the Sentinels."""
    common: dict[str, Any] = {"protocol": plan.protocol, "decode_responses": True, "socket_timeout": 2}
    if plan.authority is not None:
        common |= {
            "ssl": True,
            "ssl_ca_certs": plan.authority,
            "ssl_certfile": plan.certificate,
            "ssl_keyfile": plan.private_key,
        }
    return (
        {**common, "username": plan.user, "password": plan.password},
        {**common, "username": plan.sentinel_user, "password": plan.sentinel_password, "client_name": plan.key},
    )


def failures(library: Any) -> tuple[type[Exception], ...]:
    """Return the exceptions that an application has to handle while the master changes."""
    return (library.ConnectionError, library.TimeoutError, library.ReadOnlyError)
