"""An HTTP server that answers a POST with an event stream, and every way in which it can fail, as a turn's failure.

Two listeners hear of a failure. The client is told what kind it is, and what helps; the log also gets the address. What
the server said may quote users, names and halves of keys: it is never for clients, and stands in the log as the text of
an exception, which is shown to those who want that (`--log-errors full`). A stream that stops
before its end has failed, whatever came of it. Leaving a request in any way closes its connection, so that the server
can free what it had taken. Nothing is asked twice: who would want that has to ask again, with a new message.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import trio

from trialogue_adapters.bridges.event_stream import EventReader, StreamedEvent, TooLong

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
"""To connect, and to send the request. Between tokens the engine's own time-outs count, and nothing here."""

IDLE_SECONDS = 4.0
"""How long a connection is kept for the next turn: llama.cpp and uvicorn close idle ones after 5 s."""

EXCERPT_BYTES = 2_000
EXCERPT_SECONDS = 2.0
WHOLE_BYTES = 1 << 22

AGAIN = "Try again as a new message."
TELL = "If it keeps failing, tell the operator."


class TurnFailed(Exception):
    """What ends a turn, in words for its client.

    Args:
        detail: for the log alone: what the other side said.
    """

    def __init__(self, code: str, message: str, *solutions: str, detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.solutions = solutions or (AGAIN, TELL)
        self.detail = detail

    def event(self) -> dict[str, Any]:
        return {
            "event": "error",
            "error_code": self.code,
            "message": self.message,
            "solutions": list(self.solutions),
        }


class Reply:
    """A response that has begun well: a stream of events, or (if the server does not stream) one JSON body."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.server = response.headers.get("server", "")
        self.kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def streams(self) -> bool:
        return self.kind in ("text/event-stream", "")

    async def events(self) -> AsyncGenerator[StreamedEvent, None]:
        """Until the server ends the response; whether that was the answer's end is for the caller to know."""
        reader = EventReader()
        async with _pieces_of(self._response) as pieces:
            async for piece in pieces:
                for event in reader.feed(piece):
                    yield event

    async def body(self) -> str:
        """All of it. Raises TooLong."""
        return (await _read(self._response, WHOLE_BYTES)).decode("utf-8", "replace")


class Upstream:
    """A server, and the connections to it.

    Args:
        url: where to post. Raises ValueError if it is none.
        name: what it is called in texts: "the language model".
        key: never logged, not even if the server repeats it.
        headers: sent with each request.
        key_hint: what the operator looks at when the key is refused.
    """

    def __init__(
        self, url: str, *, name: str, key_hint: str, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.url = checked_url(url)
        self.shown = shown_url(self.url)
        self.name = name
        self._key = key
        self._key_hint = key_hint
        self._client = httpx2.AsyncClient(
            headers={
                "Accept-Encoding": "identity",  # a compressor would hold tokens back
                **({"Authorization": f"Bearer {key}"} if key else {}),
                **(headers or {}),
            },
            timeout=httpx2.Timeout(CONNECT_SECONDS, read=None, pool=None),
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=IDLE_SECONDS),  # the engine counts turns
        )

    def __repr__(self) -> str:
        return f"<Upstream {self.shown}>"

    async def aclose(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def post(self, body: Mapping[str, Any]) -> AsyncGenerator[Reply, None]:
        """One request, for the length of the block. Raises TurnFailed, also for what fails within the block.

        Cancelled, or left early: the connection is closed before this returns.
        """
        with self._failures():
            async with self._client.stream("POST", self.url, json=body) as response:
                if response.status_code != 200:
                    raise await self._refusal(response)
                reply = Reply(response)
                if not reply.streams and reply.kind != "application/json":
                    raise garbled(self.name, f"its response is {reply.kind}, not text/event-stream")
                yield reply

    async def get(self, url: str, within: float) -> Any:
        """The JSON at `url`. Raises TurnFailed, also after `within` seconds."""
        with self._failures(), trio.move_on_after(within):
            async with self._client.stream("GET", url) as response:
                if response.status_code != 200:
                    raise await self._refusal(response)
                return json.loads(await _read(response, WHOLE_BYTES))
        raise self._slow()

    async def tell(self, url: str, body: Mapping[str, Any], within: float) -> None:
        """Post something whose answer does not matter, and not for long."""
        with trio.move_on_after(within), suppress(httpx2.HTTPError):
            await self._client.post(url, json=body)

    @contextmanager
    def _failures(self) -> Generator[None, None, None]:
        """Translate once, at the border, and log."""
        try:
            yield
        except TurnFailed as failure:
            said = ValueError(failure.detail) if failure.detail else None
            logger.warning("%s: %s", self.shown, failure.message, exc_info=said)
            raise
        except (httpx2.HTTPError, TooLong, ValueError) as error:
            translated = self._failure(error)
            logger.warning("%s: %s", self.shown, translated.message, exc_info=error)
            raise translated from error

    def _failure(self, error: Exception) -> TurnFailed:
        match error:
            case httpx2.ConnectTimeout():
                return self._slow()
            case httpx2.ConnectError():
                return TurnFailed("UPSTREAM-503", f"{self.name} cannot be reached: {_why(error)}")
            case httpx2.UnsupportedProtocol() | httpx2.DecodingError() | TooLong() | ValueError():
                return garbled(self.name)
            case _:
                return broke_off(self.name)

    def _slow(self) -> TurnFailed:
        return TurnFailed("UPSTREAM-504", f"{self.name} cannot be reached: it did not answer in time")

    async def _refusal(self, response: httpx2.Response) -> TurnFailed:
        """What a status other than 200 means."""
        status, detail = response.status_code, await _excerpt(response)
        if self._key:
            detail = detail.replace(self._key, "***")
        match status:
            case 401 | 403:
                told = f"{self.name} refused our key (HTTP {status})"
                return TurnFailed("UPSTREAM-401", told, f"The operator must check {self._key_hint}.", detail=detail)
            case 429:
                again = _retry_after(response.headers.get("retry-after", ""))
                told = f"{self.name} is asked too often, or its quota is used up (HTTP 429)"
                return TurnFailed("UPSTREAM-429", told, again, detail=detail)
            case _ if status >= 500:
                again = _retry_after(response.headers.get("retry-after", ""))
                return TurnFailed("UPSTREAM-500", f"{self.name} failed (HTTP {status})", again, TELL, detail=detail)
            case _ if status in (404, 405, 410) or status < 400:
                told = f"{self.name} is not at the address that we have (HTTP {status})"
                return TurnFailed("UPSTREAM-404", told, "The operator must check the address.", detail=detail)
            case _:
                told = f"{self.name} refused the request (HTTP {status})"
                return TurnFailed("UPSTREAM-400", told, TELL, detail=detail)


def garbled(name: str, detail: str = "") -> TurnFailed:
    return TurnFailed("UPSTREAM-502", f"{name} sent something that cannot be understood", detail=detail[:200])


def broke_off(name: str) -> TurnFailed:
    return TurnFailed("UPSTREAM-502", f"{name} broke off in the middle", "What you received stays valid.", AGAIN)


def checked_url(url: str) -> str:
    """The address of an HTTP server, without the slash at its end. Raises ValueError."""
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{url!r} is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError(f"{url!r} is no address of an HTTP server, such as http://127.0.0.1:8080/v1")
    return url.rstrip("/")


def shown_url(url: str) -> str:
    """The address for people: without a name and password in it."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url)


def _why(error: BaseException) -> str:
    """The reason at the bottom of a failed connection, in words that name no address."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case ssl.SSLError():
                return "its TLS certificate or version is not accepted"
            case socket.gaierror():
                return "its name is not known"
            case ConnectionRefusedError():
                return "nothing listens there"
            case BaseExceptionGroup():
                cause = cause.exceptions[0]
            case _:
                cause = cause.__cause__ or cause.__context__
    return "no connection"


def _retry_after(header: str) -> str:
    """What to do, from a `Retry-After`: seconds, or a date."""
    seconds: float | None = None
    if header.isdigit():
        seconds = int(header)
    elif header:
        with suppress(ValueError, TypeError):  # no date, or one without a zone
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
    if seconds is None:
        return "Wait a moment, then try again as a new message."
    return f"Try again as a new message in {max(1, round(seconds))} seconds."


@asynccontextmanager
async def _pieces_of(response: httpx2.Response) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """The body, as it comes. Left early, the generators that httpx2 has nested are unwound from within, by a cancelled
    read: it closes only the outer ones itself, and Trio complains of those that the garbage collector finds.
    """
    pieces = response.aiter_bytes()
    try:
        yield pieces
    finally:
        with trio.CancelScope(shield=True) as scope, suppress(httpx2.HTTPError):
            scope.cancel()
            async for _ in pieces:
                pass  # what had been read already


async def _read(response: httpx2.Response, most: int) -> bytes:
    whole = b""
    async with _pieces_of(response) as pieces:
        async for piece in pieces:
            whole += piece
            if len(whole) > most:
                raise TooLong(f"a body is longer than {most} bytes")
    return whole


async def _excerpt(response: httpx2.Response) -> str:
    """What a refusal says: the beginning of it, if that comes soon."""
    said = b""
    with trio.move_on_after(EXCERPT_SECONDS), suppress(httpx2.HTTPError):
        async with _pieces_of(response) as pieces:
            async for piece in pieces:
                said += piece
                if len(said) >= EXCERPT_BYTES:
                    break
    return said[:EXCERPT_BYTES].decode("utf-8", "replace")
