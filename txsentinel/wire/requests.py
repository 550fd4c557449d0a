"""
What clients send us: pipelined commands as multibulk or inline requests, cut into chunks anywhere.

The grammar, its limits and its errors are those of Redis 7 (upstream: ``networking.c``). How the
bytes are cut never matters: the same requests and the same error come out, and every byte is looked
at a bounded number of times. Requests are pulled one by one, since the meaning of the next may
depend on this one: an ``AUTH`` widens the limits for whatever was sent right behind it.
"""

from __future__ import annotations

import re
from typing import Final

from txsentinel.model.timings import Limits
from txsentinel.wire.numbers import HIGHEST_I64, LOWEST_I64
from txsentinel.wire.resp import text


class ProtocolError(Exception):
    """
    The client broke the protocol: tell it and close the connection.

    ``str(error)`` is what follows ``-ERR `` in the reply; it may hold a byte of the client, so it
    has to be written as an error line, where line ends become spaces.
    """


class PseudoHttp(ProtocolError):
    """A browser was tricked into talking to us: close at once, without a reply to anything in this read."""


class QueryBufferExceeded(ProtocolError):
    """More input than we care to keep: close without a reply."""


UNAUTHENTICATED_QUERY_BUFFER: Final = 1 << 20
"""Bytes of input that a client which has not authenticated may pile up (upstream: 1 MiB)."""

WORD_OVERHEAD: Final = 64
"""Memory that each word of an unfinished request is charged with beside its bytes, so that tiny ones are not free."""

_STAR: Final = ord("*")
_DOLLAR: Final = ord("$")

_BULK_HEADERS: Final = {b"$%d" % length: length for length in range(1024)}
"""Headers of bulks of ordinary length; to be found here is to be canonical."""

_MULTIBULK_HEADERS: Final = {b"*%d" % count: count for count in range(1, 11)}
"""Headers of requests of ordinary size."""

_MAX_ORDINARY_HEADER: Final = 6
"""Bytes of the longest of all these, with its CR."""

_ORDINARY_CHUNK: Final = 1024
"""Bytes of a chunk that may be taken for one whole request; no word in it is too long for its header to be known."""

_MIN_COMPACTION: Final = 128
"""Bytes of input beyond which it is cut apart at once."""

_NO_WINDOW: Final[list[bytes]] = []

