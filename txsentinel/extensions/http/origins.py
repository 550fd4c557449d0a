"""Refuses requests that a web page of another site makes a browser send."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Final

from txsentinel.extensions.http.problem import Problem, shown

_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::([0-9]{1,5}))?", re.ASCII)

CROSS_SITE: Final = frozenset(["cross-site", "same-site"])
"""Values of ``Sec-Fetch-Site`` of requests that another site caused; a site of the same domain is another one, too."""

READING: Final = frozenset(["GET", "HEAD", "OPTIONS"])
"""Methods that change nothing."""

WITH_BODY: Final = frozenset(["POST", "PUT", "PATCH"])


def check_host(host: str | None, server_names: Collection[str]) -> None:
    """
    Check that the client means this server: a literal address, ``localhost``, or one of the server's names.

    A page of another site can make its own name resolve to our address, but cannot change the name that the browser
    sends. HTTP/1.0 clients, which are no browsers, may leave it out.

    :param server_names: in lower case; one that begins with ``*.`` has all names below a domain.
    :raises Problem: 421 for another name.
    """
    if host is None:
        return
    match = _HOST.fullmatch(host)
    if match is not None:
        name = match[1].strip("[]").rstrip(".").lower()
        if name == "localhost" or name in server_names or _is_literal(name):
            return
        if any(each.startswith("*.") and name.endswith(each[1:]) for each in server_names):
            return
    raise Problem(
        421, "wrong_host", f"this server is not named {shown(host)}; the setting server-names lists its names"
    )


def _is_literal(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_link(method: str, headers: Mapping[str, str]) -> bool:
    """
    Whether the user of a browser follows a link. That may lead here from another site.

    A frame in the page of another site is no link: it could open event streams, though their contents stay hidden.
    """
    target = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return method in READING and target == ("navigate", "document")


def check_site(method: str, headers: Mapping[str, str], host: str | None, secure: bool) -> None:
    """
    Refuse what a page of another site, or a form of any site, can make a browser send.

    :param headers: by names in lower case.
    :raises Problem: 403 for another site, 415 for a body that is not declared as JSON.
    """
    site = headers.get("sec-fetch-site")
    if site in CROSS_SITE:
        raise Problem(403, "cross_site", "the request was caused by a page of another site")
    if method in READING:
        return
    origin = headers.get("origin")
    if origin is not None and origin != f"{'https' if secure else 'http'}://{host}":
        raise Problem(403, "cross_site", f"the request comes from a page of {shown(origin)}")
    if method in WITH_BODY:
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise Problem(415, "unsupported_media_type", "the header Content-Type must be application/json")
