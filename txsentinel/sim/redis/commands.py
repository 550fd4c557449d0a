"""Commands of a simulated Redis: connection, transactions, data, publishing, configuration, scripts."""

from __future__ import annotations

from typing import Final

from txsentinel.sim.redis.client import RedisClient
from txsentinel.sim.redis.instance import RedisInstance
from txsentinel.sim.redis.persistence import Persistence
from txsentinel.sim.redis.table import SimCommandTable
from txsentinel.wire.glob import glob_match
from txsentinel.wire.resp import OK, PONG, ErrorReply, Raw, Simple, Value, data, encode, pack, text

TABLE: Final[SimCommandTable] = SimCommandTable()
command = TABLE.command

NOTHING: Final = Raw(b"")
"""The result of a command that has sent its replies itself."""

_PONG: Final = Raw(encode(PONG))

NOT_AN_INTEGER: Final = ErrorReply("ERR value is not an integer or out of range")
SYNTAX_ERROR: Final = ErrorReply("ERR syntax error")
WRONG_PASSWORD: Final = ErrorReply("WRONGPASS invalid username-password pair or user is disabled.")


def integer(word: bytes) -> int | None:
    """Parse a decimal integer as Redis does; ``None`` if it is not one."""
    digits = word[1:] if word[:1] == b"-" else word
    if not digits.isdigit() or (len(digits) > 1 and digits[:1] == b"0"):
        return None
    number = int(word)
    return number if -(1 << 63) <= number < 1 << 63 else None


def unknown_subcommand(family: str, word: bytes) -> ErrorReply:
    """The error for an unknown subcommand."""
    return ErrorReply(f"ERR unknown subcommand '{text(word)[:128]}'. Try {family} HELP.")


def wrong_arity(name: str) -> ErrorReply:
    """The error for a wrong number of words of a subcommand, given as ``family|word``."""
    return ErrorReply(f"ERR wrong number of arguments for '{name}' command")


# Connection


