"""
The messages of an explored group, and what one step of a Sentinel puts out.

Messages on one connection keep their order, as TCP does. What is answered within a round trip and changes nothing at
the receiver (PING, INFO, ROLE, PUBLISH on a server) is no message: see :mod:`~txsentinel.sim.explore.process`.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from txsentinel.sim.explore.topology import SENTINEL_NAMES, SERVER_NAMES, candidate_name


class Query(NamedTuple):
    """``SENTINEL is-master-down-by-addr`` about a server; ``candidate`` is a Sentinel or −1."""

    about: int
    epoch: int
    candidate: int

    def __str__(self) -> str:
        """Return a clause for traces."""
        if self.candidate < 0:
            return f"is {SERVER_NAMES[self.about]} down?"
        return f"vote for {SENTINEL_NAMES[self.candidate]} in epoch {self.epoch} ({SERVER_NAMES[self.about]} is down)"


class Answer(NamedTuple):
    """
    The reply to a :class:`Query`; ``leader`` is a Sentinel or −1.

    The asker knows from the order of replies which server it is about; here the reply has it, for the checks.
    """

    about: int
    down: bool
    leader: int
    epoch: int

    def __str__(self) -> str:
        """Return a clause for traces."""
        vote = f", voted for {candidate_name(self.leader)} in epoch {self.epoch}" if self.epoch else ""
        return f"{SERVER_NAMES[self.about]} is {'down' if self.down else 'up'}{vote}"


class HelloMessage(NamedTuple):
    """A hello, sent to a peer by PUBLISH."""

    payload: bytes

    def __str__(self) -> str:
        """Return a clause for traces."""
        words = self.payload.decode().split(",")
        return f"hello: epoch {int(words[3])}, {words[5]} with config epoch {words[7]}"


class Order(NamedTuple):
    """The role-change transaction; ``follows`` is a server, or ``servers.NO_ONE``."""

    follows: int

    def __str__(self) -> str:
        """Return a clause for traces."""
        return "SLAVEOF NO ONE" if self.follows < 0 else f"SLAVEOF {SERVER_NAMES[self.follows]}"


class Report(NamedTuple):
    """The INFO reply that follows an executed :class:`Order`."""

    text: bytes

    def __str__(self) -> str:
        """Return a clause for traces."""
        return "INFO, " + next(line for line in self.text.decode().split("\r\n") if line.startswith("role:"))


class Unowned(NamedTuple):
    """A message of a process that has crashed since; nobody waits for its reply."""

    message: Query | HelloMessage | Order

    def __str__(self) -> str:
        """Return a clause for traces."""
        return f"{self.message} (sent before the crash)"


Request: TypeAlias = Query | HelloMessage | Order | Unowned
Reply: TypeAlias = Answer | Report


class Sent(NamedTuple):
    """A request to ``target`` was sent."""

    target: int
    request: Request


class Replied(NamedTuple):
    """A reply to Sentinel ``sentinel`` was sent."""

    sentinel: int
    reply: Reply


class Closed(NamedTuple):
    """The connection to ``target`` was closed: nothing on it arrives any more."""

    target: int


class Claim(NamedTuple):
    """
    A fact that concerns the whole group: who leads in an epoch (S3), or which address has a config epoch (S5).

    ``invariant`` is ``S3`` or ``S5``, ``value`` the Sentinel or the server.
    """

    invariant: str
    epoch: int
    value: int


class Broken(NamedTuple):
    """An invariant was violated."""

    invariant: str
    what: str

    def __str__(self) -> str:
        """Return a line for reports."""
        return f"{self.invariant}: {self.what}"


Output: TypeAlias = Sent | Replied | Closed | Claim | Broken
