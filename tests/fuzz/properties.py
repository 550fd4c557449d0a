"""
The properties, each a function of any bytes that raises ``AssertionError`` if it is violated.

``cuts`` has the sizes of the chunks, which are used repeatedly; without any there is one chunk.
numbers being used over and over; none means a single chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from txsentinel.config.configuration import load
from txsentinel.config.directives import classify
from txsentinel.config.document import UNPARSABLE, ConfigDocument
from txsentinel.config.errors import ConfigError
from txsentinel.config.quoting import decoded, split_line
from txsentinel.model.timings import Limits
from txsentinel.sim.fleet import FleetDisk
from txsentinel.wire.hello import HELLO_CHANNEL, Hello, MalformedHello, whole_messages
from txsentinel.wire.info import parse_info
from txsentinel.wire.numbers import HIGHEST_I64, LOWEST_I64
from txsentinel.wire.replies import NEED_MORE, ReplyReader, ReplyViolation, short_replies
from txsentinel.wire.requests import ProtocolError, RequestParser
from txsentinel.wire.resp import pack

Property: TypeAlias = Callable[[bytes, Sequence[int]], None]

LIMITS: Final = Limits()


def chunks(raw: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """Return ``raw`` in chunks."""
    at = number = 0
    while at < len(raw):
        size = max(1, cuts[number % len(cuts)]) if cuts else len(raw)
        yield raw[at : at + size]
        at += size
        number += 1


def read_requests(raw: bytes, cuts: Sequence[int], authenticated: bool = False) -> tuple[list[list[bytes]], str]:
    """Return the requests in ``raw``, and the error that ended them if there was one."""
    parser = RequestParser(LIMITS)
    parser.authenticated = authenticated
    found: list[list[bytes]] = []
    try:
        for chunk in chunks(raw, cuts):
            parser.feed(chunk)
            while (words := parser.next_request()) is not None:
                assert words, "a request without words"
                found.append(words)
                # Progress: the shortest request is a letter and a line feed.
                assert 2 * len(found) <= len(raw), "more requests than bytes for them"
            assert parser.next_request() is None, "nothing, and then something, without a byte more"
    except ProtocolError as error:
        parser.feed(b"PING\r\n")
        assert parser.next_request() is None, "a parser that is spent goes on"
        return found, f"{type(error).__name__}: {error}"
    return found, ""


def requests(raw: bytes, cuts: Sequence[int]) -> None:
    """Any bytes are requests, or the beginning of one, or a ``ProtocolError``, however they are cut."""
    for authenticated in (False, True):
        found, error = read_requests(raw, (), authenticated)
        assert (found, error) == read_requests(raw, cuts, authenticated), "the cuts made a difference"
        again = b"".join(pack(*words) for words in found)
        if authenticated:
            assert read_requests(again, cuts, authenticated) == (found, ""), "what was read does not survive packing"


def read_replies(raw: bytes, cuts: Sequence[int]) -> tuple[list[Any], str]:
    """Return the replies in ``raw``, and the error that ended them if there was one."""
    reader = ReplyReader(LIMITS, resp3=True)
    found: list[Any] = []
    try:
        for chunk in chunks(raw, cuts):
            reader.feed(chunk)
            while (reply := reader.next_reply()) is not NEED_MORE:
                found.append(reply)
                # Progress: the shortest reply is a sign and a line end.
                assert 3 * len(found) <= len(raw), "more replies than bytes for them"
            assert reader.next_reply() is NEED_MORE, "nothing, and then something, without a byte more"
    except ReplyViolation as violation:
        reader.feed(b"+OK\r\n")
        assert reader.next_reply() is NEED_MORE, "a reader that is spent goes on"
        return found, str(violation)
    return found, ""


def replies(raw: bytes, cuts: Sequence[int]) -> None:
    """Any bytes are replies, or the beginning of one, or a ``ReplyViolation``, however they are cut."""
    found, error = read_replies(raw, ())
    printed, cut_error = read_replies(raw, cuts)
    # NaN is never equal to itself; its representation is.
    assert (_typed(found), error) == (_typed(printed), cut_error), "the cuts made a difference"
    known = short_replies(raw)
    if known is not None:
        assert (_typed(list(known)), "") == (_typed(found), error), "the short way leads elsewhere"


def _typed(value: Any) -> Any:
    """Return the value with the types that equality ignores."""
    if isinstance(value, dict):
        return "dict", [(_typed(key), _typed(item)) for key, item in value.items()]
    if isinstance(value, list):
        return type(value).__name__, [_typed(item) for item in value]
    return type(value).__name__, repr(value)


def info(raw: bytes, cuts: Sequence[int]) -> None:
    """Any bytes give a report with numbers within bounds, and the kind of line ends makes no difference."""
    report = parse_info(raw)
    for host, port in report.replicas:
        assert host, "a replica without a host"
        assert 0 < port < 65536, f"a replica at port {port}"
    for number in (report.master_port, report.priority, report.repl_offset):
        assert number is None or LOWEST_I64 <= number <= HIGHEST_I64, number
    assert report.role in (None, "master", "slave"), report.role
    assert report.run_id is None or len(report.run_id.encode("utf-8", "surrogateescape")) == 40, report.run_id
    assert parse_info(raw.replace(b"\r\n", b"\n")) == report, "bare line feeds made a difference"
    assert parse_info(raw + b"\r\n# Unheard\r\nof:1\r\n") == report, "a line that nobody knows made a difference"


def hello(raw: bytes, cuts: Sequence[int]) -> None:
    """Any payload is a hello or a ``MalformedHello``, and a hello can be written and read again."""
    try:
        parsed = Hello.parse(raw)
    except MalformedHello:
        assert raw.count(b",") != 7, "eight fields are no hello"
    else:
        assert Hello.parse(parsed.encode()) == parsed, "another hello came back"
    payloads = whole_messages(raw)
    if payloads is not None:
        messages = [[b"message", HELLO_CHANNEL, payload] for payload in payloads]
        assert read_replies(raw, ()) == (messages, ""), "other readers take this for something else"


def configuration(raw: bytes, cuts: Sequence[int]) -> None:
    """Any file is a configuration or a ``ConfigError`` with the invalid line."""
    try:
        load("/sentinel.conf", raw, disk=FleetDisk())
    except ConfigError as error:
        assert error.message, "no reason"
        if error.line_number is not None:
            line = decoded(raw.split(b"\n")[error.line_number - 1].strip(b" \t\r\n"))
            assert error.line == line, f"line {error.line_number} is {line!r}, not {error.line!r}"


def document(raw: bytes, cuts: Sequence[int]) -> None:
    """A file without changes is written as it was read, except for lines that cannot be split."""
    written = ConfigDocument(raw, classify).render()
    assert ConfigDocument(written, classify).render() == written, "it does not come to rest"
    lines = raw.split(b"\n")
    if not lines[-1]:
        lines.pop()
    expected = b"".join([_as_kept(line) + b"\n" for line in lines])
    assert written == expected, f"{written!r} instead of {expected!r}"


def _as_kept(line: bytes) -> bytes:
    trimmed = line.strip(b" \t\r\n")
    if trimmed and not trimmed.startswith(b"#") and split_line(trimmed) is None:
        return UNPARSABLE.encode() + trimmed
    return line


PROPERTIES: Final[dict[str, Property]] = {
    "requests": requests,
    "replies": replies,
    "info": info,
    "hello": hello,
    "configuration": configuration,
    "document": document,
}
"""Name → property."""
