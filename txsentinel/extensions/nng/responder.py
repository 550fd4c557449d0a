"""Answers surveys in a thread of its own, because a socket that responds has no receiving without blocking."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, Final

import pynng

if TYPE_CHECKING:
    from txsentinel.interfaces import ISentinelView
    from txsentinel.model.plain import Plain

RECEIVE_TIMEOUT_MS: Final = 500
ANSWER_TIMEOUT: Final = 5.0
"""Seconds that the thread waits for the reactor; a survey that it takes longer for is not answered."""

MIN_INTERVAL: Final = 0.002
"""Seconds between two surveys, so that a flood of them takes the reactor a part of its time only."""

MAX_SURVEY_BYTES: Final = 4096


def answer(view: ISentinelView, survey: bytes) -> dict[str, Plain]:
    """
    Return the answer to a survey: the name of a master, or ``*`` for all. Must be called in the reactor's thread.

    C programs send the zero byte at the end of their texts; it is ignored.
    """
    text = survey.rstrip(b"\0\r\n").decode("utf-8", "surrogateescape")
    identity = view.identity()
    reply: dict[str, Plain] = {"sentinel": identity.sentinel_id, "tilt": identity.tilt.active}
    if text == "*":
        return {**reply, "masters": [_master(view, name) for name in view.names()]}
    return {**reply, **_master(view, text)}


def _master(view: ISentinelView, name: str) -> dict[str, Plain]:
    try:
        master = view.master(name)
    except LookupError:
        return {"master": name, "status": "unknown", "address": None, "config_epoch": None}
    return {
        "master": name,
        "status": master.status,
        "address": str(master.address),
        "config_epoch": master.config_epoch,
    }


def encode_answer(value: Mapping[str, Plain]) -> bytes:
    """Return an answer as JSON in UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "backslashreplace")


class Responder:
    """
    One socket with its thread.

    :param in_reactor: calls a function in the reactor's thread, at some time.
    """

    def __init__(
        self,
        socket: pynng.Respondent0,
        view: ISentinelView,
        in_reactor: Callable[[Callable[[], None]], object],
        failed: Callable[[str], None],
    ) -> None:
        self._socket = socket
        self._view = view
        self._in_reactor = in_reactor
        self._failed = failed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nng-respond", daemon=True)
        self.answered = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Close the socket, which ends the thread."""
        self._stopping.set()
        self._socket.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                survey = self._socket.recv()
                reply = self._ask(survey)
                if reply is not None:
                    self._socket.send(reply)
                    self.answered += 1
            except (pynng.Timeout, pynng.MessageStateError):
                continue  # Nothing came, or the one who asked is gone.
            except pynng.Closed:
                break
            except pynng.NNGException as error:
                if not self._stopping.is_set():
                    problem = str(error)
                    self._in_reactor(lambda problem=problem: self._failed(problem))  # type: ignore[misc]
                time.sleep(RECEIVE_TIMEOUT_MS / 1000)
            time.sleep(MIN_INTERVAL)

    def _ask(self, survey: bytes) -> bytes | None:
        """Have the reactor's thread make the answer."""
        replies: Queue[Any] = Queue()

        def make() -> None:
            try:
                replies.put(answer(self._view, survey))
            except Exception:
                replies.put(None)
                raise

        self._in_reactor(make)
        try:
            reply = replies.get(timeout=ANSWER_TIMEOUT)
        except Empty:
            return None
        return None if reply is None else encode_answer(reply)
