"""Renders a template when masters change, and executes its commands: one run at a time, and the newest state wins."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from txsentinel.extensions.template.commands import CommandProtocol, start
from txsentinel.extensions.template.output import is_unchanged, remove, rename, write_beside
from txsentinel.extensions.template.rendering import TemplateFile
from txsentinel.extensions.template.settings import PLACEHOLDER, TemplateSettings
from txsentinel.interfaces import IPublisher
from txsentinel.model.publications import Publication, PublishOutcome
from txsentinel.model.snapshots import MasterChange


@implementer(IPublisher)
class TemplatePublisher:
    """
    Keeps one file.

    A new address is rendered at once; if more follow, the time between runs grows from ``quiet`` to ``longest``. Other
    changes are rendered when none has followed for ``quiet``. All that was asked for before a run begins is answered by
    its end.

    :param variables: returns the variables of the template.
    """

    def __init__(self, reactor: Any, settings: TemplateSettings, variables: Callable[[], Mapping[str, Any]]) -> None:
        self._reactor = reactor
        self._settings = settings
        self._variables = variables
        self._template = TemplateFile(settings.source)
        self._waiting: list[Deferred[bool]] = []
        self._call: IDelayedCall | None = None
        self._first_asked_at = 0.0
        self._urgent = False
        self._urgent_at: float | None = None
        """When a run for a new address last began."""

        self._spacing = settings.quiet
        """The time from that to the next one."""

        self._command: CommandProtocol | None = None
        self._running: Deferred[None] | None = None
        self._reload_due = False
        self._stopped = False

    def publish(self, change: MasterChange) -> Deferred[Publication | None]:
        """See ``IPublisher``."""

        def ended(changed: bool) -> Publication | None:
            return None if changed else Publication(PublishOutcome.UNCHANGED)

        return self.render(urgent=True).addCallback(ended)

    def verify(self, name: str) -> Deferred[bool]:
        """See ``IPublisher``. What differs is written at once, so that nothing is left to publish."""
        return self.render().addCallback(lambda _: True)

    def render(self, *, urgent: bool = False) -> Deferred[bool]:
        """
        Have the file rendered, soon.

        :param urgent: whether to wait for no further changes.
        :returns: fires with whether it was changed; fails with why it could not be.
        """
        waiter: Deferred[bool] = Deferred(lambda cancelled: self._forget(cancelled))
        self._waiting.append(waiter)
        self._urgent |= urgent
        self._schedule()
        return waiter

    def stop(self) -> Deferred[None]:
        """End the command that runs; fires when nothing runs any more."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        ended: Deferred[None] = Deferred()
        if self._running is None:
            ended.callback(None)
        else:
            self._running.addBoth(lambda _: ended.callback(None))
            if self._command is not None:
                self._command.end("was ended with the Sentinel")
        return ended

    def _forget(self, waiter: Deferred[bool]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def _schedule(self) -> None:
        """Begin a run when it is time, unless one is in progress, whose end begins the next."""
        if self._stopped or self._running is not None:
            return
        now, quiet, longest = self._reactor.seconds(), self._settings.quiet, self._settings.longest
        if self._call is None:
            self._first_asked_at = now
        if self._urgent:
            at = now if self._urgent_at is None else max(self._urgent_at + self._spacing, now)
        else:
            at = min(now + quiet, self._first_asked_at + longest)
        if self._call is not None:
            self._call.cancel()
        self._call = self._reactor.callLater(max(at - now, 0), self._begin)

    def _begin(self) -> None:
        self._call = None
        now, longest = self._reactor.seconds(), self._settings.longest
        if self._urgent:
            follows = self._urgent_at is not None and now - self._urgent_at <= 2 * longest
            self._spacing = min(2 * self._spacing, longest) if follows else self._settings.quiet
            self._urgent, self._urgent_at = False, now
        waiting, self._waiting = self._waiting, []
        running = self._running = self._run(waiting)
        running.addBoth(self._ended)

    def _ended(self, result: object) -> None:
        self._running = None
        if self._waiting:
            self._schedule()

    @inlineCallbacks
    def _run(self, waiting: list[Deferred[bool]]) -> Generator[Deferred[Any], Any, None]:
        result: bool | Exception
        try:
            result = yield self._write()
        except Exception as error:
            result = error
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(result) if isinstance(result, bool) else waiter.errback(result)

    @inlineCallbacks
    def _write(self) -> Generator[Deferred[Any], Any, bool]:
        """Render, check, rename and reload; return whether the file was changed."""
        dest = self._settings.dest
        variables = self._variables()
        contents = yield self._in_thread(self._template.render, variables)
        unchanged = yield self._in_thread(is_unchanged, dest, contents)
        if not unchanged:
            temporary = yield self._in_thread(write_beside, dest, contents, self._settings.mode)
            try:
                yield self._execute("check", self._settings.check, temporary)
                yield self._in_thread(rename, temporary, dest)
            except BaseException:
                yield self._in_thread(remove, temporary)
                raise
            self._reload_due = True
        if self._reload_due:
            yield self._execute("reload", self._settings.reload, dest)
            self._reload_due = False
        return not unchanged

    @inlineCallbacks
    def _execute(self, name: str, words: tuple[str, ...], path: str) -> Generator[Deferred[Any], Any, None]:
        if self._stopped:
            raise CancelledError()
        if words:
            command = [word.replace(PLACEHOLDER, path) for word in words]
            self._command = start(self._reactor, f"the command of {name}", command)
            try:
                yield self._command.finished
            finally:
                self._command = None

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *arguments)
