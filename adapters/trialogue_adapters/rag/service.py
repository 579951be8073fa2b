"""The embedded ChatService: retrieve, say which sources, then stream an answer that says what kind it is.

It runs on one asyncio loop. Everything that blocks (the index, the weights) happens in one worker thread of its own,
which also owns the SQLite connection; so a thousand waiting turns cost a thousand small objects, not threads, and a
cancelled turn leaves no thread behind. It must never tell a client a path of this machine, and never pass an extract
off as the model's words, or the reverse.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal, TypeVar

from trialogue_adapters.history import History, Turn

from . import events, extractive, prompt, replies
from .errors import LocalModelError, PromptTooLongError, RagError
from .events import Event, Kind, Plan
from .index import Progress
from .local_model import NAME, Finished, LocalModel, installed
from .retrieval import MAX_TOP_K, Retrieval, read_top_k
from .text import is_korean

T = TypeVar("T")

NO_KOREAN = "the local model does not know Korean: this is an extract"


class _Stopped(Exception):
    """The service is being closed while it indexes."""


class EmbeddedChatService:
    """Answers from a folder of documents, with the local model if it is there, else with extracts.

    docs: the folder; None stands for our own documentation and Python's language topics.
    answer: "local" insists on the model, "extractive" does without, "auto" takes it when it is installed and intact.
    index_path: where the index is kept; by default in the user's cache, and in memory if that cannot be written.
    progress: called as progress(done, total) from the worker thread while documents are indexed.
    threads: processors for the model; by default half of them.
    pace: seconds between the chunks of an extract, for demonstrations of interrupting; 0 streams as fast as it goes.
    """

    def __init__(
        self,
        *,
        docs: Path | None = None,
        answer: Literal["auto", "extractive", "local"] = "auto",
        index_path: Path | None = None,
        progress: Progress | None = None,
        threads: int | None = None,
        pace: float = 0.0,
    ) -> None:
        if answer not in ("auto", "extractive", "local"):
            raise ValueError(f"answer must be auto, extractive or local, not {answer!r}")
        self._answer = answer
        self._progress = progress
        self._threads = threads
        self._pace = pace
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="trialogue-rag")
        self._stopping = threading.Event()
        self._starting = asyncio.Lock()
        self._started = False
        self._retrieval = Retrieval(docs, index_path)
        self._model: LocalModel | None = None
        self._why_no_model: str | None = None
        self._history = History()

    def __repr__(self) -> str:
        return f"<EmbeddedChatService {self.describe()}>"

    @property
    def ready(self) -> bool:
        return self._started and not self._stopping.is_set()

    @property
    def kind(self) -> Kind:
        return "extractive" if self._model is None else "local"

    def describe(self) -> str:
        """One line for the person who started it; it may name paths, so it is not for clients."""
        if not self._retrieval.opened:
            return "not started"
        if self._model is not None:
            how = f"local model {NAME} ({self._model.threads} threads; Korean questions get extracts)"
        else:
            reason = f"; local model {self._why_no_model}" if self._why_no_model else ""
            how = f"extractive answers, no language model{reason}"
        return f"{how}; {self._retrieval.describe()}"

    # Starting and ending.

    async def start(self) -> None:
        """Index the documents and load the model; again is a no-op. Raises RagError saying what is wrong.

        Cancelled in the middle, the worker finishes the step it is at, and a later start goes on from there.
        """
        if self._started:
            return
        async with self._starting:
            await self._in_worker(self._open_index)
            await self._in_worker(self._open_model)
            self._started = True

    async def aclose(self) -> None:
        """Stop indexing and generating, close the index, unload the model. Cancelled, the model is let go unawaited."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        try:
            await asyncio.wrap_future(self._worker.submit(self._retrieval.close))  # after whatever the worker is at
            model, self._model = self._model, None
            if model is not None:
                await model.aclose()
        finally:
            self._worker.shutdown(wait=False)

    async def ended(self, receipt: Any, text: str) -> None:
        """Remember the turn as it was sent: `text` is the answer so far as that. Never waits, so never half done."""
        ending = getattr(receipt.ending, "value", receipt.ending)
        self._history.ended(receipt.session_id, str(ending), text)

    # A turn.

    async def stream_rag_pipeline(
        self, message: str, session_id: str, options: dict[str, Any] | None = None
    ) -> AsyncGenerator[Event, None]:
        """metadata (sources, answerer), chunks, done; or one error. Options: `top_k` (1 to 10).

        Closing or cancelling it at any point stops the work: the model's connection is dropped, a search that has not
        begun does not begin, and nothing of the turn is in the history until `ended` is told.
        """
        await self.start()
        top_k = read_top_k(options)
        if top_k is None or not message.strip():
            yield events.empty_question() if top_k is not None else events.bad_top_k(MAX_TOP_K)
            return
        turns = self._history.turns(session_id)
        self._history.asked(session_id, message)
        plan = await self._in_worker(lambda: self._plan(message, turns, top_k))
        yield events.metadata(plan, session_id)
        if plan.text is not None:
            count = 0
            for chunk in extractive.chunks(plan.text):
                await asyncio.sleep(self._pace)  # also with 0: the place where a turn can be cancelled
                count += 1
                yield events.chunk(chunk)
            yield events.done(plan, {"completion_tokens": count}, {"name": "extractive"})
            return
        async with aclosing(self._generate(message, plan, turns)) as generated:
            async for event in generated:
                yield event

    async def _generate(self, message: str, plan: Plan, turns: Sequence[Turn]) -> AsyncGenerator[Event, None]:
        model = self._model
        for brief in (False, True):
            try:
                if model is None:
                    raise LocalModelError("the local model is closed")
                messages = prompt.build(message, plan.hits, plan.weights, turns, brief=brief)
                async with aclosing(model.generate(messages)) as pieces:
                    async for piece in pieces:
                        yield events.finished(plan, piece) if isinstance(piece, Finished) else events.chunk(piece)
                return
            except PromptTooLongError as error:  # raised before the first piece, so asking again repeats nothing
                problem: LocalModelError = error
            except LocalModelError as error:
                problem = error
                break
        yield events.model_failed(problem)

    def _plan(self, message: str, turns: Sequence[Turn], top_k: int) -> Plan:
        """In the worker: find what there is to say."""
        language = "ko" if is_korean(message) else "en"
        if (reply := replies.direct(message, language, turns, self._retrieval.size)) is not None:
            return Plan((), {}, reply)
        hits, weights = self._retrieval.find(message, turns, top_k)
        quotes = extractive.pick(hits, weights)
        shown = tuple(hits) if quotes else ()
        if self._model is not None and language == "en" and quotes:
            return Plan(shown, weights, None)
        note = NO_KOREAN if self._model is not None and language == "ko" else None
        return Plan(shown, weights, extractive.answer(hits, quotes, language), note)

    # In the worker thread.

    async def _in_worker(self, call: Callable[[], T]) -> T:
        if self._stopping.is_set():
            raise RagError("the embedded service is closed")
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    def _open_index(self) -> None:
        try:
            self._retrieval.open(self._on_progress)
        except _Stopped:
            raise RagError("the embedded service was closed while it indexed") from None

    def _open_model(self) -> None:
        if self._model is not None or self._answer == "extractive":
            return
        if self._answer == "auto" and (missing := installed()):
            self._why_no_model = missing
            return
        try:
            self._model = LocalModel(self._threads)
        except LocalModelError as error:
            if self._answer == "local":
                raise
            self._why_no_model = str(error)

    def _on_progress(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise _Stopped
        if self._progress is not None:
            self._progress(done, total)
