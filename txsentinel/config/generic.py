"""
The generic directives, which are not about monitoring: ports, logs, limits, TLS, users.

:data:`SCALARS` maps each single-valued directive to the function that parses its value. A directive with an attribute
in :class:`GenericOptions` is stored there; the words of the others are kept in ``others``.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final, TypeAlias

from txsentinel.config.errors import DirectiveError
from txsentinel.config.keywords import FREE_FORM, INT64_MAX, INTEGER, MEMORY, ONE_OF, TEXT, YES_NO
from txsentinel.config.process_title import expanded
from txsentinel.config.quoting import encoded
from txsentinel.wire.numbers import canonical_integer
from txsentinel.wire.words import yes_or_no

BAD_DIRECTIVE: Final = "Bad directive or wrong number of arguments"
WRONG_NUMBER: Final = "wrong number of arguments"
MIN_BUFFER: Final = 1024 * 1024
MAX_ADDRESSES: Final = 16


@dataclass(frozen=True, slots=True)
class BufferLimit:
    """Output buffer limit: a client is closed at ``hard`` bytes, or after ``seconds`` above ``soft`` bytes."""

    hard: int
    soft: int
    seconds: int


@dataclass(slots=True)
class GenericOptions:
    """
    The values of the generic directives; attributes have the names of the directives, with ``_`` for ``-``.

    Sizes are in bytes, ``timeout`` and ``tcp_keepalive`` in seconds; texts are as written, empty if unset. Relative
    paths are relative to ``dir``; see :meth:`located`.
    """

    port: int = 26379
    tls_port: int = 0
    bind: list[str] = field(default_factory=lambda: ["*", "-::*"])
    """Empty: listen on no address. A leading ``-`` marks addresses that this machine need not have."""

    bind_source_addr: str = ""
    protected_mode: bool = False
    timeout: int = 0
    tcp_keepalive: int = 300
    tcp_backlog: int = 511
    maxclients: int = 10_000
    maxmemory: int = 0
    """Used only where ``maxmemory_clients`` is a percentage."""

    maxmemory_clients: int = 0
    """A negative number is a percentage of ``maxmemory``."""

    unixsocket: str = ""
    unixsocketperm: int = 0
    unixsocketgroup: str = ""
    dir: str = ""
    """An absolute path; by default the working directory at start."""

    logfile: str = ""
    loglevel: str = "notice"
    log_format: str = "legacy"
    log_timestamp_format: str = "legacy"
    syslog_enabled: bool = False
    syslog_ident: str = "redis"
    syslog_facility: str = "local0"
    daemonize: bool = False
    pidfile: str = ""
    supervised: str = "no"
    set_proc_title: bool = True
    proc_title_template: str = "{title} {listen-addr} {server-mode}"
    always_show_logo: bool = False
    requirepass: str = field(default="", repr=False)
    next_requirepass: str = field(default="", repr=False)
    """A second password of the user ``default``; there is no directive for it, only a reference."""

    aclfile: str = ""
    acl_pubsub_default: str = "resetchannels"
    acllog_max_len: int = 128
    client_query_buffer_limit: int = 1 << 30
    proto_max_bulk_len: int = 512 << 20
    hz: int = 10
    enable_debug_command: str = "no"
    extended_redis_compatibility: bool = False
    availability_zone: str = ""
    hide_user_data_from_log: bool = True
    tls_replication: bool = False
    tls_cluster: bool = False
    tls_auth_clients: str = "yes"
    tls_auth_clients_user: str = "off"
    """The field of a client certificate that has the name of its ACL user: ``CN``, ``URI``, or ``off`` for none."""

    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_key_file_pass: str = field(default="", repr=False)
    tls_client_cert_file: str = ""
    tls_client_key_file: str = ""
    tls_client_key_file_pass: str = field(default="", repr=False)
    tls_ca_cert_file: str = ""
    tls_ca_cert_dir: str = ""
    tls_dh_params_file: str = ""
    tls_protocols: str = ""
    tls_ciphers: str = ""
    tls_ciphersuites: str = ""
    tls_prefer_server_ciphers: bool = False
    tls_session_caching: bool = True
    tls_session_cache_size: int = 20_480
    tls_session_cache_timeout: int = 300
    tls_auto_reload_interval: int | None = None
    """Interval in seconds at which the TLS files are checked for changes; 0: never. ``None``: not configured."""

    client_output_buffer_limit: dict[str, BufferLimit] = field(
        default_factory=lambda: {
            "normal": BufferLimit(0, 0, 0),
            "replica": BufferLimit(256 << 20, 64 << 20, 60),
            "pubsub": BufferLimit(32 << 20, 8 << 20, 60),
        }
    )
    users: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """``user`` lines: name and rules, not yet validated."""

    renamed_commands: dict[str, str] = field(default_factory=dict)
    """Our own commands in lower case → new name; empty if the command is disabled."""

    others: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Directive that a Sentinel does not use → words of its last line."""

    @property
    def clients_memory_limit(self) -> int:
        """Bytes that all clients together may use by ``maxmemory-clients``; 0 for no limit."""
        share = self.maxmemory_clients
        return share if share >= 0 else self.maxmemory * -share // 100

    def located(self, path: str) -> str:
        """Return the absolute path for a path in the configuration; empty for an empty one."""
        return os.path.normpath(os.path.join(self.dir, path)) if path else ""

    def process_title(self, program: str, config_path: str) -> str:
        """
        Return the process title by ``proc-title-template``.

        :param program: the value of ``{title}``.
        :raises ValueError: if the template is invalid; those from a configuration were validated.
        """
        port = self.port or self.tls_port
        variables = {
            "title": program,
            "listen-addr": f"{(self.bind or ['*'])[0]}:{port}" if port else f"unixsocket:{self.unixsocket}",
            "server-mode": "[sentinel]",
            "port": str(self.port),
            "tls-port": str(self.tls_port),
            "unixsocket": self.unixsocket,
            "config-file": config_path,
        }
        return expanded(self.proc_title_template, variables)