@command("PING", -1, "subscribed")
def ping(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if len(words) == 1 and not client.channels and not client.patterns:
        return _PONG
    if len(words) > 2:
        return wrong_arity("ping")
    if client.subscriptions and client.resp == 2:
        return ["pong", words[1] if len(words) > 1 else b""]
    return words[1] if len(words) > 1 else PONG


@command("ECHO", 2, "stale loading")
def echo(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    return words[1]


@command("AUTH", -2, "unauthenticated stale loading")
def auth(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if len(words) > 3:
        return SYNTAX_ERROR
    user, password = (text(words[1]), text(words[2])) if len(words) == 3 else ("default", text(words[1]))
    if len(words) == 2 and not server.setting("requirepass"):
        return ErrorReply(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    if not server.accepts(user, password):
        return WRONG_PASSWORD
    client.set_authenticated()
    return OK


@command("HELLO", -1, "unauthenticated stale loading")
def hello(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    protocol = client.resp
    if len(words) > 1:
        asked = integer(words[1])
        if asked is None:
            return ErrorReply("ERR Protocol version is not an integer or out of range")
        if asked not in (2, 3):
            return ErrorReply("NOPROTO unsupported protocol version")
        protocol = asked
    name: str | None = None
    rest = words[2:]
    while rest:
        option = rest[0].upper()
        if option == b"AUTH" and len(rest) >= 3:
            if not server.accepts(text(rest[1]), text(rest[2])):
                return WRONG_PASSWORD
            client.set_authenticated()
            rest = rest[3:]
        elif option == b"SETNAME" and len(rest) >= 2:
            name = text(rest[1])
            rest = rest[2:]
        else:
            return ErrorReply(f"ERR Syntax error in HELLO option '{text(rest[0])}'")
    if not client.authenticated:
        return ErrorReply(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> "
            "option can be used to authenticate the client and select the RESP protocol version at the same time"
        )
    if name is not None:
        client.name = name
    client.resp = protocol
    return {
        "server": "redis",
        "version": server.version,
        "proto": protocol,
        "id": client.number,
        "mode": "standalone",
        "role": "master" if server.master_address is None else "replica",
        "modules": [],
    }


@command("QUIT", -1, "unauthenticated subscribed stale loading")
def quit_(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    client.kill()
    return OK


@command("RESET", 1, "unauthenticated subscribed stale loading")
def reset(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    client.channels.clear()
    client.patterns.clear()
    server.audience_changed()
    client.queue, client.dirty_exec = None, False
    client.name, client.resp = "", 2
    client.authenticated = not server.setting("requirepass")
    return Simple("RESET")


@command("SELECT", 2, "stale loading")
def select(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if integer(words[1]) is None:
        return ErrorReply("ERR value is not an integer or out of range")
    return OK if words[1] == b"0" else ErrorReply("ERR DB index is out of range")


# Transactions


@command("MULTI", 1, "stale loading")
def multi(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if client.queue is not None:
        return ErrorReply("ERR MULTI calls can not be nested")
    client.queue = []
    return OK


@command("EXEC", 1, "stale loading")
def exec_(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    queue, client.queue = client.queue, None
    dirty_exec, client.dirty_exec = client.dirty_exec, False
    if queue is None:
        return ErrorReply("ERR EXEC without MULTI")
    if dirty_exec:
        return ErrorReply("EXECABORT Transaction discarded because of previous errors.")
    replies = [encode(queued.function(server, client, request), client.resp) for queued, request in queue]
    return Raw(b"*%d\r\n" % len(replies) + b"".join(replies))


@command("DISCARD", 1, "stale loading")
def discard(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if client.queue is None:
        return ErrorReply("ERR DISCARD without MULTI")
    client.queue, client.dirty_exec = None, False
    return OK


# Data


@command("SET", 3, "write")
def set_(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    server.write(words)
    return OK


@command("GET", 2)
def get(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    return server.data.get(words[1])


@command("INCR", 2, "write")
def incr(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    number = integer(server.data.get(words[1], b"0"))
    if number is None:
        return NOT_AN_INTEGER
    server.write(words)
    return number + 1


@command("DEL", -2, "write")
def del_(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    present = [key for key in dict.fromkeys(words[1:]) if key in server.data]
    if present:
        server.write([b"DEL", *present])
    return len(present)


@command("EXISTS", -2)
def exists(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    return sum(key in server.data for key in words[1:])


@command("DBSIZE", 1)
def dbsize(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    return len(server.data)


@command("FLUSHALL", -1, "write")
def flushall(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    server.write([b"FLUSHALL"])
    return OK


# Publishing


def _confirm(client: RedisClient, word: str, channel: bytes | None) -> None:
    client.push(word, channel, client.subscriptions)


@command("SUBSCRIBE", -2, "subscribed stale loading")
def subscribe(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    for channel in words[1:]:
        client.channels[channel] = None
        server.audience_changed()
        _confirm(client, "subscribe", channel)
    return NOTHING


@command("PSUBSCRIBE", -2, "subscribed stale loading")
def psubscribe(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    for pattern in words[1:]:
        client.patterns[pattern] = None
        server.audience_changed()
        _confirm(client, "psubscribe", pattern)
    return NOTHING


def _unsubscribe(
    server: RedisInstance, client: RedisClient, word: str, held: dict[bytes, None], names: list[bytes]
) -> Value:
    leaving = names or [*held]
    if not leaving:
        _confirm(client, word, None)
    for name in leaving:
        held.pop(name, None)
        server.audience_changed()
        _confirm(client, word, name)
    return NOTHING


@command("UNSUBSCRIBE", -1, "subscribed stale loading")
def unsubscribe(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    return _unsubscribe(server, client, "unsubscribe", client.channels, words[1:])


@command("PUNSUBSCRIBE", -1, "subscribed stale loading")
def punsubscribe(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    return _unsubscribe(server, client, "punsubscribe", client.patterns, words[1:])


@command("PUBLISH", 3, "replicate stale loading")
def publish(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    receivers = server.publish(words[1], words[2])
    if server.master_address is None:
        server.feed(pack(b"PUBLISH", words[1], words[2]))
    return receivers


@command("PUBSUB", -2, "stale loading")
def pubsub(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    word = words[1].upper()
    subscribers: dict[bytes, int] = {}
    for other in server.clients.values():
        for channel in other.channels:
            subscribers[channel] = subscribers.get(channel, 0) + 1
    if word == b"CHANNELS" and len(words) <= 3:
        pattern = words[2] if len(words) == 3 else b"*"
        return [channel for channel in subscribers if glob_match(pattern, channel)]
    if word == b"NUMSUB":
        return [item for channel in words[2:] for item in (channel, subscribers.get(channel, 0))]
    if word == b"NUMPAT" and len(words) == 2:
        return len({pattern for other in server.clients.values() for pattern in other.patterns})
    return unknown_subcommand("PUBSUB", words[1])


# Configuration, scripts, shutdown


@command("CONFIG", -2, "stale loading")
def config(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    word = words[1].upper()
    if word == b"GET" and len(words) > 2:
        return dict(server.settings_like([data(text(pattern).lower()) for pattern in words[2:]]))
    if word == b"SET" and len(words) > 3 and len(words) % 2 == 0:
        return server.configure({text(words[at]).lower(): text(words[at + 1]) for at in range(2, len(words), 2)})
    if word == b"REWRITE" and len(words) == 2:
        return server.rewrite()
    if word == b"RESETSTAT" and len(words) == 2:
        return OK
    if word in (b"GET", b"SET", b"REWRITE", b"RESETSTAT"):
        return wrong_arity(f"config|{text(word).lower()}")
    return unknown_subcommand("CONFIG", words[1])


@command("SCRIPT", -2)
def script(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if words[1].upper() != b"KILL" or len(words) != 2:
        return unknown_subcommand("SCRIPT", words[1])
    return server.kill_script()


@command("SAVE", 1)
def save(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    server.save()
    return OK


@command("SHUTDOWN", -1, "stale loading")
def shutdown(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if server.storage.mode is Persistence.SNAPSHOT and [word.upper() for word in words[1:]] != [b"NOSAVE"]:
        server.save()
    server.host.exit(0)
    return NOTHING


@command("COMMAND", -1, "stale loading")
def command_(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if len(words) == 2 and words[1].upper() == b"COUNT":
        return len(server.commands)
    return [name.lower() for name in server.commands]
