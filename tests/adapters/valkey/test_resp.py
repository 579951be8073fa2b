"""The wire: replies come out whole, however the bytes were cut; what is no reply is said to be none."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialogue_adapters.valkey.resp import ErrorReply, NotAReply, Replies, Reply, pack

words = st.binary(max_size=20)
replies: st.SearchStrategy[Reply] = st.recursive(
    st.none() | st.integers(-(2**40), 2**40) | words | st.text("abc ", max_size=9).map(ErrorReply),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


def written(reply: Reply) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case ErrorReply():
            return b"-%b\r\n" % reply.encode()
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case _:
            return b"*%d\r\n" % len(reply) + b"".join(map(written, reply))


@given(st.lists(replies, max_size=4), st.lists(st.integers(0, 200), max_size=6))
def test_replies_come_out_whole_however_they_were_cut(sent: list[Reply], cuts: list[int]) -> None:
    data = b"".join(map(written, sent))
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    reader, got = Replies(), []
    for start, end in pairwise(places):
        reader.feed(data[start:end])
        got += reader.take([b""] * (len(sent) - len(got)))
    assert got == sent
    assert [type(reply) for reply in got] == [type(reply) for reply in sent]


def test_no_more_is_taken_than_was_asked_for() -> None:
    reader = Replies()
    reader.feed(b":1\r\n:2\r\n:3\r\n")
    assert (reader.take([b""] * 2), reader.take([b""] * 2)) == ([1, 2], [3])


@pytest.mark.parametrize("data", [b"HTTP/1.1 400\r\n", b"$x\r\n", b"*one\r\n", b":\r\n", b"\r\n"])
def test_what_is_no_reply_is_said_to_be_none(data: bytes) -> None:
    reader = Replies()
    reader.feed(data)
    with pytest.raises(NotAReply):
        reader.take([b""])


def test_a_command_is_its_words_with_their_lengths() -> None:
    assert pack(b"GET", b"a\r\nb") == b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n"
