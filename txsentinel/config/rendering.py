"""Rendering of the hard state as lines: one list per master, and two for the Sentinel itself."""

from __future__ import annotations

from txsentinel.config.directives import HEAD, MASTER_DIRECTIVES, master_line, unset_line
from txsentinel.config.document import ConfigDocument, Line
from txsentinel.config.elsewhere import NOTHING_ELSEWHERE, Elsewhere
from txsentinel.config.guards import guard_lines
from txsentinel.config.quoting import in_quotes, written
from txsentinel.config.secrets import secret_lines
from txsentinel.core.instances import Master
from txsentinel.core.options import SentinelOptions
from txsentinel.model.address import Address


def writes_hostnames(options: SentinelOptions) -> bool:
    """Whether hosts are written as names; this requires ``resolve-hostnames``, or the file could not be loaded."""
    return options.announce_hostnames and options.resolve_hostnames


def master_lines(master: Master, by_hostname: bool, elsewhere: Elsewhere = NOTHING_ELSEWHERE) -> list[Line]:
    """
    Return the lines of one master, in the order in which new ones are written.

    Once a promotion was seen, the promoted replica is written as the master, and the old master as a replica. No line
    is written twice, as C Sentinels refuse a file with duplicates.
    """
    name, options = master.name, master.options
    address = master.published_address
    place = _written_host(address, by_hostname), str(address.port)
    lines = [master_line("monitor", name, *place, str(options.quorum))]
    lines.extend(line for row in MASTER_DIRECTIVES if (line := row.line(name, options, elsewhere)) is not None)
    lines.extend(guard_lines(name, options.guards, elsewhere))
    lines.extend(secret_lines(name, options, elsewhere))
    lines.append(master_line("config-epoch", name, str(master.config_epoch)))
    lines.append(master_line("leader-epoch", name, str(master.leader_epoch)))
    places = dict.fromkeys(
        _place(master.address if replica.address.same(address) else replica.address, by_hostname)
        for replica in master.replicas.values()
        if not master.membership.is_leaving(None, replica.address)
    )
    places.pop(place, None)
    lines.extend(master_line("known-replica", name, *known, subject=" ".join(known)) for known in places)
    lines.extend(
        master_line("known-sentinel", name, *_place(peer.address, by_hostname), run_id, subject=run_id)
        for run_id, peer in {peer.run_id or peer.name: peer for peer in master.peers.values()}.items()
        if not master.membership.is_leaving(peer.name, peer.address)
    )
    stated = elsewhere.renamed.get(name, {})
    for key, new in options.renamed_commands.items():
        if elsewhere.separate and stated.get(key) == new:
            continue
        old = options.rename_spellings.get(key, key)
        lines.append(master_line("rename-command", name, old, new, subject=key))
    lines.extend(unset_line(name, "rename-command", key) for key in stated if key not in options.renamed_commands)
    return lines


def _written_host(address: Address, by_hostname: bool) -> str:
    """Return the announced host, or the name if that is empty, as no version accepts an empty address."""
    return address.announced(by_hostname) or address.hostname


def _place(address: Address, by_hostname: bool) -> tuple[str, str]:
    return _written_host(address, by_hostname), str(address.port)


def own_head_lines(options: SentinelOptions, document: ConfigDocument) -> list[Line]:
    """Return the Sentinel's own lines above the masters; yes/no directives in the file are kept even at default."""
    elsewhere = document.elsewhere
    lines = [_own("myid", options.my_id)] if options.my_id else []
    for kind, value, default in (
        ("deny-scripts-reconfig", options.deny_scripts_reconfig, True),
        ("resolve-hostnames", options.resolve_hostnames, False),
        ("announce-hostnames", options.announce_hostnames, False),
    ):
        if document.has(HEAD, kind) or elsewhere.must_write(elsewhere.own, kind, value, default):
            lines.append(_own(kind, "yes" if value else "no"))
    return lines


def own_tail_lines(
    options: SentinelOptions, current_epoch: int, elsewhere: Elsewhere = NOTHING_ELSEWHERE
) -> list[Line]:
    """Return the Sentinel's own lines below the masters."""
    lines = [_own("current-epoch", str(current_epoch))]
    announce_ip = options.announce_ip or ""
    if elsewhere.must_write(elsewhere.own, "announce-ip", announce_ip, ""):
        lines.append(Line("announce-ip", "", f"sentinel announce-ip {in_quotes(announce_ip)}"))
    if elsewhere.must_write(elsewhere.own, "announce-port", options.announce_port, 0):
        lines.append(_own("announce-port", str(options.announce_port)))
    for kind, value in (("sentinel-user", options.sentinel_user), ("sentinel-pass", options.directive_sentinel_pass)):
        if elsewhere.must_write(elsewhere.own, kind, value or "", ""):
            lines.append(_own(kind, value or ""))
    return lines


def _own(kind: str, word: str) -> Line:
    return Line(kind, "", f"sentinel {kind} {written(word)}")
