"""The ASGI application: `/chat-ws`, `/chat/stream`, the page, health and metrics, over any ASGI server.

It owns the hub and the service for as long as its lifespan; a host that runs no lifespan for it enters `lifespan()`
itself. On a server that runs on asyncio, Trio is a guest of that server's loop, and each request crosses the border
to it (`mounting`); from there on there is no difference. The service may come late (`set_chat_service`): until then
messages are refused with WS-002.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import trio

from trialogue import Connection, Everywhere, Hub, Limits, Policy, Tracer
from trialogue.core.dialects import DialectName
from trialogue_adapters import spec, web
from trialogue_adapters.auth import Gate
from trialogue_adapters.bridges import Runtime, open_service
from trialogue_adapters.metrics import PrometheusMeter
from trialogue_adapters.mounting import Border, EngineEnded, HostTransport, Mount, guest_of_this_loop, on_trio
from trialogue_adapters.servers import onerag_http, sse
from trialogue_adapters.servers.answers import Answer, error_answer, refusal, send_answer
from trialogue_adapters.servers.asgi_transport import AsgiTransport, Receive, Send
from trialogue_adapters.servers.calls import Calls
from trialogue_adapters.servers.echo import PATH as ECHO_PATH
from trialogue_adapters.servers.echo import echo
from trialogue_adapters.servers.guard import first_cause
from trialogue_adapters.servers.handshake import (
    PATH,
    RETRY_SOON,
    Reception,
    Rejected,
    Welcome,
    caller_of,
    check_head,
    without_token,
)
from trialogue_adapters.servers.minting import MINT_PATH, mint
from trialogue_adapters.servers.operations import Operations

if TYPE_CHECKING:
    from trialogue_adapters.valkey import ValkeyStore

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]

TRANSPORT_EXTENSION = "trialogue.transport"
"""The scope extension that offers a transport which writes without awaiting: our own server's, or the border's."""

NOT_ENTERED = (
    "this Trialogue app has no engine: nobody has entered its lifespan. Hand it to the application that mounts it, "
    "`FastAPI(lifespan=chat.lifespan)`, or enter `async with chat.lifespan(app):` in the lifespan that you have"
)

PAGE_HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"content-security-policy", web.CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


class App:
    """One engine behind ASGI. `everywhere` is for applications: `is_connected`, `send_json`, `delete`."""

    def __init__(
        self,
        service: Any = None,
        *,
        runtime: Runtime = "asyncio",
        limits: Limits | None = None,
        policy: Policy = Policy.INTERRUPT,
        heartbeat: float = 20.0,
        page: bool = True,
        gate: Gate | None = None,
        proxies: int = 0,
        dialect: DialectName = "seed",
        test_echo: bool = False,
        tracer: Tracer | None = None,
        store: ValkeyStore | None = None,
        durability: Literal["ahead", "behind"] = "ahead",
    ) -> None:
        self.meter = PrometheusMeter()
        if store is not None:
            from trialogue_adapters.store_metrics import StoreMetrics

            self.meter.registry.register(StoreMetrics(store))
        self.hub = Hub(limits=limits, meter=self.meter, tracer=tracer, store=store, durability=durability)
        self.meter.watch(self.hub)
        self.everywhere = Calls(Everywhere(self.hub), lambda: self._mount)
        self.operations = Operations(self.hub, self.meter)
        self.reception = Reception(self.hub, gate or Gate(), policy, heartbeat, proxies, dialect)
        self.test_echo = test_echo
        self._page = page
        self._pending: tuple[Any, Runtime] | None = (service, runtime) if service is not None else None
        self._injection: trio.Nursery | None = None
        self._release: Callable[[], None] = lambda: None
        self._entered = False
        self._mount: Mount | None = None

    def __repr__(self) -> str:
        return f"<App {self.hub!r}>"

    # The service.

    def set_chat_service(self, service: Any, runtime: Runtime = "asyncio") -> None:
        """Give the app its service, before or while it runs; see `open_service` for what it may be.

        While it runs, the service is opened in the background: until it is, and if it cannot be opened (which is
        logged), messages are refused with WS-002. Raises RuntimeError if there is a service already.
        """
        if self._pending is not None or self.hub.service is not None:
            raise RuntimeError("this app has a chat service already")
        self._pending = (service, runtime)
        if self._injection:
            self._injection.start_soon(self._inject)

    async def _inject(self) -> None:
        try:
            await self._serve_pending(None)
        except Exception:
            self._pending = self.hub.service = None
            logger.exception("the chat service cannot be opened, or has died")

    async def _serve_pending(self, opened: trio.Event | None) -> None:
        assert self._pending
        async with open_service(*self._pending) as bridged:
            self.hub.service = bridged.service
            self._release = bridged.release
            if opened is not None:
                opened.set()
            await bridged.watch()

    # Its life.

    @asynccontextmanager
    async def lifespan(self, _host: Any = None) -> AsyncGenerator[None, None]:
        """Open the service and the hub for the length of the block. Whatever the service's factory raises is raised.

        For a host application that runs no lifespan for us; its signature is the one that Starlette wants. On asyncio
        it begins the Trio run, too, and ends it.
        """
        self._entered = True
        if on_trio():
            async with self._open():
                yield
            return
        async with guest_of_this_loop() as guest, guest.mount(self._open) as self._mount:
            try:
                yield
            finally:
                self._mount = None

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None, None]:
        async with trio.open_nursery() as services:
            if self._pending:
                opened = trio.Event()
                services.start_soon(self._serve_pending, opened)
                await opened.wait()
            self._injection = services
            try:
                async with self.hub.open():
                    try:
                        yield
                    finally:
                        self._release()  # no upstream that refuses to close may keep us
            finally:
                self._injection = None
                self.hub.service = None
                services.cancel_scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif on_trio():
            await self._answer(scope, receive, send)
        else:
            await self._cross(scope, receive, send)

    async def _cross(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of a server on asyncio. Cancelled: the connection ends as if its client had been lost."""
        if not self._entered:
            raise RuntimeError(NOT_ENTERED)
        border = Border(scope["type"], receive, send)
        scope.setdefault("extensions", {})[TRANSPORT_EXTENSION] = lambda *_: HostTransport(border)
        try:
            if self._mount is None:
                raise EngineEnded
            errand = self._mount.start(partial(self._answer, scope, border.receive, border.send))
        except EngineEnded:
            await _turn_away(scope, receive, send)
        else:
            await border.serve(errand)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "websocket":
                if not self._entered:
                    raise RuntimeError(NOT_ENTERED)
                await self._websocket(scope, receive, send)
            case "http":
                await self._http(scope, receive, send)
            case kind:
                raise ValueError(f"an ASGI scope of type {kind!r}")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        if self.hub.running:  # somebody else's block is open around the server
            await send({"type": "lifespan.startup.complete"})
            await receive()
        else:
            started = False
            try:
                async with self.lifespan():
                    await send({"type": "lifespan.startup.complete"})
                    started = True
                    await receive()
            except Exception as error:
                if started:
                    raise
                await fail_startup(send, error)
                return
        await send({"type": "lifespan.shutdown.complete"})

    # WebSocket.

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        query = _hide_token(scope)
        offer = scope.get("extensions", {}).get(TRANSPORT_EXTENSION)
        transport = offer(receive, send) if offer else AsgiTransport(receive, send)
        if self.test_echo and _path(scope) == ECHO_PATH:
            await send({"type": "websocket.accept"})
            await echo(transport, lambda data: send({"type": "websocket.send", "bytes": data}))
            return
        try:
            welcome = self.welcome(_path(scope), query, scope)
        except Rejected as rejected:
            await _refuse(scope, send, rejected)
            return
        await send({"type": "websocket.accept", "subprotocol": welcome.subprotocol})
        await Connection(self.hub, transport, welcome.dialect, welcome.handshake).run()

    def welcome(self, path: str, query: bytes, scope: Scope) -> Welcome:
        """Read the handshake of a WebSocket scope. Raises Rejected."""
        _check_head(scope)
        if path != PATH:
            raise Rejected(404, f"there is no WebSocket here: {PATH}")
        return self.reception.welcome(query, caller_of(scope))

    # HTTP.

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], _path(scope)
        _hide_token(scope)
        try:
            _check_head(scope)
        except Rejected as rejected:
            await send_answer(send, method, *error_answer(rejected.status, rejected.reason))
            return
        if path == MINT_PATH:
            await send_answer(send, method, *await mint(self.reception.gate, scope, receive))
            return
        if path == sse.STREAM_PATH:
            await sse.stream(self.reception, scope, receive, send)
            return
        if path == sse.CANCEL_PATH:
            await sse.cancel(self.reception, scope, receive, send)
            return
        if self.reception.dialect == "onerag" and path.startswith(onerag_http.PREFIX):
            await send_answer(send, method, *await onerag_http.answer(self.reception, scope, path, receive))
            return
        if method not in ("GET", "HEAD"):
            await send_answer(send, method, *error_answer(405, "GET and HEAD only"))
            return
        await send_answer(send, method, *self._resource(path))

    def _resource(self, path: str) -> Answer:
        match path:
            case "/chat-ws":
                return error_answer(426, "this is a WebSocket endpoint")
            case "/asyncapi.json":
                return 200, spec.as_json(), ((b"content-type", spec.CONTENT_TYPE.encode()),)
            case "/" | "/bot" if self._page:
                return self._asset("index.html")
            case _ if self._page and path.startswith("/static/"):
                return self._asset(path.removeprefix("/static/"))
            case _:
                return self.operations.resource(path) or error_answer(404, "not found")

    def _asset(self, name: str) -> Answer:
        found = web.read(name)
        if found is None:
            return error_answer(404, "not found")
        body, content_type = found
        return 200, body, ((b"content-type", content_type.encode()), *PAGE_HEADERS)


