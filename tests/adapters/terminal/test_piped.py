"""`echo QUESTION | trialogue chat URL`: the answer on standard output, everything else aside, and an exit code."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import trio

from support.fault_proxy import fault_proxy
from support.server import Server, environment
from trialogue_adapters.terminal import chat


def words(url: str, *flags: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "trialogue_adapters", "chat", url, "--lang", "en", *flags]


def pipe(question: str, url: str, *flags: str, **more: Any) -> tuple[int, str, str]:
    done = subprocess.run(
        words(url, *flags),
        input=question,
        capture_output=True,
        text=True,
        timeout=20,
        env=environment(),
        check=False,
        **more,
    )
    return done.returncode, done.stdout, done.stderr


def test_an_answer(server: Server) -> None:
    assert pipe("hello\nthere\n", server.address) == (0, "you said hello\nthere \n", "")


def here(
    question: str, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """The same in this process, which costs less."""
    monkeypatch.setattr("sys.stdin", io.StringIO(question))
    code = chat([url, "--lang", "en"])
    return code, *capsys.readouterr()


def test_an_answer_is_harmless(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer, _ = here("markdown", server.address, monkeypatch, capsys)
    assert code == 0
    assert "evil �]0;owned� �[2J �31m &#x1b;[31m" in answer, "as it came, but for what steers terminals"
    assert "\x1b" not in answer


@pytest.mark.parametrize(
    ("question", "code", "said"),
    [
        ("fail", 1, "trialogue: RAG-001: The answer pipeline failed.\n  Try again as a new message.\n"),
        ("", 2, "trialogue chat: Nothing was asked: standard input is empty.\n"),
        ("x" * 10_001, 2, "trialogue chat: the question has 10001 characters, of at most 10000\n"),
    ],
)
def test_what_goes_wrong_is_told_aside(
    server: Server,
    question: str,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exit_code, answer, aside = here(question, server.address, monkeypatch, capsys)
    assert (exit_code, answer) == (code, "")
    assert aside.startswith(said)


def test_ctrl_c_stops_the_answer(server: Server) -> None:
    with subprocess.Popen(
        words(server.address), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"count 1000")
        process.stdin.close()
        begun = os.read(process.stdout.fileno(), 100)
        process.send_signal(signal.SIGINT)
        answer, aside = begun + process.stdout.read(), process.stderr.read()
        assert process.wait(10) == 130
    assert answer.split() == [b"w%d" % number for number in range(len(answer.split()))]
    assert aside == b"trialogue: stopped\n"


def test_a_reader_that_leaves_ends_it_quietly(server: Server) -> None:
    ended = subprocess.run(
        ["bash", "-c", '"$@" | head -c 5; echo "${PIPESTATUS[0]}"', "bash", *words(server.address)],
        input=b"count 1000",
        capture_output=True,
        env=environment(),
        timeout=20,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == (b"w0 w11\n", b"")


async def test_a_drop_is_told_aside_and_the_answer_is_whole(server: Server) -> None:
    async with fault_proxy(server) as proxy, trio.open_nursery() as nursery:

        async def cut() -> None:
            while not any(link.down.passed > 1000 for link in proxy._links.values()):
                await trio.sleep(0.01)
            for link in list(proxy._links.values()):
                link.reset()

        nursery.start_soon(cut)
        code, answer, aside = await trio.to_thread.run_sync(pipe, "count 40", f"http://{proxy.host}:{proxy.port}")
    assert (code, answer.split()) == (0, [f"w{n}" for n in range(40)])
    assert "Connection lost (" in aside
