"""The service: a publishing socket, and sockets that answer surveys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import pynng
from twisted.application.service import Service
from twisted.logger import Logger

from txsentinel.extensions.building import DelayedCalls, ExtensionContext
from txsentinel.extensions.nng.responder import MAX_SURVEY_BYTES, RECEIVE_TIMEOUT_MS, Responder
from txsentinel.extensions.nng.settings import NngSettings, read_settings
from txsentinel.extensions.notifications import NotificationMaker, json_bytes
from txsentinel.extensions.setting_lines import shown

if TYPE_CHECKING:
    from txsentinel.interfaces import ISentinelView
    from txsentinel.model.events import SentinelEvent
    from txsentinel.model.snapshots import ViewChange

RETRY_SECONDS: Final = 5.0
"""Interval of attempts to listen while an address is in use."""

SEND_BUFFER: Final = 128
"""How many messages wait for each subscriber; a slow one does not get more."""


class NngService(Service):
    """Listens on all addresses while it runs. A subscriber that is slow, or not connected, misses events."""

    _log = Logger(namespace=__name__)

    def __init__(self, reactor: Any, view: ISentinelView, settings: NngSettings) -> None:
        self._reactor = reactor
        self._view = view
        self._settings = settings
        self._maker = NotificationMaker(view)
        self._publisher: Any = None
        self._responder: Responder | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._calls = DelayedCalls(reactor, lambda: bool(self.running))
        self._failed: set[str] = set()
        """Addresses whose failure was logged."""

    def startService(self) -> None:
        """Begin to listen."""
        super().startService()  # type: ignore[no-untyped-call]
        tls = tls_config(self._settings) if self._settings.tls_certificate else None
        if self._settings.pub:
            self._publisher = pynng.Pub0(send_buffer_size=SEND_BUFFER, tls_config=tls)
            self._unsubscribe = self._view.subscribe(self._changed, changes=False)
            self._listen(self._publisher, self._settings.pub)
        if self._settings.respond:
            socket = pynng.Respondent0(
                recv_timeout=RECEIVE_TIMEOUT_MS,
                send_timeout=RECEIVE_TIMEOUT_MS,
                recv_max_size=MAX_SURVEY_BYTES,
                tls_config=tls,
            )
            self._listen(socket, self._settings.respond)
            self._responder = Responder(socket, self._view, self._reactor.callFromThread, self._not_answered)
            self._responder.start()

    def stopService(self) -> None:
        """Close the sockets."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._calls.cancel()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
        if self._responder is not None:
            self._responder.stop()
            self._responder = None

    def _listen(self, socket: Any, addresses: Sequence[str]) -> None:
        """Listen on addresses; those that fail are tried again."""
        for address in addresses:
            try:
                socket.listen(address)
            except pynng.NNGException as error:
                if address not in self._failed:
                    self._failed.add(address)
                    self._log.warn(
                        "nng: cannot listen on {address}: {error}; trying again every {seconds} seconds",
                        address=shown(address),
                        error=str(error),
                        seconds=int(RETRY_SECONDS),
                    )
                self._calls.add(RETRY_SECONDS, lambda address=address: self._listen(socket, [address]))  # type: ignore[misc]
            else:
                self._failed.discard(address)
                self._log.info("nng: listening on {address}", address=shown(address))

    def _changed(self, change: ViewChange) -> None:
        event: SentinelEvent | None = change.event
        if event is None or not event.published or self._publisher is None:
            return
        try:
            self._publisher.send(message(self._maker, event), block=False)
        except pynng.TryAgain:
            pass  # As with Pub/Sub, what cannot be sent at once is not sent.
        except pynng.NNGException as error:
            self._log.warn("nng: cannot publish {channel}: {error}", channel=event.channel, error=str(error))

    def _not_answered(self, problem: str) -> None:
        self._log.warn("nng: cannot answer: {problem}", problem=problem)


def message(maker: NotificationMaker, event: SentinelEvent) -> bytes:
    """
    Return the message for an event: its channel, so that subscribers can filter by it, the master, and JSON.

    All events are published, twenty for each failover; so only a switch has the state of the master.
    """
    notification = maker.event(event, with_state=False)
    document = {**notification.data, "id": notification.notification_id, "at": notification.at.rfc3339()}
    name = "-" if event.master is None else event.master
    return f"{event.channel} {name} ".encode("utf-8", "backslashreplace") + json_bytes(document)


def tls_config(settings: NngSettings) -> pynng.TLSConfig:
    """Return the configuration of TLS; clients must have a certificate if there are authorities for them."""
    required = pynng.TLSConfig.AUTH_MODE_REQUIRED if settings.tls_authorities else pynng.TLSConfig.AUTH_MODE_NONE
    return pynng.TLSConfig(
        pynng.TLSConfig.MODE_SERVER,
        cert_key_file=settings.tls_certificate,
        ca_files=[settings.tls_authorities] if settings.tls_authorities else None,
        auth_mode=required,
    )


def make_service(context: ExtensionContext) -> NngService:
    """
    Build the service.

    :raises ValueError: if a setting is wrong or not safe, or a certificate cannot be used.
    """
    chosen = read_settings(context.argument, context.settings)
    if chosen.tls_certificate:
        try:
            tls_config(chosen)
        except (pynng.NNGException, ValueError) as error:
            raise ValueError(f"the certificate or its key cannot be used: {error}") from None
    return NngService(context.reactor, context.view, chosen)
