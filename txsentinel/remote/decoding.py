"""Makes the records of the model from the plain values that a Sentinel sends; the inverse of ``model.plain``."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.wire.resp import text
from txsentinel.wire.values import Reply

T = TypeVar("T")


class UnknownForm(Exception):
    """A value is not what the record requires; the text has the path to it. The Sentinel may have another version."""


def plain_reply(reply: Reply) -> Any:
    """Return a reply with texts in place of bytes."""
    if isinstance(reply, bytes):
        return text(reply)
    if isinstance(reply, list):
        return [plain_reply(each) for each in reply]
    if isinstance(reply, dict):
        return {plain_reply(key): plain_reply(value) for key, value in reply.items()}
    return reply


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def decoded(kind: type[T], value: object, path: str = "") -> T:
    """
    Make a record; instants are milliseconds since 1970. Unknown fields are ignored, missing ones are ``None``, empty or
    their default.

    :raises UnknownForm: if a value has a wrong type, or an enumeration a new word.
    """
    return cast(T, _decoded(kind, value, path or kind.__name__))


def _decoded(kind: Any, value: object, path: str) -> object:
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _alternative([each for each in get_args(kind) if each is not type(None)], value, path)
    if origin is tuple:
        return _tuple(get_args(kind), value, path)
    if kind is Instant and isinstance(value, int):
        return Instant(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            raise UnknownForm(f"{path}: {value!r} is unknown") from None
    if is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, value, path)
    if kind is bool and isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise UnknownForm(f"{path}: unexpected {value!r:.60}")


def _alternative(kinds: list[Any], value: object, path: str) -> object:
    """Return the value as the first of several kinds that it fits."""
    if value is None:
        return None
    for kind in kinds[:-1]:
        try:
            return _decoded(kind, value, path)
        except UnknownForm:
            continue
    return _decoded(kinds[-1], value, path)


def _tuple(kinds: tuple[Any, ...], value: object, path: str) -> tuple[object, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UnknownForm(f"{path}: expected a list, got {value!r:.60}")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_decoded(kinds[0], each, f"{path}[{place}]") for place, each in enumerate(value))
    if len(kinds) != len(value):
        raise UnknownForm(f"{path}: expected {len(kinds)} values, got {len(value)}")
    return tuple(_decoded(kind, each, path) for kind, each in zip(kinds, value, strict=True))


def _record(kind: type, value: object, path: str) -> object:
    if not isinstance(value, Mapping):
        raise UnknownForm(f"{path}: expected a map, got {value!r:.60}")
    if kind is Endpoint:
        return Endpoint(str(value.get("host", "")), int(value.get("port", 0)))
    hints = _hints(kind)
    found = {}
    for each in fields(kind):
        if each.name not in value and each.default is not MISSING:
            continue
        found[each.name] = _decoded(hints[each.name], value.get(each.name), f"{path}.{each.name}")
    return kind(**found)
