"""The embedded retrieval in front of somebody else's model: what the documents say, put before the question.

It runs on Trio, beside the HTTP bridge that it prepares for; the index blocks, so each search takes a worker thread.
The model's server gets passages of the documents: whoever names that server has decided that it may read them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from trialogue_adapters.bridges.openai import Prompt, Question, dialogue
from trialogue_adapters.bridges.upstream import TurnFailed
from trialogue_adapters.rag import Retrieval, events, prompt
from trialogue_adapters.rag.retrieval import MAX_TOP_K, read_top_k


class Grounding:
    """A `Prepare` of the OpenAI bridge. Call `start` first.

    Args:
        progress: called as progress(done, total) from a worker thread while documents are indexed.
    """

    def __init__(self, docs: Path | None, progress: Callable[[int, int], None] | None = None) -> None:
        self._retrieval = Retrieval(docs)
        self._progress = progress
        self._one_at_a_time = trio.CapacityLimiter(1)

    def describe(self) -> str:
        return self._retrieval.describe()

    async def start(self) -> None:
        """Index the documents. Raises RagError. Cancelled: a later start goes on from where it was."""
        await trio.to_thread.run_sync(self._retrieval.open, self._on_progress, limiter=self._one_at_a_time)

    def _on_progress(self, done: int, total: int) -> None:
        trio.from_thread.check_cancelled()
        if self._progress is not None:
            self._progress(done, total)

    async def __call__(self, question: Question) -> Prompt:
        """Takes the option `top_k` (1 to 10). A search takes milliseconds: a cancel waits for it."""
        top_k = read_top_k(question.options)
        if top_k is None:
            refusal = events.bad_top_k(MAX_TOP_K)
            raise TurnFailed(refusal["error_code"], refusal["message"], *refusal["solutions"])
        find = self._retrieval.find
        hits, _ = await trio.to_thread.run_sync(find, question.text, question.turns, top_k, limiter=self._one_at_a_time)
        past = () if question.brief else question.turns
        system = {"role": "system", "content": prompt.system(hits, brief=question.brief)}
        asked = {"role": "user", "content": question.text}
        return Prompt([system, *dialogue(past), asked], events.sources(hits))

    async def aclose(self) -> None:
        await trio.to_thread.run_sync(self._retrieval.close, limiter=self._one_at_a_time)
