"""The hello: the message by which Sentinels announce themselves and the current address of a master."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from txsentinel.wire.numbers import lenient_int, lenient_unsigned
from txsentinel.wire.resp import data, text

HELLO_CHANNEL: Final = b"__sentinel__:hello"

_FIELDS: Final = 8

_MESSAGE: Final = b"*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$" % (len(HELLO_CHANNEL), HELLO_CHANNEL)
"""The beginning of a message on the channel in RESP2, up to the length of its payload."""


def whole_messages(chunk: bytes) -> list[bytes] | None:
    """
    Return the payloads if ``chunk`` consists of complete messages on `HELLO_CHANNEL` in RESP2, the usual case.

    :returns: ``None`` for anything else, also for an incomplete message: use the general parser then.
    """
    payloads = []
    position, size = 0, len(chunk)
    while position < size:
        if not chunk.startswith(_MESSAGE, position):
            return None
        head = position + len(_MESSAGE)
        line_end = chunk.find(b"\r\n", head, head + 8)
        if line_end < 0:
            return None
        length = chunk[head:line_end]
        if not length.isdigit():
            return None
        end = line_end + 2 + int(length)
        if chunk[end : end + 2] != b"\r\n":
            return None
        payloads.append(chunk[line_end + 2 : end])
        position = end + 2
    return payloads


def has_marker(payload: bytes) -> bool:
    """Whether the current epoch of a hello begins with a zero, which marks those of txsentinel (`Hello.encode`)."""
    epoch = payload.split(b",", 4)[3]
    return len(epoch) > 1 and epoch.startswith(b"0")


class MalformedHello(ValueError):
    """A payload on the hello channel that is not a hello. It is ignored as a whole."""


@dataclass(frozen=True, slots=True)
class Hello:
    """
    One hello: the sender, its current epoch, and the address of one master with its config epoch.

    The values are not validated: ports may be outside 0..65535, epochs reach up to 2⁶⁴−1, and the texts may contain
    anything except a comma. The receiver validates them.
    """

    sentinel_ip: str
    sentinel_port: int
    sentinel_id: str
    current_epoch: int
    master_name: str
    master_ip: str
    master_port: int
    master_config_epoch: int

    @classmethod
    def parse(cls, payload: bytes) -> Hello:
        """
        Parse a payload; numbers are parsed as leniently as by C Sentinels.

        :raises MalformedHello: unless there are exactly eight fields.
        """
        fields = payload.split(b",", _FIELDS)
        if len(fields) != _FIELDS:
            raise MalformedHello(
                f"{len(fields)} fields instead of {_FIELDS}" if len(fields) < _FIELDS else f"more than {_FIELDS} fields"
            )
        ip, port, sentinel_id, current_epoch, name, master_ip, master_port, config_epoch = fields
        return cls(
            text(ip),
            lenient_int(port),
            text(sentinel_id),
            lenient_unsigned(current_epoch),
            text(name),
            text(master_ip),
            lenient_int(master_port),
            lenient_unsigned(config_epoch),
        )

    def encode(self, *, marked: bool = False) -> bytes:
        """
        Return the payload to publish on `HELLO_CHANNEL`.

        :param marked: whether the current epoch begins with a zero, which parsers of numbers ignore: the marker of
            txsentinel.
        """
        marker = "0" if marked else ""
        return data(
            f"{self.sentinel_ip},{self.sentinel_port},{self.sentinel_id},{marker}{self.current_epoch},"
            f"{self.master_name},{self.master_ip},{self.master_port},{self.master_config_epoch}"
        )
