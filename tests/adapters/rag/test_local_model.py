"""The HTTP half and the checks of the file, against a small server made here (see also test_local_model_real.py)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trialogue_adapters.rag import LocalModelError, local_model
from trialogue_adapters.rag.errors import PromptTooLongError
from trialogue_adapters.rag.local_model import PARALLEL, Finished, LocalModel

ASK = [{"role": "user", "content": "hi"}]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def model_behind(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[LocalModel, None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loaded = SimpleNamespace(listening_address=f"http://127.0.0.1:{port}")
    monkeypatch.setattr(local_model, "find_weights", Path)
    monkeypatch.setattr(LocalModel, "_load", lambda self, path: loaded)
    try:
        yield LocalModel(1)
    finally:
        server.close()


async def request(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert "authorization: bearer " in head
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    return dict(json.loads(await reader.readexactly(length)))


def sse(**event: Any) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def token(text: str) -> bytes:
    return sse(choices=[{"delta": {"content": text}, "finish_reason": None}])


END = sse(
    choices=[{"delta": {}, "finish_reason": "stop"}],
    timings={"prompt_n": 7, "cache_n": 2, "predicted_n": 2, "predicted_per_second": 50.04},
)


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def collect(model: LocalModel) -> list[str | Finished]:
    return [piece async for piece in model.generate(ASK)]


def test_events_may_be_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    body = sse(prompt_progress={}, choices=[]) + token("안녕") + token(" x") + END + b"data: [DONE]\n\n"

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await request(reader))["return_progress"] is True
        writer.write(OK + chunked(*(body[i : i + 7] for i in range(0, len(body), 7))))

    async def main() -> None:
        async with model_behind(handler, monkeypatch) as model:
            assert await collect(model) == ["안녕", " x", Finished("stop", 9, 2, 50.0)]
            assert repr(model) == "<LocalModel SmolLM2-135M-Instruct, 1 threads, loaded>"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b'{"error":{"message":"exceeds the context","type":"exceed_context_size_error"}}', PromptTooLongError, "1024"),
        (b'{"error":{"message":"no key"}}', LocalModelError, "no key"),
        (b"<html>", LocalModelError, "refused"),
    ],
)
def test_a_refusal_is_translated(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, error: type[Exception], words: str
) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

    async def main() -> None:
        async with model_behind(handler, monkeypatch) as model:
            await collect(model)

    with pytest.raises(error, match=words):
        asyncio.run(main())


@pytest.mark.parametrize(
    "last", [b"", b"0\r\n\r\n", chunked(token("a")), b"zz\r\n", b"5\r\nabc", chunked(sse(error={"message": "broke"}))]
)
def test_a_broken_answer_is_an_error(monkeypatch: pytest.MonkeyPatch, last: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK + last)

    async def main() -> None:
        async with model_behind(handler, monkeypatch) as model:
            await collect(model)

    with pytest.raises(LocalModelError):
        asyncio.run(main())


@pytest.mark.parametrize("way", ["cancel", "aclose"])
def test_leaving_drops_the_connection_and_frees_the_place(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    async def main() -> None:
        gone = asyncio.Queue[None]()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(OK + b"%x\r\n%s\r\n" % (len(token("a")), token("a")))
            assert await reader.read() == b""
            gone.put_nowait(None)

        async with model_behind(handler, monkeypatch) as model:
            for _ in range(PARALLEL * 2):
                stream = model.generate(ASK)
                assert await anext(stream) == "a"
                if way == "cancel":
                    task = asyncio.ensure_future(anext(stream))
                    await asyncio.sleep(0)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                else:
                    await stream.aclose()
                await asyncio.wait_for(gone.get(), 5)

    asyncio.run(main())


def test_only_so_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        running = 0
        most = 0

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal running, most
            await request(reader)
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            writer.write(OK + chunked(token("a"), END))

        async with model_behind(handler, monkeypatch) as model:
            await asyncio.gather(*(collect(model) for _ in range(4 * PARALLEL)))
            assert most == PARALLEL
            await model.aclose()
            with pytest.raises(LocalModelError, match="closed"):
                await collect(model)

    asyncio.run(main())


def test_a_file_that_is_not_the_tested_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(local_model.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(LocalModelError, match="holds no"):
        local_model.find_weights()
    (tmp_path / local_model.FILE).write_bytes(b"GGUF")
    with pytest.raises(LocalModelError, match="SHA-256"):
        local_model.find_weights()
    monkeypatch.setattr(local_model, "FILE_BYTES", 4)
    with pytest.raises(LocalModelError, match="SHA-256"):
        local_model.find_weights()
