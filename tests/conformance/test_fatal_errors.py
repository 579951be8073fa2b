"""A pipeline that raises what is no Exception (`sys.exit()` in somebody's code): its turn fails, the others live on.

A server of its own for each test: the fault is one that may take the whole service along.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.raw_client import open_client
from support.server import running

FATAL = ["SystemExit", "KeyboardInterrupt", "BaseException"]


@pytest.mark.parametrize("error", FATAL)
async def test_a_pipeline_that_raises_what_is_no_exception_is_rag_001(
    listener: str, tmp_path: Path, error: str
) -> None:
    with running(tmp_path, listener) as server:
        async with open_client(server) as bystander, open_client(server) as client:
            theirs = await bystander.say(tokens=20, pace=0.01)
            await bystander.wait_for("stream_token")
            mine = await client.say(at={"1": ["raise", error]})
            assert (await client.turn(mine))[-1]["error_code"] == "RAG-001"
            assert (await bystander.turn(theirs))[-1]["total_tokens"] == 20
            assert (await client.turn(await client.say()))[-1]["finish_reason"] == "stop"
        assert server.alive


@pytest.mark.parametrize(
    ("runtime", "error"),
    # Trio may raise KeyboardInterrupt itself, in any task: there, it is not the pipeline's.
    [("sync", error) for error in FATAL] + [("trio", error) for error in FATAL if error != "KeyboardInterrupt"],
)
async def test_on_the_other_runtimes_too(tmp_path: Path, runtime: str, error: str) -> None:
    with running(tmp_path, "hypercorn", ("--service-runtime", runtime), f"chat:{runtime}_service") as server:
        async with open_client(server) as client:
            mine = await client.say(at={"1": ["raise", error]})
            assert (await client.turn(mine))[-1]["error_code"] == "RAG-001"
            assert (await client.turn(await client.say()))[-1]["finish_reason"] == "stop"
        assert server.alive
