"""A request as handlers get it, and the conversion of its parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from txsentinel.extensions.http.problem import bad_request, shown
from txsentinel.model.snapshots import Instant, Principal

_SIZE: Final = re.compile(r"([0-9]{1,15})\s*(b|kb|mb|gb|tb)?", re.ASCII | re.IGNORECASE)
_SIZE_UNITS: Final = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
_DURATION: Final = re.compile(r"([0-9]{1,12})(ms|s|m|h)", re.ASCII)
_DURATION_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


@dataclass(frozen=True)
class ApiRequest:
    """
    A request that has passed all checks.

    ``parameters`` are the parts of the path that the route names, ``query`` the parameters after the question mark,
    ``headers`` the first header of each name in lower case. ``principal`` is ``None`` on routes without a login.
    """

    method: str
    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    origin: str = ""
    principal: Principal | None = None

    def number(self, name: str, default: int, minimum: int = 0, maximum: int = (1 << 63) - 1) -> int:
        """
        Return a query parameter as a number.

        :raises Problem: if it is none, or out of range.
        """
        text = self.query.get(name)
        if text is None:
            return default
        if not re.fullmatch("[0-9]{1,19}", text, re.ASCII) or not minimum <= int(text) <= maximum:
            raise bad_request(f"the parameter {name} must be a number from {minimum} to {maximum}, not {shown(text)}")
        return int(text)

    def flag(self, name: str) -> bool:
        """
        Return whether a query parameter is set: ``1`` or empty; ``0`` is the default.

        :raises Problem: if it has another value.
        """
        text = self.query.get(name, "0")
        if text not in ("0", "1", ""):
            raise bad_request(f"the parameter {name} must be 0 or 1, not {shown(text)}")
        return text != "0"

    def size(self, name: str) -> int | None:
        """
        Return a query parameter as a number of bytes, such as ``100``, ``16kB`` or ``1MB``; units are powers of 1024.

        :raises Problem: if it is no size.
        """
        text = self.query.get(name)
        if text is None:
            return None
        match = _SIZE.fullmatch(text)
        if match is None:
            raise bad_request(f"the parameter {name} must be a size such as 16kB or 1MB, not {shown(text)}")
        return int(match[1]) * _SIZE_UNITS[(match[2] or "b").lower()]

    def duration(self, name: str) -> int | None:
        """
        Return a query parameter with a unit, such as ``500ms``, ``10s``, ``5m`` or ``1h``, in milliseconds.

        :raises Problem: if it is no duration.
        """
        text = self.query.get(name)
        if text is None:
            return None
        match = _DURATION.fullmatch(text)
        if match is None:
            raise bad_request(f"the parameter {name} must be a duration such as 500ms or 10s, not {shown(text)}")
        return int(match[1]) * _DURATION_UNITS[match[2]]

    def instant(self, name: str) -> Instant | None:
        """
        Return a query parameter as a point in time: RFC 3339, with the offset from UTC.

        :raises Problem: if it is none.
        """
        text = self.query.get(name)
        if text is None:
            return None
        try:
            # A plus sign in a query stands for a blank.
            moment = datetime.fromisoformat(text.replace("Z", "+00:00").replace(" ", "+"))
            if moment.tzinfo is not None:
                return Instant(int(moment.timestamp() * 1000))
        except (ValueError, OverflowError):
            pass
        raise bad_request(f"the parameter {name} must be a time such as 2027-01-31T00:00:00Z, not {shown(text)}")

    def document(self, *names: str) -> dict[str, object]:
        """
        Return the body, which must be a JSON object with no other members than ``names``.

        :raises Problem: if it is something else.
        """
        if not self.body:
            return {}
        try:
            found = json.loads(self.body)
            # JSON can express halves of characters. Only those that stand for a byte have an encoding.
            json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogateescape")
        except (ValueError, RecursionError) as error:
            raise bad_request(f"the body is not valid JSON: {shown(str(error))}") from None
        if not isinstance(found, dict):
            raise bad_request("the body must be a JSON object")
        for name in found:
            if name not in names:
                raise bad_request(f"the body has an unknown member {shown(name)}; known: {', '.join(names) or 'none'}")
        return found
