"""The options of ``twistd`` with one service only: the plug-ins of Twisted's own services are not loaded."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import ServiceMaker
from twisted.scripts import twistd

if TYPE_CHECKING:
    ServerOptions = Any
else:
    ServerOptions = twistd.ServerOptions


class SentinelServerOptions(ServerOptions):  # type: ignore[misc]  # twistd does not mark it as exported.
    """
    The command line of ``twistd`` with the subcommand ``sentinel``.

    Without it, ``twistd`` loads the modules of all installed services, some 50 modules and 2 MB.
    """

    @property
    def subCommands(self) -> Sequence[tuple[str, None, Callable[[], Any], str]]:
        """The only subcommand, and what ``twistd`` looks up by its name afterwards."""
        maker = ServiceMaker("txsentinel", "txsentinel.cli.tap", "Monitors Redis and Valkey masters.", "sentinel")
        self.loadedPlugins = {maker.tapname: maker}
        return [(maker.tapname, None, lambda: maker.options(), maker.description)]
