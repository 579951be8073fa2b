"""`trialogue chat` in a real terminal: what a person who types there sees."""

from __future__ import annotations

import re
import signal

import pytest
import trio

from support.fault_proxy import fault_proxy
from support.server import Server
from support.terminal import CTRL_C, CTRL_D, chatting

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_an_answer_is_formatted_and_harmless(server: Server) -> None:
    with chatting(server.address) as terminal:
        terminal.until_shown("Connected to ws://127.0.0.1:", "twice leaves.")
        terminal.until_ready()
        terminal.type("markdown\r")
        terminal.until_shown(
            "> markdown", "Heading", "Some bold text and code", "• one", "the end", "1. A guide (0.50)"
        )
        assert "**" not in terminal.text()
        assert "https://example.org/x" in terminal.text(), "where a link leads is seen"
        assert b"\x1b[1mbold" in terminal.raw
        assert b"\x1b]" not in terminal.raw
        assert b"\x1b[2J" not in terminal.raw
        assert b"\x9b31m" not in terminal.raw
        assert "\N{RIGHT-TO-LEFT OVERRIDE}".encode() not in terminal.raw
        assert "evil �]0;owned� �[2J �31m �[31m �dlrow" in terminal.text()
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0


def test_a_line_typed_while_it_talks_interrupts_it_and_does_not_mix_with_it(server: Server) -> None:
    with chatting(server.address) as terminal:
        terminal.until_ready()
        terminal.type("count 1000\r")
        terminal.until_shown("> count 1000", "w5", "[generating]")
        for letter in "안녕 you":
            terminal.type(letter)
            terminal.read()
        terminal.until(lambda: terminal.last_line().endswith("you"), "what was typed")
        assert re.fullmatch("> 안 ?녕 ? you", terminal.last_line()), "in its place"
        before = int(re.findall(r"w(\d+)", terminal.text())[-1])
        terminal.until_shown(f"w{before + 5} ")
        terminal.until(lambda: terminal.last_line().endswith("you"), "what was typed, below")
        terminal.type("\r")
        terminal.until_shown("— interrupted", "you said", "1. A guide")
        terminal.until(lambda: terminal.last_line() == ">", "an empty line")
        answer = re.search(r"> count 1000\n(.*?)\nSources", terminal.text(), re.DOTALL)
        assert answer
        assert answer[1].split() == [f"w{n}" for n in range(len(answer[1].split()))], "whole, and nothing between"


def test_ctrl_c_stops_the_answer_and_twice_leaves(server: Server) -> None:
    with chatting(server.address) as terminal:
        terminal.until_ready()
        terminal.type("count 1000\r")
        terminal.until_shown("w3")
        terminal.type(CTRL_C)
        terminal.until_shown("w3", "— stopped")
        terminal.type("fail\r")
        terminal.until_shown("> fail", "RAG-001: The answer pipeline failed.", "Try again")
        terminal.type("count 1000\r")
        terminal.until_shown("> count 1000", "w3", "> count 1000", "w3")
        terminal.type(CTRL_C)
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 0
        assert "w3" in terminal.text().rpartition("> count 1000")[2], "what was said stays when we leave"


def test_ctrl_c_when_nothing_runs_says_what_a_second_one_does(server: Server) -> None:
    with chatting(server.address, "--session-id", "known") as terminal:
        terminal.until_shown("session known")
        terminal.until_ready()
        terminal.type("half a questi" + CTRL_C)
        terminal.until_shown("Ctrl-C again leaves.")
        terminal.until(lambda: terminal.last_line() == ">", "an empty line")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 0


async def test_a_cut_connection_is_resumed_and_it_says_so(server: Server) -> None:
    def person(url: str) -> None:
        with chatting(url) as terminal:
            terminal.until_ready()
            terminal.type("count 60\r")
            terminal.until_shown("w3")
            trio.from_thread.run_sync(cut)
            terminal.until_shown("Connection lost (", "back in ")
            terminal.until_shown("Connected again: the answer goes on", "1. A guide")
            # The last one counts: `until_shown` has seen every frame between.
            words = re.findall(r"\bw\d+\b", terminal.text())
            assert words == [f"w{n}" for n in range(60)]
            assert "Connection lost" not in terminal.text(), "that has passed"

    def cut() -> None:
        for link in list(proxy._links.values()):
            link.reset()

    async with fault_proxy(server) as proxy:
        await trio.to_thread.run_sync(person, f"ws://{proxy.host}:{proxy.port}/chat-ws")


def test_another_device_is_seen_and_a_resize_survived(server: Server) -> None:
    with chatting(server.address, "--session-id", "both") as here:
        here.until_ready()
        with chatting(server.address, "--session-id", "both") as there:
            here.until_shown("2 devices are here.")
            there.until_ready()
            there.type("count 20\r")
            here.until_shown("> (asked on another device) count 20", "w3")
            here.resize(60)
            here.until_shown("1. A guide")
            there.until_shown("1. A guide")


def test_korean_without_colours(server: Server) -> None:
    with chatting(server.address, LANG="ko_KR.UTF-8", NO_COLOR="1") as terminal:
        terminal.until_shown("에 연결되었습니다")
        terminal.until_ready()
        terminal.type("markdown\r")
        terminal.until_shown("Some bold text", "출처")
        assert not re.search(rb"\x1b\[[0-9;]*[34][0-9]", bytes(terminal.raw)), "no colour"


def test_a_signal_leaves_the_terminal_as_it_was(server: Server) -> None:
    with chatting(server.address) as terminal:
        terminal.until_ready()
        terminal._child.kill(signal.SIGTERM)
        assert terminal.exit_code() == 0
        assert terminal.raw.endswith((b"\x1b[?2004l", b"\x1b[?25h", b"\x1b[0m", b"\x1b[?7h")), terminal.raw[-40:]
