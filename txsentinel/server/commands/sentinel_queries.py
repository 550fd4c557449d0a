"""The subcommands of SENTINEL that report state, and IS-MASTER-DOWN-BY-ADDR, which may also vote."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from txsentinel.core.errors import CommandError
from txsentinel.core.instances import Master, Server
from txsentinel.core.quorum import usable_sentinels
from txsentinel.server import helptexts
from txsentinel.server.arguments import integer
from txsentinel.server.commands.sentinel_container import MASTER_NAME, sentinel
from txsentinel.server.handlers import CommandModule
from txsentinel.server.replies import NO_REPLY, DurableReply, Reply, Steps, Stepwise
from txsentinel.server.reports import encoded_instance, script_report
from txsentinel.server.specification import Command, integer_argument, multiple, text_argument
from txsentinel.server.steps import MAX_WITHOUT_STEPS, portions
from txsentinel.wire.resp import NULL_ARRAY, Raw, Simple, Value, encode, text

if TYPE_CHECKING:
    from txsentinel.core.instances import Instance
    from txsentinel.core.voting import Vote
    from txsentinel.model.timings import Millis
    from txsentinel.server.clients import Client
    from txsentinel.server.services import QueryServices

MAX_CACHED_ADDRESSES = 16_384
"""Maximum number of cached replies; when it is reached, the cache is cleared."""


def _report(services: QueryServices, client: Client, instance: Instance) -> Reply:
    by_hostname, now = services.core.options.announce_hostnames, services.host.now()
    return Raw(encoded_instance(instance, by_hostname, now, client.protocol))


def _reports(services: QueryServices, client: Client, instances: Collection[Instance]) -> Reply:
    by_hostname, now, protocol = services.core.options.announce_hostnames, services.host.now(), client.protocol
    if len(instances) > MAX_WITHOUT_STEPS:
        return Stepwise(_report_steps(list(instances), by_hostname, now, protocol))
    reports = [encoded_instance(instance, by_hostname, now, protocol) for instance in instances]
    return Raw(b"*%d\r\n%b" % (len(reports), b"".join(reports)))


def _report_steps(instances: Sequence[Instance], by_hostname: bool, now: Millis, protocol: int) -> Steps:
    """Report all instances, including those that are removed meanwhile, because their number is sent first."""
    yield b"*%d\r\n" % len(instances)
    for portion in portions(instances):
        yield b"".join([encoded_instance(each, by_hostname, now, protocol) for each in portion])
    return NO_REPLY


def _master(services: QueryServices, request: Sequence[bytes]) -> Master:
    return services.core.master(text(request[2]))


def masters(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map for each master."""
    return _reports(services, client, services.core.registry.masters.values())


