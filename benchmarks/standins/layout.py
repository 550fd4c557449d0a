"""
Names and addresses of stand-ins: ``m17`` is a master, ``m17r0`` its first replica; the addresses correspond to them.
"""

from __future__ import annotations

from typing import Final

PER_BLOCK: Final = 250
MAX_MASTERS: Final = 250 * PER_BLOCK
MAX_REPLICAS: Final = 200


def master_name(number: int) -> str:
    """The name of a master, here and in the Sentinels' configuration."""
    return f"m{number}"


def replica_name(number: int, replica: int) -> str:
    """The name of a replica."""
    return f"m{number}r{replica}"


def ip_address(number: int, replica: int | None = None) -> str:
    """
    The address of a master or of one of its replicas.

    :raises ValueError: if the numbers are too large.
    """
    if number >= MAX_MASTERS or (replica is not None and replica >= MAX_REPLICAS):
        raise ValueError("not enough addresses for so many stand-ins")
    second = 1 if replica is None else 2 + replica
    return f"127.{second}.{number // PER_BLOCK}.{number % PER_BLOCK + 1}"
