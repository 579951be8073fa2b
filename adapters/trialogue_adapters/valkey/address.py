"""Where a store is, from a URL, and how a stream to it is opened. Says what is wrong with a URL, and no password.

`redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, `unix:///path[?db=n]`. TLS verifies the server's
certificate and name, always: coredis's own reading of a `rediss` URL checks neither, so the context is made here.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import trio

DEFAULT_PORT = 6379
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_ENCODE = "a /, ?, #, [ or ] in its user or password must be percent-encoded"


class BadAddress(ValueError):
    """A URL that names no store; the text says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """A store's place and credentials. `path`: of a Unix socket, else None."""

    host: str
    port: int
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises BadAddress; reads the files that a `rediss` URL names."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # its text may have a part of the password
            raise BadAddress(f"its port is no number up to 65535, or {_ENCODE}") from None
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise BadAddress("must begin with redis://, rediss:// or unix://")
        (_check_socket if parts.scheme == "unix" else _check_host)(parts, port)
        if parts.username and not parts.password:
            raise BadAddress("names a user and no password")
        options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        known = {"db", *(_TLS_OPTIONS if parts.scheme == "rediss" else ())}
        if set(options) - known:
            raise BadAddress(f"unknown option {min(set(options) - known)!r}")
        return cls(
            host=parts.hostname or "",
            port=port or DEFAULT_PORT,
            path=unquote(parts.path) if parts.scheme == "unix" else None,
            db=_database(parts, options),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=_context(options) if parts.scheme == "rediss" else None,
        )

    async def connect(self) -> trio.abc.Stream:
        """A stream to it. Raises OSError (a failed TLS handshake is told as one). Cancelled: nothing stays open."""
        if self.path is not None:
            return await trio.open_unix_socket(self.path)
        try:
            plain = await trio.open_tcp_stream(self.host, self.port)
        except OSError as error:  # "all attempts failed", of addresses of which the first will do
            raise ConnectionError(str(_first(error.__cause__ or error))) from None
        if self.tls is None:
            return plain
        stream = trio.SSLStream(plain, self.tls, server_hostname=self.host, https_compatible=False)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            raise ConnectionError(str(error.__cause__ or error)) from None
        except trio.Cancelled:
            await trio.aclose_forcefully(stream)
            raise
        return stream


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _check_host(parts: SplitResult, port: int | None) -> None:
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment:
        raise BadAddress(_ENCODE)
    if not parts.hostname:
        raise BadAddress("names no host")
    if port == 0:
        raise BadAddress("names port 0")


def _check_socket(parts: SplitResult, port: int | None) -> None:
    if parts.hostname or port is not None:
        raise BadAddress("names a host: a socket's path begins with a third slash, as in unix:///run/valkey.sock")
    if not parts.path.strip("/"):
        raise BadAddress("names no path")


def _database(parts: SplitResult, options: dict[str, str]) -> int:
    text = options.get("db") or ("" if parts.scheme == "unix" else parts.path.strip("/")) or "0"
    if not (text.isascii() and text.isdigit()):
        raise BadAddress("the database is a number, as in redis://host/1")
    return int(text)


def _context(options: dict[str, str]) -> ssl.SSLContext:
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise BadAddress("ssl_keyfile needs ssl_certfile")
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except OSError as error:  # ssl.SSLError is one
        raise BadAddress(f"its certificates cannot be loaded: {error}") from None
    return context
