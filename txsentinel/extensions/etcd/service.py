"""The service of the extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted.application.service import MultiService

from txsentinel.extensions.certificate_policy import CertificatePolicy, authorities, identity
from txsentinel.extensions.etcd.client import EtcdClient
from txsentinel.extensions.etcd.publisher import EtcdPublisher
from txsentinel.extensions.etcd.replicas import ReplicaKeys
from txsentinel.extensions.etcd.settings import EtcdSettings, parse
from txsentinel.extensions.http_client import RequestClient
from txsentinel.extensions.publishing import PublishingService
from txsentinel.extensions.secret_file import SecretFile, SecretReader, secret_line
from txsentinel.interfaces import IOperator, ISentinelView, IStateDirectory
from txsentinel.model.extension_settings import ExtensionSetting

TIMEOUT: Final = 2.0
"""Seconds until another endpoint is asked."""

FOLLOWER_DELAY: Final = (1.0, 3.0)
"""Seconds after which a Sentinel checks whether a switch of another one is published."""


def make_service(
    view: ISentinelView,
    operator: IOperator,
    argument: str,
    state_dir: IStateDirectory,
    settings: Sequence[ExtensionSetting],
    reactor: Any,
) -> MultiService:
    """
    Build the service; see ``ISentinelExtension.makeService``.

    :raises ValueError: if a setting is wrong, or a file cannot be used.
    """
    chosen = parse(argument, settings)
    client, files = etcd_client(reactor, chosen)
    return etcd_services(reactor, view, client, chosen, files)


def etcd_client(reactor: Any, settings: EtcdSettings) -> tuple[EtcdClient, list[SecretFile[Any]]]:
    """
    Return a client with the settings, and the files of its secrets, to be read again.

    :raises ValueError: if a file cannot be used.
    """
    policy = CertificatePolicy(
        SecretFile(settings.ca_file, authorities) if settings.ca_file else None,
        SecretFile(settings.cert_file, identity) if settings.cert_file else None,
    )
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
    service = MultiService()  # type: ignore[no-untyped-call]
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
    for part in parts:
        part.setServiceParent(service)
    return service
