"""The subcommands of SENTINEL that report state, and IS-MASTER-DOWN-BY-ADDR, which may also vote."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from txsentinel.core.blockers import usable_sentinels
from txsentinel.core.errors import CommandError
from txsentinel.core.instances import Master, Server
from txsentinel.server import helptexts
from txsentinel.server.arguments import integer
from txsentinel.server.commands.sentinel_table import MASTER_NAME, sentinel
from txsentinel.server.replies import NO_REPLY, DurableReply, Reply, Steps, Stepwise
from txsentinel.server.reports import encoded_report, instance_report, script_report
from txsentinel.server.steps import MAX_WITHOUT_STEPS, portions
from txsentinel.server.syntax import integer as whole_number
from txsentinel.server.syntax import multiple, text_argument
from txsentinel.server.table import command
from txsentinel.wire.resp import NULL_ARRAY, Raw, Simple, Value, encode, text

if TYPE_CHECKING:
    from txsentinel.core.instances import Instance
    from txsentinel.core.voting import Vote
    from txsentinel.model.timings import Millis
    from txsentinel.server.clients import Client
    from txsentinel.server.context import ServerContext

MAX_CACHED_ADDRESSES = 16_384
"""Maximum number of cached replies; when it is reached, the cache is cleared."""


def _report(context: ServerContext, client: Client, instance: Instance) -> Reply:
    by_hostname, now = context.core.options.announce_hostnames, context.host.now()
    return Raw(encoded_report(instance_report(instance, by_hostname, now), client.protocol))


def _reports(context: ServerContext, client: Client, instances: Collection[Instance]) -> Reply:
    by_hostname, now, protocol = context.core.options.announce_hostnames, context.host.now(), client.protocol
    if len(instances) > MAX_WITHOUT_STEPS:
        return Stepwise(_report_steps(list(instances), by_hostname, now, protocol))
    reports = [encoded_report(instance_report(instance, by_hostname, now), protocol) for instance in instances]
    return Raw(b"*%d\r\n%b" % (len(reports), b"".join(reports)))


def _report_steps(instances: Sequence[Instance], by_hostname: bool, now: Millis, protocol: int) -> Steps:
    """Report all instances, including those that are removed meanwhile, because their number is sent first."""
    yield b"*%d\r\n" % len(instances)
    for portion in portions(instances):
        yield b"".join([encoded_report(instance_report(each, by_hostname, now), protocol) for each in portion])
    return NO_REPLY


def _master(context: ServerContext, request: Sequence[bytes]) -> Master:
    return context.core.master(text(request[2]))


@sentinel(
    "MASTERS", arity=2, since="2.8.4", summary="Shows all masters", complexity="O(N) where N is the number of masters"
)
def masters(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map for each master."""
    return _reports(context, client, context.core.registry.masters.values())


