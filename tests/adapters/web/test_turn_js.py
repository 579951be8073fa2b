"""A Turn of the client library: what it shows, what its iterator gives, how it ends. On a scripted socket."""

from __future__ import annotations

from typing import Any

import pytest

from support.scripted_socket import Client

pytestmark = pytest.mark.browser

SHOW = """(turn) => ({ text: turn.text, tokens: turn.tokens, phase: turn.phase, place: turn.place, ending: turn.ending,
  question: turn.question, mine: turn.mine, sources: turn.sources })"""
LISTEN = "() => void chat.on('turn', (turn) => turns.push(turn))"
ITERATE = """() => {
  window.given = []; window.finished = null;
  (async () => { for await (const token of turn) given.push(token); })()
    .then(() => { finished = "done"; }, (error) => { finished = error.code; });
}"""


class Asker(Client):
    """A client that has asked something and is ready; `id` is the turn's."""

    def __init__(self, page: Any) -> None:
        super().__init__(page)
        self.ready()
        self.id = self.run("() => { window.turn = chat.ask('hi', { options: { depth: 2 } }); return turn.id }")

    def told(self, kind: str, **more: Any) -> None:
        self.hears(type=kind, message_id=self.id, **more)

    def start(self, timestamp: str = "t1") -> None:
        self.told("stream_start", session_id="s1", timestamp=timestamp)

    def tokens(self, *texts: str, first: int = 0) -> None:
        for index, text in enumerate(texts, first):
            self.told("stream_token", token=text, index=index)

    def end(self, reason: str = "stop", total: int = 2, **more: Any) -> None:
        self.told("stream_end", total_tokens=total, processing_time_ms=7, finish_reason=reason, **more)

    @property
    def turn(self) -> dict[str, Any]:
        return dict(self.run(f"({SHOW})(turn)"))

    def settle(self) -> None:
        self.run("async () => { for (let n = 0; n < 8; n += 1) await null; }")

    def ended(self) -> dict[str, Any]:
        """What `ended` has resolved to; it must have."""
        script = """async () => {
          const end = await Promise.race([turn.ended, new Promise((go) => queueMicrotask(() => go(null)))]);
          return end && { ...end, error: end.error && { ...end.error, message: end.error.message } };
        }"""
        found = self.run(script)
        assert found is not None, "it has not ended"
        return dict(found)


@pytest.fixture
def asker(module_page: Any) -> Asker:
    return Asker(module_page)


def test_a_turn_from_its_asking_to_its_receipt(asker: Asker) -> None:
    assert asker.sent[0]["options"] == {"depth": 2}
    assert asker.turn["phase"] == "sending"
    assert (asker.turn["question"], asker.turn["mine"]) == ("hi", True)
    asker.told("user_message", content="hi", on_busy="interrupt", offset=1)
    asker.told("stream_status", phase="queued", place=2)
    assert (asker.turn["phase"], asker.turn["place"]) == ("queued", 2)
    asker.start()
    assert (asker.turn["phase"], asker.turn["place"]) == ("retrieving", None)
    asker.told("stream_sources", sources=[{"title": "a", "score": 1, "content_preview": ""}])
    asker.tokens("one ", "two")
    asker.told("stream_status", phase="retrieving")  # late
    assert (asker.turn["phase"], asker.turn["text"], asker.turn["tokens"]) == ("generating", "one two", 2)
    assert asker.turn["sources"][0]["title"] == "a"
    asker.end(meta={"usage": 2})
    assert asker.ended() == {
        "ending": "stop",
        "text": "one two",
        "tokens": 2,
        "whole": True,
        "ms": 7,
        "meta": {"usage": 2},
        "error": None,
    }
    asker.told("stream_receipt", generated=2, sent=2, acked=None, chars=7, upstream="closed")
    assert asker.run("async () => (await turn.receipt).chars") == 7
    assert asker.turn["phase"] == "ended"


