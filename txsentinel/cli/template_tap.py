"""
``twistd txsentinel-template FILE``: files rendered from what Sentinels publish in etcd, where no Sentinel runs.

The lines of the file are those of the extensions ``etcd`` and ``template``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from txsentinel.cli.extensions import UnusableExtension, parse_extensions
from txsentinel.config.disk import read_file
from txsentinel.extensions.etcd.following import EtcdFollower
from txsentinel.extensions.etcd.service import etcd_client
from txsentinel.extensions.etcd.settings import parse
from txsentinel.extensions.secret_file import SecretReader
from txsentinel.extensions.template.publisher import TemplatePublisher
from txsentinel.extensions.template.rendering import TemplateFile
from txsentinel.extensions.template.settings import TemplateSettings, read_files
from txsentinel.model.snapshots import Instant

if TYPE_CHECKING:
    from twisted.application.service import IService

VERIFY_SECONDS = 60.0
"""Interval at which files are rendered again, in case that they were changed."""

RETRY_SECONDS = 5.0
"""Seconds after which a file that could not be rendered is rendered again."""


class Options(usage.Options):
    """The command line."""

    synopsis = "FILE"
    longdesc = "FILE has lines for the extensions etcd and template, as the file of --extensions of a Sentinel."

    def parseArgs(self, *paths: str) -> None:
        """Take the file."""
        if len(paths) != 1:
            raise usage.UsageError("one FILE is needed")
        self["file"] = os.path.abspath(paths[0])


class RenderedFile:
    """One file, rendered again after a failure."""

    _log = Logger(namespace=__name__)

    def __init__(self, reactor: Any, settings: TemplateSettings, follower: EtcdFollower) -> None:
        self._reactor = reactor
        self._settings = settings
        self._follower = follower
        self._failed = False
        self._stopped = False
        self._call: Any = None
        self._publisher = TemplatePublisher(reactor, settings, self._variables)

    def _variables(self) -> Mapping[str, Any]:
        masters = [each for each in self._follower.masters if self._settings.wants(each.name)]
        return {"masters": masters, "name": self._settings.name, "now": str(Instant(int(time.time() * 1000)))}

    def render(self) -> None:
        """Render the file, unless etcd was not read yet: an empty list of masters would be wrong."""
        if self._follower.is_known and not self._stopped:
            self._publisher.render().addCallbacks(self._rendered, self._not_rendered)

    def stop(self) -> Deferred[None]:
        """End the command that runs."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        return self._publisher.stop()

    def _rendered(self, changed: bool) -> None:
        self._failed = False
        if changed:
            self._log.info("{file} was written", file=self._settings.dest)

    def _not_rendered(self, failure: Failure) -> None:
        if self._stopped:
            return
        if not self._failed:
            self._log.warn("{file}: {error}", file=self._settings.dest, error=failure.getErrorMessage())
        self._failed = True
        if self._call is None:
            self._call = self._reactor.callLater(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._call = None
        self.render()


class TemplateProgram(MultiService):
    """Follows etcd, and renders all files after each change."""

    def __init__(self, reactor: Any, etcd: Any, templates: Sequence[TemplateSettings]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        client, files = etcd_client(reactor, etcd)
        follower = EtcdFollower(reactor, client, etcd, self.render)
        self._files = [RenderedFile(reactor, each, follower) for each in templates]
        self._reactor = reactor
        self._check: Any = None
        for service in (follower, SecretReader(reactor, files)):
            service.setServiceParent(self)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Begin."""
        super().startService()  # type: ignore[no-untyped-call]
        self._check = self._reactor.callLater(VERIFY_SECONDS, self._verify)

    def stopService(self) -> Deferred[Any]:
        """End, when no command runs any more."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._check is not None:
            self._check.cancel()
            self._check = None
        return DeferredList([file.stop() for file in self._files], consumeErrors=True)

    def _verify(self) -> None:
        self._check = self._reactor.callLater(VERIFY_SECONDS, self._verify)
        self.render()

    def render(self) -> None:
        """Render all files."""
        for file in self._files:
            file.render()


def makeService(options: Options) -> IService:
    """
    Build the service.

    :raises SystemExit: if the file or a template is wrong.
    """
    from twisted.internet import reactor

    path = options["file"]
    try:
        settings = parse_extensions(path, read_file(path)).settings
        unknown = settings.keys() - {"etcd", "template"}
        if unknown:
            raise ValueError(f"{path}: {', '.join(sorted(unknown))}: only etcd and template can be used here")
        templates = read_files("", settings.get("template", ()))
        for each in templates:
            TemplateFile(each.source).check()
        return TemplateProgram(reactor, parse("", settings.get("etcd", ())), templates)
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from None
    except (ValueError, UnusableExtension) as error:
        raise SystemExit(str(error)) from None
