"""Replies of a stand-in to parsed requests; the frequent ones are mostly answered before parsing."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable
from typing import Final, TypeAlias

from benchmarks.standins.connection import Connection
from benchmarks.standins.encoding import array, bulk, error, number
from benchmarks.standins.instance import Instance

Answer: TypeAlias = Callable[[Connection, list[bytes]], bytes]

OK: Final = b"+OK\r\n"
_NOT_SUBSCRIBED: Final = {b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ping", b"quit", b"reset"}
_NEEDS_NO_PASSWORD: Final = {b"auth", b"hello", b"quit"}
_ENDS_TRANSACTION: Final = {b"exec", b"discard", b"multi", b"quit"}
_STALE_TOO: Final = {b"info", b"publish", b"slaveof", b"replicaof", b"config", b"auth", b"hello", b"client", b"multi"}
_STALE_TOO_AS_WELL: Final = {b"exec", b"discard", b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"role"}


# Execution


def answer(connection: Connection, words: list[bytes]) -> bytes:
    """Execute a request, or queue it in a transaction."""
    name = words[0].lower()
    refusal = _refusal(connection, name, words)
    if refusal is not None:
        connection.dirty_exec = connection.queued is not None
        return refusal
    if connection.queued is not None and name not in _ENDS_TRANSACTION:
        connection.queued.append(words)
        return b"+QUEUED\r\n"
    return COMMANDS[name][0](connection, words[1:])


def _refusal(connection: Connection, name: bytes, words: list[bytes]) -> bytes | None:
    configuration = connection.instance.configuration
    if not connection.authenticated and name not in _NEEDS_NO_PASSWORD:
        return error("NOAUTH Authentication required.")
    if name not in COMMANDS:
        return error(f"ERR unknown command '{words[0].decode(errors='replace')}', with args beginning with: ")
    _, minimum, maximum, writes = COMMANDS[name]
    if not minimum <= len(words) - 1 <= maximum:
        return error(f"ERR wrong number of arguments for '{name.decode()}' command")
    if connection.protocol == 2 and connection.subscriptions and name not in _NOT_SUBSCRIBED:
        return error(
            f"ERR Can't execute '{name.decode()}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET"
            " are allowed in this context"
        )
    if writes and configuration.follows is not None:
        return error("READONLY You can't write against a read only replica.")
    stale = not configuration.serve_stale and connection.instance.is_replica and not connection.instance.link_up
    if stale and name not in _STALE_TOO | _STALE_TOO_AS_WELL:
        return error("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
    return None


# Connection commands


def _ping(connection: Connection, words: list[bytes]) -> bytes:
    if connection.subscriptions and connection.protocol == 2:
        return array(bulk(b"pong"), bulk(words[0] if words else b""))
    return bulk(words[0]) if words else b"+PONG\r\n"


def _quit(connection: Connection, words: list[bytes]) -> bytes:
    connection.closing = True
    return OK


def _authenticate(connection: Connection, words: list[bytes]) -> bytes:
    password = connection.instance.configuration.requirepass
    if len(words) == 1 and not password:
        return error(
            "ERR AUTH <password> called without any password configured for the default user."
            " Are you sure your configuration is correct?"
        )
    if (len(words) == 2 and words[0] != b"default") or words[-1] not in (password, password or words[-1]):
        return error("WRONGPASS invalid username-password pair or user is disabled.")
    connection.authenticated = True
    connection.update_fast_path()
    return OK


def _hello(connection: Connection, words: list[bytes]) -> bytes:
    if words and words[0] not in (b"2", b"3"):
        return error("NOPROTO unsupported protocol version")
    options = words[1:]
    while options:
        option = options.pop(0).lower()
        if option == b"auth" and len(options) >= 2:
            outcome = _authenticate(connection, [options.pop(0), options.pop(0)])
            if outcome != OK:
                return outcome
        elif option == b"setname" and options:
            connection.name = options.pop(0)
        else:
            return error("ERR Syntax error in HELLO option")
    if not connection.authenticated:
        return error("NOAUTH HELLO must be called with the client already authenticated, otherwise use AUTH.")
    if words:
        connection.protocol = int(words[0])
    connection.update_fast_path()
    role = b"replica" if connection.instance.is_replica else b"master"
    fields = [
        (b"server", bulk(b"redis")),
        (b"version", bulk(b"7.0.15")),
        (b"proto", number(connection.protocol)),
        (b"id", number(connection.number)),
        (b"mode", bulk(b"standalone")),
        (b"role", bulk(role)),
        (b"modules", array()),
    ]
    body = b"".join(bulk(name) + value for name, value in fields)
    return (b"%%%d\r\n" % len(fields) if connection.protocol == 3 else b"*%d\r\n" % (2 * len(fields))) + body


def _client(connection: Connection, words: list[bytes]) -> bytes:
    order, rest = words[0].lower(), words[1:]
    if order == b"setname" and len(rest) == 1:
        if any(byte <= 32 or byte > 126 for byte in rest[0]):
            return error("ERR Client names cannot contain spaces, newlines or special characters.")
        connection.name = rest[0]
        return OK
    if order == b"getname" and not rest:
        return bulk(connection.name or None)
    if order == b"setinfo" and len(rest) == 2:
        return OK
    if order == b"id" and not rest:
        return number(connection.number)
    if order == b"list":
        return bulk(b"".join(_listed(each) for each in connection.instance.connections))
    if order == b"unpause" and not rest:
        return OK
    if order == b"kill":
        return _kill(connection, rest)
    return error(f"ERR unknown subcommand or wrong number of arguments for '{words[0].decode(errors='replace')}'")


def _listed(connection: Connection) -> bytes:
    own, peer = connection.instance.address, connection.peer
    flag = "P" if connection.subscriptions else "N"
    return (
        f"id={connection.number} addr={peer[0]}:{peer[1]} laddr={own[0]}:{own[1]} name={connection.name.decode()}"
        f" flags={flag} db=0 sub={len(connection.channels)} psub={len(connection.patterns)}"
        f" resp={connection.protocol}\n"
    ).encode()


def _kill(connection: Connection, words: list[bytes]) -> bytes:
    everyone = list(connection.instance.connections)
    if len(words) == 1:
        chosen = [each for each in everyone if b"%b:%d" % (each.peer[0].encode(), each.peer[1]) == words[0]]
        if not chosen:
            return error("ERR No such client")
    elif len(words) == 2 and words[0].lower() == b"id":
        chosen = [each for each in everyone if b"%d" % each.number == words[1] and each is not connection]
    elif len(words) == 2 and words[0].lower() == b"type":
        kind = words[1].lower()
        if kind not in (b"normal", b"pubsub", b"master", b"replica", b"slave"):
            return error(f"ERR Unknown client type '{words[1].decode(errors='replace')}'")
        subscribed = {b"normal": False, b"pubsub": True}.get(kind)
        chosen = [each for each in everyone if bool(each.subscriptions) is subscribed and each is not connection]
    else:
        return error("ERR syntax error")
    for each in chosen:
        if each is connection:
            each.closing = True
        else:
            each.close()
    return OK if len(words) == 1 else number(len(chosen))


# Channels


def _confirmed(connection: Connection, what: bytes, channel: bytes | None) -> bytes:
    sign = b">" if connection.protocol == 3 else b"*"
    return array(bulk(what), bulk(channel), number(connection.subscriptions), sign=sign)


def _subscribe(connection: Connection, words: list[bytes], what: bytes) -> bytes:
    instance, patterns = connection.instance, what[:1] == b"p"
    mine, table = (connection.patterns, instance.patterns) if patterns else (connection.channels, instance.channels)
    confirmations = []
    for channel in words:
        if channel not in mine:
            mine.append(channel)
            table[channel].append(connection)
        confirmations.append(_confirmed(connection, what, channel))
    instance.audience_changed()
    connection.update_fast_path()
    return b"".join(confirmations)


def _unsubscribe(connection: Connection, words: list[bytes], what: bytes) -> bytes:
    mine = connection.patterns if what[:1] == b"p" else connection.channels
    confirmations = []
    for channel in words or list(mine):
        if channel in mine:
            connection.leave(channel, pattern=what[:1] == b"p")
        confirmations.append(_confirmed(connection, what, channel))
    connection.update_fast_path()
    return b"".join(confirmations) or _confirmed(connection, what, None)


def _publish(connection: Connection, words: list[bytes]) -> bytes:
    return number(_deliver(connection.instance, *words))


def _deliver(instance: Instance[Connection], channel: bytes, payload: bytes) -> int:
    """Send to all subscribers here and at the replicas; return the number of those here."""
    count = 0
    for listener in instance.channels.get(channel, ()):
        sign = b">" if listener.protocol == 3 else b"*"
        listener.write(array(bulk(b"message"), bulk(channel), bulk(payload), sign=sign))
        count += 1
    for pattern, listeners in instance.patterns.items():
        if fnmatch.fnmatchcase(channel.decode(errors="replace"), pattern.decode(errors="replace")):
            for listener in listeners:
                sign = b">" if listener.protocol == 3 else b"*"
                listener.write(array(bulk(b"pmessage"), bulk(pattern), bulk(channel), bulk(payload), sign=sign))
                count += 1
    for replica in instance.followers:
        _deliver(replica, channel, payload)
    return count


# Roles and reports


def _info(connection: Connection, words: list[bytes]) -> bytes:
    return bulk(connection.instance.sections([word.decode(errors="replace") for word in words]))


def _role(connection: Connection, words: list[bytes]) -> bytes:
    instance = connection.instance
    follows = instance.configuration.follows
    if follows is None:
        replicas = [
            array(bulk(each.address[0].encode()), bulk(b"%d" % each.address[1]), bulk(b"%d" % each.offset))
            for each in instance.followers
        ]
        return array(bulk(b"master"), number(instance.offset), array(*replicas))
    state = b"connected" if instance.link_up else b"connect"
    return array(bulk(b"slave"), bulk(follows[0].encode()), number(follows[1]), bulk(state), number(instance.offset))


def _slaveof(connection: Connection, words: list[bytes]) -> bytes:
    host, port = (word.decode(errors="replace") for word in words)
    if host.lower() == "no" and port.lower() == "one":
        connection.instance.follow(None)
        return OK
    if not port.isdecimal() or not 0 <= int(port) <= 65_535:
        return error("ERR Invalid master port")
    if connection.instance.follow((host, int(port))):
        return OK
    return b"+OK Already connected to specified master\r\n"


def _config(connection: Connection, words: list[bytes]) -> bytes:
    instance, order = connection.instance, words[0].lower()
    if order == b"rewrite" and len(words) == 1:
        instance.saved = instance.configuration.copy()
        return OK
    name = words[1].lower().replace(b"slave", b"replica") if len(words) > 1 else b""
    configuration = instance.configuration
    if order == b"get" and len(words) == 2:
        values = {
            b"replica-priority": b"%d" % configuration.priority,
            b"requirepass": configuration.requirepass,
            b"masterauth": configuration.masterauth,
            b"replica-serve-stale-data": b"yes" if configuration.serve_stale else b"no",
        }
        return array(bulk(words[1]), bulk(values[name])) if name in values else array()
    if order == b"set" and len(words) == 3:
        value = words[2]
        if name == b"replica-priority" and value.isdigit():
            configuration.priority = int(value)
            instance.changed()
        elif name == b"requirepass":
            configuration.requirepass = value
        elif name == b"masterauth":
            configuration.masterauth = value
            instance.reconnect()
        elif name == b"replica-serve-stale-data" and value in (b"yes", b"no"):
            configuration.serve_stale = value == b"yes"
            for each in instance.connections:
                each.update_fast_path()
        else:
            return error(f"ERR Unknown option or number of arguments for CONFIG SET - '{words[1].decode()}'")
        return OK
    return error("ERR unknown subcommand or wrong number of arguments for 'config'")


def _script(connection: Connection, words: list[bytes]) -> bytes:
    if words[0].lower() == b"kill":
        return error("NOTBUSY No scripts in execution right now.")
    return error("ERR unknown subcommand for 'script'")


# Data


def _get(connection: Connection, words: list[bytes]) -> bytes:
    return bulk(connection.instance.data.get(words[0]))


def _set(connection: Connection, words: list[bytes]) -> bytes:
    key, value = words
    connection.instance.written(len(key) + len(value) + 30, lambda data: data.__setitem__(key, value))
    return OK


def _increment(connection: Connection, words: list[bytes]) -> bytes:
    key = words[0]
    value = b"%d" % (int(connection.instance.data.get(key, b"0")) + 1)
    connection.instance.written(len(key) + 22, lambda data: data.__setitem__(key, value))
    return b":%b\r\n" % value


def _flush(connection: Connection, words: list[bytes]) -> bytes:
    connection.instance.written(18, lambda data: data.clear())
    return OK


# Transactions


def _multi(connection: Connection, words: list[bytes]) -> bytes:
    if connection.queued is not None:
        return error("ERR MULTI calls can not be nested")
    connection.queued, connection.dirty_exec = [], False
    connection.update_fast_path()
    return OK


def _execute(connection: Connection, words: list[bytes]) -> bytes:
    queued, dirty_exec = _end_transaction(connection)
    if queued is None:
        return error("ERR EXEC without MULTI")
    if dirty_exec:
        return error("EXECABORT Transaction discarded because of previous errors.")
    return array(*(answer(connection, each) for each in queued))


def _discard(connection: Connection, words: list[bytes]) -> bytes:
    queued, _ = _end_transaction(connection)
    return error("ERR DISCARD without MULTI") if queued is None else OK


def _end_transaction(connection: Connection) -> tuple[list[list[bytes]] | None, bool]:
    queued, connection.queued = connection.queued, None
    connection.update_fast_path()
    return queued, connection.dirty_exec


_MANY: Final = 1 << 20

COMMANDS: Final[dict[bytes, tuple[Answer, int, int, bool]]] = {
    b"ping": (_ping, 0, 1, False),
    b"quit": (_quit, 0, _MANY, False),
    b"auth": (_authenticate, 1, 2, False),
    b"hello": (_hello, 0, _MANY, False),
    b"client": (_client, 1, _MANY, False),
    b"subscribe": (functools.partial(_subscribe, what=b"subscribe"), 1, _MANY, False),
    b"psubscribe": (functools.partial(_subscribe, what=b"psubscribe"), 1, _MANY, False),
    b"unsubscribe": (functools.partial(_unsubscribe, what=b"unsubscribe"), 0, _MANY, False),
    b"punsubscribe": (functools.partial(_unsubscribe, what=b"punsubscribe"), 0, _MANY, False),
    b"publish": (_publish, 2, 2, False),
    b"info": (_info, 0, _MANY, False),
    b"role": (_role, 0, 0, False),
    b"slaveof": (_slaveof, 2, 2, False),
    b"replicaof": (_slaveof, 2, 2, False),
    b"config": (_config, 1, _MANY, False),
    b"script": (_script, 1, _MANY, False),
    b"get": (_get, 1, 1, False),
    b"set": (_set, 2, 2, True),
    b"incr": (_increment, 1, 1, True),
    b"flushall": (_flush, 0, 1, True),
    b"multi": (_multi, 0, 0, False),
    b"exec": (_execute, 0, 0, False),
    b"discard": (_discard, 0, 0, False),
}
"""Per command: its function, the minimum and maximum number of arguments, and whether it writes."""
