"""`shelf.py`: how many vacant sessions, how many bytes of log; and both in a hub."""

from __future__ import annotations

from trio.testing import MockClock

from support.memory import Scripted, bench, settle
from trialogue.shelf import Shelf


class Book:
    """A session as the shelf sees it: `ended` bytes may go, `running` bytes stay."""

    def __init__(self, shelf: list[Shelf], ended: int, running: int = 0) -> None:
        self.shelf, self.ended, self.running = shelf, ended, running
        self.expired = False

    def expire(self) -> None:
        self.expired = True

    def shed(self) -> None:
        less, self.ended = self.ended, 0
        self.shelf[0].count(-less)


def shelf_of(*books: Book, max_vacant: int = 0, max_bytes: int = 0) -> Shelf:
    shelf = Shelf(max_vacant, max_bytes, lambda: books)
    for book in books:
        book.shelf.append(shelf)
    return shelf


def test_the_session_that_was_alone_longest_goes_first() -> None:
    a, b, c = Book([], 0), Book([], 0), Book([], 0)
    shelf = shelf_of(a, b, c, max_vacant=2)
    shelf.put(a)
    shelf.put(b)
    shelf.take(a)
    shelf.put(a)
    assert not any(book.expired for book in (a, b, c))
    shelf.put(c)
    assert [book.expired for book in (a, b, c)] == [False, True, False]
    assert shelf.vacant == 2


def test_past_the_bound_vacant_sessions_shed_first_and_no_more_than_needed() -> None:
    here, gone, later = Book([], 300), Book([], 300), Book([], 300)
    shelf = shelf_of(here, gone, later, max_bytes=1_000)
    shelf.put(gone)
    shelf.put(later)
    shelf.count(900)
    assert not shelf.full
    shelf.count(101)
    assert (here.ended, gone.ended, later.ended) == (300, 0, 300)
    assert shelf.bytes == 701


def test_what_runs_stays_and_makes_it_full() -> None:
    busy = Book([], 100, running=2_000)
    shelf = shelf_of(busy, max_bytes=1_000)
    shelf.count(2_100)
    assert busy.ended == 0
    assert shelf.full
    shelf.count(-2_000)
    assert not shelf.full


def test_bounds_of_zero_are_none() -> None:
    books = [Book([], 10**9) for _ in range(100)]
    shelf = shelf_of(*books)
    for book in books:
        shelf.put(book)
        shelf.count(10**9)
    assert not shelf.full
    assert not any(book.expired for book in books)


async def test_a_vacant_session_too_many_goes_at_once_with_what_it_runs(autojump_clock: MockClock) -> None:
    async with bench(max_vacant=2) as it:
        for session_id in "stu":
            client = await it.connect(session_id, "seed")
            await it.ask(client, session_id, session_id=session_id)
            assert client.types() == ["stream_start"]
            client.leave(1006)
            await settle()
        assert sorted(key[1] for key in it.hub.sessions) == ["t", "u"]
        assert it.service.closed == ["s"]
        assert it.hub.census.open == 2


async def test_the_bytes_of_all_logs_are_bounded_and_counted_back() -> None:
    async with bench(log_bytes_in_all=40_000) as it:
        for session_id in "stuvwxyz":
            client = await it.connect(session_id, "seed")
            await it.ask(client, session_id, session_id=session_id)
            it.service.emit(session_id, *["x" * 100] * 50)
            it.service.done(session_id)
            await settle()
            assert client.types()[-1] == "stream_end"
            assert it.hub.shelf.bytes <= 40_000
        assert it.hub.shelf.bytes > 10_000
        assert it.hub.shelf.bytes == sum(session.log.size for session in it.hub.sessions.values())  # type: ignore[attr-defined]
    assert it.hub.shelf.bytes == 0


async def test_while_running_turns_alone_are_too_much_a_message_is_refused() -> None:
    async with bench(Scripted(), log_bytes_in_all=40_000) as it:
        one, two = await it.connect("s", "seed"), await it.connect("t", "seed")
        await it.ask(one, "a")
        it.service.emit("a", "x")
        it.service.emit("a", *["x" * 1_000] * 60)
        await it.ask(two, "b", session_id="t")
        assert two.frames[-1]["error_code"] == "WS-010"
        it.service.done("a")
        await settle()
        await it.ask(two, "b", session_id="t")
        assert two.types()[-1] == "stream_start"
