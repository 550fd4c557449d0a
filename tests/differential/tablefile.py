"""
The language of the tables.

``== name words...`` begins a group, which is played on connections of its own; ``#`` begins a comment. Every other
line is a case: the words of one command, quoted as in ``redis-cli``. ``{master}``, ``{replica}``, ``{gone}`` and
``{peer}`` stand for ports of the world in which the case is played, ``{script}`` for the path of a program, and
``{B.id}`` and ``{B.addr}`` for how the Sentinel calls a connection. Words of a group:

* ``inline``: lines are sent as they stand, not as arrays.
* ``raw``: lines are one quoted word each, the very bytes to send; whatever comes until the server hangs up or falls
  silent is the outcome.
* ``resp2``, ``resp3``: only in this version of the protocol; otherwise the group is played in both.
* ``unordered``: the order of what a reply lists means nothing.
* ``slow``: nothing is asked before all that a command causes has come.
* ``locked``: played to the Sentinel that asks for a password.
* ``last``: played once, when all else is done, because it moves the world.

Before a command, ``B>`` and ``C>`` name a further connection to send it by, and ``;;`` between commands sends
several in one piece. Lines that begin with ``!`` are no commands: ``!events`` shows what was published since the
last time, ``!until +channel`` waits until that was heard first, ``!listen +channel...`` hears no more than these
channels from now on, ``!pause milliseconds`` does just that, ``!wait_stable`` waits until all links are up and
what is down is known to be, ``!connected`` until mymaster's peers are, ``!file`` shows the configuration as it is now,
``!ended`` the exit status. A command behind ``?word`` is sent until the word is in its answer.
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
    """The groups of a table, in order."""
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
    Words as ``redis-cli`` takes them: separated by blanks, with ``\\xHH`` and the like between double quotes.

    A word followed by ``*x n`` counts n times over, joined into one.
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
    """What stands up to the closing quote, and the place behind it."""
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
