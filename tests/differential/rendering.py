"""
Replies as lines: every line has the path in the reply, the type byte and the value.

Lines are compared one by one, so that a difference in one field of a long report is one small difference. Values that
cannot be equal in two processes are masked here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from tests.differential.raw import Node

NUMBER: Final = r"(?:-?\d+|<\w+>)$"
"""A number at the end of a line; numbers that are ports were replaced by their names before."""

MASKS: Final = (
    # Instance maps: times, and counters of a moment.
    (
        r"(\.(?:last-ping-sent|last-ok-ping-reply|last-ping-reply|s-down-time|info-refresh|role-reported-time"
        r"|last-hello-message|link-pending-commands|slave-repl-offset|run-delay|run-time|pid): \$)" + NUMBER,
        r"\1<n>",
    ),
    # IDs made by the conversations are compared. One in a hundred real ones begins with the same digits, so two
    # digits are not enough to recognize them.
    (r"(\.runid: \$)(?!(?:5e){8}|(?:9a){8})[0-9a-f]{40}$", r"\1<run id>"),
    # INFO: figures, and descriptions of the program and the machine. Names and order of fields are compared.
    (
        r"(\| (?:redis_git_sha1|redis_git_dirty|redis_build_id|monotonic_clock|multiplexing_api|atomicvar_api"
        r"|gcc_version|process_id|run_id|server_time_usec|uptime_in_seconds|hz|configured_hz|clients_hz|lru_clock|executable"
        r"|client_recent_max_(?:in|out)put_buffer|connected_clients"
        r"|total_connections_received|total_commands_processed|instantaneous_\w+|total_net_(?:in|out)put_bytes"
        r"|total_error_replies|unexpected_error_replies|total_(?:reads|writes)_processed|reply_buffer_\w+"
        r"|eventloop_\w+|used_cpu_\w+|used_active_time_main_thread|io_threaded_\w+|acl_access_denied_\w+"
        r"|pubsub_clients|pubsub_patterns|pubsub_channels|expire_cycle_cpu_milliseconds"
        r"|client_\w+_disconnections):).*$",
        r"\1<any>",
    ),
    (r"(\| config_file:).*/", r"\1"),
    # Lines about clients: figures that depend on buffers and time.
    (
        r"( (?:id|fd|age|idle|qbuf|qbuf-free|argv-mem|multi-mem|rbs|rbp|obl|oll|omem|tot-mem|tot-net-in|tot-net-out"
        r"|tot-cmds)=)" + NUMBER,
        r"\1<n>",
    ),
    (r"( events=)rw?$", r"\1<any>"),
    (r"(127\.0\.0\.1:)\d{5}$", r"\1<port>"),
    (r"^(\.id: :)" + NUMBER, r"\1<n>"),
    # The order of masters is that of a hash table.
    (r"(\| master)\d+:name=", r"\1<n>:name="),
    # COMMAND DOCS: texts for readers.
    (r"(\.summary: \$).*$", r"\1<text>"),
    (r"(\.complexity: \$O\([^)]*\)).*$", r"\1"),
    (r"(\.history\[\d*\]\[\d*\]: \$)(?!\d+\.\d+\.\d+$).*$", r"\1<text>"),
    # INFO-CACHE: age in milliseconds, then the INFO of a data server.
    (r"((?:\[\d\]){2}\[0\]: :|\[\]\[\]\[\]: :)(?:\d{1,6}|<\w+>)$", r"\1<ms>"),
    # The version in HELLO.
    (r"(\.version: \$)\d+\.\d+\.\d+$", r"\1<version>"),
)
"""Pattern of a whole line or its end → the value that is compared instead."""

_MASKS = [(re.compile(pattern), replacement) for pattern, replacement in MASKS]
_COMMAND_FIELDS = (
    "name",
    "arity",
    "flags",
    "first key",
    "last key",
    "step",
    "categories",
    "tips",
    "key specs",
    "subcommands",
)


def render(node: Node, names: Mapping[str, str], unordered: bool = False) -> list[str]:
    """
    Return the lines of one reply.

    :param names: text that differs between environments → its common name.
    :param unordered: whether lists are compared as sets.
    """
    lines = [masked(line, names) for line in _lines(node, "", unordered)]
    return sorted(lines) if unordered else lines


def masked(line: str, names: Mapping[str, str]) -> str:
    """Return a line with masked values."""
    line = re.sub(r"(?<!\d)\d{5}(?!\d)|/\S*", lambda found: names.get(found[0], found[0]), line)
    for pattern, replacement in _MASKS:
        line = pattern.sub(replacement, line)
    return line


def _lines(node: Node, path: str, unordered: bool) -> Iterator[str]:
    if not isinstance(node.value, tuple):
        yield from _scalar(node, path)
        return
    items = node.value
    pairs = _pairs(node)
    if pairs is not None:
        yield f"{path}: {node.sign} of pairs"
        for key, value in pairs:
            yield from _lines(value, f"{path}.{key.value}", unordered)
    elif _is_command(items):
        for label, item in zip(_COMMAND_FIELDS, items, strict=True):
            yield from _lines(item, f"{path}.{label}", unordered)
    elif items and items[0].sign == "+" and str(items[0].value).endswith("Subcommands are:"):
        yield f"{path}: {node.sign} of help"
        yield from (f"{path}| {item.sign}{item.value}" for item in items if not str(item.value).startswith("    "))
    else:
        yield f"{path}: {node.sign}{len(items)}"
        rendered = [
            list(_lines(item, f"{path}[{_label(item, index, unordered or node.sign == '~')}]", unordered))
            for index, item in enumerate(items)
        ]
        for lines in sorted(rendered) if node.sign == "~" else rendered:
            yield from lines


def _scalar(node: Node, path: str) -> Iterator[str]:
    value = node.value
    assert value is None or isinstance(value, str)
    if value is None:
        yield f"{path}: {node.sign} null"
    elif value.startswith("# ") and "redis_version" in value and "master_replid" in value:
        yield f"{path}: {node.sign} of a data server"
    elif value.startswith("# ") and "\r\n" in value:
        yield f"{path}: {node.sign} of sections"
        yield from (f"{path}| {line}" for line in value.split("\r\n"))
    elif re.match(r"(txt:)?id=\d+ addr=", value):
        yield f"{path}: {node.sign}{value[:4] if value.startswith('txt:') else ''} of clients, ends {value[-1:]!r}"
        for line in value.removeprefix("txt:").splitlines():
            yield from (f"{path}| {pair}" for pair in line.split(" "))
    else:
        yield f"{path}: {node.sign}{_shown(value)}"


def _shown(value: str) -> str:
    """Return printable text for arbitrary bytes."""
    printable = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char >= " " else f"\\x{ord(char):02x}" for char in printable)


def _pairs(node: Node) -> list[tuple[Node, Node]] | None:
    """Return keys and values of a map, or of an array that stands for one in RESP2."""
    items = node.value
    assert isinstance(items, tuple)
    if node.sign == "%":
        return list(zip(items[::2], items[1::2], strict=True))
    if node.sign != "*" or not items or len(items) % 2:
        return None
    keys, values = items[::2], items[1::2]
    if any(key.sign != "$" for key in keys):
        return None
    documents = [value.value for value in values]
    report = keys[0].value in ("name", "summary", "argv", "server") and len(items) > 2
    if report or all(isinstance(inner, tuple) and inner and inner[0].value == "summary" for inner in documents):
        return list(zip(keys, values, strict=True))
    return None


def _is_command(items: tuple[Node, ...]) -> bool:
    """Whether this is an entry of COMMAND."""
    return len(items) == len(_COMMAND_FIELDS) and items[0].sign == "$" and items[1].sign == ":"


def _label(item: Node, index: int, unordered: bool) -> str:
    """Return the label of an element of a list: its name, if it has one."""
    if isinstance(item.value, tuple) and item.value:
        first = item.value[0]
        if _is_command(item.value):
            return str(first.value)
        if first.value == "name" and _pairs(item) is not None:
            return str(item.value[1].value)
    return "" if unordered else str(index)
