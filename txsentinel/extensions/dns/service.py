"""The service: publishes, and reads the file of the key again."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import MultiService
from twisted.logger import Logger

from txsentinel.extensions.building import ExtensionContext, combined
from txsentinel.extensions.dns.exchange import exchange
from txsentinel.extensions.dns.publisher import DnsPublisher
from txsentinel.extensions.dns.settings import DnsSettings, read_settings
from txsentinel.extensions.publishing import PublishingService
from txsentinel.extensions.secret_file import SecretReader

if TYPE_CHECKING:
    pass

FOLLOWER_DELAY: Final = (1.0, 3.0)
"""Seconds after which a Sentinel checks whether a switch of another one is published."""

_log = Logger(namespace=__name__)


class NamedMasters:
    """Which masters are published: those that are wanted and can have a name in the zone."""

    def __init__(self, settings: DnsSettings) -> None:
        self._settings = settings
        self._refused: set[str] = set()

    def wanted(self, master: str) -> bool:
        """Whether a master is published; one that cannot be is logged once."""
        if not self._settings.wants(master):
            return False
        try:
            self._settings.relative_name(master)
        except ValueError as error:
            if master not in self._refused:
                self._refused.add(master)
                _log.warn("DNS: {error}", error=str(error))
            return False
        return True


def make_service(context: ExtensionContext) -> MultiService:
    """
    Build the service.

    :raises ValueError: if a setting is wrong, or the file of the key cannot be used.
    """
    chosen = read_settings(context.argument, context.settings)
    publisher = DnsPublisher(chosen, lambda wire: exchange(context.reactor, chosen.server, chosen.port, wire))
    parts: list[Any] = [
        PublishingService(
            context.reactor,
            context.view,
            publisher,
            NamedMasters(chosen).wanted,
            name="dns",
            target=f"{chosen.zone} at {chosen.server}",
            follower_delay=FOLLOWER_DELAY,
        ),
        SecretReader(context.reactor, [chosen.key]),  # type: ignore[list-item]
    ]
    return combined(parts)
