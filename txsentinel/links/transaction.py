"""Evaluates a server's replies to the role-change transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from txsentinel.links.encoded_commands import GET_TO_WRITE, INFO_OF_HOLD, KILL_NORMAL, Words
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.numbers import canonical_integer
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine


class TransactionReplies:
    """
    Collects the replies to one transaction, and reports the result when EXEC is answered.

    A command that is refused while it is queued, for example for lack of a permission, aborts the whole
    transaction, so the first refusal is reported. Of the executed commands only the decisive ones
    count: CONFIG REWRITE fails on every server that was started without a configuration file.
    """

    def __init__(
        self,
        commands: Sequence[Words],
        done: Callable[[tuple[str, str] | None], None],
        decisive: Collection[str] = ("SLAVEOF",),
    ) -> None:
        """
        Build the evaluation for ``commands``, MULTI first and EXEC last.

        :param done: called once with the refused command and the server's error, or with ``None``.
        :param decisive: the commands whose failure counts although they were queued.
        """
        self._commands = commands
        self._done = done
        self._decisive = decisive
        self._refusal: tuple[str, str] | None = None
        self.void = False
        """Whether nothing of the transaction was executed, or at least not the decisive command."""

        self.info: bytes | None = None
        """The reply to INFO; ``None`` if the transaction has none, or was not executed."""

        self.to_write: int | None = None
        """``min-replicas-to-write``; ``None`` if the transaction does not ask for it, or was not executed."""

        self.clients_closed: int | None = None
        """How many clients CLIENT KILL TYPE normal disconnected; ``None`` if it was not executed."""

    def answered(self, position: int, reply: object, now: Millis) -> None:
        """The command at ``position`` was answered."""
        last = position == len(self._commands) - 1
        if last and isinstance(reply, list):
            # MULTI has no result in the reply to EXEC.
            for command, result in zip(self._commands[1:], reply, strict=False):
                if command == KILL_NORMAL and type(result) is int:
                    self.clients_closed = result
                elif command == INFO_OF_HOLD and isinstance(result, bytes) and not isinstance(result, ErrorLine):
                    self.info = result
                elif command == GET_TO_WRITE and isinstance(result, list) and len(result) == 2:
                    self.to_write = canonical_integer(result[1]) if isinstance(result[1], bytes) else None
                if command[0] in self._decisive:
                    self._note(command, result)
                    self.void = self.void or isinstance(result, ErrorLine)
        else:
            self._note(self._commands[position], reply)
            # If MULTI was refused, each command was executed on its own, and only EXEC had nothing to do.
            decisive = self._commands[position][0] in self._decisive
            if isinstance(reply, ErrorLine) and (decisive or (last and reply.startswith(b"EXECABORT"))):
                self.void = True
        if last:
            self._done(self._refusal)

    def _note(self, command: Words, reply: object) -> None:
        if self._refusal is None and isinstance(reply, ErrorLine):
            self._refusal = (" ".join(map(str, command)), excerpt(text(reply)))
