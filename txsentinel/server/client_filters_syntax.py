"""The filters of CLIENT LIST and CLIENT KILL as COMMAND DOCS describes them."""

from __future__ import annotations

from typing import Final

from txsentinel.server.specification import Argument, integer_argument, multiple, oneof, optional, text_argument, word


def _filters(kinds: tuple[Argument, ...], since: dict[str, str]) -> tuple[Argument, ...]:
    """Return all options but ID and TYPE; ``since`` has the versions of those older than Valkey 9."""
    return (
        optional(text_argument("username", token="USER", since=since["USER"])),
        optional(text_argument("addr", token="ADDR", since=since["ADDR"], display="ip:port")),
        optional(text_argument("laddr", token="LADDR", since=since["LADDR"], display="ip:port")),
        optional(oneof("skipme", word("YES"), word("NO"), token="SKIPME", since=since["SKIPME"])),
        optional(integer_argument("maxage", token="MAXAGE", since=since["MAXAGE"])),
        optional(text_argument("name", token="NAME", since="9.0.0")),
        optional(integer_argument("idle", token="IDLE", since="9.0.0")),
        optional(text_argument("flags", token="FLAGS", since="9.0.0")),
        optional(text_argument("lib-name", token="LIB-NAME", since="9.0.0")),
        optional(text_argument("lib-ver", token="LIB-VER", since="9.0.0")),
        optional(integer_argument("db", token="DB", since="9.0.0")),
        optional(text_argument("capa", token="CAPA", since="9.0.0")),
        optional(text_argument("ip", token="IP", since="9.0.0")),
        optional(oneof("not-client-type", *kinds, token="NOT-TYPE", since="9.0.0")),
        multiple(optional(integer_argument("not-client-id", token="NOT-ID", since="9.0.0"))),
        optional(text_argument("not-username", token="NOT-USER", since="9.0.0")),
        optional(text_argument("not-addr", token="NOT-ADDR", since="9.0.0", display="ip:port")),
        optional(text_argument("not-laddr", token="NOT-LADDR", since="9.0.0", display="ip:port")),
        optional(text_argument("not-name", token="NOT-NAME", since="9.0.0")),
        optional(text_argument("not-flags", token="NOT-FLAGS", since="9.0.0")),
        optional(text_argument("not-lib-name", token="NOT-LIB-NAME", since="9.0.0")),
        optional(text_argument("not-lib-ver", token="NOT-LIB-VER", since="9.0.0")),
        optional(integer_argument("not-db", token="NOT-DB", since="9.0.0")),
        optional(text_argument("not-capa", token="NOT-CAPA", since="9.0.0")),
        optional(text_argument("not-ip", token="NOT-IP", since="9.0.0")),
    )


_LISTED: Final = (word("NORMAL"), word("MASTER"), word("REPLICA"), word("PUBSUB"))
_KILLED: Final = (
    word("NORMAL"),
    word("MASTER", since="3.2.0"),
    word("PRIMARY", since="8.0.0"),
    word("SLAVE"),
    word("REPLICA", since="5.0.0"),
    word("PUBSUB"),
)
_NOT_KILLED: Final = tuple(word(each.token) for each in _KILLED)

LIST_ARGUMENTS: Final = (
    optional(oneof("client-type", *_LISTED, token="TYPE", since="5.0.0")),
    multiple(optional(integer_argument("client-id", token="ID", since="6.2.0"))),
    *_filters(_LISTED, dict.fromkeys(("USER", "ADDR", "LADDR", "SKIPME", "MAXAGE"), "8.1.0")),
)
LIST_HISTORY: Final = (
    ("2.8.12", "Added `id`."),
    ("5.0.0", "Added the `TYPE` option."),
    ("6.0.0", "Added `user`."),
    ("6.2.0", "Added the `ID` option, fields about memory, `laddr` and `redir`."),
    ("7.0.0", "Added `resp`, `multi-mem`, `rbs` and `rbp`."),
    ("7.0.3", "Added `ssub`."),
    ("8.0.0", "Added `lib-name` and `lib-ver`."),
    (
        "8.1.0",
        "Added the options `USER`, `ADDR`, `LADDR`, `SKIPME` and `MAXAGE`. Filters can be combined; all must match.",
    ),
    ("9.0.0", "Added filters by name, flags, library, idle time and IP address, and their negation with `NOT-`."),
)

KILL_ARGUMENTS: Final = (
    oneof(
        "filter",
        Argument("old-format", deprecated_since="2.8.12", display="ip:port"),
        multiple(
            oneof(
                "new-format",
                multiple(optional(integer_argument("client-id", token="ID", since="2.8.12"))),
                optional(oneof("client-type", *_KILLED, token="TYPE", since="2.8.12")),
                *_filters(_NOT_KILLED, {"USER": "", "ADDR": "", "LADDR": "6.2.0", "SKIPME": "", "MAXAGE": "8.0.0"}),
            )
        ),
    ),
)
KILL_HISTORY: Final = (
    ("2.8.12", "Added filters."),
    ("2.8.12", "Added the `ID` option."),
    ("3.2.0", "Added the type `master`."),
    ("5.0.0", "Added the type `replica`."),
    ("6.2.0", "Added the `LADDR` option."),
    ("8.0.0", "Added the `MAXAGE` option."),
    ("8.0.0", "Added the type `primary`."),
    ("8.1.0", "`ID` accepts several IDs."),
    ("9.0.0", "Added filters by name, flags, library, idle time and IP address, and their negation with `NOT-`."),
)
