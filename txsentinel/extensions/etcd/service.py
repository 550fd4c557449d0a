"""The service of the extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted.application.service import MultiService

from txsentinel.extensions.building import ExtensionContext, combined
from txsentinel.extensions.certificate_policy import CertificatePolicy
from txsentinel.extensions.etcd.client import EtcdClient
from txsentinel.extensions.etcd.publisher import EtcdPublisher
from txsentinel.extensions.etcd.replicas import ReplicaKeys
from txsentinel.extensions.etcd.settings import EtcdSettings, parse
from txsentinel.extensions.http_client import RequestClient
from txsentinel.extensions.publishing import PublishingService
from txsentinel.extensions.secret_file import SecretFile, SecretReader, secret_line
from txsentinel.interfaces import ISentinelView

TIMEOUT: Final = 2.0
"""Seconds until another endpoint is asked."""

FOLLOWER_DELAY: Final = (1.0, 3.0)
"""Seconds after which a Sentinel checks whether a switch of another one is published."""


def make_service(context: ExtensionContext) -> MultiService:
    """
    Build the service.

    :raises ValueError: if a setting is wrong, or a file cannot be used.
    """
    chosen = parse(context.argument, context.settings)
    client, files = etcd_client(context.reactor, chosen)
    return etcd_services(context.reactor, context.view, client, chosen, files)


def etcd_client(reactor: Any, settings: EtcdSettings) -> tuple[EtcdClient, list[SecretFile[Any]]]:
    """
    Return a client with the settings, and the files of its secrets, to be read again.

    :raises ValueError: if a file cannot be used.
    """
    policy = CertificatePolicy.of_files(settings.ca_file, settings.cert_file)
    files: list[SecretFile[Any]] = policy.files
    password = SecretFile(settings.password_file, secret_line) if settings.password_file else None
    if password is not None:
        files.append(password)
    client = EtcdClient(
        RequestClient(reactor, TIMEOUT, policy=policy),
        settings.endpoints,
        settings.gateway,
        settings.user,
        lambda: password.value if password else "",
    )
    return client, files


def etcd_services(
    reactor: Any,
    view: ISentinelView,
    client: EtcdClient,
    settings: EtcdSettings,
    files: Sequence[SecretFile[Any]] = (),
) -> MultiService:
    """
    Return the service that publishes by a client.

    :param files: what is read again while it runs.
    """
    parts: list[Any] = [
        PublishingService(
            reactor,
            view,
            EtcdPublisher(client, settings),
            settings.wants,
            verify_interval=settings.verify,
            name="etcd",
            target=", ".join(settings.endpoints),
            follower_delay=FOLLOWER_DELAY,
        )
    ]
    if settings.lease:
        parts.append(ReplicaKeys(reactor, view, client, settings, settings.wants))
    if files:
        parts.append(SecretReader(reactor, files))
    return combined(parts)
