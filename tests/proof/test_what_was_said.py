"""The embedded RAG knows what its user has seen: interrupted, stopped or retracted, its next answer says so."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest
import trio

from support.auth import ALICE, BOB, write_files
from support.raw_client import Client, fresh, open_client, tokens
from support.server import Server, running

pytestmark = pytest.mark.slow

SERVICE = """
from pathlib import Path
from trialogue_adapters.rag import EmbeddedChatService


def service():
    return EmbeddedChatService(docs=Path("docs"), answer="extractive", index_path=Path("index.db"), pace=0.05)
"""
LIGHTHOUSE = """# The lighthouse

The lighthouse of Samho stands on the northern pier and shows a white flash every twelve seconds to all ships.
The lighthouse keeper winds the clockwork of the lighthouse each evening and writes the weather into a book.
The lighthouse was built of grey granite blocks, which were carried over the ice in three very cold winters.
"""
LINGER = 0.4
QUESTION = "What does the lighthouse keeper do at the lighthouse?"
RECALL = "What did you just say?"
NOTHING = "I have said nothing yet in this session."


def prepared(folder: Path) -> Path:
    (folder / "docs").mkdir()
    (folder / "docs" / "lighthouse.md").write_text(LIGHTHOUSE, encoding="utf-8")
    (folder / "paced.py").write_text(SERVICE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(listener: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """One whose service is the embedded RAG, at the pace of a model."""
    folder = prepared(tmp_path_factory.mktemp("rag"))
    with running(folder, listener, ("--linger", str(LINGER)), service="paced:service") as server:
        yield server


async def ask(client: Client, message_id: str, content: str, **fields: str) -> None:
    await client.send(message_id=message_id, content=content, session_id=client.session_id, **fields)


async def hear(client: Client, message_id: str, content: str, count: int) -> None:
    """Ask, and hear so many tokens of the answer."""
    await ask(client, message_id, content)
    for _ in range(count):
        await client.wait_for("stream_token", message_id)


def quoted(answer: str) -> str:
    return "\n".join(line.removeprefix("> ").removeprefix(">") for line in answer.splitlines() if line.startswith(">"))


def lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


async def recalled(client: Client, told: list[str]) -> tuple[str, str]:
    """What it says when asked what it has said, and everything that had really come of the turn before."""
    frames = await client.turn("recall")
    seen = "".join([*told, *tokens(frames, "question")])
    return "".join(tokens(frames, "recall")), seen


def told(client: Client) -> list[str]:
    bodies = map(json.loads, client.texts)
    return tokens([body for body in bodies if "message_id" in body], "question")


async def test_interrupted_it_repeats_exactly_what_had_been_sent(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        await hear(client, "question", QUESTION, 5)
        before = told(client)
        await ask(client, "recall", RECALL)
        answer, seen = await recalled(client, before)
    assert QUESTION in answer
    assert quoted(answer) == lines(seen)
    assert "I was interrupted there by your next message." in answer


async def test_stopped_it_says_so(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        await hear(client, "question", QUESTION, 5)
        before = told(client)
        await client.cancel("question")
        await ask(client, "recall", RECALL)
        answer, seen = await recalled(client, before)
    assert quoted(answer) == lines(seen)
    assert "You stopped me there." in answer


async def test_retracted_it_was_never_said(server: Server) -> None:
    async with open_client(server) as client:
        await hear(client, "question", QUESTION, 5)
        await ask(client, "recall", RECALL, on_busy="rollback")
        answer = "".join(tokens(await client.turn("recall"), "recall"))
    assert answer == NOTHING


async def test_lost_and_back_it_counts_what_both_connections_were_sent(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        await hear(client, "question", QUESTION, 5)
        await client.vanish("reset")
    async with open_client(server, client.session_id) as back:
        await back.wait_for("stream_start", "question")
        await ask(back, "recall", RECALL)
        answer, seen = await recalled(back, told(back))
    assert quoted(answer) == lines(seen)
    assert seen.startswith("".join(told(client)))


async def test_what_went_on_unseen_until_nobody_lingered_was_not_said(server: Server) -> None:
    async with open_client(server, v1=True) as client:
        await hear(client, "question", QUESTION, 5)
        seen = "".join(told(client))
        await client.vanish("reset")
    await trio.sleep(LINGER + 0.5)
    async with open_client(server, client.session_id, v1=True, query={"after": after(client)}) as back:
        (receipt,) = [body for body in await back.until("stream_receipt") if body["type"] == "stream_receipt"]
        await ask(back, "recall", RECALL)
        answer = "".join(tokens(await back.turn("recall"), "recall"))
    assert receipt["generated"] > receipt["sent"]
    assert quoted(answer).startswith(lines(seen))  # a few more may have been under way when it was lost
    assert len(quoted(answer)) <= receipt["chars"] + 1
    assert "You stopped me there." in answer


def after(client: Client) -> str:
    last = [body["offset"] for body in map(json.loads, client.texts) if "offset" in body][-1]
    return f"{client.ready['position'].split(':')[0]}:{last}"


async def test_a_principal_never_hears_what_another_was_told(listener: str, tmp_path: Path) -> None:
    session_id = fresh("s")
    with running(prepared(tmp_path), listener, write_files(tmp_path), service="paced:service") as server:
        async with open_client(server, session_id, v1=True, headers=ALICE) as alice:
            await ask(alice, "question", QUESTION)
            await alice.turn("question")
            async with open_client(server, session_id, v1=True, headers=BOB) as bob:
                await ask(bob, "recall", RECALL)
                assert "".join(tokens(await bob.turn("recall"))) == NOTHING
            await ask(alice, "recall", RECALL)
            assert QUESTION in "".join(tokens(await alice.turn("recall")))
        assert "alice/" not in "".join([*alice.texts, *bob.texts])


async def test_a_whole_answer_is_recalled_whole(server: Server) -> None:
    async with open_client(server) as client:
        await ask(client, "question", QUESTION)
        seen = "".join(tokens(await client.turn("question")))
        await ask(client, "recall", RECALL)
        answer, _ = await recalled(client, [])
    assert quoted(answer) == lines(seen)
    assert "interrupted" not in answer