Reading: TypeAlias = Callable[[str], object]
"""Parses a word to a value; raises :class:`DirectiveError`."""


def yes_no(word: str) -> bool:
    """Parse ``yes`` or ``no`` in any letter case."""
    value = yes_or_no(word)
    if value is None:
        raise DirectiveError("argument must be 'yes' or 'no'")
    return value


def text(word: str) -> str:
    """Accept any text."""
    return word


def integer_between(low: int, high: int) -> Reading:
    """Return a parser for canonical integers within the bounds, both inclusive."""

    def read(word: str) -> int:
        number = canonical_integer(encoded(word))
        if number is None:
            raise DirectiveError("argument couldn't be parsed into an integer")
        return _within(number, low, high)

    return read


def memory_at_least(low: int) -> Reading:
    """Return a parser for a number of bytes with an optional unit: ``k`` is 1,000, ``kb`` is 1,024, and so on."""

    def read(word: str) -> int:
        match = _MEMORY.fullmatch(word)
        unit = None if match is None else _UNITS.get(match[2].lower())
        if match is None or unit is None or int(match[1]) * unit > INT64_MAX:
            raise DirectiveError("argument must be a memory value")
        return _within(int(match[1]) * unit, low, INT64_MAX)

    return read


def memory_or_percentage(word: str) -> int:
    """Parse a number of bytes with an optional unit, or a percentage, which is returned as a negative number."""
    match = _PERCENTAGE.fullmatch(word)
    if match is not None:
        if int(match[1]) > 100:
            raise DirectiveError("percentage argument must be less or equal to 100")
        return -int(match[1])
    try:
        size = memory_at_least(0)(word)
    except DirectiveError:
        raise DirectiveError("argument must be a memory or percent value") from None
    assert isinstance(size, int)
    return size


def permissions(word: str) -> int:
    """Parse file permissions in octal."""
    if not _OCTAL.fullmatch(word):
        raise DirectiveError("argument couldn't be parsed as an octal number")
    if not 0 <= int(word, 8) <= 0o777:
        raise DirectiveError("argument must be between 0 and 777 inclusive")
    return int(word, 8)


def one_of(words: Sequence[str]) -> Reading:
    """Return a parser for one of several words, in any letter case."""
    canonical = {word.lower(): word for word in words}

    def read(word: str) -> str:
        if word.lower() not in canonical:
            raise DirectiveError(f"argument(s) must be one of the following: {', '.join(words)}")
        return canonical[word.lower()]

    return read


def _within(number: int, low: int, high: int) -> int:
    if not low <= number <= high:
        raise DirectiveError(f"argument must be between {low} and {high} inclusive")
    return number


_MEMORY: Final = re.compile(r"([0-9]{1,19})([a-zA-Z]*)", re.ASCII)
_PERCENTAGE: Final = re.compile(r"(0|[1-9][0-9]{0,18})%", re.ASCII)
_OCTAL: Final = re.compile(r"-?[0-7]{1,12}", re.ASCII)
_UNITS: Final = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1 << 10,
    "m": 1000**2,
    "mb": 1 << 20,
    "g": 1000**3,
    "gb": 1 << 30,
}

