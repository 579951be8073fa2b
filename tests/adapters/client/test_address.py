"""Every form in which people write where a chat is."""

from __future__ import annotations

import pytest

from trialogue_adapters.client.address import read_address


@pytest.mark.parametrize(
    ("url", "shown", "target"),
    [
        ("http://h:8000", "ws://h:8000/chat-ws", "/chat-ws?session_id=s"),
        ("h:8000", "ws://h:8000/chat-ws", "/chat-ws?session_id=s"),
        ("ws://h/", "ws://h/chat-ws", "/chat-ws?session_id=s"),
        ("https://h/bot", "wss://h/chat-ws", "/chat-ws?session_id=s"),
        ("wss://h:444/chat-ws", "wss://h:444/chat-ws", "/chat-ws?session_id=s"),
        ("http://h/assistant/chat-ws?x=1", "ws://h/assistant/chat-ws", "/assistant/chat-ws?session_id=s&x=1"),
        ("http://[::1]:80/?after=1:2&lang=ko", "ws://[::1]/chat-ws", "/chat-ws?session_id=s&lang=ko"),
    ],
)
def test_forms(url: str, shown: str, target: str) -> None:
    address = read_address(url, "s")
    assert (str(address), address.target, address.session_id) == (shown, target, "s")


def test_a_session_id_is_the_argument_s_else_the_url_s_else_a_new_one() -> None:
    url = "ws://h?session_id=theirs&lang=ko"
    assert read_address(url).target == "/chat-ws?session_id=theirs&lang=ko"
    assert read_address(url, "ours", "en").target == "/chat-ws?session_id=ours&lang=en"
    assert read_address("h").session_id != read_address("h").session_id


@pytest.mark.parametrize(
    ("url", "complaint"), [("ftp://h", "scheme"), ("http://", "no host"), ("h?session_id=a%20b", "session_id 'a b'")]
)
def test_what_is_no_address(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_address(url)
