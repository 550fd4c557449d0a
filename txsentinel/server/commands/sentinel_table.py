"""The SENTINEL container, and the common properties of its subcommands."""

from __future__ import annotations

from functools import partial
from typing import Final

from txsentinel.server.syntax import text_argument
from txsentinel.server.table import command, container

container(
    "SENTINEL",
    arity=-2,
    flags=("admin",),
    categories=("admin", "slow", "dangerous"),
    since="2.8.4",
    summary="Holds the commands of a Sentinel",
    group="sentinel",
)

sentinel: Final = partial(
    command, "SENTINEL", flags=("admin",), categories=("admin", "slow", "dangerous"), group="sentinel"
)
"""Define a subcommand of SENTINEL."""

MASTER_NAME: Final = (text_argument("master-name"),)
