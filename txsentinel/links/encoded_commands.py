"""
The commands that Sentinels send, ready for the wire.

Whatever repeats from second to second is packed once and remembered by its words, so that neither
a renamed command nor a new epoch needs anybody to throw old bytes away.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from txsentinel.core.effects import AskMasterDown, HandOver, Reconfigure
from txsentinel.core.link import InstanceLink, LinkKind
from txsentinel.wire.hello import HELLO_CHANNEL
from txsentinel.wire.resp import pack

Words: TypeAlias = Sequence["bytes | str | int"]

ID_PREFIX_LENGTH: Final = 8
"""How much of our ID the servers show in ``CLIENT LIST``."""


def renamed(link: InstanceLink, word: str) -> str:
    """What the servers of this link call a command; ``word`` is in upper case."""
    return link.renamed_commands.get(word, word)


def encoded_command(link: InstanceLink, words: Words) -> bytes:
    """A command with its first word renamed as the link demands."""
    return pack(renamed(link, str(words[0])), *words[1:])


MAX_REMEMBERED: Final = 1024
"""Bytes of a hello that is kept packed: more only has a master with a very long name."""


@lru_cache(maxsize=256)
def _alone(word: str) -> bytes:
    return pack(word)


@lru_cache(maxsize=4096)
def _publish(word: str, payload: bytes) -> bytes:
    return pack(word, HELLO_CHANNEL, payload)


def ping(link: InstanceLink) -> bytes:
    """``PING``."""
    return _alone(renamed(link, "PING"))


def info(link: InstanceLink) -> bytes:
    """``INFO``, all default sections."""
    return _alone(renamed(link, "INFO"))


def role(link: InstanceLink) -> bytes:
    """``ROLE``."""
    return _alone(renamed(link, "ROLE"))


def my_id(link: InstanceLink) -> bytes:
    """``SENTINEL MYID``."""
    return encoded_command(link, ("SENTINEL", "MYID"))


def publish_hello(link: InstanceLink, payload: bytes) -> bytes:
    """``PUBLISH __sentinel__:hello <payload>``."""
    if len(payload) > MAX_REMEMBERED:
        return encoded_command(link, ("PUBLISH", HELLO_CHANNEL, payload))
    return _publish(renamed(link, "PUBLISH"), payload)


def subscribe(link: InstanceLink) -> bytes:
    """``SUBSCRIBE __sentinel__:hello``."""
    return encoded_command(link, ("SUBSCRIBE", HELLO_CHANNEL))


def kill_script(link: InstanceLink) -> bytes:
    """``SCRIPT KILL``."""
    return encoded_command(link, ("SCRIPT", "KILL"))


def ask_master_down(link: InstanceLink, question: AskMasterDown) -> bytes:
    """``SENTINEL is-master-down-by-addr <host> <port> <epoch> <candidate>``."""
    return encoded_command(
        link,
        (
            "SENTINEL",
            "is-master-down-by-addr",
            question.host,
            question.port,
            question.epoch,
            question.candidate,
        ),
    )


def handshake_commands(link: InstanceLink, kind: LinkKind, my_id: str) -> list[bytes]:
    """
    What opens a connection: ``AUTH`` if there is a password, then ``CLIENT SETNAME``.

    A user name without a password authenticates nobody, so nothing is sent for it.
    """
    opening = []
    if link.password:
        credentials = (link.username, link.password) if link.username else (link.password,)
        opening.append(encoded_command(link, ("AUTH", *credentials)))
    opening.append(encoded_command(link, ("CLIENT", "SETNAME", f"sentinel-{my_id[:ID_PREFIX_LENGTH]}-{kind.value}")))
    return opening


_NEW_ROLE: Final[list[Words]] = [
    ("CONFIG", "REWRITE"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "KILL", "TYPE", "pubsub"),
]


def role_change(change: Reconfigure) -> list[Words]:
    """
    The commands of the role-change transaction, MULTI and EXEC included, before any renaming.

    Clients are disconnected so that they come back asking where the master is.
    """
    target = ("NO", "ONE") if change.host is None else (change.host, change.port)
    return [
        ("MULTI",),
        *([("FAILOVER", "ABORT")] if change.abort_failover else []),
        ("SLAVEOF", *target),
        *_NEW_ROLE,
        ("EXEC",),
    ]


def hand_over(order: HandOver) -> list[Words]:
    """The transaction that has a master hand its role to a replica, with writes held meanwhile."""
    return [
        ("MULTI",),
        ("CLIENT", "PAUSE", order.pause, "WRITE"),
        ("FAILOVER", "TO", order.host, order.port, "TIMEOUT", order.timeout),
        ("EXEC",),
    ]


def finish_hand_over() -> list[Words]:
    """What either server is told when the role was handed over."""
    return [("MULTI",), *_NEW_ROLE, ("CLIENT", "UNPAUSE"), ("EXEC",)]


def abort_hand_over() -> list[Words]:
    """What a master is told whose role was not handed over in time."""
    return [("FAILOVER", "ABORT"), ("CLIENT", "UNPAUSE")]
