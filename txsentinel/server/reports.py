"""What is known of an instance, as the maps of SENTINEL MASTER, REPLICAS and SENTINELS, in wire order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from txsentinel.core.instances import Instance, Master, Peer, Replica, Server, SyncStep
from txsentinel.timings import Millis
from txsentinel.wire.resp import Value, encode

if TYPE_CHECKING:
    from txsentinel.server.context import ScriptJob


def _synchronizing(step: SyncStep) -> Callable[[Instance], bool]:
    return lambda instance: isinstance(instance, Replica) and instance.sync is step


FLAG_WORDS: Final[tuple[tuple[str, Callable[[Instance], bool]], ...]] = (
    ("s_down", lambda instance: instance.sdown_since is not None),
    ("o_down", lambda instance: isinstance(instance, Master) and instance.odown_since is not None),
    ("master", lambda instance: isinstance(instance, Master)),
    ("slave", lambda instance: isinstance(instance, Replica)),
    ("sentinel", lambda instance: isinstance(instance, Peer)),
    ("disconnected", lambda instance: instance.link.disconnected),
    ("master_down", lambda instance: isinstance(instance, Peer) and instance.says_master_down),
    ("failover_in_progress", lambda instance: isinstance(instance, Master) and instance.failover is not None),
    ("promoted", lambda instance: isinstance(instance, Replica) and is_promoted(instance)),
    (SyncStep.SENT.value, _synchronizing(SyncStep.SENT)),
    (SyncStep.IN_PROGRESS.value, _synchronizing(SyncStep.IN_PROGRESS)),
    (SyncStep.DONE.value, _synchronizing(SyncStep.DONE)),
    ("force_failover", lambda instance: isinstance(instance, Master) and is_forced(instance)),
    ("coordinated_failover", lambda instance: isinstance(instance, Master) and is_coordinated(instance)),
    ("script_kill_sent", lambda instance: instance.script_kill_sent),
    ("master_reboot", lambda instance: isinstance(instance, Master) and instance.rebooting_since is not None),
)
"""Every word that ``flags`` can hold, in the order in which it does. Clients compare the whole text: add none."""


def is_promoted(replica: Replica) -> bool:
    """Is it the one that a failover makes the master?"""
    failover = replica.master.failover
    return failover is not None and failover.promoted is replica


def is_forced(master: Master) -> bool:
    """Was its failover ordered, without an election?"""
    return master.failover is not None and master.failover.forced and not master.failover.coordinated


def is_coordinated(master: Master) -> bool:
    """Was its failover ordered to be done by the master itself?"""
    return master.failover is not None and master.failover.coordinated


def flags(instance: Instance) -> str:
    """The flag words that hold, with commas between."""
    return ",".join(word for word, holds in FLAG_WORDS if holds(instance))


def instance_report(instance: Instance, by_hostname: bool, now: Millis) -> dict[str, str]:
    """
    Field → value, both text, in wire order.

    Points in time become milliseconds elapsed until ``now``.
    """
    link = instance.link
    master = instance.master
    report = {
        "name": instance.name,
        "ip": instance.address.announced(by_hostname),
        "port": str(instance.address.port),
        "runid": instance.run_id or "",
        "flags": flags(instance),
        "link-pending-commands": str(link.pending_commands),
        "link-refcount": str(max(len(link.instances), 1)),
    }
    if isinstance(instance, Master) and instance.failover is not None:
        report["failover-state"] = instance.failover_state.value
    report["last-ping-sent"] = _since(link.unanswered_ping_at, now)
    report["last-ok-ping-reply"] = _since(link.available_at, now)
    report["last-ping-reply"] = _since(link.last_reply_at, now)
    if instance.sdown_since is not None:
        report["s-down-time"] = _since(instance.sdown_since, now)
    if isinstance(instance, Master) and instance.odown_since is not None:
        report["o-down-time"] = _since(instance.odown_since, now)
    report["down-after-milliseconds"] = str(master.options.down_after)
    if isinstance(instance, Server):
        report["info-refresh"] = _since(instance.info_refreshed_at, now)
        report["role-reported"] = instance.role_reported.value
        report["role-reported-time"] = _since(instance.role_reported_at, now)
    if isinstance(instance, Master):
        report.update(_master_fields(instance))
    elif isinstance(instance, Replica):
        report.update(_replica_fields(instance))
    elif isinstance(instance, Peer):
        report["last-hello-message"] = _since(instance.hello_heard_at, now)
        report["voted-leader"] = instance.leader or "?"
        report["voted-leader-epoch"] = str(instance.leader_epoch)
    return report


def encoded_report(report: dict[str, str], protocol: int) -> bytes:
    """
    The same bytes as ``resp.encode`` makes of it, sooner: a thousand masters are shown in one reply.

    Lengths are counted in characters, which is right as long as all of them are ASCII.
    """
    pieces = [f"%{len(report)}\r\n" if protocol >= 3 else f"*{2 * len(report)}\r\n"]
    pieces += [f"${len(name)}\r\n{name}\r\n${len(value)}\r\n{value}\r\n" for name, value in report.items()]
    whole = "".join(pieces)
    return whole.encode("ascii") if whole.isascii() else encode(report, protocol)


def _since(moment: Millis | None, now: Millis) -> str:
    return "0" if moment is None else str(now - moment)


def _master_fields(master: Master) -> dict[str, str]:
    options = master.options
    fields = {
        "config-epoch": str(master.config_epoch),
        "num-slaves": str(len(master.replicas)),
        "num-other-sentinels": str(len(master.peers)),
        "quorum": str(options.quorum),
        "failover-timeout": str(options.failover_timeout),
        "parallel-syncs": str(options.parallel_syncs),
    }
    if options.notification_script:
        fields["notification-script"] = options.notification_script
    if options.client_reconfig_script:
        fields["client-reconfig-script"] = options.client_reconfig_script
    return fields


def _replica_fields(replica: Replica) -> dict[str, str]:
    return {
        "master-link-down-time": str(replica.master_link_down_for),
        "master-link-status": "ok" if replica.master_link_up else "err",
        "master-host": replica.master_host or "?",
        "master-port": str(replica.master_port),
        "slave-priority": str(replica.priority),
        "slave-repl-offset": str(replica.repl_offset),
        "replica-announced": "1" if replica.announced else "0",
    }


def master_status(master: Master) -> str:
    """``odown``, ``sdown`` or ``ok``, as INFO tells it."""
    if master.odown_since is not None:
        return "odown"
    return "ok" if master.sdown_since is None else "sdown"


def script_report(job: ScriptJob, now: Millis) -> dict[str, Value]:
    """A script that runs or waits; durations in milliseconds, all text but ``argv``."""
    if job.started_at is not None:
        timing = ("run-time", now - job.started_at)
    else:
        timing = ("run-delay", 0 if job.due_at is None else max(job.due_at - now, 0))
    return {
        "argv": [job.path, *job.arguments],
        "flags": "scheduled" if job.started_at is None else "running",
        "pid": str(job.pid or 0),
        timing[0]: str(timing[1]),
        "retry-num": str(job.attempts),
    }
