"""INFO, ROLE and CLIENT of a simulated Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txsentinel.sim.redis.client import RedisClient
from txsentinel.sim.redis.commands import SYNTAX_ERROR, integer, unknown_subcommand, wrong_arity
from txsentinel.sim.redis.instance import RedisInstance
from txsentinel.sim.redis.table import SimCommandTable
from txsentinel.wire.resp import OK, ErrorReply, Value, Verbatim, text

TABLE: Final[SimCommandTable] = SimCommandTable()
command = TABLE.command


def _server_section(server: RedisInstance) -> dict[str, object]:
    uptime = int(server.host.reactor.seconds() - server.started_at)
    return {
        "redis_version": server.version,
        "redis_mode": "standalone",
        "process_id": server.host.pid,
        "run_id": server.run_id,
        "tcp_port": server.port,
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime // 86_400,
    }


def _clients_section(server: RedisInstance) -> dict[str, object]:
    ordinary = [client for client in server.clients.values() if not client.is_replica]
    return {"connected_clients": len(ordinary), "pubsub_clients": sum(client.kind == "pubsub" for client in ordinary)}


def _persistence_section(server: RedisInstance) -> dict[str, object]:
    return {"loading": int(server.loading)}


def _stats_section(server: RedisInstance) -> dict[str, object]:
    replication = server.replication
    return {
        "sync_full": replication.full_copies,
        "sync_partial_ok": replication.continuations,
        "sync_partial_err": replication.refused_continuations,
    }


def _keyspace_section(server: RedisInstance) -> dict[str, object]:
    return {"db0": f"keys={len(server.data)},expires=0,avg_ttl=0"} if server.data else {}


def _replication_section(server: RedisInstance) -> dict[str, object]:
    replication = server.replication
    now = server.host.reactor.seconds()
    fields: dict[str, object] = {
        "role": server.claimed_role or ("master" if server.master_address is None else "slave")
    }
    if server.master_address is not None:
        up = replication.link_up
        fields["master_host"], fields["master_port"] = server.master_address
        fields["master_link_status"] = "up" if up else "down"
        fields["master_last_io_seconds_ago"] = int(now - replication.last_io) if up else -1
        fields["master_sync_in_progress"] = int(replication.link_state == "sync")
        fields["slave_read_repl_offset"] = fields["slave_repl_offset"] = replication.offset
        if not up:
            since = replication.link_down_since
            fields["master_link_down_since_seconds"] = -1 if since is None else int(now - since)
        fields["slave_priority"] = server.setting("replica-priority")
        fields["slave_read_only"] = int(server.setting("replica-read-only") == "yes")
        fields["replica_announced"] = int(server.setting("replica-announced") == "yes")
    replicas = server.replicas()
    fields["connected_slaves"] = len(replicas)
    for number, replica in enumerate(replicas):
        attached = replica.attached
        fields[f"slave{number}"] = (
            f"ip={replica.replica_host},port={attached.listening_port},state={attached.state},"
            f"offset={attached.acknowledged},lag={int(now - attached.acknowledged_at)}"
        )
    fields["master_failover_state"] = replication.failover_state
    fields["master_replid"] = replication.id
    fields["master_replid2"] = replication.second_id
    fields["master_repl_offset"] = replication.offset
    fields["second_repl_offset"] = replication.second_offset
    fields["repl_backlog_active"] = int(replication.backlog_active)
    return fields


SECTIONS: Final[tuple[tuple[str, Callable[[RedisInstance], dict[str, object]]], ...]] = (
    ("Server", _server_section),
    ("Clients", _clients_section),
    ("Persistence", _persistence_section),
    ("Stats", _stats_section),
    ("Replication", _replication_section),
    ("Keyspace", _keyspace_section),
)


@command("INFO", -1, "stale loading")
def info(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    wanted = [text(word).lower() for word in words[1:]] or ["default"]
    everything = any(word in ("default", "all", "everything") for word in wanted)
    blocks = [
        "".join([f"# {title}\r\n", *(f"{name}:{value}\r\n" for name, value in section(server).items())])
        for title, section in SECTIONS
        if everything or title.lower() in wanted
    ]
    return Verbatim("\r\n".join(blocks))


@command("ROLE", 1, "stale loading")
def role(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    replication = server.replication
    if server.master_address is not None:
        host, port = server.master_address
        return ["slave", host, port, replication.link_state, replication.offset if replication.link_up else -1]
    replicas: list[Value] = [
        [replica.replica_host, str(replica.attached.listening_port), str(replica.attached.acknowledged)]
        for replica in server.replicas()
        if replica.attached.state == "online"
    ]
    return ["master", replication.offset, replicas]


def _line(server: RedisInstance, client: RedisClient) -> str:
    age = int(server.host.reactor.seconds() - client.connected_at)
    flags = {"replica": "S", "pubsub": "P", "normal": "N"}[client.kind]
    return (
        f"id={client.number} addr={client.address} name={client.name} age={age} idle=0 flags={flags} db=0 "
        f"sub={len(client.channels)} psub={len(client.patterns)} "
        f"multi={-1 if client.queue is None else len(client.queue)} cmd={client.last_command} resp={client.resp}\n"
    )


_KILLABLE: Final = {b"normal": "normal", b"pubsub": "pubsub", b"replica": "replica", b"slave": "replica", b"master": ""}


def _kill(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if len(words) == 1:
        for other in [*server.clients.values()]:
            if other.address == text(words[0]):
                other.kill()
                return OK
        return ErrorReply("ERR No such client")
    if len(words) % 2:
        return SYNTAX_ERROR
    victims = [*server.clients.values()]
    spare_caller = True
    for option, value in zip(words[::2], words[1::2], strict=True):
        option = option.upper()
        if option == b"TYPE":
            if value.lower() not in _KILLABLE:
                return ErrorReply(f"ERR Unknown client type '{text(value)}'")
            kind = _KILLABLE[value.lower()]
            victims = [victim for victim in victims if victim.kind == kind]
        elif option == b"ID":
            number = integer(value)
            if number is None:
                return ErrorReply("ERR client-id should be greater than 0")
            victims = [victim for victim in victims if victim.number == number]
        elif option == b"ADDR":
            victims = [victim for victim in victims if victim.address == text(value)]
        elif option == b"SKIPME" and value.lower() in (b"yes", b"no"):
            spare_caller = value.lower() == b"yes"
        else:
            return SYNTAX_ERROR
    if spare_caller:
        victims = [victim for victim in victims if victim is not client]
    for victim in victims:
        victim.kill()
    return len(victims)


def _pause(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    duration = integer(words[0])
    if duration is None or duration < 0:
        return ErrorReply("ERR timeout is not an integer or out of range")
    mode = words[1].upper() if len(words) > 1 else b"ALL"
    if mode not in (b"ALL", b"WRITE"):
        return ErrorReply("ERR CLIENT PAUSE mode must be WRITE or ALL")
    server.pause_clients(duration, writes_only=mode == b"WRITE", ordered_by=client.ip)
    return OK


_CLIENT_ARITIES: Final = {
    b"ID": (0, 0),
    b"GETNAME": (0, 0),
    b"SETNAME": (1, 1),
    b"LIST": (0, 2),
    b"INFO": (0, 0),
    b"KILL": (1, 99),
    b"PAUSE": (1, 2),
    b"UNPAUSE": (0, 0),
}
"""Minimum and maximum number of words after the subcommand."""


@command("CLIENT", -2, "stale loading")
def client_(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    word, rest = words[1].upper(), words[2:]
    if word not in _CLIENT_ARITIES:
        return unknown_subcommand("CLIENT", words[1])
    minimum, maximum = _CLIENT_ARITIES[word]
    if not minimum <= len(rest) <= maximum:
        return wrong_arity(f"client|{text(word).lower()}")
    if word == b"ID":
        return client.number
    if word == b"GETNAME":
        return client.name or None
    if word == b"SETNAME":
        if any(not 33 <= byte <= 126 for byte in rest[0]):
            return ErrorReply("ERR Client names cannot contain spaces, newlines or special characters.")
        client.name = text(rest[0])
        return OK
    if word == b"KILL":
        return _kill(server, client, rest)
    if word == b"PAUSE":
        return _pause(server, client, rest)
    if word == b"UNPAUSE":
        server.unpause_clients()
        return OK
    if word == b"INFO":
        return Verbatim(_line(server, client))
    if len(rest) == 2 and rest[0].upper() == b"TYPE":
        kind = _KILLABLE.get(rest[1].lower())
        if kind is None:
            return ErrorReply(f"ERR Unknown client type '{text(rest[1])}'")
        return Verbatim("".join(_line(server, other) for other in server.clients.values() if other.kind == kind))
    return Verbatim("".join(_line(server, other) for other in server.clients.values())) if not rest else SYNTAX_ERROR