_CANONICAL_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_BLANKS: Final = re.compile(rb"[ \t-\r]*")
_PLAIN_WORD: Final = re.compile(rb"[^ \n\r\t\"']+")
_DOUBLE_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"(?=[ \t-\r]|\Z)', re.DOTALL)
_SINGLE_QUOTED: Final = re.compile(rb"'((?:[^'\\]|\\'|\\(?!'))*)'(?=[ \t-\r]|\Z)", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_NEEDS_CARE: Final = re.compile(rb"[\"'\v\f]")


class RequestParser:
    """
    Cuts a stream of bytes into requests, each a list of at least one word.

    A word longer than ``limits.kept_word`` is passed over and stands empty in its request; ``longest`` tells of it.

    After an error the parser is spent: it holds nothing, takes nothing and yields nothing more.
    """

    __slots__ = (
        "_buffer",
        "_charge",
        "_cut_to",
        "_hidden",
        "_length",
        "_limits",
        "_missing",
        "_ordinary",
        "_position",
        "_rest",
        "_scanned",
        "_spent",
        "_window",
        "_window_at",
        "_words",
        "authenticated",
        "cost",
        "longest",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.authenticated = False
        """Set by the owner; while false the tight limits for strangers hold, from the next header on."""

        self.longest = 0
        """Bytes of the longest word of the last request, if it is out of the ordinary; else 0."""

        self.cost = 0
        """Bytes of the last request with their overhead, if it is out of the ordinary; else 0."""

        # Up to this size nothing about a request of ten words can be over any limit.
        self._ordinary = min(
            _ORDINARY_CHUNK,
            limits.bulk_length,
            limits.unauthenticated_bulk_length,
            limits.query_buffer - len(_MULTIBULK_HEADERS) * WORD_OVERHEAD,
        )
        if min(limits.unauthenticated_multibulk_count, limits.multibulk_count) < len(_MULTIBULK_HEADERS):
            self._ordinary = 0
        self._buffer: bytes | bytearray = b""
        # A chunk that holds whole requests is read where it is; only a remainder is copied to grow.
        self._position = 0
        self._scanned = 0
        self._hidden = False
        self._words: list[bytes] = []
        self._missing = 0
        self._length = -1
        self._rest = 0
        """Bytes to come of a word that is passed over."""

        self._charge = 0
        self._spent = False
        # The lines that stand at the position and behind it, as far as they have been cut apart.
        self._window = _NO_WINDOW
        self._window_at = 0
        self._cut_to = 0

    @property
    def buffered(self) -> int:
        """Bytes held: input not yet looked at, and the unfinished request with its overhead."""
        charge = self._charge if self._length < 0 else self._charge - self._length - WORD_OVERHEAD
        return len(self._buffer) - self._position + charge

    @property
    def at_rest(self) -> bool:
        """Does whatever comes next begin a request?"""
        return not self._buffer and not self._missing and not self._spent

    def feed(self, data: bytes) -> None:
        """
        Take the next chunk.

        :raises QueryBufferExceeded: if more than the allowed input is already waiting to be pulled. Whoever
            pulls until there is nothing never meets this: an unfinished request is judged by `next_request`.
        """
        if self._spent:
            return
        self._close_window()
        self._cut_to = 0
        waiting = len(self._buffer) - self._position
        if not waiting:
            self._buffer = bytes(data)
            self._position = self._scanned = 0
            return
        if waiting > self._max_buffered():
            self.discard()
            raise QueryBufferExceeded("too much input is waiting")
        if isinstance(self._buffer, bytearray):
            del self._buffer[: self._position]
        else:
            self._buffer = bytearray(memoryview(self._buffer)[self._position :])
        self._buffer += data
        self._scanned = max(self._scanned - self._position, 0)
        self._position = 0

    def next_request(self) -> list[bytes] | None:
        """
        The next request, or ``None`` until more bytes arrive. Blank lines and empty arrays are passed over.

        :raises ProtocolError: for input that ends the connection.
        """
        try:
            request = self._next()
            if request is not None and len(request[0]) in (4, 5) and request[0].lower() in (b"post", b"host:"):
                raise PseudoHttp("this is not a web server")
        except ProtocolError:
            self.discard()
            raise
        return request

    def _next(self) -> list[bytes] | None:
        while True:
            if self._missing:
                return self._rest_of_multibulk()
            self.longest = self.cost = 0
            if self._position == len(self._buffer):
                # An idle client shall not hold on to the last chunk that it sent.
                self._buffer = b""
                self._step_to(0)
                self._close_window()
                return None
            if self._buffer[self._position] == _STAR:
                if self._scanned == self._position:
                    # Nobody has looked at this request yet. Who did found its header incomplete, and to cut apart
                    # all that is there for each further byte of it would be work without end.
                    if not self._position and len(self._buffer) <= self._ordinary:
                        words = self._whole_chunk()
                        if words is not None:
                            return words
                    words = self._from_window()
                    if words is not None:
                        return words
                if not self._multibulk_header():
                    return None
            else:
                self._close_window()
                words = self._inline()
                if words is None or words:
                    return words

    def _whole_chunk(self) -> list[bytes] | None:
        """
        The request, if the chunk is exactly one ordinary multibulk as most clients send it; else ``None``.

        Such a chunk falls apart at its line ends; when every length agrees with what lies between them,
        reading it step by step would give the same.
        """
        pieces = bytes(self._buffer).split(b"\r\n")
        count = _MULTIBULK_HEADERS.get(pieces[0])
        if count is None or len(pieces) != 2 * count + 2 or pieces.pop():
            return None
        words = pieces[2::2]
        if [_BULK_HEADERS.get(header) for header in pieces[1::2]] != [len(word) for word in words]:
            return None
        self._buffer = b""
        self._step_to(0)
        return words

    def _from_window(self) -> list[bytes] | None:
        """
        The next request of a pipeline, if it is an ordinary multibulk; else ``None``, and nothing has happened.

        As with a whole chunk, but a stretch of the buffer falls apart at once, and requests are taken from it
        one by one, as long as everything agrees. Where that came to nothing, no part of the stretch is cut again.
        """
        words = self._next_in_window() if self._window else None
        if words is None:
            start = self._position
            if start >= self._cut_to and len(self._buffer) - start > _MIN_COMPACTION:
                self._window = bytes(self._buffer[start : start + self._ordinary]).split(b"\r\n")
                self._window.pop()  # It has no line end yet.
                self._window_at = 0
                words = self._next_in_window()
                if words is None:
                    self._cut_to = start + self._ordinary
            if words is None:
                self._close_window()
        return words

    def _next_in_window(self) -> list[bytes] | None:
        window, at = self._window, self._window_at
        count = _MULTIBULK_HEADERS.get(window[at]) if at < len(window) else None
        if count is None:
            return None
        end = at + 2 * count + 1
        words, headers = window[at + 2 : end : 2], window[at + 1 : end : 2]
        lengths = [len(word) for word in words]
        if len(lengths) < count or [_BULK_HEADERS.get(header) for header in headers] != lengths:
            return None
        self._window_at = end
        line_ends = 2 * (2 * count + 1)
        self._step_to(self._position + len(window[at]) + sum(map(len, headers)) + sum(lengths) + line_ends)
        return words

    def _close_window(self) -> None:
        """Whoever steps on in another way, or changes the buffer, has to call this."""
        self._window = _NO_WINDOW
        self._window_at = 0

    def _multibulk_header(self) -> bool:
        """Step over ``*count``; ``False`` while it is incomplete. A count of nothing needs no more steps."""
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\r", start, start + _MAX_ORDINARY_HEADER)
        count = _MULTIBULK_HEADERS.get(bytes(buffer[start:end])) if 0 < end < len(buffer) - 1 else None
        if count is None:
            end = self._end_of_header("Protocol error: too big mbulk count string")
            if end < 0:
                return False
            count = _canonical(bytes(buffer[start + 1 : end]))
        if count is None or count > self._limits.multibulk_count:
            raise ProtocolError("Protocol error: invalid multibulk length")
        if not self.authenticated and count > self._limits.unauthenticated_multibulk_count:
            raise ProtocolError("Protocol error: unauthenticated multibulk length")
        self._step_to(end + 2)
        self._missing = max(count, 0)
        return True

    def _rest_of_multibulk(self) -> list[bytes] | None:
        """Collect the words that are still missing, each ``$length`` and payload."""
        most = self._limits.bulk_length
        if not self.authenticated:
            most = min(most, self._limits.unauthenticated_bulk_length)
        buffer = self._buffer
        position = self._position
        available = len(buffer)
        while self._missing:
            length = self._length
            if length < 0:
                end = buffer.find(b"\r", position, position + _MAX_ORDINARY_HEADER)
                length = _BULK_HEADERS.get(bytes(buffer[position:end]), -1) if 0 < end < available - 1 else -1
                if length < 0 or length > most:
                    self._position = position
                    end = self._end_of_header("Protocol error: too big bulk count string")
                    if end < 0:
                        return None
                    length = self._bulk_length(bytes(buffer[position:end]))
                if length > self.longest:
                    self.longest = length
                self._charge += length + WORD_OVERHEAD
                if self._charge > self._limits.query_buffer:
                    raise QueryBufferExceeded("the request is too big")
                position = self._scanned = end + 2
            if length > self._limits.kept_word:
                # It will be refused for its length, so no memory is spent on it.
                rest = (self._rest or length + 2) - (available - position)
                if rest > 0:
                    self._length, self._rest = length, rest
                    self._step_to(available)
                    return None
                position, self._rest = available + rest - length - 2, 0
                self._words.append(b"")
            elif available < position + length + 2:
                self._length = length
                self._step_to(position)
                return None
            else:
                self._words.append(bytes(buffer[position : position + length]))
            position = self._scanned = position + length + 2
            self._length = -1
            self._missing -= 1
        self._step_to(position)
        words, self._words = self._words, []
        self.cost, self._charge = self._charge, 0
        return words

    def _bulk_length(self, header: bytes) -> int:
        """The length in ``$length``, checked as thoroughly as a reader of unusual headers must."""
        if header[:1] != b"$":
            # Nothing before the CR: it is the CR itself that stands where the sign belongs.
            raise ProtocolError(f"Protocol error: expected '$', got '{text(header[:1] or bytes((13,)))}'")
        length = _canonical(header[1:])
        if length is None or not 0 <= length <= self._limits.bulk_length:
            raise ProtocolError("Protocol error: invalid bulk length")
        if not self.authenticated and length > self._limits.unauthenticated_bulk_length:
            raise ProtocolError("Protocol error: unauthenticated bulk length")
        return length

    def _inline(self) -> list[bytes] | None:
        """The words of a line, none if it is blank; ``None`` while it is incomplete."""
        end = self._find(b"\n", "Protocol error: too big inline request")
        if end < 0:
            return None
        line = bytes(self._buffer[self._position : end])
        self._step_to(end + 1)
        return split_words(line.removesuffix(b"\r"))

    def _end_of_header(self, too_big: str) -> int:
        """Where the CR of a header is, once the byte behind it is here too; else −1. That byte may be any."""
        end = self._find(b"\r", too_big)
        return end if end + 1 < len(self._buffer) else -1

    def _find(self, terminator: bytes, too_big: str) -> int:
        """
        Where the line that starts here ends, or −1 until that is known.

        Upstream looks for the end as in a C string: behind a NUL it is never found.

        :raises ProtocolError: with ``too_big`` as soon as there are too many bytes without the end.
        """
        buffer, start = self._buffer, self._position
        found = -1
        if not self._hidden:
            begin = max(start, self._scanned)
            found = buffer.find(terminator, begin)
            stop = len(buffer) if found < 0 else found
            self._hidden = buffer.find(b"\0", begin, stop) >= 0
            self._scanned = stop
        if self._hidden:
            found = -1
        length = (len(buffer) if found < 0 else found) - start
        if length > self._limits.inline_request:
            raise ProtocolError(too_big)
        return found

    def _step_to(self, position: int) -> None:
        self._position = self._scanned = position

    def _max_buffered(self) -> int:
        if self.authenticated:
            return self._limits.query_buffer
        return min(self._limits.query_buffer, UNAUTHENTICATED_QUERY_BUFFER)

    def discard(self) -> None:
        """Let go of everything, for good: nobody will ask for the rest."""
        self._spent = True
        self._buffer = b""
        self._close_window()
        self._words = []
        self._position = self._scanned = self._missing = self._charge = 0
        self._length = -1


def split_words(line: bytes) -> list[bytes]:
    """
    The words of an inline request (upstream: ``sdssplitargs``).

    Blanks separate; double quotes know escapes, single quotes only that of themselves; a quote may
    open inside a word, but once closed it must end the word.

    :raises ProtocolError: if a quote stays open or is closed inside a word.
    """
    if _NEEDS_CARE.search(line) is None:
        return line.split()
    words: list[bytes] = []
    at = 0
    while True:
        blanks = _BLANKS.match(line, at)
        at = at if blanks is None else blanks.end()
        if at == len(line):
            return words
        word, at = _one_word(line, at)
        words.append(word)


def _one_word(line: bytes, at: int) -> tuple[bytes, int]:
    """The word that begins at ``at``, and where it ends."""
    plain = _PLAIN_WORD.match(line, at)
    word = b""
    if plain is not None:
        word, at = plain.group(), plain.end()
    opening = line[at : at + 1]
    if opening == b'"':
        quoted = _DOUBLE_QUOTED.match(line, at)
        if quoted is None:
            raise ProtocolError("Protocol error: unbalanced quotes in request")
        return word + _ESCAPE.sub(_unescaped, quoted.group(1)), quoted.end()
    if opening == b"'":
        quoted = _SINGLE_QUOTED.match(line, at)
        if quoted is None:
            raise ProtocolError("Protocol error: unbalanced quotes in request")
        return word + quoted.group(1).replace(b"\\'", b"'"), quoted.end()
    return word, at


def _unescaped(escape: re.Match[bytes]) -> bytes:
    digits, other = escape.groups()
    if digits is not None:
        return bytes.fromhex(digits.decode("ascii"))
    return _ESCAPED.get(other, other)


def _canonical(digits: bytes) -> int | None:
    """A whole number as the servers write it, without sign +, blanks or leading zeros; ``None`` for anything else."""
    if _CANONICAL_INTEGER.fullmatch(digits) is None:
        return None
    number = int(digits)
    return number if LOWEST_I64 <= number <= HIGHEST_I64 else None
