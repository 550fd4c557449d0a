"""
The commands that Sentinels send, encoded for the wire.

Commands that repeat every second are encoded once and cached by their words. A renamed command or a new epoch
therefore needs no invalidation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from txsentinel.core.effects import (
    AcceptWrites,
    AskMasterDown,
    CheckRights,
    DemoteHeld,
    HandOver,
    HoldWrites,
    Reconfigure,
    RejectWrites,
)
from txsentinel.core.instances import InstanceLink
from txsentinel.core.link import LinkKind
from txsentinel.core.switchover_state import WriteLimits
from txsentinel.wire.hello import HELLO_CHANNEL
from txsentinel.wire.resp import pack

Words: TypeAlias = Sequence["bytes | str | int"]

ID_PREFIX_LENGTH: Final = 8
"""Characters of the own ID in the name that ``CLIENT LIST`` of the servers shows."""


def renamed(link: InstanceLink, word: str) -> str:
    """Return the name that a command has on the servers of this link; ``word`` is in upper case."""
    return link.renamed_commands.get(word, word)


def encoded_command(link: InstanceLink, words: Words) -> bytes:
    """Encode a command, with its first word renamed as configured for the link."""
    return pack(renamed(link, str(words[0])), *words[1:])


_PUBLISH_HELLO: Final = b"*3\r\n" + pack("PUBLISH", HELLO_CHANNEL).partition(b"\r\n")[2]
"""The command without its last word."""


@lru_cache(maxsize=256)
def _alone(word: str) -> bytes:
    return pack(word)


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
    # Not cached: with more masters than entries, looking a hello up would take longer than encoding it.
    if link.renamed_commands:
        return encoded_command(link, ("PUBLISH", HELLO_CHANNEL, payload))
    return b"%b$%d\r\n%b\r\n" % (_PUBLISH_HELLO, len(payload), payload)


def subscribe(link: InstanceLink) -> bytes:
    """``SUBSCRIBE __sentinel__:hello``."""
    return encoded_command(link, ("SUBSCRIBE", HELLO_CHANNEL))


def kill_script(link: InstanceLink) -> bytes:
    """``SCRIPT KILL``."""
    return encoded_command(link, ("SCRIPT", "KILL"))


def pause_clients(link: InstanceLink, period: int) -> bytes:
    """``CLIENT PAUSE <period>``; without a mode it holds all commands, also on servers that know no modes."""
    return encoded_command(link, ("CLIENT", "PAUSE", period))


def pause_writes(link: InstanceLink, period: int) -> bytes:
    """``CLIENT PAUSE <period> WRITE``, refused by servers before 6.2."""
    return encoded_command(link, ("CLIENT", "PAUSE", period, "WRITE"))


def resume_writes(link: InstanceLink) -> bytes:
    """``CLIENT UNPAUSE``."""
    return encoded_command(link, ("CLIENT", "UNPAUSE"))


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
    Return the first commands of a connection: ``AUTH`` if there is a password, then ``CLIENT SETNAME``.

    A user name without a password cannot authenticate, so no ``AUTH`` is sent for it.
    """
    opening = []
    if link.password:
        credentials = (link.username, link.password) if link.username else (link.password,)
        opening.append(encoded_command(link, ("AUTH", *credentials)))
    opening.append(encoded_command(link, ("CLIENT", "SETNAME", f"sentinel-{my_id[:ID_PREFIX_LENGTH]}-{kind.value}")))
    return opening


KILL_NORMAL: Final[Words] = ("CLIENT", "KILL", "TYPE", "normal")

_NEW_ROLE: Final[list[Words]] = [
    ("CONFIG", "REWRITE"),
    KILL_NORMAL,
    ("CLIENT", "KILL", "TYPE", "pubsub"),
]


def role_change(change: Reconfigure) -> list[Words]:
    """
    Return the commands of the role-change transaction, from MULTI to EXEC, before any renaming.

    The transaction disconnects clients so that they look the master up again.
    """
    target = ("NO", "ONE") if change.host is None else (change.host, change.port)
    return [
        ("MULTI",),
        *([("FAILOVER", "ABORT")] if change.abort_failover else []),
        ("SLAVEOF", *target),
        *_NEW_ROLE,
        ("EXEC",),
    ]