def test_tokens_are_iterated_as_they_come_and_acknowledged_when_the_next_is_asked_for(asker: Asker) -> None:
    asker.start()
    asker.tokens("one ")
    asker.run(ITERATE)
    asker.tokens("two ", first=1)
    asker.settle()
    assert asker.run("given") == ["one ", "two "]
    asker.end()
    asker.settle()
    assert asker.run("finished") == "done"
    asker.wait(500)
    assert asker.sent[-1] == {"type": "ack", "message_id": asker.id, "index": 1}


def test_who_stops_iterating_has_seen_what_was_given_and_no_more(asker: Asker) -> None:
    asker.start()
    asker.tokens("one ", "two ", "three ")
    asker.run("async () => { for await (const token of turn) if (token === 'two ') break; }")
    asker.wait(500)
    assert asker.sent[-1] == {"type": "ack", "message_id": asker.id, "index": 1}
    asker.run(ITERATE)  # once more, from the first
    asker.settle()
    assert asker.run("given") == ["one ", "two ", "three "]


def test_what_comes_twice_is_there_once(asker: Asker) -> None:
    asker.start()
    asker.tokens("one ", "two ")
    asker.start()
    asker.tokens("one ", "two ", "three ")
    asker.end(total=3)
    assert (asker.ended()["text"], asker.ended()["whole"]) == ("one two three ", True)
    asker.tokens("four", first=3)
    asker.end("failed")
    assert (asker.turn["text"], asker.turn["ending"]) == ("one two three ", "stop")


def test_an_answer_that_begins_anew_replaces_the_old_one_and_an_iterator_says_so(asker: Asker) -> None:
    asker.start()
    asker.tokens("one ", "two ")
    asker.run(ITERATE)
    asker.settle()
    asker.start("t2")
    asker.tokens("uno ")
    asker.settle()
    assert asker.run("finished") == "anew"
    asker.end(total=1)
    assert (asker.ended()["text"], asker.ended()["whole"]) == ("uno ", True)


def test_a_hole_is_not_hidden(asker: Asker) -> None:
    asker.start()
    asker.tokens("one ")
    asker.tokens("four", first=3)
    asker.end(total=4)
    assert (asker.ended()["text"], asker.ended()["whole"]) == ("one four", False)


def test_an_error_is_typed(asker: Asker) -> None:
    asker.start()
    asker.run(ITERATE)
    asker.told("stream_error", error_code="RAG-002", message="late", solutions=["again"], retry_after_ms=5)
    error = asker.ended()["error"]
    assert (asker.ended()["ending"], error["code"], error["message"]) == ("failed", "RAG-002", "late")
    assert (error["retryable"], error["retryAfterMs"], error["solutions"]) == (True, 5, ["again"])
    asker.settle()
    assert asker.run("finished") == "RAG-002"


def test_a_refusal_is_no_failed_turn_and_has_no_receipt(asker: Asker) -> None:
    asker.told("stream_error", error_code="WS-001", message="bad", solutions=["mend it"])
    assert (asker.ended()["ending"], asker.ended()["error"]["retryable"]) == ("rejected", False)
    assert asker.run("async () => await turn.receipt") is None


def test_cancel_returns_what_came(asker: Asker) -> None:
    asker.start()
    asker.tokens("one ")
    asker.run("() => { window.seen = null; turn.cancel().then((found) => { seen = found; }); }")
    assert asker.sent[-1] == {"type": "cancel", "message_id": asker.id}
    asker.tokens("two ", first=1)  # was on its way
    asker.settle()
    assert asker.run("seen") is None
    asker.end("cancelled")
    asker.settle()
    assert asker.run("({ ...seen, receipt: null })") == {
        "ending": "cancelled",
        "text": "one two ",
        "tokens": 2,
        "receipt": None,
    }
    asker.told("stream_receipt", generated=3, sent=2, acked=1, chars=8, upstream="closed")
    assert asker.run("async () => (await seen.receipt).acked") == 1


