"""Random requests: valid ones made from the command table, malformed ones, and arbitrary bytes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

from tests.resp import pack
from txsentinel.server.all_commands import TABLE
from txsentinel.server.specification import Argument, Command

WORDS: Final = (
    *(
        b"good other m1 127.0.0.1 ::1 fe80::1%x 0 1 -1 2 5 26379 65535 65536 * ? [a-z]* +sdown +switch-master quorum"
        b" down-after-milliseconds failover-timeout parallel-syncs auth-pass auth-user rename-command GET SET ID ADDR"
        b" crash-failover fence-after lineage strict"
        b" TYPE normal pubsub USER SKIPME yes no on off resetpass nopass +@all -@dangerous +ping >secret ~* &* (+get)"
        b" announce-ip resolve-hostnames loglevel info-period 3 SETNAME everything 9223372036854775807"
        b" -9223372036854775808 99999999999999999999 __sentinel__:hello LIB-NAME BCAST PREFIX"
    ).split(),
    b"",
    b"\xff\xfe",
    b"a\0b",
    b"a b",
    b"\r\n",
    b"x" * 300,
    b"y" * 70_000,
    b"b" * 40,
)
"""Arguments that commands use, and others."""

EXCLUDED: Final = frozenset({"shutdown", "sentinel|simulate-failure", "client|pause"})
"""They end or stop the process on purpose; their malformed forms are tried."""

NUMBERS: Final = (b"0", b"1", b"2", b"-1", b"100", b"26379", b"65536", b"9223372036854775807", b"1.5", b"")


class RequestGenerator:
    """
    Random requests.

    :param rng: the source of all choices.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._commands = [entry for entry in TABLE.everything() if entry.name not in EXCLUDED]

    def next(self) -> tuple[bytes, bool]:
        """Return the bytes of one request, and whether it is one: then it is answered and the connection stays."""
        chance = self._rng.random()
        if chance < 0.5:
            return pack(*self._well_formed()), True
        if chance < 0.93:
            return pack(*self._malformed()), True
        return self._no_request(), False

    def _well_formed(self) -> list[bytes]:
        command = self._rng.choice(self._commands)
        return [*self._name(command), *self._arguments(command.arguments)]

    def _malformed(self) -> list[bytes]:
        """Drop, double, exchange or invent arguments."""
        rng = self._rng
        words = self._well_formed()
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(words))
            change = rng.randrange(5)
            if change == 0 and len(words) > 1:
                del words[at]
            elif change == 1:
                words.insert(at, words[at])
            elif change == 2:
                words[at] = rng.choice(WORDS)
            elif change == 3:
                words.append(rng.choice(WORDS))
            else:
                words[at] = rng.randbytes(rng.randrange(20))
        if words[0].lower() in (b"shutdown", b"quit") or [word.lower() for word in words[1:2]] == [b"simulate-failure"]:
            words[0] = b"nothing"
        if [word.lower() for word in words[:2]] == [b"client", b"pause"]:
            words[1] = b"id"
        return words

    def _no_request(self) -> bytes:
        rng = self._rng
        request = pack(*self._well_formed())
        kind = rng.randrange(4)
        if kind == 0:
            return rng.randbytes(rng.randrange(1, 200))
        if kind == 1:
            return request[: rng.randrange(1, len(request))]
        if kind == 2:
            return b"*%d\r\n" % rng.randrange(-5, 1 << 40) + request
        at = rng.randrange(len(request))
        return request[:at] + rng.randbytes(1) + request[at + 1 :]

    def _name(self, command: Command) -> list[bytes]:
        rng = self._rng
        return [word.upper() if rng.random() < 0.5 else word for word in command.name.encode().split(b"|")]

    def _arguments(self, arguments: Iterable[Argument]) -> list[bytes]:
        return [word for each in arguments for word in self._argument(each)]

    def _argument(self, argument: Argument) -> list[bytes]:
        rng = self._rng
        if argument.optional and rng.random() < 0.4:
            return []
        words: list[bytes] = []
        for time in range(rng.choice((1, 1, 1, 2, 6)) if argument.multiple else 1):
            if argument.token and (time == 0 or argument.multiple_token):
                words.append(argument.token.encode())
            words += self._value(argument)
        return words

    def _value(self, argument: Argument) -> list[bytes]:
        rng = self._rng
        if argument.kind == "oneof":
            return self._argument(rng.choice(argument.parts))
        if argument.kind == "block":
            return self._arguments(argument.parts)
        if argument.kind == "pure-token":
            return []
        if argument.kind == "integer":
            return [rng.choice(NUMBERS)]
        if argument.name == "master-name" and rng.random() < 0.8:
            return [b"good"]
        return [rng.choice(WORDS)]