def create_app(service: Any = None, **options: Any) -> App:
    """Make the application. `options` are `App`'s. Mount it, or hand it to a server: `hypercorn -k trio …`."""
    return App(service, **options)


async def fail_startup(send: Send, error: BaseException) -> None:
    """Say why the lifespan cannot start: a server that only saw an exception would go on without it."""
    cause = first_cause(error)
    logger.error("cannot start", exc_info=cause)
    await send({"type": "lifespan.startup.failed", "message": f"{type(cause).__name__}: {cause}"})


def _check_head(scope: Scope) -> None:
    target = scope.get("raw_path") or scope["path"].encode()
    check_head(target + scope.get("query_string", b""), scope["headers"])


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(root) else path


def _hide_token(scope: Scope) -> bytes:
    """Returns the query, and leaves in the scope one that the server's access log may show when we have answered."""
    query: bytes = scope.get("query_string", b"")
    scope["query_string"] = without_token(query)
    return query


async def _turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer somebody who comes when the engine has left and the host has not. On the host's loop."""
    leaving = Rejected(503, "the server is about to restart", RETRY_SOON, "WS-006")
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        await _refuse(scope, send, leaving)
    else:
        await send_answer(send, scope["method"], *refusal(leaving))


async def _refuse(scope: Scope, send: Send, rejected: Rejected) -> None:
    """Answer a handshake with HTTP where the server can; else close before accepting (which is a 403)."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": rejected.reason})
        return
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(rejected.body)).encode()),
        *rejected.headers,
    ]
    await send({"type": "websocket.http.response.start", "status": rejected.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": rejected.body})


class ConfiguredApp:
    """The application that `TRIALOGUE_*` and the settings file describe; they are read when the server starts it."""

    def __init__(self) -> None:
        self._app: App | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            from trialogue_adapters.deployment import harden_host, make_app
            from trialogue_adapters.settings import Settings

            try:
                settings = Settings()
                self._app = make_app(settings)
                harden_host(settings)
            except Exception as error:
                if scope["type"] != "lifespan":
                    raise
                await receive()
                await fail_startup(send, error)
                return
        await self._app(scope, receive, send)


app = ConfiguredApp()
"""For `hypercorn -k trio trialogue_adapters.servers.asgi:app`. It cannot drain: clients see 1006, and resume."""