def master(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return the map of a master.

    :raises CommandError: if no master of that name is monitored.
    """
    return _report(services, client, _master(services, request))


def replicas(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map for each replica, except those with ``replica-announced no``."""
    return _reports(services, client, [each for each in _master(services, request).replicas.values() if each.announced])


def sentinels(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map for each peer, including peers that are down."""
    return _reports(services, client, _master(services, request).peers.values())


def get_master_address(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return host and port for clients, the null array for an unknown name.

    Clients poll this command, so the encoded reply is cached until the address changes. Until a new address is durable
    the previous one is returned.
    """
    state = services.core.state
    by_hostname = state.options.announce_hostnames
    known = services.addresses.get(request[2])
    if (
        known is not None
        and not known[0].gone
        and known[0].published_address is known[1]
        and known[2] is by_hostname
        and known[0].address_generation <= state.durable_generation
    ):
        return known[3]
    return _address(services, request[2])


def _address(services: QueryServices, name: bytes) -> Reply:
    """Encode the reply and cache it."""
    core = services.core
    found = core.registry.masters.get(text(name))
    if found is None:
        services.addresses.pop(name, None)
        return NULL_ARRAY
    address, by_hostname = core.state.durable_address(found), core.options.announce_hostnames
    answer = Raw(encode([address.announced(by_hostname), str(address.port)]))
    if len(services.addresses) >= MAX_CACHED_ADDRESSES:
        services.addresses.clear()
    services.addresses[name] = (found, address, by_hostname, answer)
    return answer


DOWN_ARGUMENTS = (
    text_argument("ip"),
    integer_argument("port"),
    integer_argument("current-epoch"),
    text_argument("runid"),
)


def is_master_down(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return the opinion and the vote of this Sentinel. A new vote is sent when it is durable; if saving fails, the
    previous one is sent.

    The master may become reachable again during the write, so the opinion is determined when the reply is sent.
    """
    core, host = services.core, text(request[2])
    port, epoch = integer(request[3]), integer(request[4])
    vote = core.vote_requested(host, port, epoch, text(request[5]), services.host.now())

    def reply(vote: Vote) -> list[Value]:
        return [int(vote.down and core.holds_down(host, port)), vote.leader, vote.leader_epoch]

    if not vote.generation:
        return reply(vote)
    return DurableReply(vote.generation, lambda: reply(vote), lambda: reply(vote.fallback()))


def myid(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the ID of this Sentinel, 40 characters."""
    return services.core.options.my_id


def ckquorum(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return ``OK`` with the number of usable Sentinels.

    :raises CommandError: NOQUORUM with everything that blocks a failover, or if no such master is monitored.
    """
    master = _master(services, request)
    usable = usable_sentinels(master)
    blocked = services.core.blockers(master, services.host.now())
    if not blocked:
        return Simple(f"OK {usable} usable Sentinels. Quorum and failover authorization can be reached")
    reasons = ". ".join(blocker.text for blocker in blocked)
    raise CommandError(f"NOQUORUM {usable} usable Sentinels. {reasons}")


def pending_scripts(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return a map for each script, oldest first."""
    now = services.host.now()
    return [script_report(job, now) for job in services.scripts.jobs]


def info_cache(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """
    Return the name and a list of ``[age in ms, INFO]`` for each named master.

    The master comes first in its list, its replicas follow. Unknown names are skipped.
    """

    def steps() -> Steps:
        now, protocol = services.host.now(), client.protocol
        found: dict[str, list[Server]] = {}
        for portion in portions(request, 2):
            for name in map(text, portion):
                master = services.core.registry.masters.get(name)
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


def sentinel_help(services: QueryServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return the lines of the help text."""
    return helptexts.SENTINEL


COMMANDS: Final[CommandModule[QueryServices]] = {
    sentinel(
        "sentinel|masters",
        arity=2,
        since="2.8.4",
        summary="Returns the state of all monitored masters",
        complexity="O(N) where N is the number of masters",
    ): masters,
    sentinel(
        "sentinel|primaries",
        arity=2,
        since="8.0.0",
        alias_of="sentinel|masters",
        summary="Returns the state of all monitored masters",
        complexity="O(N) where N is the number of masters",
    ): masters,
    sentinel(
        "sentinel|master", arity=3, since="2.8.4", summary="Returns the state of one master", arguments=MASTER_NAME
    ): master,
    sentinel(
        "sentinel|primary",
        arity=3,
        since="8.0.0",
        alias_of="sentinel|master",
        summary="Returns the state of one master",
        arguments=MASTER_NAME,
    ): master,
    sentinel(
        "sentinel|replicas",
        arity=3,
        since="5.0.0",
        summary="Returns the state of the replicas of a master",
        complexity="O(N) where N is the number of replicas",
        arguments=MASTER_NAME,
    ): replicas,
    sentinel(
        "sentinel|slaves",
        arity=3,
        since="2.8.0",
        summary="Returns the state of the replicas of a master",
        complexity="O(N) where N is the number of replicas",
        arguments=MASTER_NAME,
        deprecated_since="5.0.0",
        replaced_by="`SENTINEL REPLICAS`",
    ): replicas,
    sentinel(
        "sentinel|sentinels",
        arity=3,
        since="2.8.4",
        summary="Returns the state of the other Sentinels of a master",
        complexity="O(N) where N is the number of Sentinels",
        arguments=MASTER_NAME,
    ): sentinels,
    sentinel(
        "sentinel|get-master-addr-by-name",
        arity=3,
        since="2.8.4",
        summary="Returns the address of a master",
        arguments=MASTER_NAME,
    ): get_master_address,
    sentinel(
        "sentinel|get-primary-addr-by-name",
        arity=3,
        since="8.0.0",
        alias_of="sentinel|get-master-addr-by-name",
        summary="Returns the address of a master",
        arguments=MASTER_NAME,
    ): get_master_address,
    sentinel(
        "sentinel|is-master-down-by-addr",
        arity=6,
        since="2.8.4",
        summary="Returns whether this Sentinel considers a master down, and its vote",
        arguments=DOWN_ARGUMENTS,
        acts=True,
    ): is_master_down,
    sentinel(
        "sentinel|is-primary-down-by-addr",
        arity=6,
        since="8.0.0",
        alias_of="sentinel|is-master-down-by-addr",
        summary="Returns whether this Sentinel considers a master down, and its vote",
        arguments=DOWN_ARGUMENTS,
        acts=True,
    ): is_master_down,
    sentinel("sentinel|myid", arity=2, since="6.2.0", summary="Returns the ID of this Sentinel"): myid,
    sentinel(
        "sentinel|ckquorum",
        arity=3,
        since="2.8.4",
        summary="Checks whether quorum and majority for a failover can be reached",
        arguments=MASTER_NAME,
    ): ckquorum,
    sentinel(
        "sentinel|pending-scripts", arity=2, since="2.8.4", summary="Returns the running and the waiting scripts"
    ): pending_scripts,
    sentinel(
        "sentinel|info-cache",
        arity=-3,
        since="3.2.0",
        summary="Returns the cached INFO replies of masters and their replicas",
        complexity="O(N) where N is the number of instances",
        arguments=(multiple(text_argument("nodename")),),
    ): info_cache,
    Command(
        "sentinel|help",
        arity=2,
        flags=("loading", "stale"),
        categories=("slow",),
        since="6.2.0",
        summary="Returns the help text of the subcommands",
        group="sentinel",
    ): sentinel_help,
}
