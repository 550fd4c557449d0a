"""The subcommands of SENTINEL about this Sentinel itself: CONFIG, DEBUG and SIMULATE-FAILURE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from txsentinel.config.secrets import refused_beside_reference
from txsentinel.core.errors import CommandError
from txsentinel.model.events import LOG_LEVELS
from txsentinel.model.timings import TIMING_NAMES
from txsentinel.server.arguments import canonical_integer, check_control_characters
from txsentinel.server.commands.sentinel_changes import first_change, once_saved
from txsentinel.server.commands.sentinel_container import sentinel
from txsentinel.server.handlers import CommandModule
from txsentinel.server.information import CRASH_BITS
from txsentinel.server.replies import Reply, Steps, Stepwise
from txsentinel.server.specification import block, multiple, oneof, optional, text_argument, word
from txsentinel.server.steps import PORTION, portions
from txsentinel.wire.glob import glob_match
from txsentinel.wire.resp import OK, Value, data, text
from txsentinel.wire.words import yes_or_no

if TYPE_CHECKING:
    from txsentinel.server.clients import Client
    from txsentinel.server.services import SettingServices

MAX_PORT: Final = 65_535
MAX_PERIOD: Final = 1 << 53
"""Maximum period in milliseconds. C accepts up to 2⁶³−1, which overflows when it is added to a time."""


@dataclass(frozen=True, slots=True)
class Setting:
    """
    One option of SENTINEL CONFIG.

    ``read`` parses the bytes of a client into a value, ``None`` if they are invalid. ``show`` and ``store`` read and
    write the option.
    """

    name: str
    read: Callable[[bytes], object | None]
    show: Callable[[SettingServices], str]
    store: Callable[[SettingServices, object], None]
    for_peers: bool = False
    """Whether the links to other Sentinels authenticate with it."""


def _switch(name: str, attribute: str) -> Setting:
    return Setting(
        name,
        lambda raw: yes_or_no(text(raw)),
        lambda services: "yes" if getattr(services.core.options, attribute) else "no",
        lambda services, value: setattr(services.core.options, attribute, value),
    )


def _words(name: str, attribute: str, for_peers: bool = False) -> Setting:
    return Setting(
        name,
        text,
        lambda services: getattr(services.core.options, attribute) or "",
        lambda services, value: setattr(services.core.options, attribute, value or None),
        for_peers,
    )


def _port(raw: bytes) -> int | None:
    number = canonical_integer(raw)
    return number if number is not None and 0 <= number <= MAX_PORT else None


def _store_port(services: SettingServices, value: object) -> None:
    assert isinstance(value, int)
    services.core.options.announce_port = value


def _log_level(raw: bytes) -> str | None:
    level = text(raw).lower()
    return level if level in LOG_LEVELS else None


def _store_log_level(services: SettingServices, value: object) -> None:
    assert isinstance(value, str)
    services.options.loglevel = value
    services.change_loglevel(value)


SETTINGS: Final = (
    _switch("resolve-hostnames", "resolve_hostnames"),
    _switch("announce-hostnames", "announce_hostnames"),
    _words("announce-ip", "announce_ip"),
    Setting("announce-port", _port, lambda services: str(services.core.options.announce_port), _store_port),
    _words("sentinel-user", "sentinel_user", for_peers=True),
    Setting(
        "sentinel-pass",
        text,
        lambda services: services.core.options.sentinel_pass_source or services.core.options.sentinel_pass or "",
        lambda services, value: setattr(services.core.options, "sentinel_pass", value or None),
        for_peers=True,
    ),
    Setting("loglevel", _log_level, lambda services: services.options.loglevel, _store_log_level),
)
"""The settings in the order of the reply of CONFIG GET."""

BY_NAME: Final = {setting.name.encode(): setting for setting in SETTINGS}

ONLY_GET_AND_SET: Final = (
    "ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET <param> <value> [<param> <value> ...]"
    " are supported."
)


def config(services: SettingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """GET returns the matching options. SET changes all or none, and replies ``OK`` when they are saved."""
    action = request[2].lower()
    if action == b"get":
        return Stepwise(_config_get(services, request))
    if action == b"set" and len(request) > 4:
        return Stepwise(_config_set(services, request))
    raise CommandError(ONLY_GET_AND_SET)


def _config_get(services: SettingServices, request: Sequence[bytes]) -> Steps:
    found: dict[str, Value] = {}
    for index in range(3, len(request)):
        pattern = request[index]
        yield b""
        for setting in SETTINGS:
            if glob_match(pattern, setting.name.encode(), nocase=True):
                found.setdefault(setting.name, setting.show(services))
    return found


def _config_set(services: SettingServices, request: Sequence[bytes]) -> Steps:
    yield from check_control_characters(request, 3, "SENTINEL CONFIG SET")
    changes: dict[str, tuple[Setting, object]] = {}
    for index in range(3, len(request), 2):
        option = request[index]
        setting = BY_NAME.get(option.lower())
        if setting is None:
            raise CommandError(f"ERR Invalid argument '{text(option)}' to SENTINEL CONFIG SET")
        source = services.core.options.sentinel_pass_source
        if source and setting.name == "sentinel-pass":
            raise CommandError(refused_beside_reference(setting.name, source))
        if setting.name in changes:
            raise CommandError(f"ERR Duplicate argument '{text(option)}' to SENTINEL CONFIG SET")
        if index + 1 >= len(request):
            raise CommandError(f"ERR Missing argument '{text(option)}' value")
        value = setting.read(request[index + 1])
        if value is None:
            raise CommandError(
                f"ERR Invalid value '{text(request[index + 1])}' to SENTINEL CONFIG SET '{text(option)}'"
            )
        changes[setting.name] = (setting, value)
    since = first_change(services)
    before = {name: setting.read(data(setting.show(services))) for name, (setting, _) in changes.items()}
    log_in_anew = any(setting.for_peers for setting, _ in changes.values())

    def store(values: Mapping[str, object]) -> None:
        for name, (setting, _) in changes.items():
            setting.store(services, values[name])
        services.core.administration.options_changed(services.host.now(), peers_log_in_anew=log_in_anew)

    store({name: value for name, (_, value) in changes.items()})
    return once_saved(services, partial(store, before), since)


TIMINGS: Final = {name.encode(): attribute for name, attribute in TIMING_NAMES}


def debug(services: SettingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Return all timings without arguments; otherwise change them from left to right, until the next start."""
    timings = services.core.timings
    if len(request) == 2:
        return {name.upper(): str(getattr(timings, attribute)) for name, attribute in TIMING_NAMES}

    def steps() -> Steps:
        for index in range(2, len(request), 2):
            option = text(request[index])
            attribute = TIMINGS.get(request[index].lower())
            if attribute is None or index + 1 >= len(request):
                raise CommandError(f"ERR Unknown option or number of arguments for SENTINEL DEBUG '{option}'")
            value = canonical_integer(request[index + 1])
            if value is None or not 0 < value <= MAX_PERIOD:
                raise CommandError(f"ERR Invalid argument '{text(request[index + 1])}' for SENTINEL DEBUG '{option}'")
            setattr(timings, attribute, value)
            services.core.state.touch(None)
            if not index % PORTION:
                yield b""
        return OK

    return Stepwise(steps())


