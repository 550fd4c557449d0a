"""
Why probes and attempts to connect fail, by class, and which failures are no evidence that a server is down.

A wrong password, a missing permission, a failed TLS handshake, a name that does not resolve and exhausted descriptors
of our own are faults of the configuration or of this Sentinel. C Sentinels count them as silence, hold a healthy server
down and fail it over again and again. Here such a failure does not begin S_DOWN as long as there is another proof of
life: an error reply is one, and so is a replica that reports a live link to its master and has received data over it
since the last acceptable reply to this Sentinel. ``failure-classes as-c`` turns that off.

Peers are not concerned: a Sentinel that cannot be asked cannot vote, whatever the reason.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.instances import InstanceLink, Master, Replica, Server
from txsentinel.core.options import FailureClasses
from txsentinel.core.registry import Registry
from txsentinel.core.state import SentinelState
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.model.failure import CONFIGURATION_FAULTS, FailureClass, LinkFailure, class_of_reply
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.info import InfoReport

PROOF_AGE: Final[Millis] = 12_000
"""Maximum age of the data that a replica received; servers send their replicas a PING every ten seconds by default."""

LAST_IO_STEP: Final[Millis] = 1_000
"""Servers report the age of the data in whole seconds."""


class FailureRecorder:
    """Keeps the last failure of each link, and until when it is excused."""

    def __init__(self, state: SentinelState, registry: Registry) -> None:
        self._state = state
        self._registry = registry

    def connection_failed(self, link: InstanceLink, failure: FailureClass, error: str, now: Millis) -> None:
        """Handle a lost connection or a failed attempt to connect."""
        if link.unresolved and failure is not FailureClass.OWN_DESCRIPTORS:
            # The attempt went to the last known address, which may be another server's by now.
            failure, error = FailureClass.DNS, f"the name {link.address.hostname} cannot be resolved; {error}"
        link.failure = link.connect_failure = LinkFailure(failure, excerpt(error), now)
        self._state.touch_link(link)
        if failure in CONFIGURATION_FAULTS:
            # Their INFO may prove that the master is alive.
            for instance in link.instances:
                if isinstance(instance, Master):
                    for replica in instance.replicas.values():
                        self._state.due.schedule(replica, now)

    def unanswered(self, link: InstanceLink, error: str, now: Millis) -> None:
        """Handle a connection that this Sentinel gives up, as nothing arrives on it."""
        link.failure = LinkFailure(FailureClass.TIMEOUT, error, now)
        self._state.touch_link(link)

    def command_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """Handle an error reply to a command; the reply itself shows that a process is alive."""
        failure = class_of_reply(error)
        link.failure = link.refusals[command] = LinkFailure(failure, excerpt(f"{command}: {error}"), now)
        self._state.touch_link(link)
        if failure in CONFIGURATION_FAULTS:
            self._excuse(link, "it answers", now)

    def command_accepted(self, link: InstanceLink, command: str) -> None:
        """Handle an acceptable reply to a command."""
        if link.refusals and link.refusals.pop(command, None) is not None:
            self._state.touch_link(link)

    @staticmethod
    def connected(link: InstanceLink) -> None:
        """Handle an established command connection: what the former one refused may be accepted now."""
        for command in [command for command in link.refusals if command != "SUBSCRIBE"]:
            del link.refusals[command]

    def resolved(self, address: Address, resolved: bool) -> None:
        """Handle the result of a name resolution."""
        for instance in self._registry.named(address.hostname):
            instance.link.unresolved = not resolved
            self._state.touch(instance.master)

    def replica_reported(self, replica: Replica, report: InfoReport, now: Millis) -> None:
        """Handle an INFO of a replica: it may prove that its master is alive."""
        master = replica.master
        link = master.link
        if link.unanswered_ping_at is None or not link.has_configuration_fault:
            return
        if report.master_link_up is not True or not replica.follows(master.address):
            return
        age = report.master_last_io
        if age is None or age > PROOF_AGE or now - age - LAST_IO_STEP <= link.available_at:
            return
        self._excuse(link, f"{replica.name} has received data from it", now)

    def _excuse(self, link: InstanceLink, proof: str, now: Millis) -> None:
        """Postpone S_DOWN for silence: there was a proof of life at ``now``."""
        for instance in link.instances:
            if not isinstance(instance, Server):
                continue
            if instance.master.options.guards.failure_classes is not FailureClasses.ON:
                return
            link.excused_at = now
            since = link.unanswered_ping_at
            if since is None or link.excuse_logged_for == since or now - since <= instance.master.options.down_after:
                continue
            link.excuse_logged_for = since
            described = instance.describe(self._state.options.announce_hostnames)
            self._state.note(
                Level.WARNING,
                f"{described} is not considered down, as {proof}, although this Sentinel has had no acceptable reply "
                f"for {now - since} ms: {link.failure}",
            )
