"""
The functions that execute commands.

A module in ``commands/`` exports its commands as a mapping from specifications to functions. The type of the mapping
states which services of the server the functions need; :func:`bind` provides them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import TypeAlias, TypeVar

from txsentinel.core.errors import CommandError
from txsentinel.server.clients import Client
from txsentinel.server.replies import Reply
from txsentinel.server.specification import Command

Services = TypeVar("Services")

Handler: TypeAlias = Callable[[Services, Client, Sequence[bytes]], Reply]
"""
Executes one command for a client. The whole request is passed, ``request[0]`` being the command word as it was sent.

Returns a value for ``resp.encode`` or one of the other kinds of :data:`~txsentinel.server.replies.Reply`; raises
``CommandError`` to refuse.
"""

CommandModule: TypeAlias = Mapping[Command, Handler[Services]]
"""The commands of one module with their handlers. A container comes before its subcommands."""

BoundHandler: TypeAlias = Callable[[Client, Sequence[bytes]], Reply]
"""A handler that was given its services."""


def bind(services: Services, *modules: CommandModule[Services]) -> dict[Command, BoundHandler]:
    """Give the services to all handlers."""
    # Calling a method costs no more than calling its function; functools.partial copies the arguments.
    return {command: MethodType(handler, services) for module in modules for command, handler in module.items()}


def refuse_without_subcommand(services: object, client: Client, request: Sequence[bytes]) -> Reply:
    """Refuse a container without a subcommand. The arity check refuses it before."""
    raise CommandError("ERR syntax error")
