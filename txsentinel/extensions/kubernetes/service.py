"""The service: publishes, and reads the files of the service account again, which Kubernetes replaces every hour."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import MultiService

from txsentinel.extensions.certificate_policy import CertificatePolicy
from txsentinel.extensions.http_client import RequestClient
from txsentinel.extensions.kubernetes.api import KubernetesApi
from txsentinel.extensions.kubernetes.publisher import KubernetesPublisher
from txsentinel.extensions.kubernetes.settings import read_settings
from txsentinel.extensions.publishing import PublishingService
from txsentinel.extensions.secret_file import SecretReader

if TYPE_CHECKING:
    from txsentinel.interfaces import IOperator, ISentinelView, IStateDirectory
    from txsentinel.model.extension_settings import ExtensionSetting

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
    chosen = read_settings(argument, settings)
    policy = CertificatePolicy(chosen.authorities)
    api = KubernetesApi(RequestClient(reactor, policy=policy), chosen)
    service = MultiService()
    parts: list[Any] = [
        PublishingService(
            reactor,
            view,
            KubernetesPublisher(api, chosen),
            chosen.wants,
            name="kubernetes",
            target=f"{chosen.namespace} at {chosen.server}",
            follower_delay=FOLLOWER_DELAY,
        ),
        SecretReader(reactor, [chosen.token, *policy.files]),  # type: ignore[list-item]
    ]
    for part in parts:
        part.setServiceParent(service)
    return service
