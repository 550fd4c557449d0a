"""``txsentinel shadow``: what txsentinel would do in the place of the Sentinels of a fleet."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from txsentinel.cli.operator.agreed import known_master
from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.program import installed_reactor
from txsentinel.cli.operator.statuses import OK, USAGE, VerbFailed
from txsentinel.cli.operator.text_options import milliseconds
from txsentinel.cli.operator.visible import plural, visible
from txsentinel.remote.agreement import AddressAgreement
from txsentinel.remote.connection import TlsFiles
from txsentinel.remote.events import EventStream
from txsentinel.shadow.comparison import Failure, FailureComparison

if TYPE_CHECKING:
    from txsentinel.model.events import SentinelEvent
    from txsentinel.model.explanation import Explanation
    from txsentinel.shadow.observer import ObservedMaster, ShadowSentinel

OPTIONS: Final = ("down-after-milliseconds", "failover-timeout", "parallel-syncs")
"""The settings that are taken over from the fleet."""

POLL_SECONDS: Final = 0.05
"""How often events of the fleet are taken from their threads; each has the time at which it arrived."""


def parse_settings(words: Sequence[str]) -> dict[str, str]:
    """
    Parse ``OPTION=VALUE`` words.

    :raises VerbFailed: if one has no value.
    """
    settings = {}
    for word in words:
        option, equals, value = word.partition("=")
        if not (option and equals and value):
            raise VerbFailed(f"--set needs OPTION=VALUE, not {word}", USAGE)
        settings[option.lower()] = value
    return settings


def observed(agreement: AddressAgreement, settings: Mapping[str, str]) -> ObservedMaster:
    """
    Return a master with the settings and members that the fleet has.

    :param settings: of ``--set``; they overrule those of the fleet.
    :raises VerbFailed: if no Sentinel of the fleet has read it.
    """
    from txsentinel.config.guards import GUARDS_BY_WORD
    from txsentinel.shadow.observer import ObservedMaster

    report = agreement.report()
    if report is None or agreement.endpoint is None:
        raise VerbFailed(f"the Sentinels do not agree on the address of {agreement.name}", USAGE)
    own = {word: value for word, value in settings.items() if word in GUARDS_BY_WORD}
    options = {word: report.master.fields[word] for word in OPTIONS if word in report.master.fields}
    options.update({word: value for word, value in settings.items() if word not in own and word != "quorum"})
    sentinels = {each.sentinel_id: each.endpoint for each in agreement.naming if each.sentinel_id is not None} | {
        peer.run_id: peer.endpoint for peer in report.peers if peer.run_id
    }
    return ObservedMaster(
        agreement.name,
        agreement.endpoint,
        int(settings.get("quorum", report.quorum)),
        options,
        own,
        [each.endpoint for each in report.replicas],
        [(endpoint, own_id) for own_id, endpoint in sentinels.items()],
    )


def tls_directives(files: TlsFiles | None) -> list[str]:
    """Return the directives of a configuration for links by TLS."""
    from txsentinel.config.quoting import written

    if files is None:
        return []
    lines = ["tls-replication yes", "tls-auth-clients no"]
    for word, path in (
        ("tls-ca-cert-file", files.ca),
        ("tls-cert-file", files.certificate),
        ("tls-key-file", files.key or files.certificate),
    ):
        if path:
            lines.append(f"{word} {written(path)}")
    return lines


class ShadowReport:
    """Collects what both sides do, and writes each failure when it is over."""

    def __init__(self, form: str, record: TextIO | None) -> None:
        self.comparison = FailureComparison()
        self._form = form
        self._record = record

    def own_event(self, event: SentinelEvent, explanation: Explanation | None) -> None:
        """Add an event of the observer."""
        if event.master is None:
            return
        choice = None
        if explanation is not None and explanation.would_promote is not None:
            choice = explanation.would_promote, explanation.would_promote_because
        verdict = None if explanation is None else explanation.verdict.text
        self.comparison.own_event(time.time(), event.channel, event.payload, event.master, choice, verdict)

    def explain(self, shadow: ShadowSentinel) -> None:
        """Keep why the observer does not fail over the masters that are down."""
        for name in self.comparison.open_masters():
            explanation = shadow.explain(name)
            if explanation is not None:
                self.comparison.explained(name, explanation.verdict.text)

    def take(self, stream: EventStream) -> None:
        """Add what has arrived from the fleet, and write what is over."""
        while (event := stream.next_event(0.0)) is not None:
            if event.master is not None:
                self.comparison.fleet_event(event.at, str(event.sentinel), event.channel, event.payload, event.master)
        self.write(self.comparison.due(time.time()))

    def write(self, failures: Sequence[Failure]) -> None:
        """Write the reports of failures that are over."""
        for failure in failures:
            text = json.dumps(failure.record())
            if self._record is not None:
                self._record.write(f"{text}\n")
                self._record.flush()
            lines = [text] if self._form == "json" else [visible(line) for line in failure.lines()]
            sys.stdout.writelines(f"{line}\n" for line in lines)
            sys.stdout.flush()


def follow(
    shadow: ShadowSentinel, stream: EventStream, report: ShadowReport, reactor: Any, seconds: float | None
) -> None:
    """Run the reactor until the time is over, or SIGINT or SIGTERM arrives."""
    from twisted.internet.task import LoopingCall

    def stop() -> None:
        shadow.stop().addBoth(lambda _: reactor.stop())

    def started() -> None:
        # The reactor's own handlers would stop it before the report is written.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: reactor.callFromThread(stop))
        shadow.start()
        LoopingCall(report.take, stream).start(POLL_SECONDS)
        LoopingCall(report.explain, shadow).start(1.0)
        if seconds is not None:
            reactor.callLater(seconds, stop)

    reactor.callWhenRunning(started)
    reactor.run()


@click.command("shadow")
@click.argument("masters", nargs=-1, metavar="[MASTER]...")
@click.option("--for", "period", type=milliseconds, help="How long, such as 7d; until interrupted if not given.")
@click.option("--set", "changes", multiple=True, metavar="OPTION=VALUE", help="Use another setting; may be repeated.")
@click.option("--record", type=click.File("a", lazy=False), metavar="FILE", help="Also append JSON lines to FILE.")
@common
def shadow_verb(
    access: FleetAccess, masters: tuple[str, ...], period: int | None, changes: tuple[str, ...], record: TextIO | None
) -> int:
    """
    Show what txsentinel would do in the place of the Sentinels of a fleet.

    The whole Sentinel runs here over the servers and the hellos of the fleet. It sends PING, INFO, ROLE, SUBSCRIBE and
    the question whether a master is down; it publishes no hello, votes for nobody, and orders nothing. Each failure of
    a master is reported when it is over: when each side noticed, agreed and acted, which replica txsentinel would have
    promoted, and what differs.
    """
    settings = parse_settings(changes)
    fleet = access.read(masters or None)
    names = masters or fleet.names
    if not names:
        raise VerbFailed("the Sentinels that answer monitor no master", USAGE)
    agreements = [known_master(fleet, name) for name in names]
    sentinels = list(dict.fromkeys(each.endpoint for agreement in agreements for each in agreement.members))
    # The service is loaded by this verb only.
    from txsentinel.config.errors import ConfigError
    from txsentinel.runtime.host import RealHost
    from txsentinel.shadow.observer import FleetLogin, ShadowSentinel

    reactor = installed_reactor()
    setattr(reactor, "seconds", time.monotonic)  # noqa: B010 - an attribute that mypy takes for a method
    report = ShadowReport(access.form, record)
    try:
        shadow = ShadowSentinel(
            RealHost(reactor),
            [observed(agreement, settings) for agreement in agreements],
            FleetLogin(
                access.server_settings.user,
                access.server_settings.password,
                access.settings.user,
                access.settings.password,
            ),
            report.own_event,
            tls_directives(access.server_settings.tls),
        )
    except ConfigError as error:
        raise VerbFailed(f"these settings cannot be used: {error.message}", USAGE) from None
    stream = EventStream(sentinels, access.settings)
    sys.stderr.write(
        f"watching {plural(len(names), 'master')} of {plural(len(sentinels), 'Sentinel')}; nothing is changed on any"
        " server or Sentinel\n"
    )
    try:
        follow(shadow, stream, report, reactor, None if period is None else period / 1000)
    finally:
        stream.close()
    report.write(report.comparison.close())
    sys.stderr.write(f"{report.comparison.summary()}\n")
    return OK