SCALARS: Final[dict[str, Reading]] = {
    **dict.fromkeys(YES_NO.split(), yes_no),
    **dict.fromkeys(TEXT.split(), text),
    **{name: integer_between(*between) for between, names in INTEGER.items() for name in names.split()},
    **dict.fromkeys(MEMORY.split(), memory_at_least(0)),
    **{name: one_of(words) for name, words in ONE_OF.items()},
    "maxmemory-clients": memory_or_percentage,
    "client-query-buffer-limit": memory_at_least(MIN_BUFFER),
    "proto-max-bulk-len": memory_at_least(MIN_BUFFER),
    "requirepass": text,
    "unixsocketperm": permissions,
}
"""Single-valued directive → parser of its value."""

_SPECIAL: Final = frozenset(
    {"dir", "bind", "users", "client_output_buffer_limit", "renamed_commands", "others", "next_requirepass"}
)
ATTRIBUTES: Final = {row.name.replace("_", "-"): row.name for row in fields(GenericOptions) if row.name not in _SPECIAL}
"""Directive → attribute, for the single-valued directives that a Sentinel uses."""


def apply_generic(options: GenericOptions, name: str, words: Sequence[str]) -> None:
    """
    Apply one generic directive.

    :param name: the directive in lower case.
    :raises DirectiveError: if it is unknown or its words are invalid; ``options`` is unchanged then.
    """
    reading = SCALARS.get(name)
    if reading is not None:
        if len(words) != 1:
            raise DirectiveError(WRONG_NUMBER)
        value = reading(words[0])
        if name == "proc-title-template":
            _check_title_template(options, words[0])
        if name in ATTRIBUTES:
            setattr(options, ATTRIBUTES[name], value)
        else:
            options.others[name] = tuple(words)
    elif name == "bind":
        _bind(options, words)
    elif name == "client-output-buffer-limit":
        _output_buffer_limits(options, words)
    elif name == "user":
        _user(options, words)
    elif name == "rename-command":
        _rename_command(options, words)
    elif name in FREE_FORM:
        if len(words) < FREE_FORM[name]:
            raise DirectiveError(WRONG_NUMBER)
        options.others[name] = tuple(words)
    elif "." in name:
        if not words:
            raise DirectiveError("Module config specified without value")
        options.others[name] = tuple(words)
    else:
        raise DirectiveError(BAD_DIRECTIVE)


def _bind(options: GenericOptions, words: Sequence[str]) -> None:
    """Set the list of addresses, which may be one quoted word; an empty word means no address."""
    addresses = words[0].split() if len(words) == 1 else list(words)
    if len(addresses) > MAX_ADDRESSES:
        raise DirectiveError("Too many bind addresses specified.")
    options.bind = addresses


def _check_title_template(options: GenericOptions, template: str) -> None:
    """Check that the template, with the preceding lines and an empty program name, results in a title."""
    try:
        title = replace(options, proc_title_template=template).process_title("", "sentinel.conf")
    except ValueError:
        title = ""
    if not title:
        raise DirectiveError("template format is invalid or contains unknown variables")


def _output_buffer_limits(options: GenericOptions, words: Sequence[str]) -> None:
    """Apply groups of class, hard limit, soft limit and seconds."""
    if len(words) % 4:
        raise DirectiveError("Wrong number of arguments in buffer limit configuration.")
    limits = {}
    for at in range(0, len(words), 4):
        kind, numbers = words[at].lower(), words[at + 1 : at + 4]
        kind = "replica" if kind == "slave" else kind
        if kind not in ("normal", "replica", "pubsub"):
            raise DirectiveError("Invalid client class specified in buffer limit configuration.")
        size = memory_at_least(0)
        try:
            hard, soft = size(numbers[0]), size(numbers[1])
            seconds = integer_between(0, INT64_MAX)(numbers[2])
        except DirectiveError:
            raise DirectiveError("Error in hard, soft or soft_seconds setting in buffer limit configuration.") from None
        assert isinstance(hard, int) and isinstance(soft, int) and isinstance(seconds, int)
        limits[kind] = BufferLimit(hard, soft, seconds)
    options.client_output_buffer_limit.update(limits)


def _user(options: GenericOptions, words: Sequence[str]) -> None:
    """Record ``user <name> <rule>...``; the ACL validates the rules."""
    if not words:
        raise DirectiveError(BAD_DIRECTIVE)
    if any(name == words[0] for name, _ in options.users):
        raise DirectiveError(
            f"Error in user declaration '{words[0]}': Duplicate user found. "
            "A user can only be defined once in config files"
        )
    options.users.append((words[0], tuple(words[1:])))


def _rename_command(options: GenericOptions, words: Sequence[str]) -> None:
    """Record ``rename-command <old> <new>``; the caller checks that the command exists."""
    if len(words) != 2:
        raise DirectiveError(BAD_DIRECTIVE)
    options.renamed_commands[words[0].lower()] = words[1]