def test_a_cancel_that_may_not_have_arrived_is_said_again_until_it_is_answered(asker: Asker) -> None:
    asker.start()
    asker.run("() => void turn.cancel()")
    asker.drop()
    asker.comes_back()
    asker.ready("replayed")
    assert asker.sent == [{"type": "cancel", "message_id": asker.id}]
    asker.told("cancel_result", outcome="cancelled")
    asker.drop()
    asker.comes_back()
    asker.ready("replayed")
    assert asker.sent == []


def test_a_cancel_before_it_was_sent(module_page: Any) -> None:
    client = Client(module_page)
    ending = client.run("async () => { window.turn = chat.ask('hi'); return (await turn.cancel()).ending }")
    assert ending == "cancelled"
    client.ready()
    assert client.sent == []


@pytest.mark.parametrize("end", ["chat.close()", "sockets.at(-1).onclose({ code: 1008, reason: 'no' })"])
def test_when_the_connection_ends_for_good_nobody_waits_for_ever(asker: Asker, end: str) -> None:
    asker.start()
    asker.run(ITERATE)
    asker.run(end)
    assert (asker.ended()["ending"], asker.ended()["error"]["code"]) == ("lost", "closed")
    asker.settle()
    assert asker.run("finished") == "closed"
    asker.run("chat.open()")
    asker.ready()
    assert asker.sent == []  # it was said to be over: it is not asked again


def test_a_too_long_answer_is_stopped_and_said_to_be(asker: Asker) -> None:
    asker.start()
    asker.run(
        """(id) => { const token = "x".repeat(1 << 20); for (let index = 0; index < 6; index += 1)
          sockets[0].onmessage({ data: JSON.stringify({ type: "stream_token", message_id: id, token, index }) }) }""",
        asker.id,
    )
    assert (asker.ended()["ending"], asker.ended()["error"]["code"]) == ("failed", "too_long")
    assert asker.ended()["tokens"] == 4
    assert asker.sent[-1] == {"type": "cancel", "message_id": asker.id}


def test_another_device_s_turn(asker: Asker) -> None:
    asker.run(LISTEN)
    asker.hears(type="user_message", message_id="theirs", content="ho", on_busy="enqueue", offset=9)
    asker.hears(type="stream_token", message_id="theirs", token="x", index=0, offset=10)
    asker.hears(type="stream_token", message_id="unheard of", token="x", index=0, offset=11)
    (theirs,) = asker.run(f"turns.map({SHOW})")
    assert (theirs["question"], theirs["mine"], theirs["text"]) == ("ho", False, "x")
    asker.drop()
    asker.comes_back()
    asker.ready("gap", "9:0", running=asker.id)
    assert asker.run(f"({SHOW})(turns[0])")["ending"] == "lost"
    assert asker.turn["ending"] is None


def test_the_keeping_of_turns_has_a_bound(asker: Asker) -> None:
    asker.run(LISTEN)
    for number in range(70):
        asker.hears(type="user_message", message_id=f"m{number}", content="x", on_busy="enqueue", offset=number)
    assert asker.run("turns.filter((turn) => turn.ending === 'lost').length") == 6
    assert asker.ended()["ending"] == "lost"  # the oldest goes first


@pytest.mark.parametrize("word", ["__proto__", "constructor", "toString", "state", "turn", "*"])
def test_hostile_names_are_names(asker: Asker, word: str) -> None:
    before = asker.run("states.length")
    asker.run(LISTEN)
    asker.hears(type=word, message_id=word)
    asker.hears(type="stream_token", message_id=word, token="x", index=0)
    asker.run(
        """(word) => sockets[0].onmessage({ data: `{"type":"stream_start","message_id":"${word}","timestamp":"t",
          "session_id":"s1","__proto__":{"text":"no"},"constructor":1}` })""",
        word,
    )
    asker.start()
    asker.tokens("one")
    assert asker.turn["text"] == "one"
    assert asker.run("turns.map((turn) => turn.id)") == [word]
    assert asker.run("states.length") == before
    assert asker.run("({}).text") is None