def simulate_failure(services: SettingServices, client: Client, request: Sequence[bytes]) -> Reply:
    """Replace the simulated failures; HELP returns the possible words."""
    ordered = services.core.simulate_crash
    ordered.clear()

    def steps() -> Steps:
        for portion in portions(request, 2):
            for raw in portion:
                mode = text(raw).lower()
                if mode == "help":
                    return list(CRASH_BITS)
                if mode not in CRASH_BITS:
                    raise CommandError("ERR Unknown failure simulation specified")
                ordered.add(mode)
            yield b""
        return OK

    return Stepwise(steps())


COMMANDS: Final[CommandModule[SettingServices]] = {
    sentinel(
        "sentinel|config",
        arity=-4,
        since="6.2.0",
        summary="Returns or changes parameters of this Sentinel",
        complexity="O(N) where N is the number of parameters",
        arguments=(
            oneof(
                "action",
                multiple(block("set", text_argument("parameter"), text_argument("value"), token="SET")),
                multiple(text_argument("parameter", token="GET")),
            ),
        ),
        history=(("7.2.0", "Accepts several parameters."),),
        acts=True,
    ): config,
    sentinel(
        "sentinel|debug",
        arity=-2,
        since="7.0.0",
        summary="Returns or changes periods and timeouts",
        complexity="O(N) where N is the number of parameters",
        arguments=(optional(multiple(block("data", text_argument("parameter"), text_argument("value")))),),
        acts=True,
    ): debug,
    sentinel(
        "sentinel|simulate-failure",
        arity=-3,
        since="3.2.0",
        summary="Makes this Sentinel crash during its next failover, for tests",
        arguments=(
            optional(
                multiple(oneof("mode", word("CRASH-AFTER-ELECTION"), word("CRASH-AFTER-PROMOTION"), word("HELP")))
            ),
        ),
        acts=True,
    ): simulate_failure,
}
