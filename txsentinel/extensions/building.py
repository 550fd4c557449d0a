"""What the services of extensions are built from, and the calls that they delay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.application.service import IServiceCollection, MultiService

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from txsentinel.interfaces import IOperator, ISentinelView, IStateDirectory
    from txsentinel.model.extension_settings import ExtensionSetting


@dataclass(frozen=True, slots=True)
class ExtensionContext:
    """The parameters of ``ISentinelExtension.makeService``, for the functions that build the services of extensions."""

    view: ISentinelView
    operator: IOperator
    argument: str
    state_dir: IStateDirectory
    settings: Sequence[ExtensionSetting]
    reactor: Any


def combined(parts: Iterable[Any]) -> MultiService:
    """Return a service that consists of these services, which start in their order."""
    service = MultiService()  # type: ignore[no-untyped-call]
    for part in parts:
        part.setServiceParent(IServiceCollection(service))
    return service


class DelayedCalls:
    """
    The delayed calls of a service.

    :param running: whether the service runs.
    """

    def __init__(self, reactor: Any, running: Callable[[], bool]) -> None:
        self._reactor = reactor
        self._running = running
        self._calls: set[IDelayedCall] = set()

    def add(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later, unless the service stops before. Do nothing if it does not run."""
        if not self._running():
            return

        def act() -> None:
            self._calls.discard(call)
            action()

        call = self._reactor.callLater(seconds, act)
        self._calls.add(call)

    def cancel(self) -> None:
        """Do none of what was to be done later."""
        for call in self._calls:
            call.cancel()
        self._calls.clear()
