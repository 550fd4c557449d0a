"""The profile file: what is used for options that are not given."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from txsentinel.cli.operator.statuses import USAGE, VerbFailed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXT_KEYS: Final = (
    "sentinels",
    "user",
    "password-file",
    "server-user",
    "server-password-file",
    "tls-ca",
    "tls-cert",
    "tls-key",
)
TRUTH_KEYS: Final = ("tls", "tls-verify-hostname", "tls-insecure")
KEYS: Final = (*TEXT_KEYS, *TRUTH_KEYS)


def default_path(environment: Mapping[str, str]) -> Path:
    """Return where the file is: below ``XDG_CONFIG_HOME``, or ``~/.config``."""
    base = environment.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base, "txsentinel.toml")


def read_profile(path: Path, name: str | None) -> dict[str, str | bool]:
    """
    Return the values of a profile: those at the top of the file, overruled by those of its table ``[NAME]``.

    :param name: of the table; ``None`` for only what is at the top.
    :returns: empty without a file, unless a profile is named.
    :raises VerbFailed: if the file is unusable, or has no such profile.
    """
    try:
        whole = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if name is None:
            return {}
        raise VerbFailed(f"there is no {path}, where the profile {name!r} should be", USAGE) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise VerbFailed(f"cannot use {path}: {error}", USAGE) from None
    values = {key: value for key, value in whole.items() if not isinstance(value, dict)}
    if name is not None:
        table = whole.get(name)
        if not isinstance(table, dict):
            raise VerbFailed(f"{path} has no profile [{name}]", USAGE)
        values |= table
    return {key: _checked(path, key, value) for key, value in values.items()}


def _checked(path: Path, key: str, value: Any) -> str | bool:
    if key == "sentinels" and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    if key not in KEYS:
        raise VerbFailed(f"{path}: {key!r} is unknown; known are {', '.join(KEYS)}", USAGE)
    wanted = bool if key in TRUTH_KEYS else str
    if not isinstance(value, wanted):
        raise VerbFailed(f"{path}: {key!r} must be {'true or false' if wanted is bool else 'a string'}", USAGE)
    result: str | bool = value
    return result
