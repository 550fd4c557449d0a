"""The maps of SENTINEL MASTER, REPLICAS and SENTINELS, with their fields in wire order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from txsentinel.config.guards import guard_fields
from txsentinel.core.failover_state import SyncStep
from txsentinel.core.instances import Instance, Master, Peer, Replica, Server
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import Value, data

if TYPE_CHECKING:
    from txsentinel.server.services import ScriptJob

Report: TypeAlias = "dict[str, str | int]"
"""The report on one instance: field → value, in wire order."""


def is_promoted(replica: Replica) -> bool:
    """Whether a failover promotes this replica."""
    failover = replica.master.failover
    return failover is not None and failover.promoted is replica


def is_forced(master: Master) -> bool:
    """Whether the failover was started by an operator, without an election."""
    return master.failover is not None and master.failover.forced and not master.failover.coordinated


def is_coordinated(master: Master) -> bool:
    """Whether the failover is a coordinated one."""
    return master.failover is not None and master.failover.coordinated


def flags(instance: Instance) -> str:
    """
    Return the flags that apply, separated by commas.

    The words and their order are fixed, because clients compare the whole text.
    """
    words = []
    if instance.sdown_since is not None:
        words.append("s_down")
    if isinstance(instance, Master):
        if instance.odown_since is not None:
            words.append("o_down")
        words.append("master")
    elif isinstance(instance, Replica):
        words.append("slave")
    else:
        words.append("sentinel")
    if instance.link.disconnected:
        words.append("disconnected")
    if isinstance(instance, Master):
        if instance.failover is not None:
            words.append("failover_in_progress")
            if is_forced(instance):
                words.append("force_failover")
            if is_coordinated(instance):
                words.append("coordinated_failover")
    elif isinstance(instance, Replica):
        if is_promoted(instance):
            words.append("promoted")
        if instance.sync is not SyncStep.NOT_ASKED:
            words.append(instance.sync.value)
    elif isinstance(instance, Peer) and instance.reports_master_down:
        words.append("master_down")
    if instance.script_kill_sent:
        words.append("script_kill_sent")
    if isinstance(instance, Master) and instance.rebooting_since is not None:
        words.append("master_reboot")
    return ",".join(words)


def instance_report(instance: Instance, by_hostname: bool, now: Millis) -> Report:
    """
    Return the report on an instance. On the wire all values are text, numbers in decimal.

    Points in time are shown as milliseconds elapsed until ``now``.
    """
    link = instance.link
    address = instance.address
    report: Report = {
        "name": instance.name,
        "ip": address.hostname if by_hostname else address.ip,
        "port": address.port,
        "runid": instance.run_id or "",
        "flags": flags(instance),
        "link-pending-commands": link.pending_commands,
        "link-refcount": max(len(link.instances), 1),
    }
    master = instance if isinstance(instance, Master) else None
    if master is not None and master.failover is not None:
        report["failover-state"] = master.failover_state.value
    unanswered = link.unanswered_ping_at
    report["last-ping-sent"] = 0 if unanswered is None else now - unanswered
    report["last-ok-ping-reply"] = now - link.available_at
    report["last-ping-reply"] = now - link.last_reply_at
    if instance.sdown_since is not None:
        report["s-down-time"] = now - instance.sdown_since
    if master is not None and master.odown_since is not None:
        report["o-down-time"] = now - master.odown_since
    report["down-after-milliseconds"] = instance.master.options.down_after
    if isinstance(instance, Server):
        refreshed = instance.info_refreshed_at
        report["info-refresh"] = 0 if refreshed is None else now - refreshed
        report["role-reported"] = instance.role_reported.value
        report["role-reported-time"] = now - instance.role_reported_at
    if master is not None:
        _add_master_fields(report, master)
    elif isinstance(instance, Replica):
        _add_replica_fields(report, instance)
    elif isinstance(instance, Peer):
        report["last-hello-message"] = now - instance.hello_received_at
        report["voted-leader"] = instance.voted_leader or "?"
        report["voted-leader-epoch"] = instance.voted_leader_epoch
    failure = link.failure
    if failure is not None:
        # C Sentinels have none of these, so they come last.
        report["last-failure-class"] = failure.failure_class.value
        report["last-failure-error"] = failure.error
        report["last-failure-time"] = now - failure.at
    return report


class Bulks(dict["str | int", bytes]):
    """
    A cache from values to bulk strings. It holds short values, and is cleared when it is full.

    A report on a thousand masters repeats most values: the masters have the same options and similar times.
    """

    MAX_ENTRIES: Final = 8192
    MAX_LENGTH: Final = 64

    def __missing__(self, value: str | int) -> bytes:
        raw = data(value) if isinstance(value, str) else b"%d" % value
        bulk = b"$%d\r\n%b\r\n" % (len(raw), raw)
        if len(raw) <= self.MAX_LENGTH:
            if len(self) >= self.MAX_ENTRIES:
                self.clear()
            self[value] = bulk
        return bulk


_BULKS: Final = Bulks()
_FORMS: Final[dict[tuple[str, ...], bytes]] = {}
"""Field names → the encoded report without head and values; there are few combinations of fields."""


def encoded_report(report: Report, protocol: int) -> bytes:
    """Encode a report as ``resp.encode`` does with all values as text, but faster, for thousands of reports."""
    names = tuple(report)
    form = _FORMS.get(names)
    if form is None:
        form = _FORMS[names] = b"".join(b"$%d\r\n%b\r\n%%b" % (len(name), data(name)) for name in names)
    head = b"%%%d\r\n" % len(names) if protocol >= 3 else b"*%d\r\n" % (2 * len(names))
    return head + form % tuple([_BULKS[value] for value in report.values()])


def _add_master_fields(report: Report, master: Master) -> None:
    options = master.options
    report["config-epoch"] = master.config_epoch
    report["num-slaves"] = len(master.replicas)
    report["num-other-sentinels"] = len(master.peers)
    report["quorum"] = options.quorum
    report["failover-timeout"] = options.failover_timeout
    report["parallel-syncs"] = options.parallel_syncs
    if options.notification_script:
        report["notification-script"] = options.notification_script
    if options.client_reconfig_script:
        report["client-reconfig-script"] = options.client_reconfig_script
    # C Sentinels have none of these.
    report.update(guard_fields(options.guards, options.down_after))


def _add_replica_fields(report: Report, replica: Replica) -> None:
    report["master-link-down-time"] = replica.master_link_down_for
    report["master-link-status"] = "ok" if replica.master_link_up else "err"
    report["master-host"] = replica.master_host or "?"
    report["master-port"] = replica.master_port
    report["slave-priority"] = replica.priority
    report["slave-repl-offset"] = replica.repl_offset
    report["replica-announced"] = 1 if replica.announced else 0


def master_status(master: Master) -> str:
    """Return ``odown``, ``sdown`` or ``ok``, as INFO shows it."""
    if master.odown_since is not None:
        return "odown"
    return "ok" if master.sdown_since is None else "sdown"


def script_report(job: ScriptJob, now: Millis) -> dict[str, Value]:
    """Return the map of a running or waiting script: durations in milliseconds, all values but ``argv`` as text."""
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
