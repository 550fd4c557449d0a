"""Reads explanations of real Sentinels, as RESP3 maps."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from tests.interop.fixtures import SECONDS
from tests.servers import ReplyError, SentinelProcess, wait_for
from txsentinel.model.timings import Limits
from txsentinel.wire.replies import NEED_MORE, ReplyReader
from txsentinel.wire.resp import pack
from txsentinel.wire.values import ErrorLine


def request(sentinel: SentinelProcess, *words: str) -> Any:
    """
    Send one command in RESP3, and return the reply with texts decoded.

    :raises ReplyError: if it is an error.
    """
    parser = ReplyReader(Limits(), resp3=True)
    with socket.create_connection(("127.0.0.1", sentinel.port), 5.0) as connection:
        hello = ["HELLO", "3"]
        if sentinel.password is not None:
            hello += ["AUTH", "default", sentinel.password]
        connection.sendall(pack(*hello) + pack(*words))
        replies: list[Any] = []
        while len(replies) < 2:
            data = connection.recv(65536)
            if not data:
                raise ConnectionError("closed by the Sentinel")
            parser.feed(data)
            while (reply := parser.next_reply()) is not NEED_MORE:
                replies.append(reply)
    found = replies[1]
    if isinstance(found, ErrorLine):
        raise ReplyError(found.decode())
    return decoded(found)


def decoded(value: Any) -> Any:
    """Return a reply with texts in place of bytes."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [decoded(each) for each in value]
    if isinstance(value, dict):
        return {decoded(key): decoded(each) for key, each in value.items()}
    return value


def explanation(sentinel: SentinelProcess, name: str = "mymaster") -> dict[str, Any]:
    """Return the explanation of a master."""
    found: dict[str, Any] = request(sentinel, "TXSENTINEL", "EXPLAIN", name)
    return found


def wait_explained(
    sentinel: SentinelProcess,
    condition: Callable[[dict[str, Any]], object],
    what: str,
    name: str = "mymaster",
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Wait until the explanation of a master fulfils a condition, and return it."""

    def fulfilled() -> dict[str, Any]:
        found = explanation(sentinel, name)
        if not condition(found):
            shown = {key: found[key] for key in ("verdict", "blocked_by", "warnings", "replicas")}
            raise ReplyError(str(shown))
        return found

    return wait_for(fulfilled, seconds, what, every=0.1)


def wait_verdict(sentinel: SentinelProcess, code: str, name: str = "mymaster") -> dict[str, Any]:
    """Wait until the verdict has a code."""
    return wait_explained(sentinel, lambda found: found["verdict"]["code"] == code, f"the verdict {code}", name)


def wait_warning(sentinel: SentinelProcess, *words: str, name: str = "mymaster") -> dict[str, Any]:
    """Wait until one warning has all these words."""

    def warned(found: dict[str, Any]) -> bool:
        return any(all(word in each for word in words) for each in found["warnings"])

    return wait_explained(sentinel, warned, f"a warning with {words}", name)


def codes(found: dict[str, Any]) -> list[str]:
    """Return the codes of what blocks a failover, the most severe first."""
    return [each["code"] for each in found["blocked_by"]]


def commands(found: dict[str, Any]) -> list[str]:
    """Return the commands of the remedies."""
    return [each["command"] or "" for each in found["unblock"]]
