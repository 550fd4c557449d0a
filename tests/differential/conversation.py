"""Runs the tables against one environment and records all replies and events."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

from tests.differential.configfile import state_lines
from tests.differential.environments import Environment
from tests.differential.raw import CLOSED, SILENCE, Closed, Node, RawConnection, Silence
from tests.differential.rendering import masked, render
from tests.differential.tablefile import Group, words_of
from tests.resp import pack
from tests.servers import wait_for

TIMEOUT = 60.0
"""Timeout of a reply in seconds; only cases without a reply take so long."""

FIRST_REPLY_SECONDS = 0.8
"""Seconds without a byte after which raw input counts as unanswered."""

SILENCE_SECONDS = 0.15
"""Seconds without a byte after which a reply to raw input counts as complete."""

EVENT_TIMEOUT = 120.0
"""Timeout of an event of a failover in seconds."""

Outcomes = dict[str, list[str]]
"""Case → lines."""


class EventSubscriber:
    """A connection that receives every event of a Sentinel, in order."""

    def __init__(self, port: int) -> None:
        self._connection = RawConnection(port)
        self._connection.send(pack(b"PSUBSCRIBE", b"*"))
        self._connection.read(TIMEOUT)
        self._events: list[tuple[str, str]] = []
        self._tokens = 0
        self.channels: frozenset[str] = frozenset()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def catch_up(self) -> None:
        """Receive all events published up to now: messages on one connection keep their order."""
        self._tokens += 1
        token = f"token-{self._tokens}"
        self._connection.send(pack(b"PING", token.encode()))
        while not self._next(TIMEOUT, token):
            continue

    def take_events(self) -> list[tuple[str, str]]:
        """Return the events since the last call."""
        self.catch_up()
        taken, self._events = self._events, []
        return [event for event in taken if not self.channels or event[0] in self.channels]

    def wait_for(self, channel: str) -> bool:
        """Wait for an event of this channel that was not returned yet."""
        until = time.monotonic() + EVENT_TIMEOUT
        while all(published != channel for published, _ in self._events):
            try:
                self._next(until - time.monotonic())
            except Silence:
                return False
        return True

    def _next(self, seconds: float, token: str = "") -> bool:
        frame = self._connection.read(max(seconds, 0.01)).value
        assert isinstance(frame, tuple)
        words = [str(each.value) for each in frame]
        if words[0] == "pmessage":
            self._events.append((words[2], words[3]))
        return words == ["pong", token]


class ScriptClient:
    """A connection of a group, with the markers that end the replies to one line."""

    def __init__(self, port: int, protocol: int, locked: bool) -> None:
        self.connection = RawConnection(port)
        self._port = port
        self._protocol = protocol
        self._locked = locked
        self._marks = 0
        self.client_id = ""
        if not locked:
            if protocol == 3:
                self.send([pack(b"HELLO", b"3")])
            self.client_id = str(self.send([pack(b"CLIENT", b"ID")])[0].value)

    def send(self, pieces: Iterable[bytes], slowly: bool = False) -> list[Node]:
        """
        Send everything at once, and read the replies.

        A missing reply or the end of the connection is a node of its own.

        :param slowly: wait for delayed replies before sending more.
        """
        if self.connection.closed:
            return [Node("", CLOSED)]
        self._marks += 1
        mark = f"mark-{self._marks}"
        if self._locked:
            # The only command without login that has no effect and echoes its argument.
            marker = pack(b"HELLO", str(self._protocol).encode(), mark.encode())
        else:
            marker = pack(b"PING", mark.encode())
        self.connection.send(b"".join(pieces))
        if slowly:
            time.sleep(SILENCE_SECONDS)
        self.connection.send(marker)
        return self._read(TIMEOUT, mark)

    def send_raw(self, data: bytes) -> list[Node]:
        """Send bytes, and read until nothing more arrives."""
        self.connection.send(data)
        # A Sentinel that has answered other clients meanwhile has read this, too, even on a busy machine.
        other = RawConnection(self._port)
        for _ in range(3):
            other.send(pack(b"PING"))
            other.read(TIMEOUT)
        other.close()
        return self._read(FIRST_REPLY_SECONDS, "")

    def _read(self, seconds: float, mark: str) -> list[Node]:
        replies: list[Node] = []
        while True:
            try:
                reply = self.connection.read(seconds)
            except Silence:
                return replies if not mark else [*replies, Node("", SILENCE)]
            except Closed:
                return [*replies, Node("", CLOSED)]
            if mark and self._is_mark(reply, mark):
                return replies
            replies.append(reply)
            if not mark:
                seconds = SILENCE_SECONDS

    @staticmethod
    def _is_mark(reply: Node, mark: str) -> bool:
        if isinstance(reply.value, tuple):
            return [each.value for each in reply.value] == ["pong", mark]
        return reply.value is not None and (
            reply.value == mark or reply.value == f"ERR Syntax error in HELLO option '{mark}'"
        )


class Conversation:
    """Runs all groups, one after the other, with the Sentinel of one environment."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.outcomes: Outcomes = {}
        self._names = {word: f"<{name}>" for name, word in environment.words.items()}
        self._subscriber = EventSubscriber(environment.sentinel.port)

    def close(self) -> None:
        """Close the connections."""
        self._subscriber.close()

    def run(self, table: str, groups: Sequence[Group]) -> None:
        """Run groups in both versions of the protocol, those that change the environment in one."""
        for protocol in (2, 3):
            for group in groups:
                chosen = {option for option in group.options if option.startswith("resp")} or {"resp2", "resp3"}
                if "last" in group.options or "raw" in group.options:
                    chosen = chosen if chosen == {"resp3"} else {"resp2"}
                if f"resp{protocol}" in chosen:
                    _GroupRun(self.environment, group, protocol, self._subscriber, self._names).run(
                        f"{table}/{group.name}@{protocol}", self.outcomes
                    )


