"""Names and addresses of stand-ins: ``m17`` is a master, ``m17r0`` its first replica; their addresses say the same."""

from __future__ import annotations

from typing import Final

PER_BLOCK: Final = 250
MOST_MASTERS: Final = 250 * PER_BLOCK
MOST_REPLICAS: Final = 200


def master_name(number: int) -> str:
    """What the master of this number is called, by us and in the Sentinels' configuration."""
    return f"m{number}"


def replica_name(number: int, replica: int) -> str:
    """What the given replica of the master of this number is called."""
    return f"m{number}r{replica}"


def ip_address(number: int, replica: int | None = None) -> str:
    """
    The address of a master or of one of its replicas.

    :raises ValueError: if there is no room for so many.
    """
    if number >= MOST_MASTERS or (replica is not None and replica >= MOST_REPLICAS):
        raise ValueError("so many stand-ins have no addresses")
    second = 1 if replica is None else 2 + replica
    return f"127.{second}.{number // PER_BLOCK}.{number % PER_BLOCK + 1}"
