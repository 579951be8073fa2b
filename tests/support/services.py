"""A ChatService that misbehaves on demand, in three runtimes. Tests copy this file beside a server and name it there.

What it does is told by the message's `options`; what became of each generator is appended to `record.jsonl` beside
this file, one JSON object a line, with the system-wide monotonic time. The content of a message is its name in there.

Options, all of them optional:
    retrieval: seconds before anything is told · metadata: its data, null for none · first: seconds before the first
    token · tokens: how many (null: it never ends), or texts: which · size: characters of each, at least · pace: seconds
    after each · burst: how many come at once before that · done: data of the done event, null for none
    at: {"n": [verb, value]} before the nth token (n = the number of tokens: before the done). Verbs: raise (value: the
        exception's name), end, yield (value: any item), surrogate, sleep, block (the thread)
    on_cancel: swallow (go on as if nothing was; on asyncio only, Trio cancels again), stubborn (refuse for `stubborn`
        seconds, then yield another token), error (yield an error event)
    hook: what `ended` does: raise, or sleep for so many seconds
"""

import asyncio
import builtins
import json
import threading
import time
from contextlib import suppress
from functools import cache
from itertools import chain, count
from pathlib import Path

import trio

RECORD = Path(__file__).with_name("record.jsonl")
SOURCE = {"title": "A guide", "score": 0.5, "content_preview": "how it works", "page": 3}
_lock = threading.Lock()


@cache
def _file():
    """Kept open: a process that has no descriptor left records too."""
    return RECORD.open("a", encoding="utf-8", buffering=1)


def record(what, message, **more):
    with _lock:
        _file().write(json.dumps({"what": what, "message": message, "at": time.monotonic(), **more}) + "\n")


def steps(options):
    """What a pipeline does, as (verb, value): sleep, block, yield. Raises and ends where it is told to."""
    yield "sleep", options.get("retrieval", 0)
    metadata = options.get("metadata", {"sources": [SOURCE]})
    if metadata is not None:
        yield "yield", {"event": "metadata", "data": metadata}
    yield "sleep", options.get("first", 0)
    number = options.get("tokens", 3)
    texts = options.get("texts") or (f"t{n} " for n in (count() if number is None else range(number)))
    faults = options.get("at", {})
    for n, text in enumerate(chain(texts, [None])):
        verb, value = faults.get(str(n), ("", None))
        if verb == "end":
            return
        if verb:
            yield from _fault(verb, value)
        if text is not None:
            yield "yield", {"event": "chunk", "data": text.ljust(options.get("size", 0), ".")}
            yield "sleep", options.get("pace", 0) if n >= options.get("burst", 0) else 0
    if options.get("done", {}) is not None:
        yield "yield", {"event": "done", "data": options.get("done", {})}


def _fault(verb, value):
    match verb:
        case "raise":
            raise getattr(builtins, value)("as told")
        case "surrogate":
            yield "yield", {"event": "chunk", "data": "a\ud800b"}
        case _:
            yield verb, value


def ended_record(receipt, text):
    record(
        "ended",
        receipt.message_id,
        ending=str(receipt.ending),
        generated=receipt.generated,
        sent=receipt.sent,
        upstream=receipt.upstream,
        text=text,
    )


class AsyncioService:
    def __init__(self):
        self.loop = asyncio.get_running_loop()  # made inside its own loop, or this raises
        self.hooks = {}

    async def stream_rag_pipeline(self, message, session_id, options=None):
        options = options or {}
        self.hooks[message] = options.get("hook")
        record("opened", message, session_id=session_id)
        try:
            for verb, value in steps(options):
                if verb == "yield":
                    yield value
                elif verb == "block":
                    time.sleep(value)
                elif value:
                    await self._sleep(value, options)
        except asyncio.CancelledError:
            record("cancelled", message)
            if options.get("on_cancel") == "error":
                yield {"event": "error", "error_code": "GEN-001", "message": "cancelled", "solutions": ["again"]}
            elif options.get("on_cancel") == "stubborn":
                await self._refuse(options["stubborn"])
                yield {"event": "chunk", "data": "too late"}
            else:
                raise
        finally:
            record("closed", message)

    async def _sleep(self, seconds, options):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if options.get("on_cancel") != "swallow":
                raise

    async def _refuse(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.02)

    async def ended(self, receipt, text):
        ended_record(receipt, text)
        hook = self.hooks.pop(receipt.message_id, None)
        if hook == "raise":
            raise RuntimeError("the hook failed, as told")
        if hook:
            await asyncio.sleep(hook)


async def trio_service(message, session_id, options=None):
    options = options or {}
    record("opened", message, session_id=session_id)
    try:
        for verb, value in steps(options):
            if verb == "yield":
                yield value
            elif verb == "block":
                time.sleep(value)
            elif value:
                await trio.sleep(value)
    except trio.Cancelled:
        record("cancelled", message)
        if options.get("on_cancel") == "error":
            yield {"event": "error", "error_code": "GEN-001", "message": "cancelled", "solutions": ["again"]}
        elif options.get("on_cancel") == "stubborn":
            with trio.CancelScope(shield=True):
                await trio.sleep(options["stubborn"])
            yield {"event": "chunk", "data": "too late"}
        raise
    finally:
        record("closed", message)


class SyncService:
    def stream_rag_pipeline(self, message, session_id, options=None):
        record("opened", message, session_id=session_id)
        try:
            for verb, value in steps(options or {}):
                if verb == "yield":
                    yield value
                elif value:
                    time.sleep(value)
        finally:
            record("closed", message)

    def ended(self, receipt, text):
        ended_record(receipt, text)


service = AsyncioService
sync_service = SyncService()
