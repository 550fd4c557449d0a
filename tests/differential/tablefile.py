"""
The language of the tables.

``== name words...`` begins a group, which has connections of its own; ``#`` begins a comment. Every other
line is a case: the words of one command, quoted as in ``redis-cli``. ``{master}``, ``{replica}``, ``{gone}`` and
``{peer}`` stand for ports of the environment, ``{script}`` for the path of a program, and
``{B.id}`` and ``{B.addr}`` for ID and address of a connection. Words of a group:

* ``inline``: lines are sent as they are, not as arrays.
* ``raw``: lines are one quoted word each, the bytes to send; the result is everything received until the server
  closes the connection or sends nothing more.
* ``resp2``, ``resp3``: only in this version of the protocol; otherwise the group is run in both.
* ``unordered``: the order of a list in a reply is ignored.
* ``slow``: the next command is sent after all effects of the previous one have arrived.
* ``locked``: run with the Sentinel that requires a password.
* ``last``: run once, at the end, because it changes the environment.

Before a command, ``B>`` and ``C>`` select a further connection, and ``;;`` between commands sends
several at once. Lines that begin with ``!`` are no commands: ``!events`` shows the events since the
last time, ``!until +channel`` waits for such an event first, ``!listen +channel...`` limits the events to these
channels from now on, ``!pause milliseconds`` waits, ``!wait_stable`` waits until all links are up and
missing instances are down, ``!connected`` until mymaster's peers are up, ``!file`` shows the configuration file,
``!ended`` the exit status. A command behind ``?word`` is sent until the word is in its reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TABLES = Path(__file__).parent / "tables"
CONFIGURATIONS = Path(__file__).parent / "configurations"

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}


@dataclass(frozen=True)
class Group:
    """Cases that belong together."""

    name: str
    options: frozenset[str]
    lines: tuple[str, ...]


def read_groups(file: Path) -> list[Group]:
    """Return the groups of a table, in order."""
    groups: list[tuple[str, frozenset[str], list[str]]] = []
    for raw in file.read_text(encoding="utf-8").splitlines():
        line = raw.strip()
        if line.startswith("=="):
            name, *options = line[2:].split()
            groups.append((name, frozenset(options), []))
        elif line and not line.startswith("# "):
            groups[-1][2].append(line)
    return [Group(name, options, tuple(lines)) for name, options, lines in groups]


def words_of(line: str) -> list[bytes]:
    """
    Split a line as ``redis-cli`` does: by blanks, with ``\\xHH`` and other escapes between double quotes.

    A word followed by ``*x n`` is repeated n times and joined into one.
    """
    words: list[bytes] = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        word = b""
        while at < len(line) and not line[at].isspace():
            if line[at] == '"':
                part, at = _quoted(line, at + 1)
                word += part
            else:
                word += line[at].encode()
                at += 1
        words.append(word)
    while b"*x" in words:
        place = words.index(b"*x")
        words[place - 1 : place + 2] = [words[place - 1] * int(words[place + 1])]
    return words


def _quoted(line: str, at: int) -> tuple[bytes, int]:
    """Return the text up to the closing quote, and the position behind it."""
    word = b""
    while line[at] != '"':
        if line[at] != "\\":
            word += line[at].encode()
            at += 1
        elif line[at + 1] == "x":
            word += bytes.fromhex(line[at + 2 : at + 4])
            at += 4
        else:
            word += _ESCAPES.get(line[at + 1], line[at + 1]).encode()
            at += 2
    return word, at + 1