class _GroupRun:
    """One group."""

    def __init__(
        self, environment: Environment, group: Group, protocol: int, subscriber: EventSubscriber, names: dict[str, str]
    ) -> None:
        self._environment, self._group, self._protocol, self._subscriber, self._names = (
            environment,
            group,
            protocol,
            subscriber,
            names,
        )
        self._clients: dict[str, ScriptClient] = {}

    def run(self, prefix: str, outcomes: Outcomes) -> None:
        """Run all lines."""
        self._subscriber.channels = frozenset()
        self._subscriber.take_events()
        for line in self._group.lines:
            case, count = f"{prefix}: {line}", 1
            while case in outcomes:
                count += 1
                case = f"{prefix}: {line} #{count}"
            if line.startswith("!"):
                outcomes[case] = self._direct(line)
            elif line.startswith("?"):
                outcomes[case] = self._ask_until(*line[1:].split(" ", 1))
            else:
                outcomes[case] = self._send(line)
        for client in self._clients.values():
            client.connection.close()

    def _direct(self, line: str) -> list[str]:
        verb, *words = line[1:].split()
        if verb == "pause":
            time.sleep(int(words[0]) / 1000)
        elif verb == "file":
            text = self._environment.sentinel.config_path.read_text(errors="surrogateescape")
            directory = str(self._environment.sentinel.directory)
            return [masked(line.replace(directory, "<dir>"), self._names) for line in state_lines(text)]
        elif verb == "ended":
            return [f"exit status {self._environment.sentinel.wait_ended(TIMEOUT)}"]
        elif verb == "stable":
            self._environment.wait_stable()
        elif verb == "connected":
            sentinel = self._environment.sentinel
            wait_for(
                lambda: "disconnected" not in str(sentinel.call("SENTINEL", "SENTINELS", "mymaster")),
                TIMEOUT,
                "connections to all peers",
            )
        elif verb == "listen":
            self._subscriber.channels = frozenset(words)
        elif verb == "until":
            return [] if self._subscriber.wait_for(words[0]) else [f"no {words[0]}"]
        elif verb == "events":
            lines = [masked(f"{channel} {payload}", self._names) for channel, payload in self._subscriber.take_events()]
            return sorted(lines) if "unordered" in self._group.options else lines
        else:
            raise AssertionError(line)
        return []

    def _ask_until(self, word: str, line: str) -> list[str]:
        """Return the first reply with this word, or the last reply: connection attempts take some time."""
        until = time.monotonic() + TIMEOUT
        while True:
            reply = self._send(line)
            if any(word in each for each in reply) or time.monotonic() > until:
                return reply

    def _send(self, line: str) -> list[str]:
        name = "A"
        if line[1:3] == "> ":
            name, line = line[0], line[3:]
        client = self._client(name)
        line = self._filled(line)
        if "raw" in self._group.options:
            replies = client.send_raw(b"".join(words_of(line)))
        elif "inline" in self._group.options:
            replies = client.send([line.encode("utf-8") + b"\r\n"])
        else:
            pieces = [pack(*words_of(each)) for each in line.split(" ;; ")]
            replies = client.send(pieces, "slow" in self._group.options)
        unordered = "unordered" in self._group.options
        lines = []
        for number, reply in enumerate(replies):
            number_shown = "" if unordered else number
            lines += [f"{number_shown}{each}" for each in render(reply, self._names, unordered)]
        if unordered:
            lines.sort()
        for name, each in self._clients.items():
            if not each.client_id:
                continue
            lines = [re.sub(rf"(?<=[:=]){each.client_id}$", f"<id of {name}>", text) for text in lines]
        return lines

    def _client(self, name: str) -> ScriptClient:
        client = self._clients.get(name)
        if client is None or (client.connection.closed and "raw" in self._group.options):
            environment, options = self._environment, self._group.options
            port = environment.locked.port if "locked" in options else environment.sentinel.port
            client = ScriptClient(port, self._protocol, "locked" in options or "raw" in options)
            self._clients[name] = client
        return client

    def _filled(self, line: str) -> str:
        for name, word in self._environment.words.items():
            line = line.replace(f"{{{name}}}", word)
        for name in "ABC":
            if f"{{{name}.id}}" in line:
                line = line.replace(f"{{{name}.id}}", self._client(name).client_id)
            if f"{{{name}.addr}}" in line:
                line = line.replace(f"{{{name}.addr}}", f"127.0.0.1:{self._client(name).connection.local_port}")
        return line
