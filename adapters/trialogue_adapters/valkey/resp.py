"""The store's wire, as much of it as writing needs: commands to bytes, and replies (RESP2) from bytes.

Only what a command of ours is answered with is understood. A reply that is none ends the link: what follows it could
not be told apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

RECEIVE_BYTES = 65_536


class ErrorReply(str):
    """The server's error, as a reply."""

    __slots__ = ()


Reply = bytes | int | None | ErrorReply | list["Reply"]


class NotAReply(Exception):
    """The peer speaks something else."""


def pack(*words: bytes) -> bytes:
    """One command."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class _Incomplete(Exception):
    pass


class Replies:
    """Bytes in, replies out; what is incomplete waits."""

    __slots__ = ("_buffer", "_place")

    def __init__(self) -> None:
        self._buffer = b""
        self._place = 0

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer[self._place :] + data
        self._place = 0

    def take(self, awaited: Sequence[bytes]) -> list[Reply]:
        """The next replies, as far as they are there, one for each that is awaited. Raises NotAReply.

        Args:
            awaited: what a reply nearly always is, as it stands on the wire; empty where that is not known. One that
                is just that is given as it is: it is not worth reading.
        """
        replies: list[Reply] = []
        for likely in awaited:
            start = self._place
            if likely and self._buffer.startswith(likely, start):
                self._place += len(likely)
                replies.append(likely)
                continue
            try:
                replies.append(self._next())
            except _Incomplete:
                self._place = start
                break
        return replies

    def _next(self) -> Reply:
        buffer, start = self._buffer, self._place
        end = buffer.find(b"\r\n", start)
        if end < 0:
            raise _Incomplete
        kind, rest = buffer[start : start + 1], buffer[start + 1 : end]
        self._place = end + 2
        if kind == b"$":
            return self._bulk(_number(rest))
        if kind == b":":
            return _number(rest)
        if kind == b"+":
            return rest
        if kind == b"-":
            return ErrorReply(rest.decode("utf-8", "replace"))
        if kind == b"*":
            count = _number(rest)
            return None if count < 0 else [self._next() for _ in range(count)]
        raise NotAReply(f"a reply that begins with {kind!r}")

    def _bulk(self, size: int) -> bytes | None:
        if size < 0:
            return None
        start = self._place
        self._place = start + size + 2
        if self._place > len(self._buffer):
            raise _Incomplete
        return self._buffer[start : start + size]


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise NotAReply("a length that is no number") from None


class Refused(Exception):
    """The server let us connect, and not in: a wrong password, no such database, too many clients."""


class Link:
    """A connection over which many commands are sent at once."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._replies = Replies()

    async def greet(self, username: str | None, password: str | None, db: int) -> None:
        """Say who we are. Raises Refused, and what `exchange` raises."""
        greeting = []
        if password is not None:
            greeting.append((b"AUTH", *((username.encode(),) if username else ()), password.encode()))
        if db:
            greeting.append((b"SELECT", b"%d" % db))
        for reply in await self.exchange(b"".join(pack(*words) for words in greeting), [b""] * len(greeting)):
            if isinstance(reply, ErrorReply):
                raise Refused(reply)

    async def exchange(self, commands: bytes, awaited: Sequence[bytes]) -> list[Reply]:
        """Send packed commands and return their replies, in order. `awaited`: one for each, see `Replies.take`.

        Raises OSError or NotAReply. After that, and when cancelled, the link is out of step: `close` it.
        """
        replies: list[Reply] = []
        try:
            if commands:
                await self._stream.send_all(commands)
            while len(replies) < len(awaited):
                data = bytes(await self._stream.receive_some(RECEIVE_BYTES))
                if not data:
                    raise ConnectionResetError("the store has closed the connection")
                self._replies.feed(data)
                replies += self._replies.take(awaited[len(replies) :])
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionResetError(str(error.__cause__ or error)) from None
        return replies

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)
