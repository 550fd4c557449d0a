"""Explanations of Sentinel events for operators who do not know them by heart."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from txsentinel.model.events import SentinelEvent
from txsentinel.sim.whatif.environment import Fixture, Installed

SILENT: Final = frozenset(
    (
        "+monitor",
        "+slave",
        "+sentinel",
        "+new-epoch",
        "+role-change",
        "-role-change",
        "+failover-state-select-slave",
        "+failover-state-send-slaveof-noone",
        "+failover-state-reconf-slaves",
        "+slave-reconf-inprog",
        "+script-child",
        "-script-child",
        "-cmd-link-reconnection",
        "-pubsub-link-reconnection",
    )
)
"""Events that add nothing to the ones beside them."""

REPORTED_PREFIXES: Final = ("No vote for ", "No failover of ", "WARNING: Sentinel was not able to save")
"""Prefixes of log lines that are no events but belong into a timeline."""

LIKE: Final = frozenset(("+sdown", "-sdown", "+reboot"))
"""Events that often concern many instances at once."""

_RUN_ID: Final = re.compile(r"\b[0-9a-f]{40}\b")


class EventTexts:
    """Explains events, with names in place of IDs and addresses."""

    def __init__(self, fixture: Fixture) -> None:
        self._fixture = fixture
        self._places: dict[str, str] = {}
        for server in fixture.servers:
            self._places[f"{server.place.host}:{server.place.port}"] = server.name
            self._places[str(server.place)] = self._places[f"{server.place.ip}:{server.place.port}"] = server.name
        self._place = re.compile("|".join(rf"(?<![\w.:]){re.escape(place)}(?!\d)" for place in self._places))

    def event(self, sentinel: Installed, event: SentinelEvent) -> str | None:
        """Explain an event; ``None`` for one that is of no interest by itself."""
        if event.channel in SILENT:
            return None
        event_text = _EVENT_TEXTS.get(event.channel)
        if event_text is None:
            return self.names(event.payload)
        text = event_text(self, sentinel, event.payload.split(" "))
        if event.channel == "+vote-for-leader" and len(self._fixture.groups) > 1:
            text += f", for {event.master}"
        return text

    def about(self, event: SentinelEvent) -> str:
        """The subject of one of several like events at one time; empty for events that are listed one by one."""
        return self.instance(event.payload.split(" ")) if event.channel in LIKE else ""

    def note(self, text: str) -> str | None:
        """Explain a log line that is no event, if it is of interest."""
        return self.names(text) if text.startswith(REPORTED_PREFIXES) else None

    def names(self, text: str) -> str:
        """Replace IDs and addresses by names."""
        text = _RUN_ID.sub(lambda match: self._fixture.called(match[0]), text)
        return self._place.sub(lambda match: self._places[match[0]], text)

    def called(self, run_id: str) -> str:
        """The name of a Sentinel."""
        return self._fixture.called(run_id)

    def instance(self, words: list[str]) -> str:
        """The subject of an event, given its payload."""
        kind = words[0]
        if kind == "sentinel":
            return self._fixture.called(words[1])
        server = self._fixture.server_at(words[2], int(words[3]))
        return words[1] if server is None else server.name

    def server(self, host: str, port: str) -> str:
        """The server at an address."""
        found = self._fixture.server_at(host, int(port))
        return f"{host}:{port}" if found is None else found.name

    def master(self, words: list[str]) -> str:
        """The name of the master that an event is about, given its payload."""
        return words[words.index("@") + 1] if "@" in words else words[1]

    def down_after(self, words: list[str]) -> int:
        """The ``down-after-milliseconds`` of a master and its instances."""
        return self._fixture.group(self.master(words)).topology.options.down_after


EventText = Callable[[EventTexts, Installed, list[str]], str]


def _vote(event_texts: EventTexts, sentinel: Installed, words: list[str]) -> str:
    candidate = event_texts.called(words[0])
    return f"votes for {'itself' if candidate == sentinel.name else candidate} in epoch {words[1]}"


def _sdown(event_texts: EventTexts, sentinel: Installed, words: list[str]) -> str:
    return f"holds {event_texts.instance(words)} down: no acceptable answer for {event_texts.down_after(words)} ms"


def _fixed(words: str) -> EventText:
    def event_text(event_texts: EventTexts, sentinel: Installed, payload: list[str]) -> str:
        return words.format(it=event_texts.instance(payload), master=event_texts.master(payload))

    return event_text


_EVENT_TEXTS: Final[dict[str, EventText]] = {
    "+sdown": _sdown,
    "-sdown": _fixed("has an answer from {it} again"),
    "+odown": lambda event_texts, sentinel, words: (
        f"knows {words[-1].partition('/')[0]} Sentinels that hold {event_texts.instance(words)} down; "
        f"the quorum is {words[-1].partition('/')[2]}"
    ),
    "-odown": _fixed("knows fewer than the quorum that hold {it} down"),
    "+try-failover": _fixed("starts a campaign to fail {master} over"),
    "+vote-for-leader": _vote,
    "+elected-leader": _fixed("is elected to fail {master} over"),
    "+selected-slave": _fixed("chooses {it} as the new master:"),
    "+failover-state-wait-promotion": _fixed("orders {it} to be a master"),
    "+promoted-slave": _fixed("sees that {it} is a master, and answers clients with it from now on"),
    "+slave-reconf-sent": _fixed("points {it} to the new master"),
    "+slave-reconf-done": _fixed("sees that {it} is in sync with the new master"),
    "-slave-reconf-sent-timeout": _fixed("waits for {it} no longer"),
    "+slave-reconf-sent-be": _fixed("points {it} to the new master, without waiting for it"),
    "+failover-end-for-timeout": _fixed(
        "ends the failover of {master} without the replicas that do not follow in time"
    ),
    "+failover-end": _fixed("has finished the failover of {master}"),
    "+switch-master": lambda event_texts, sentinel, words: (
        f"announces that {words[0]} moved from {event_texts.server(words[1], words[2])} to "
        f"{event_texts.server(words[3], words[4])}"
    ),
    "+config-update-from": _fixed("learns of the new master from {it}"),
    "-failover-abort-not-elected": _fixed("gives up: it was not elected for {master}"),
    "-failover-abort-no-good-slave": _fixed("gives up: no replica of {master} can be promoted"),
    "-failover-abort-slave-timeout": _fixed("gives up: the chosen replica of {master} does not become a master"),
    "-failover-abort-master-timeout": _fixed("gives up: the old master of {master} does not hand over"),
    "+convert-to-slave": _fixed("makes {it} a replica, as it came back as a master"),
    "+fix-slave-config": _fixed("points {it} to the right master"),
    "+reboot": _fixed("sees that {it} was restarted"),
    "+tilt": lambda event_texts, sentinel, words: (
        "is in TILT: it was stopped, starved or its clock jumped; it only watches"
    ),
    "-tilt": lambda event_texts, sentinel, words: "is out of TILT and acts again",
}
