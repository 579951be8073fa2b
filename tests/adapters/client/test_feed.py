"""Events for one reader: in order, bounded, and over when the chat is."""

from __future__ import annotations

import pytest

from trialogue_adapters.client import ClosedByServer, Left, LinkError, Missed, Presence
from trialogue_adapters.client.feed import MAX_EVENTS, Feed


async def test_who_does_not_read_is_told_how_much_was_missed() -> None:
    feed = Feed(lambda: None)
    for number in range(MAX_EVENTS + 3):
        feed.put(Presence(number))
    assert repr(feed) == f"<Feed, {MAX_EVENTS} events waiting>"
    assert [await anext(feed) for _ in range(2)] == [Missed(3), Presence(3)]


@pytest.mark.parametrize(
    ("error", "raised"), [(Left(), StopAsyncIteration), (ClosedByServer(1009, ""), ClosedByServer)]
)
async def test_what_has_come_is_read_before_the_end(error: LinkError, raised: type[Exception]) -> None:
    feed = Feed(lambda: error)
    feed.put(Presence(1))
    assert await anext(feed) == Presence(1)
    with pytest.raises(raised):
        await anext(feed)
