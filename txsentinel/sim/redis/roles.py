"""Commands that change or show the replication role of a simulated Redis: SLAVEOF, PSYNC, FAILOVER."""

from __future__ import annotations

from typing import Final

from txsentinel.sim.redis.client import RedisClient
from txsentinel.sim.redis.commands import NOTHING, SYNTAX_ERROR, integer
from txsentinel.sim.redis.instance import RedisInstance
from txsentinel.sim.redis.replication import NO_FAILOVER
from txsentinel.sim.redis.table import SimCommandTable
from txsentinel.wire.resp import OK, ErrorReply, Simple, Value, text

TABLE: Final[SimCommandTable] = SimCommandTable()
command = TABLE.command


@command("SLAVEOF", 3, "stale")
def slaveof(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if server.replication.failover_state != NO_FAILOVER:
        return ErrorReply("ERR REPLICAOF not allowed while failing over.")
    if words[1].lower() == b"no" and words[2].lower() == b"one":
        if server.master_address is not None:
            server.replication.lead()
            server.role_was_changed(False, client.ip, client)
        return OK
    port = integer(words[2])
    if port is None or not 0 <= port <= 65_535:
        return ErrorReply("ERR Invalid master port")
    master = (text(words[1]), port)
    if server.master_address == master:
        return Simple("OK Already connected to specified master")
    was_master = server.master_address is None
    server.replication.follow(master)
    server.role_was_changed(was_master, client.ip, client)
    return OK


command("REPLICAOF", 3, "stale")(slaveof)


@command("REPLCONF", -1, "stale loading")
def replconf(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    if len(words) % 2 == 0:
        return SYNTAX_ERROR
    for option, value in zip(words[1::2], words[2::2], strict=True):
        option = option.lower()
        if option == b"ack":
            if client.is_replica:
                server.replication.acknowledged(client, int(value))
            return NOTHING
        if option == b"listening-port":
            client.attached.listening_port = int(value)
        elif option == b"ip-address":
            client.attached.announced_ip = text(value)
        elif option != b"capa":
            return ErrorReply(f"ERR Unrecognized REPLCONF option: {text(option)}")
    return OK


@command("PSYNC", -3)
def psync(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    replication = server.replication
    history = text(words[1])
    if len(words) == 4 and words[3].upper() == b"FAILOVER":
        if server.master_address is None or history != replication.id:
            return ErrorReply("ERR PSYNC FAILOVER replid must match my replid.")
        replication.lead()
        server.role_was_changed(False, client.ip)
    if server.master_address is not None and not replication.link_up:
        return ErrorReply("NOMASTERLINK Can't SYNC while not connected with my master")
    return replication.serve(client, history, int(words[2]))


@command("FAILOVER", -1, "stale")
def failover(server: RedisInstance, client: RedisClient, words: list[bytes]) -> Value:
    replication = server.replication
    target: tuple[str, int] | None = None
    timeout = 0
    force = False
    rest = words[1:]
    if len(rest) == 1 and rest[0].upper() == b"ABORT":
        if replication.failover_state == NO_FAILOVER:
            return ErrorReply("ERR No failover in progress.")
        replication.abort_failover()
        return OK
    while rest:
        option = rest[0].upper()
        port = integer(rest[2]) if len(rest) > 2 else None
        millis = integer(rest[1]) if len(rest) > 1 else None
        if option == b"TO" and port is not None:
            target = (text(rest[1]), port)
            rest = rest[3:]
        elif option == b"TIMEOUT" and millis is not None and millis > 0:
            timeout = millis
            rest = rest[2:]
        elif option == b"FORCE":
            force = True
            rest = rest[1:]
        else:
            return SYNTAX_ERROR
    if replication.failover_state != NO_FAILOVER:
        return ErrorReply("ERR FAILOVER already in progress.")
    if server.master_address is not None:
        return ErrorReply("ERR FAILOVER is not valid when server is a replica.")
    if force and (target is None or not timeout):
        return ErrorReply("ERR FAILOVER with force option requires both a timeout and target HOST and IP.")
    replicas = server.replicas()
    if not replicas:
        return ErrorReply("ERR FAILOVER requires connected replicas.")
    states = {(replica.replica_host, replica.attached.listening_port): replica.attached.state for replica in replicas}
    if target is not None and target not in states:
        return ErrorReply("ERR FAILOVER target HOST and PORT is not a replica.")
    if target is not None and states[target] != "online":
        return ErrorReply("ERR FAILOVER target replica is not online.")
    replication.start_failover(target, timeout, force, client.ip)
    return OK
