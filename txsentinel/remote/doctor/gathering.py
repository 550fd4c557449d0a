"""Reads everything that the checks look at."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, Final

from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import AddressAgreement, Drift, usual_value
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.decoding import plain_reply
from txsentinel.remote.doctor.examination import Certificate, Examination, ExaminedServer
from txsentinel.remote.fleet import in_parallel
from txsentinel.remote.reports import SentinelReport, as_fields
from txsentinel.remote.rights import COORDINATING, FAILING_OVER, OBSERVING, refused
from txsentinel.remote.servers import read_server

SAMPLE_SECONDS: Final = 1.0
"""Between the two reports of a server, from which the rate of writes is computed."""

PINGS: Final = 20

SETTINGS: Final = ("min-replicas-to-write", "save")

COMPARED_SETTINGS: Final = ("resolve-hostnames", "announce-hostnames", "sentinel-user")
"""Settings in ``SENTINEL CONFIG GET`` that must not differ."""


def examine(
    agreement: AddressAgreement,
    settings: ConnectionSettings,
    server_settings: ConnectionSettings,
    own_drifts: Iterable[Drift] = (),
    active: bool = False,
) -> Examination:
    """
    Read all servers, and what Sentinels report only on request.

    :param active: also test the rights of the user, which adds entries to ``ACL LOG``, and measure round trips.
    """
    report = agreement.report()
    servers = [] if report is None else [report.endpoint, *(each.endpoint for each in report.replicas)]
    sentinels = [each for each in agreement.members if each.reachable]
    examined = in_parallel(lambda each: read_examined(each, server_settings, active), servers)
    own = in_parallel(lambda each: read_own(each, settings, agreement.name), sentinels)
    is_open = in_parallel(lambda each: answers_without_login(each.endpoint, settings), sentinels)
    endpoints = [*(each.endpoint for each in sentinels), *servers]
    certificates = in_parallel(lambda each: read_certificate(each, settings), endpoints) if settings.tls else []
    return Examination(
        agreement,
        {each.endpoint: each for each in examined},
        {each.endpoint: found for each, found in zip(sentinels, own, strict=True) if found is not None},
        frozenset(each.endpoint for each, found in zip(sentinels, is_open, strict=True) if found),
        tuple(own_drifts),
        {each: found for each, found in zip(endpoints, certificates, strict=False) if found is not None},
        datetime.now(timezone.utc),
    )


def read_examined(endpoint: Endpoint, settings: ConnectionSettings, active: bool) -> ExaminedServer:
    """Read one server twice, and its settings if that is permitted; a failure is part of the result."""
    try:
        with RemoteConnection(endpoint, settings) as connection:
            first = read_server(connection)
            begun = time.monotonic()
            found: dict[str, str] | None = {}
            for setting in SETTINGS:
                with contextlib.suppress(ErrorAnswer):
                    found = (found or {}) | as_fields(connection.call("CONFIG", "GET", setting))
            longest = ping_time(connection) if active else None
            time.sleep(max(SAMPLE_SECONDS - (time.monotonic() - begun), 0))
            later = read_server(connection, "replication")
            apart = (time.monotonic() - begun) * 1000
        denied = refused(endpoint, settings, (*OBSERVING, *FAILING_OVER, *COORDINATING)) if active else None
    except (ConnectionFailed, ErrorAnswer) as problem:
        return ExaminedServer(endpoint, problem=str(problem))
    return ExaminedServer(endpoint, first, later, apart, found or None, denied, longest)


def ping_time(connection: RemoteConnection) -> float:
    """Return the longest of several round trips, in milliseconds."""
    longest = 0.0
    for _ in range(PINGS):
        begun = time.monotonic()
        connection.call("PING")
        longest = max(longest, (time.monotonic() - begun) * 1000)
    return longest


def read_own(sentinel: SentinelReport, settings: ConnectionSettings, name: str) -> dict[str, Any] | None:
    """Return what a Sentinel of ours reports about itself; ``None`` for others, and if it is not permitted."""
    if sentinel.identity is None or sentinel.identity.is_c:
        return None
    try:
        with RemoteConnection(sentinel.endpoint, settings) as connection:
            connection.use_resp3()
            found = plain_reply(connection.call("TXSENTINEL", "DOCTOR", name))
    except (ConnectionFailed, ErrorAnswer):
        return None
    return found if isinstance(found, dict) else None


def answers_without_login(endpoint: Endpoint, settings: ConnectionSettings) -> bool:
    """Whether a Sentinel executes commands of a client that has not logged in."""
    anonymous = ConnectionSettings(None, None, settings.tls, settings.timeout)
    try:
        with RemoteConnection(endpoint, anonymous) as connection:
            connection.call("SENTINEL", "MYID")
    except ConnectionFailed:
        return False
    except ErrorAnswer as problem:
        # Old Sentinels have no MYID, but would have refused it before they looked for it.
        return problem.code not in ("NOAUTH", "NOPERM", "DENIED")
    return True


def read_certificate(endpoint: Endpoint, settings: ConnectionSettings) -> Certificate | None:
    """Return the certificate of a server; ``None`` if there is no connection."""
    from cryptography import x509

    anonymous = ConnectionSettings(None, None, settings.tls, settings.timeout)
    try:
        with RemoteConnection(endpoint, anonymous) as connection:
            raw = connection.certificate
    except (ConnectionFailed, ErrorAnswer):
        return None
    if raw is None:
        return None
    found = x509.load_der_x509_certificate(raw)
    names: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += alternatives.get_values_for_type(x509.DNSName)
        names += map(str, alternatives.get_values_for_type(x509.IPAddress))
    return Certificate(found.not_valid_after_utc, tuple(names))


def global_drifts(members: Iterable[SentinelReport], settings: ConnectionSettings) -> list[Drift]:
    """Return the settings of the Sentinels themselves that differ; those without ``SENTINEL CONFIG`` are left out."""

    def read(sentinel: SentinelReport) -> dict[str, str]:
        try:
            with RemoteConnection(sentinel.endpoint, settings) as connection:
                return as_fields(connection.call("SENTINEL", "CONFIG", "GET", "*"))
        except (ConnectionFailed, ErrorAnswer):
            return {}

    reachable = [each for each in members if each.reachable]
    found = in_parallel(read, reachable)
    drifts = []
    for setting in COMPARED_SETTINGS:
        values = {
            each.endpoint: fields[setting] for each, fields in zip(reachable, found, strict=True) if setting in fields
        }
        if len(set(values.values())) > 1:
            drifts.append(Drift(setting, values, usual_value(values.values())))
    return drifts
