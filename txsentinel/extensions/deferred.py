"""Extensions of the project as plug-ins, whose packages are imported only if they run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from twisted.plugin import IPlugin
from zope.interface import implementer

from txsentinel.extensions.building import ExtensionContext
from txsentinel.interfaces import ISentinelExtension

if TYPE_CHECKING:
    from twisted.application.service import IService

    from txsentinel.interfaces import IOperator, ISentinelView, IStateDirectory
    from txsentinel.model.extension_settings import ExtensionSetting


@implementer(IPlugin, ISentinelExtension)
class DeferredExtension:
    """
    An extension whose module is imported when its service is built.

    :param function: the full name of a function that takes an ``ExtensionContext`` and returns the service.
    :param extra: the extra of the project that installs the packages that it needs; ``None`` if it needs none.
    """

    def __init__(self, name: str, description: str, function: str, extra: str | None = None) -> None:
        self.name = name
        self.description = description
        self.function = function
        self.extra = extra

    def makeService(
        self,
        view: ISentinelView,
        operator: IOperator,
        argument: str,
        state_dir: IStateDirectory,
        settings: Sequence[ExtensionSetting] = (),
        reactor: object = None,
    ) -> IService:
        """
        Build the service; see ``ISentinelExtension``.

        :raises ImportError: if a package is missing.
        """
        module, _, function = self.function.rpartition(".")
        make = getattr(import_module(module), function)
        service: IService = make(ExtensionContext(view, operator, argument, state_dir, settings, reactor))
        return service
