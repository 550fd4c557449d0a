"""The service: publishes, and reads the files of the service account again, which Kubernetes replaces every hour."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import MultiService

from txsentinel.extensions.building import ExtensionContext, combined
from txsentinel.extensions.certificate_policy import CertificatePolicy
from txsentinel.extensions.http_client import RequestClient
from txsentinel.extensions.kubernetes.api import KubernetesApi
from txsentinel.extensions.kubernetes.publisher import KubernetesPublisher
from txsentinel.extensions.kubernetes.settings import read_settings
from txsentinel.extensions.publishing import PublishingService
from txsentinel.extensions.secret_file import SecretReader

if TYPE_CHECKING:
    pass

FOLLOWER_DELAY: Final = (1.0, 3.0)
"""Seconds after which a Sentinel checks whether a switch of another one is published."""


def make_service(context: ExtensionContext) -> MultiService:
    """
    Build the service.

    :raises ValueError: if a setting is wrong, or a file cannot be used.
    """
    chosen = read_settings(context.argument, context.settings)
    policy = CertificatePolicy(chosen.authorities)
    api = KubernetesApi(RequestClient(context.reactor, policy=policy), chosen)
    parts: list[Any] = [
        PublishingService(
            context.reactor,
            context.view,
            KubernetesPublisher(api, chosen),
            chosen.wants,
            name="kubernetes",
            target=f"{chosen.namespace} at {chosen.server}",
            follower_delay=FOLLOWER_DELAY,
        ),
        SecretReader(context.reactor, [chosen.token, *policy.files]),  # type: ignore[list-item]
    ]
    return combined(parts)
