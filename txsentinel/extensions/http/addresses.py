"""Finds the instance that a client means by an address, with or without a port."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from txsentinel.extensions.http.problem import bad_request, shown
from txsentinel.model.address import canonical_ip
from txsentinel.model.snapshots import Endpoint

_WITH_PORT: Final = re.compile(r"(\[[^\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?", re.ASCII)


def parse_address(text: str) -> tuple[str, int | None]:
    """
    Return the host, in its canonical form, and the port of ``host:port``, ``[ipv6]:port`` or either without a port.

    :raises Problem: if the text is no address.
    """
    literal = canonical_ip(text)
    if literal is not None:
        return literal, None
    match = _WITH_PORT.fullmatch(text)
    if match is None or (match[2] is not None and not 0 < int(match[2]) < 65536):
        raise bad_request(f"{shown(text)} is not an address such as 10.0.0.1:6379 or [2001:db8::1]:6379")
    return canonical_host(match[1].strip("[]")), None if match[2] is None else int(match[2])


def canonical_host(host: str) -> str:
    """Return a host in the form in which two that are equal have the same text."""
    return canonical_ip(host) or host.casefold()


def find_endpoint(text: str, candidates: Sequence[Endpoint]) -> int | None:
    """
    Return the place of the endpoint that an address means, ``None`` if it means none of them.

    :raises Problem: if the text is no address, or has no port and means more than one.
    """
    host, port = parse_address(text)
    found = [
        place
        for place, each in enumerate(candidates)
        if canonical_host(each.host) == host and port in (None, each.port)
    ]
    if len(found) > 1 and port is None:
        raise bad_request(f"{shown(text)} has {len(found)} instances; add the port")
    return found[0] if found else None
