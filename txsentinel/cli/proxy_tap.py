"""``twistd txsentinel-proxy``: the TCP proxy as a daemon, with the options of ``txsentinel proxy``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from twisted.application.service import Service
from twisted.python import usage

from txsentinel.cli.operator.program import installed_reactor
from txsentinel.cli.operator.proxying import ProxyFiles, ProxyProgram, ProxyWords, with_proxy_options
from txsentinel.cli.operator.statuses import VerbFailed

if TYPE_CHECKING:
    from twisted.application.service import IService

NAME = "twistd txsentinel-proxy"


@click.command(NAME)
@with_proxy_options
def _chosen(words: ProxyWords) -> ProxyWords:
    """Pass TCP connections on to the present master; ``txsentinel proxy`` has the same options."""
    return words


class Options(usage.Options):
    """The command line."""

    synopsis = "--master NAME --listen ENDPOINT --sentinel HOST:PORT,... (see txsentinel proxy --help)"

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the words.

        :raises usage.UsageError: if they are wrong.
        """
        try:
            self["words"] = _chosen.main(list(options or ()), NAME, standalone_mode=False)
        except click.ClickException as error:
            raise usage.UsageError(error.format_message()) from None
        except VerbFailed as error:
            raise usage.UsageError(str(error)) from None
        if not isinstance(self["words"], ProxyWords):  # The help was printed.
            raise SystemExit(0)


class PortNotOpened(Exception):
    """A port cannot be opened; the text has the endpoint and the reason."""


class ProxyService(Service):
    """The proxy, whose ports are opened before the rights of the process are given up."""

    def __init__(self, program: ProxyProgram) -> None:
        self.program = program

    def privilegedStartService(self) -> None:
        """
        Open the ports, and follow the master.

        :raises PortNotOpened: if a port cannot be opened.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        problems: list[str] = []
        self.program.open(problems)
        if problems:
            raise PortNotOpened("; ".join(problems))

    def stopService(self) -> Any:
        """Close the ports and all connections."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self.program.stop()


def makeService(options: Options) -> IService:
    """
    Build the service.

    :raises SystemExit: if a file cannot be used.
    """
    words: ProxyWords = options["words"]
    try:
        return ProxyService(ProxyProgram(installed_reactor(), words, ProxyFiles.of(words.access)))
    except VerbFailed as error:
        raise SystemExit(str(error)) from None
