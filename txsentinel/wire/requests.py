"""
Parsing of client requests: pipelined multibulk or inline commands.

The grammar, its limits and its errors are those of Redis 7 (upstream: ``networking.c``). Requests and errors do not
depend on how the stream is cut into chunks, and each byte is examined a bounded number of times. Requests are returned
one at a time, since one may change how the next is parsed: ``AUTH`` raises the limits for all that follows it.
"""

from __future__ import annotations

from typing import Final

from txsentinel.model.timings import Limits
from txsentinel.wire.numbers import canonical_integer
from txsentinel.wire.resp import text
from txsentinel.wire.words import split_words


class ProtocolError(Exception):
    """
    The client violated the protocol: reply with the error and close the connection.

    ``str(error)`` is the text after ``-ERR `` in the reply. It may contain a byte from the client, so it must be
    encoded as `resp.ErrorReply`, where line ends become spaces.
    """


class PseudoHttp(ProtocolError):
    """The request is HTTP, most likely a cross-protocol attack by a browser: close at once, without any reply."""


class QueryBufferExceeded(ProtocolError):
    """The input exceeds the buffer limit: close without a reply."""


UNAUTHENTICATED_QUERY_BUFFER: Final = 1 << 20
"""Maximum number of buffered bytes of a client that has not authenticated (upstream: 1 MiB)."""

WORD_OVERHEAD: Final = 64
"""Bytes that each word of an incomplete request is charged in addition to its length, which limits short words, too."""

_STAR: Final = ord("*")
_DOLLAR: Final = ord("$")

_BULK_HEADERS: Final = {b"$%d" % length: length for length in range(1024)}
"""Headers of bulks of ordinary length, all in canonical form."""

_MULTIBULK_HEADERS: Final = {b"*%d" % count: count for count in range(1, 11)}
"""Headers of requests of ordinary size."""

_MAX_ORDINARY_HEADER: Final = 6
"""Length in bytes of the longest of these headers, including its CR."""

_ORDINARY_CHUNK: Final = 1024
"""Length in bytes of the longest chunk that is split at line ends; the header of any word in it is a known one."""

_MIN_WINDOW: Final = 128
"""Bytes of buffered input above which a window of it is split at line ends."""

_NO_WINDOW: Final[list[bytes]] = []


