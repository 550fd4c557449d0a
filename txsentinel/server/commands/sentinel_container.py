"""The SENTINEL container, and the common properties of its subcommands and those of TXSENTINEL."""

from __future__ import annotations

from functools import partial
from typing import Final

from txsentinel.server.handlers import CommandModule, refuse_without_subcommand
from txsentinel.server.specification import Command, container, text_argument

sentinel: Final = partial(Command, flags=("admin",), categories=("admin", "slow", "dangerous"), group="sentinel")
"""Define a subcommand of SENTINEL."""

MAX_WORDS: Final = 64
"""Maximum number of words of a request to TXSENTINEL; there are fewer options, of which each is needed once."""

txsentinel: Final = partial(
    Command,
    flags=("admin",),
    categories=("admin", "slow", "dangerous"),
    group="sentinel",
    hidden=True,
    max_words=MAX_WORDS,
)
"""Define a subcommand of TXSENTINEL."""

MASTER_NAME: Final = (text_argument("master-name"),)


COMMANDS: Final[CommandModule[object]] = {
    container(
        "sentinel",
        arity=-2,
        flags=("admin",),
        categories=("admin", "slow", "dangerous"),
        since="2.8.4",
        summary="Container of the commands of a Sentinel",
        group="sentinel",
    ): refuse_without_subcommand,
}
