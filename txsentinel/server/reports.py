"""The maps of SENTINEL MASTER, REPLICAS and SENTINELS, with their fields in wire order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from txsentinel.config.guards import guard_fields
from txsentinel.core.failover_state import SyncStep
from txsentinel.core.instances import Instance, InstanceLink, Master, Peer, Replica, Server
from txsentinel.core.options import NEUTRAL_GUARDS, MasterOptions
from txsentinel.core.role import Role
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


VARYING: Final = (
    "name",
    "ip",
    "port",
    "runid",
    "last-ping-sent",
    "last-ok-ping-reply",
    "last-ping-reply",
    "info-refresh",
    "role-reported-time",
)
"""The fields of a master that differ between masters or change all the time, in wire order."""

MAX_MASTER_FORMS: Final = 1024
"""Maximum number of cached forms of reports on masters; when it is reached, the cache is cleared."""

MAX_FORM_BYTES: Final = 4096
"""Maximum size of a cached form."""

MASTER_FORMS: Final[dict[tuple[object, ...], bytes]] = {}
"""Protocol version and the values of all other fields → the encoded report without the varying values."""


def encoded_instance(instance: Instance, by_hostname: bool, now: Millis, protocol: int) -> bytes:
    """
    Encode the report on an instance.

    The reports on masters without a failure differ in few fields, so only those are encoded anew for each master.
    """
    if (
        isinstance(instance, Master)
        and instance.failover is None
        and instance.sdown_since is None
        and instance.odown_since is None
        and instance.rebooting_since is None
        and not instance.script_kill_sent
    ):
        link, options = instance.link, instance.options
        if link.failure is None and not link.disconnected and options.guards is NEUTRAL_GUARDS:
            return _encoded_master(instance, link, options, by_hostname, now, protocol)
    return encoded_report(instance_report(instance, by_hostname, now), protocol)


def _encoded_master(
    master: Master, link: InstanceLink, options: MasterOptions, by_hostname: bool, now: Millis, protocol: int
) -> bytes:
    """Encode the report on a master without a failure and without settings of its own."""
    values = (
        protocol >= 3,
        link.pending_commands,
        len(link.instances),
        options.down_after,
        master.role_reported is Role.MASTER,
        master.config_epoch,
        len(master.replicas),
        len(master.peers),
        options.quorum,
        options.failover_timeout,
        options.parallel_syncs,
        options.notification_script,
        options.client_reconfig_script,
    )
    form = MASTER_FORMS.get(values)
    if form is None:
        report = instance_report(master, by_hostname, now)
        form = _form_of(report, protocol)
        if len(form) > MAX_FORM_BYTES:
            return encoded_report(report, protocol)
        if len(MASTER_FORMS) >= MAX_MASTER_FORMS:
            MASTER_FORMS.clear()
        MASTER_FORMS[values] = form
    address, unanswered, refreshed = master.address, link.unanswered_ping_at, master.info_refreshed_at
    return form % (
        _BULKS[master.name],
        _BULKS[address.hostname if by_hostname else address.ip],
        _BULKS[address.port],
        _BULKS[master.run_id or ""],
        _BULKS[0 if unanswered is None else now - unanswered],
        _BULKS[now - link.available_at],
        _BULKS[now - link.last_reply_at],
        _BULKS[0 if refreshed is None else now - refreshed],
        _BULKS[now - master.role_reported_at],
    )


def _form_of(report: Report, protocol: int) -> bytes:
    """Return the encoded report with a placeholder in place of each varying value."""
    pieces = [b"%%%%%d\r\n" % len(report) if protocol >= 3 else b"*%d\r\n" % (2 * len(report))]
    for name, value in report.items():
        pieces.append(_BULKS[name])
        pieces.append(b"%b" if name in VARYING else _BULKS[value].replace(b"%", b"%%"))
    return b"".join(pieces)


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