@sentinel(
    "PRIMARIES",
    arity=2,
    since="8.0.0",
    alias_of="sentinel|masters",
    summary="Shows all masters",
    complexity="O(N) where N is the number of masters",
)
def primaries(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Execute MASTERS under its alias."""
    return masters(context, client, request)


@sentinel("MASTER", arity=3, since="2.8.4", summary="Shows one master", arguments=MASTER_NAME)
def master(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return the map of a master.

    :raises CommandError: if no master of that name is monitored.
    """
    return _report(context, client, _master(context, request))


@sentinel(
    "PRIMARY", arity=3, since="8.0.0", alias_of="sentinel|master", summary="Shows one master", arguments=MASTER_NAME
)
def primary(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Execute MASTER under its alias."""
    return master(context, client, request)


@sentinel(
    "REPLICAS",
    arity=3,
    since="5.0.0",
    summary="Shows the replicas of a master",
    complexity="O(N) where N is the number of replicas",
    arguments=MASTER_NAME,
)
def replicas(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map for each replica, except those with ``replica-announced no``."""
    return _reports(context, client, [each for each in _master(context, request).replicas.values() if each.announced])


@sentinel(
    "SLAVES",
    arity=3,
    since="2.8.0",
    summary="Shows the replicas of a master",
    complexity="O(N) where N is the number of replicas",
    arguments=MASTER_NAME,
    deprecated_since="5.0.0",
    replaced_by="`SENTINEL REPLICAS`",
)
def slaves(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Execute REPLICAS under its older name."""
    return replicas(context, client, request)


@sentinel(
    "SENTINELS",
    arity=3,
    since="2.8.4",
    summary="Shows the other Sentinels that watch a master",
    complexity="O(N) where N is the number of Sentinels",
    arguments=MASTER_NAME,
)
def sentinels(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map for each peer, including peers that are down."""
    return _reports(context, client, _master(context, request).peers.values())


@sentinel("GET-MASTER-ADDR-BY-NAME", arity=3, since="2.8.4", summary="Tells where a master is", arguments=MASTER_NAME)
def get_master_address(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return host and port for clients, the null array for an unknown name.

    Clients poll this command, so the encoded reply is cached until the address changes. Until a new address is durable
    the previous one is returned.
    """
    state = context.core.state
    by_hostname = state.options.announce_hostnames
    known = context.addresses.get(request[2])
    if (
        known is not None
        and not known[0].gone
        and known[0].published_address is known[1]
        and known[2] is by_hostname
        and known[0].address_generation <= state.durable_generation
    ):
        return known[3]
    return _address(context, request[2])


def _address(context: ServerContext, name: bytes) -> Reply:
    """Encode the reply and cache it."""
    core = context.core
    found = core.registry.masters.get(text(name))
    if found is None:
        context.addresses.pop(name, None)
        return NULL_ARRAY
    address, by_hostname = core.state.durable_address(found), core.options.announce_hostnames
    answer = Raw(encode([address.announced(by_hostname), str(address.port)]))
    if len(context.addresses) >= MAX_CACHED_ADDRESSES:
        context.addresses.clear()
    context.addresses[name] = (found, address, by_hostname, answer)
    return answer


@sentinel(
    "GET-PRIMARY-ADDR-BY-NAME",
    arity=3,
    since="8.0.0",
    alias_of="sentinel|get-master-addr-by-name",
    summary="Tells where a master is",
    arguments=MASTER_NAME,
)
def get_primary_address(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Execute GET-MASTER-ADDR-BY-NAME under its alias."""
    return get_master_address(context, client, request)


DOWN_ARGUMENTS = (
    text_argument("ip"),
    whole_number("port"),
    whole_number("current-epoch"),
    text_argument("runid"),
)


@sentinel(
    "IS-MASTER-DOWN-BY-ADDR",
    arity=6,
    since="2.8.4",
    summary="Tells whether we take a master for down, and votes",
    arguments=DOWN_ARGUMENTS,
    acts=True,
)
def is_master_down(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return the opinion and the vote of this Sentinel. A new vote is sent when it is durable; if saving fails, the
    previous one is sent.

    The master may become reachable again during the write, so the opinion is determined when the reply is sent.
    """
    core, host = context.core, text(request[2])
    port, epoch = integer(request[3]), integer(request[4])
    vote = core.vote_requested(host, port, epoch, text(request[5]), context.host.now())

    def reply(vote: Vote) -> list[Value]:
        return [int(vote.down and core.holds_down(host, port)), vote.leader, vote.leader_epoch]

    if not vote.generation:
        return reply(vote)
    return DurableReply(vote.generation, lambda: reply(vote), lambda: reply(vote.fallback()))


@sentinel(
    "IS-PRIMARY-DOWN-BY-ADDR",
    arity=6,
    since="8.0.0",
    alias_of="sentinel|is-master-down-by-addr",
    summary="Tells whether we take a master for down, and votes",
    arguments=DOWN_ARGUMENTS,
    acts=True,
)
def is_primary_down(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Execute IS-MASTER-DOWN-BY-ADDR under its alias."""
    return is_master_down(context, client, request)


@sentinel("MYID", arity=2, since="6.2.0", summary="Tells the ID of this Sentinel")
def myid(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the ID of this Sentinel, 40 characters."""
    return context.core.options.my_id


@sentinel(
    "CKQUORUM", arity=3, since="2.8.4", summary="Tells whether a failover could be authorized", arguments=MASTER_NAME
)
def ckquorum(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return ``OK`` with the number of usable Sentinels.

    :raises CommandError: NOQUORUM with everything that blocks a failover, or if no such master is monitored.
    """
    master = _master(context, request)
    usable = usable_sentinels(master)
    blocked = context.core.blockers(master, context.host.now())
    if not blocked:
        return Simple(f"OK {usable} usable Sentinels. Quorum and failover authorization can be reached")
    reasons = ". ".join(blocker.text for blocker in blocked)
    raise CommandError(f"NOQUORUM {usable} usable Sentinels. {reasons}")


@sentinel("PENDING-SCRIPTS", arity=2, since="2.8.4", summary="Shows the scripts that run or wait")
def pending_scripts(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map for each script, oldest first."""
    now = context.host.now()
    return [script_report(job, now) for job in context.scripts.jobs]


@sentinel(
    "INFO-CACHE",
    arity=-3,
    since="3.2.0",
    summary="Shows the last INFO of masters and their replicas",
    complexity="O(N) where N is the number of instances",
    arguments=(multiple(text_argument("nodename")),),
)
def info_cache(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return the name and a list of ``[age in ms, INFO]`` for each named master.

    The master comes first in its list, its replicas follow. Unknown names are skipped.
    """

    def steps() -> Steps:
        now, protocol = context.host.now(), client.protocol
        found: dict[str, list[Server]] = {}
        for portion in portions(request, 2):
            for name in map(text, portion):
                master = context.core.registry.masters.get(name)
                if master is not None and name not in found:
                    found[name] = [master, *master.replicas.values()]
            yield b""
        yield b"*%d\r\n" % (2 * len(found))
        for name, servers in found.items():
            yield encode(name, protocol) + b"*%d\r\n" % len(servers)
            for server in servers:
                yield encode([_age(server, now), server.info_text], protocol)
        return NO_REPLY

    return Stepwise(steps())


def _age(server: Server, now: Millis) -> int:
    return 0 if server.info_refreshed_at is None else now - server.info_refreshed_at


@command(
    "SENTINEL",
    "HELP",
    arity=2,
    flags=("loading", "stale"),
    categories=("slow",),
    since="6.2.0",
    summary="Explains the subcommands",
    group="sentinel",
)
def sentinel_help(context: ServerContext, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the lines of the help text."""
    return helptexts.SENTINEL
