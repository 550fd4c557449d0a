"""What a server says to the role-change transaction, and who among its commands was refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from txsentinel.links.encoded_commands import Words
from txsentinel.model.log_text import excerpt
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine


class RoleChange:
    """
    The answers to one transaction, told once EXEC is answered.

    A command that is refused while it is queued, for want of a permission perhaps, takes the whole
    transaction with it, so the first refusal is the one to know. Of those that ran only the decisive
    ones matter: CONFIG REWRITE fails on every server that was started without a file.
    """

    def __init__(
        self,
        commands: Sequence[Words],
        over: Callable[[tuple[str, str] | None], None],
        decisive: Collection[str] = ("SLAVEOF",),
    ) -> None:
        """
        Build one for ``commands``, MULTI first and EXEC last.

        :param decisive: the commands whose failure matters although they were accepted into the transaction.
        :param over: called once with the refused command and the server's error, or with ``None``.
        """
        self._commands = commands
        self._over = over
        self._decisive = decisive
        self._refusal: tuple[str, str] | None = None
        self.void = False
        """Whether nothing of the transaction was carried out, or at least not the decisive command."""

    def answered(self, position: int, reply: object, now: Millis) -> None:
        """The command at ``position`` was answered."""
        last = position == len(self._commands) - 1
        if last and isinstance(reply, list):
            # The results lack MULTI, which comes before the first of them.
            for command, result in zip(self._commands[1:], reply, strict=False):
                if command[0] in self._decisive:
                    self._note(command, result)
                    self.void = self.void or isinstance(result, ErrorLine)
        else:
            self._note(self._commands[position], reply)
            # Without a MULTI that was accepted each command ran by itself, and only EXEC had nothing to do.
            decisive = self._commands[position][0] in self._decisive
            if isinstance(reply, ErrorLine) and (decisive or (last and reply.startswith(b"EXECABORT"))):
                self.void = True
        if last:
            self._over(self._refusal)

    def _note(self, command: Words, reply: object) -> None:
        if self._refusal is None and isinstance(reply, ErrorLine):
            self._refusal = (" ".join(map(str, command)), excerpt(text(reply)))
