"""Plays the tables to one world and writes down all that is answered and published."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

from tests.differential.configfile import state_lines
from tests.differential.environments import Environment
from tests.differential.raw import CLOSED, SILENCE, Closed, Node, RawConnection, Silence, request
from tests.differential.rendering import masked, render
from tests.differential.tablefile import Group, words_of
from tests.servers import wait_for

TIMEOUT = 30.0
"""Seconds that an answer may take; only cases in which nothing is answered cost that much."""

FIRST = 0.8
"""Seconds without a byte after which raw input counts as not answered."""

QUIET = 0.15
"""Seconds without a byte after which an answer to raw input counts as complete."""

EVENT_TIMEOUT = 60.0
"""Seconds that an event of a failover may take."""

Outcomes = dict[str, list[str]]
"""Case → lines."""


class EventSubscriber:
    """A connection that hears every event of a Sentinel, in order."""

    def __init__(self, port: int) -> None:
        self._connection = RawConnection(port)
        self._connection.send(request([b"PSUBSCRIBE", b"*"]))
        self._connection.read(TIMEOUT)
        self._events: list[tuple[str, str]] = []
        self._tokens = 0
        self.channels: frozenset[str] = frozenset()

    def close(self) -> None:
        """Hear no more."""
        self._connection.close()

    def catch_up(self) -> None:
        """Hear all that was published up to now: frames on one connection keep their order."""
        self._tokens += 1
        token = f"token-{self._tokens}"
        self._connection.send(request([b"PING", token.encode()]))
        while not self._next(TIMEOUT, token):
            continue

    def take(self) -> list[tuple[str, str]]:
        """What was heard since the last time."""
        self.catch_up()
        taken, self._events = self._events, []
        return [event for event in taken if not self.channels or event[0] in self.channels]

    def wait_for(self, channel: str) -> bool:
        """Wait until an event of this channel has been heard that was not taken yet."""
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
    """A connection of a group, and the markers that tell where the answers to one line end."""

    def __init__(self, port: int, protocol: int, locked: bool) -> None:
        self.connection = RawConnection(port)
        self._port = port
        self._protocol = protocol
        self._locked = locked
        self._marks = 0
        self.client_id = ""
        if not locked:
            if protocol == 3:
                self.send([request([b"HELLO", b"3"])])
            self.client_id = str(self.send([request([b"CLIENT", b"ID"])])[0].value)

    def send(self, pieces: Iterable[bytes], slowly: bool = False) -> list[Node]:
        """
        Send all at once, and read the answers.

        An answer without an end, or the end of the connection, is a node of its own.

        :param slowly: wait for what is late before asking for more.
        """
        if self.connection.closed:
            return [Node("", CLOSED)]
        self._marks += 1
        mark = f"mark-{self._marks}"
        if self._locked:
            # Of the commands that need no login, this is the one that does nothing and repeats what it was told.
            marker = request([b"HELLO", str(self._protocol).encode(), mark.encode()])
        else:
            marker = request([b"PING", mark.encode()])
        self.connection.send(b"".join(pieces))
        if slowly:
            time.sleep(QUIET)
        self.connection.send(marker)
        return self._read(TIMEOUT, mark)

    def send_raw(self, data: bytes) -> list[Node]:
        """Send bytes, and read until nothing more comes."""
        self.connection.send(data)
        # However busy the machine is: a Sentinel that has answered others meanwhile has read this, too.
        other = RawConnection(self._port)
        for _ in range(3):
            other.send(request([b"PING"]))
            other.read(TIMEOUT)
        other.close()
        return self._read(FIRST, "")

    def _read(self, seconds: float, mark: str) -> list[Node]:
        answers = []
        while True:
            try:
                answer = self.connection.read(seconds)
            except Silence:
                return answers if not mark else [*answers, Node("", SILENCE)]
            except Closed:
                return [*answers, Node("", CLOSED)]
            if mark and self._is_mark(answer, mark):
                return answers
            answers.append(answer)
            if not mark:
                seconds = QUIET

    @staticmethod
    def _is_mark(answer: Node, mark: str) -> bool:
        if isinstance(answer.value, tuple):
            return [each.value for each in answer.value] == ["pong", mark]
        return answer.value is not None and (
            answer.value == mark or answer.value == f"ERR Syntax error in HELLO option '{mark}'"
        )


class Conversation:
    """All groups, one after the other, with the Sentinel of one world."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.outcomes: Outcomes = {}
        self._names = {word: f"<{name}>" for name, word in environment.words.items()}
        self._subscriber = EventSubscriber(environment.sentinel.port)

    def close(self) -> None:
        """Leave the world alone."""
        self._subscriber.close()

    def run(self, table: str, groups: Sequence[Group]) -> None:
        """Play groups in both versions of the protocol, those that move the world in one."""
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
        """Play all lines."""
        self._subscriber.channels = frozenset()
        self._subscriber.take()
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
            lines = [masked(f"{channel} {payload}", self._names) for channel, payload in self._subscriber.take()]
            return sorted(lines) if "unordered" in self._group.options else lines
        else:
            raise AssertionError(line)
        return []

    def _ask_until(self, word: str, line: str) -> list[str]:
        """The first answer with this word in it, or the last one: between two attempts to connect there are moments."""
        until = time.monotonic() + TIMEOUT
        while True:
            answer = self._send(line)
            if any(word in each for each in answer) or time.monotonic() > until:
                return answer

    def _send(self, line: str) -> list[str]:
        name = "A"
        if line[1:3] == "> ":
            name, line = line[0], line[3:]
        client = self._client(name)
        line = self._filled(line)
        if "raw" in self._group.options:
            answers = client.send_raw(b"".join(words_of(line)))
        elif "inline" in self._group.options:
            answers = client.send([line.encode("utf-8") + b"\r\n"])
        else:
            pieces = [request(words_of(each)) for each in line.split(" ;; ")]
            answers = client.send(pieces, "slow" in self._group.options)
        unordered = "unordered" in self._group.options
        lines = []
        for number, answer in enumerate(answers):
            number_shown = "" if unordered else number
            lines += [f"{number_shown}{each}" for each in render(answer, self._names, unordered)]
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