INFO_OF_HOLD: Final[Words] = ("INFO", "replication")
"""Reports replication ID and offset at a point between two commands of a transaction."""


def hold_writes(order: HoldWrites) -> list[Words]:
    """Return the transaction that holds writes and reports the offset of the last one before."""
    return [("MULTI",), ("CLIENT", "PAUSE", order.period, "WRITE"), INFO_OF_HOLD, ("EXEC",)]


TO_WRITE: Final = "min-replicas-to-write"
MAX_LAG: Final = "min-replicas-max-lag"
"""The settings by which a server rejects writes; it ignores the first if the second is 0."""


GET_TO_WRITE: Final[Words] = ("CONFIG", "GET", TO_WRITE)


def write_limits() -> list[Words]:
    """Return the commands that read both."""
    return [GET_TO_WRITE, ("CONFIG", "GET", MAX_LAG)]


def _set_limits(limits: WriteLimits) -> list[Words]:
    return [("CONFIG", "SET", MAX_LAG, limits.max_lag), ("CONFIG", "SET", TO_WRITE, limits.to_write)]


def reject_writes(order: RejectWrites) -> list[Words]:
    """Return the transaction from which on writes are rejected, and that reports the offset of the last one before."""
    return [("MULTI",), *_set_limits(order.limits), INFO_OF_HOLD, ("EXEC",)]


def accept_writes(order: AcceptWrites) -> list[Words]:
    """Return the transaction that restores the settings."""
    return [("MULTI",), *_set_limits(order.limits), *([("CONFIG", "REWRITE")] if order.rewrite else []), ("EXEC",)]


def demote_held(order: DemoteHeld) -> list[Words]:
    """
    Return the transaction that makes an old master with held writes a replica, and reports its last offset.

    Settings are restored before they are written to its file.
    """
    return [
        ("MULTI",),
        INFO_OF_HOLD,
        *([] if order.limits is None else [GET_TO_WRITE]),
        ("SLAVEOF", order.host, order.port),
        *([] if order.limits is None else _set_limits(order.limits)),
        *_NEW_ROLE,
        *([("CLIENT", "UNPAUSE")] if order.limits is None else []),
        ("EXEC",),
    ]


_TESTED: Final[dict[str, Words]] = {
    "CLIENT PAUSE": ("CLIENT", "PAUSE", 1, "WRITE"),
    "CLIENT UNPAUSE": ("CLIENT", "UNPAUSE"),
    "CLIENT KILL": KILL_NORMAL,
    "CONFIG GET": ("CONFIG", "GET", TO_WRITE),
    "CONFIG REWRITE": ("CONFIG", "REWRITE"),
    "CONFIG SET": ("CONFIG", "SET", TO_WRITE, 0),
    "FAILOVER": ("FAILOVER", "ABORT"),
    "INFO": INFO_OF_HOLD,
    "SLAVEOF": ("SLAVEOF", "NO", "ONE"),
}


def check_rights(order: CheckRights) -> list[Words]:
    """
    Return a transaction whose first command lacks its subcommand.

    Servers refuse it when it is queued, whatever the rights, and then discard the whole transaction at EXEC. Commands
    that the user may not execute are refused when they are queued, too.
    """
    return [("MULTI",), ("CLIENT",), *(_TESTED[each] for each in order.commands), ("EXEC",)]


def hand_over(order: HandOver) -> list[Words]:
    """Return the transaction that starts a coordinated failover: pause writes, then ``FAILOVER TO`` the replica."""
    return [
        ("MULTI",),
        ("CLIENT", "PAUSE", order.pause, "WRITE"),
        *([INFO_OF_HOLD] if order.reports else []),
        ("FAILOVER", "TO", order.host, order.port, "TIMEOUT", order.timeout),
        ("EXEC",),
    ]


def finish_hand_over() -> list[Words]:
    """Return the transaction that both servers get after the roles were exchanged."""
    return [("MULTI",), *_NEW_ROLE, ("CLIENT", "UNPAUSE"), ("EXEC",)]


def abort_hand_over() -> list[Words]:
    """Return the commands for a master that did not hand over its role in time."""
    return [("FAILOVER", "ABORT"), ("CLIENT", "UNPAUSE")]
