"""Minimal parser of HTTP/1.1 responses for a load generator: where a response ends, and its status (RFC 9112 §6)."""

from __future__ import annotations

LONGEST_HEAD_BYTES = 1 << 16

_HEAD, _COUNTED, _CHUNK_SIZE, _CHUNK, _TRAILER, _UNTIL_CLOSE = range(6)


class BadResponse(Exception):
    """Error for data that is not an HTTP/1.x response, or more than one."""


class ResponseReader:
    """Parser fed with data in pieces of any size. status and keep_alive are those of the last complete response."""

    __slots__ = ("_buffer", "_left", "_state", "keep_alive", "status")

    def __init__(self) -> None:
        self._state = _HEAD
        self._buffer = b""
        self._left = 0
        self.status = 0
        self.keep_alive = True

    def feed(self, data: bytes) -> bool:
        """Return True once the response is complete; the next byte then begins another one. Raises BadResponse."""
        if self._state == _COUNTED:
            return self._count(len(data))
        if self._state == _UNTIL_CLOSE:
            return False
        self._buffer = self._buffer + data if self._buffer else data
        while self._state == _HEAD:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > LONGEST_HEAD_BYTES or not b"HTTP/1.".startswith(self._buffer[:7]):
                    raise BadResponse("this is not HTTP/1.1")
                return False
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            self._begin(head)
            if self.status >= 200:
                break
        if self._state == _COUNTED:
            rest, self._buffer = len(self._buffer), b""
            return self._count(rest)
        return self._state != _UNTIL_CLOSE and self._chunks()

    def end(self) -> bool:
        """Return whether the response ends with the connection, which is now closed."""
        return self._state == _UNTIL_CLOSE

    def _begin(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            raise BadResponse("this is not HTTP/1.1")
        self.status = int(head[9:12])
        if self.status < 200:
            return
        head = head.lower()
        connection = _field(head, b"\r\nconnection:")
        self.keep_alive = b"keep-alive" in connection if head[7:8] == b"0" else b"close" not in connection
        if self.status in (204, 304):
            self._state, self._left = _COUNTED, 0
        elif _field(head, b"\r\ntransfer-encoding:").endswith(b"chunked"):
            self._state = _CHUNK_SIZE
        elif length := _field(head, b"\r\ncontent-length:"):
            if not length.isdigit():
                raise BadResponse(f"its length is {length!r}")
            self._state, self._left = _COUNTED, int(length)
        else:
            self._state, self.keep_alive = _UNTIL_CLOSE, False

    def _count(self, arrived: int) -> bool:
        self._left -= arrived
        if self._left < 0:
            raise BadResponse("more data came than expected")
        if self._left == 0:
            self._state = _HEAD
        return self._left == 0

    def _chunks(self) -> bool:
        while True:
            if self._state == _CHUNK:
                taken = min(self._left, len(self._buffer))
                self._buffer = self._buffer[taken:]
                self._left -= taken
                if self._left:
                    return False
                self._state = _CHUNK_SIZE
            line, newline, rest = self._buffer.partition(b"\r\n")
            if not newline:
                return False
            self._buffer = rest
            if self._state == _TRAILER:
                if line:
                    continue
                self._state = _HEAD
                return self._nothing_follows()
            size = _chunk_size(line)
            self._state, self._left = (_CHUNK, size + 2) if size else (_TRAILER, 0)

    def _nothing_follows(self) -> bool:
        if self._buffer:
            raise BadResponse("more data came than expected")
        return True


def _field(head: bytes, name: bytes) -> bytes:
    """Return the value of a header field in a lower-case head; b"" if it is missing."""
    begin = head.find(name)
    if begin < 0:
        return b""
    end = head.find(b"\r\n", begin + len(name))
    return head[begin + len(name) : end if end >= 0 else None].strip()


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise BadResponse(f"a chunk's size is {line[:20]!r}") from None
