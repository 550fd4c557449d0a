"""A simulated Redis server, with everything that a Sentinel can observe of a real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from txsentinel.sim.redis import commands, reports, roles
from txsentinel.sim.redis.instance import RedisInstance
from txsentinel.sim.redis.table import SimCommand


class SimRedis(RedisInstance):
    """A Redis server with all of its commands, on a host of its own."""

    commands: ClassVar[Mapping[str, SimCommand]] = {
        **commands.TABLE.commands,
        **reports.TABLE.commands,
        **roles.TABLE.commands,
    }