class RequestParser:
    """
    Incremental parser of a stream of requests, each a list of at least one word.

    A word longer than ``limits.kept_word`` is skipped and is empty in its request; ``longest`` has its length.

    After an error the parser is unusable: it has released its buffer, ignores input and returns no requests.
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
        """Set by the owner; while false, the limits for unauthenticated clients apply, from the next header on."""

        self.longest = 0
        """Length in bytes of the longest word of the last request; may be 0 for a request of ordinary size."""

        self.cost = 0
        """Bytes of the last request including overhead; may be 0 for a request of ordinary size."""

        # A request of at most ten words and this size cannot exceed any limit.
        self._ordinary = min(
            _ORDINARY_CHUNK,
            limits.bulk_length,
            limits.unauthenticated_bulk_length,
            limits.query_buffer - len(_MULTIBULK_HEADERS) * WORD_OVERHEAD,
        )
        if min(limits.unauthenticated_multibulk_count, limits.multibulk_count) < len(_MULTIBULK_HEADERS):
            self._ordinary = 0
        self._buffer: bytes | bytearray = b""
        # A chunk that holds whole requests is parsed in place; only a remainder is copied to a bytearray.
        self._position = 0
        self._scanned = 0
        self._hidden = False
        self._words: list[bytes] = []
        self._missing = 0
        self._length = -1
        self._rest = 0
        """Bytes still to come of a word that is being skipped."""

        self._charge = 0
        self._spent = False
        # The lines from the position on, as far as the buffer has been split.
        self._window = _NO_WINDOW
        self._window_at = 0
        self._cut_to = 0

    @property
    def buffered(self) -> int:
        """Bytes held: input that was not parsed yet, and the incomplete request with its overhead."""
        charge = self._charge if self._length < 0 else self._charge - self._length - WORD_OVERHEAD
        return len(self._buffer) - self._position + charge

    @property
    def at_rest(self) -> bool:
        """Whether the next byte begins a request."""
        return not self._buffer and not self._missing and not self._spent

    def feed(self, data: bytes) -> None:
        """
        Add a chunk.

        :raises QueryBufferExceeded: if more input than allowed is buffered already. This does not happen if
            `next_request` is called until it returns ``None``: it applies the limits to incomplete requests itself.
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
        Return the next request, or ``None`` if more bytes are required. Blank lines and empty arrays are skipped.

        :raises ProtocolError: for input after which the connection must be closed.
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
                # Release the last chunk, so that an idle client occupies no memory.
                self._buffer = b""
                self._step_to(0)
                self._close_window()
                return None
            if self._buffer[self._position] == _STAR:
                if self._scanned == self._position:
                    # Only on the first attempt to parse this request. A later one means that its header was
                    # incomplete, and splitting the whole buffer again for each further byte would be quadratic.
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
        Return the request if the chunk is exactly one ordinary multibulk, as most clients send it; else ``None``.

        The chunk is split at its line ends. If every length agrees with the word after it, the result is the same as
        that of parsing step by step.
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
        Return the next request of a pipeline if it is an ordinary multibulk; else ``None``, without any change.

        As in `_whole_chunk`, but a window of the buffer is split at once, and requests are taken from it one by one as
        long as all lengths agree. A window without a usable request is not split again.
        """
        words = self._next_in_window() if self._window else None
        if words is None:
            start = self._position
            if start >= self._cut_to and len(self._buffer) - start > _MIN_WINDOW:
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
        """Discard the window. Must be called before the position or the buffer is changed in any other way."""
        self._window = _NO_WINDOW
        self._window_at = 0

    def _multibulk_header(self) -> bool:
        """Parse ``*count``; return ``False`` while it is incomplete. After a count of 0 or less no words follow."""
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\r", start, start + _MAX_ORDINARY_HEADER)
        count = _MULTIBULK_HEADERS.get(bytes(buffer[start:end])) if 0 < end < len(buffer) - 1 else None
        if count is None:
            end = self._end_of_header("Protocol error: too big mbulk count string")
            if end < 0:
                return False
            count = canonical_integer(bytes(buffer[start + 1 : end]))
        if count is None or count > self._limits.multibulk_count:
            raise ProtocolError("Protocol error: invalid multibulk length")
        if not self.authenticated and count > self._limits.unauthenticated_multibulk_count:
            raise ProtocolError("Protocol error: unauthenticated multibulk length")
        self._step_to(end + 2)
        self._missing = max(count, 0)
        return True

    def _rest_of_multibulk(self) -> list[bytes] | None:
        """Parse the words that are still missing, each ``$length`` and payload."""
        maximum = self._limits.bulk_length
        if not self.authenticated:
            maximum = min(maximum, self._limits.unauthenticated_bulk_length)
        buffer = self._buffer
        position = self._position
        available = len(buffer)
        while self._missing:
            length = self._length
            if length < 0:
                end = buffer.find(b"\r", position, position + _MAX_ORDINARY_HEADER)
                length = _BULK_HEADERS.get(bytes(buffer[position:end]), -1) if 0 < end < available - 1 else -1
                if length < 0 or length > maximum:
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
                # The request will be refused because of this word, so the word is not buffered.
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
        """Parse ``$length`` with all checks and upstream's error texts."""
        if header[:1] != b"$":
            # With an empty header, the CR itself is where the type byte belongs.
            raise ProtocolError(f"Protocol error: expected '$', got '{text(header[:1] or bytes((13,)))}'")
        length = canonical_integer(header[1:])
        if length is None or not 0 <= length <= self._limits.bulk_length:
            raise ProtocolError("Protocol error: invalid bulk length")
        if not self.authenticated and length > self._limits.unauthenticated_bulk_length:
            raise ProtocolError("Protocol error: unauthenticated bulk length")
        return length

    def _inline(self) -> list[bytes] | None:
        """Return the words of a line, an empty list if it is blank; ``None`` while it is incomplete."""
        end = self._find(b"\n", "Protocol error: too big inline request")
        if end < 0:
            return None
        line = bytes(self._buffer[self._position : end])
        self._step_to(end + 1)
        words = split_words(line.removesuffix(b"\r"))
        if words is None:
            raise ProtocolError("Protocol error: unbalanced quotes in request")
        return words

    def _end_of_header(self, too_big: str) -> int:
        """Return the position of a header's CR once the byte after it has arrived, which is not checked; else −1."""
        end = self._find(b"\r", too_big)
        return end if end + 1 < len(self._buffer) else -1

    def _find(self, terminator: bytes, too_big: str) -> int:
        """
        Return the end of the line that starts at the position, or −1 while it has not arrived.

        As upstream searches for it with C string functions, a line end after a NUL is never found.

        :raises ProtocolError: with the text ``too_big`` as soon as there are too many bytes without a line end.
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
        """Release all buffers and make the parser unusable."""
        self._spent = True
        self._buffer = b""
        self._close_window()
        self._words = []
        self._position = self._scanned = self._missing = self._charge = 0
        self._length = -1
