"""The message by which Sentinels tell each other of themselves and of the masters they agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from txsentinel.wire.numbers import lenient_int, lenient_unsigned
from txsentinel.wire.resp import data, text

HELLO_CHANNEL: Final = b"__sentinel__:hello"

_FIELDS: Final = 8

_MESSAGE: Final = b"*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$" % (len(HELLO_CHANNEL), HELLO_CHANNEL)
"""How a message on the channel begins in RESP2, up to the length of its payload."""


def whole_messages(chunk: bytes) -> list[bytes] | None:
    """
    The payloads, if these bytes are exactly some messages on `HELLO_CHANNEL` in RESP2, as they mostly are.

    :returns: ``None`` for whatever else they are, or may become: read them the ordinary way.
    """
    payloads = []
    position, size = 0, len(chunk)
    while position < size:
        if not chunk.startswith(_MESSAGE, position):
            return None
        head = position + len(_MESSAGE)
        line_end = chunk.find(b"\r\n", head, head + 8)
        length = chunk[head:line_end]
        if line_end < 0 or not length.isdigit():
            return None
        end = line_end + 2 + int(length)
        if chunk[end : end + 2] != b"\r\n":
            return None
        payloads.append(chunk[line_end + 2 : end])
        position = end + 2
    return payloads


class MalformedHello(ValueError):
    """A payload on the hello channel that is not a hello; to be ignored as a whole."""


@dataclass(frozen=True, slots=True)
class Hello:
    """
    One hello: who speaks, its epoch, and where it believes one master to be.

    Ports and epochs are whatever numbers the sender wrote: ports may be outside 0..65535, epochs
    reach up to 2⁶⁴−1. The texts may be anything but hold no comma. Judging them is up to the hearer.
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
        Read a payload; numbers are read as leniently as the C Sentinels do.

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

    def encode(self) -> bytes:
        """The payload to publish on `HELLO_CHANNEL`."""
        return data(
            f"{self.sentinel_ip},{self.sentinel_port},{self.sentinel_id},{self.current_epoch},"
            f"{self.master_name},{self.master_ip},{self.master_port},{self.master_config_epoch}"
        )
