"""A session's log as a conversation: what the user asked, and the answers as the user has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from trialogue.core.events import Ended, Event, Failed, Receipt, Source, Sources, Started, Tokens, UserMessage

SentUpTo = Callable[[int], int]
Message = dict[str, Any]
"""`role`, `content`, `timestamp`, and of an answer that has some, `sources`."""


@dataclass(slots=True)
class Exchange:
    """A question and what has become of it. `batches` are its tokens, with the offset in the log of each batch."""

    question: UserMessage
    place: int
    began: str = ""
    batches: list[tuple[int, Sequence[str]]] = field(default_factory=list)
    sources: Sequence[Source] = ()
    sent: int | None = None
    end: Ended | Failed | None = None

    def answer(self, sent_up_to: SentUpTo) -> str:
        """The text as the user has it: all of it if it is complete, else what was sent. Nothing while it runs."""
        if self.end is None:
            return ""
        texts = chain.from_iterable(batch for _, batch in self.batches)
        if isinstance(self.end, Ended) and self.end.finish_reason in ("stop", "length"):
            return "".join(texts)
        sent = self.sent  # the receipt says so; until it comes:
        if sent is None:
            sent = sum(min(len(batch), max(0, sent_up_to(offset) - offset)) for offset, batch in self.batches)
        return "".join(islice(texts, sent))

    @property
    def retracted(self) -> bool:
        return isinstance(self.end, Ended) and self.end.finish_reason == "retracted"


def exchanges(entries: Iterable[tuple[int, Event]]) -> list[Exchange]:
    """In the order in which their turns began; one that never began stands where it was asked.

    A turn of which the log has not kept the question is left out.
    """
    found: dict[str, Exchange] = {}
    for offset, event in entries:
        if isinstance(event, UserMessage):
            found[event.message_id] = Exchange(event, offset)
        elif exchange := found.get(event.message_id):
            match event:
                case Started(timestamp=timestamp):
                    exchange.place, exchange.began = offset, timestamp
                case Tokens(texts=texts):
                    exchange.batches.append((offset, texts))
                case Sources(sources=sources):
                    exchange.sources = sources
                case Receipt(sent=sent):
                    exchange.sent = sent
                case Ended() | Failed():
                    exchange.end = event
    return sorted(found.values(), key=lambda exchange: exchange.place)


def messages(conversation: Iterable[Exchange], sent_up_to: SentUpTo) -> list[Message]:
    """What has been said, oldest first. A turn that was retracted is forgotten; what runs is still to be answered.

    Args:
        sent_up_to: the log's; asked of turns that have ended without a receipt as yet.
    """
    said: list[Message] = []
    for exchange in conversation:
        if exchange.retracted:
            continue
        question, text = exchange.question, exchange.answer(sent_up_to)
        said.append({"role": "user", "content": question.content, "timestamp": question.timestamp})
        if text:
            answer = {"role": "assistant", "content": text, "timestamp": exchange.began}
            said.append({**answer, "sources": list(exchange.sources)} if exchange.sources else answer)
    return said
