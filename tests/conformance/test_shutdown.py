"""SIGTERM: no new turns, running answers get their time, then WS-006; 1012, exit 0. A second one leaves at once."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import trio

from support.raw_client import Client, Refused, kinds, open_client, open_wire, request
from support.server import Server, running

PLAIN = dict.fromkeys(["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])


async def streaming(client: Client, **options: object) -> str:
    message_id = await client.say(**options)
    await client.wait_for("stream_token", message_id)
    return message_id


async def drained(client: Client) -> None:
    """Until the server refuses new turns: it has heard the signal."""
    with trio.fail_after(2):
        while True:
            probe = await client.say(on_busy="reject")
            refusal = await client.wait_for("stream_error", probe)
            if refusal["error_code"] == "WS-006":
                assert refusal["solutions"]
                return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_connection_is_closed_with_1012_and_the_exit_code_is_0(
    listener: str, tmp_path: Path, number: int
) -> None:
    with running(tmp_path, listener) as server:
        async with open_client(server) as client, open_client(server, v1=True) as second:
            before = time.monotonic()
            server.signal(number)
            assert (await client.end()).code == 1012
            goaway = await second.next()
            assert set(goaway) == {"type", "reason", "retry_after_ms"}
            assert goaway["type"] == "goaway"
            assert (await second.end()).code == 1012
            assert await server.exit_code() == 0
            assert time.monotonic() - before < 3


async def test_a_signal_right_after_the_listening_line_is_a_clean_leave(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener) as server:
        server.signal()
        assert await server.exit_code(3) == 0


async def test_a_running_answer_gets_its_time_and_its_session_no_new_turn(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener, ("--drain-timeout", "10")) as server:
        async with open_client(server) as client:
            message_id = await streaming(client, tokens=60, pace=0.01)
            server.signal()
            await drained(client)
            interrupting = await client.say()
            assert (await client.wait_for("stream_error"))["message_id"] == interrupting
            turn = await client.turn(message_id)
            assert (turn[-1]["finish_reason"], turn[-1]["total_tokens"]) == ("stop", 60)
            assert (await client.end()).code == 1012
        assert await server.exit_code() == 0
        assert server.record("opened", interrupting) == []


async def test_while_draining_readyz_is_503_livez_200_and_newcomers_are_refused(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener) as server:
        async with open_client(server) as client:
            message_id = await streaming(client, tokens=90, pace=0.01)
            server.signal()
            await drained(client)
            if listener == "hypercorn":
                assert await status(server, "/readyz") == 503
                assert await status(server, "/livez") == 200
            with pytest.raises(Refused) as refused:
                async with open_client(server):
                    pass
            assert refused.value.status == 503
            assert isinstance(refused.value.json(), dict)
            await client.turn(message_id)
            await client.end()


async def status(server: Server, path: str) -> int:
    async with open_wire(server) as wire:
        await wire.send(request(path, PLAIN))
        return (await wire.answer()).status


async def test_the_queue_is_dropped_with_ws_006_and_without_a_start(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener) as server:
        async with open_client(server) as client:
            message_id = await streaming(client, tokens=50, pace=0.01)
            waiting = await client.say(on_busy="enqueue")
            await client.quiet()
            server.signal()
            frames = await client.turn(message_id)
            assert [(body["type"], body["error_code"]) for body in frames if body["message_id"] == waiting] == [
                ("stream_error", "WS-006")
            ]
            assert frames[-1]["finish_reason"] == "stop"
            assert (await client.end()).code == 1012


@pytest.mark.parametrize("options", [{}, {"on_cancel": "stubborn", "stubborn": 20}], ids=["yields", "refuses"])
async def test_past_the_deadline_the_answer_ends_with_ws_006_then_1012(
    listener: str, tmp_path: Path, options: dict[str, object]
) -> None:
    with running(tmp_path, listener, ("--drain-timeout", "0.4")) as server:
        async with open_client(server) as client:
            message_id = await streaming(client, tokens=10_000, pace=0.01, **options)
            before = time.monotonic()
            server.signal()
            turn = await client.turn(message_id)
            assert 0.35 < time.monotonic() - before < 1.0
            assert (turn[-1]["type"], turn[-1]["error_code"]) == ("stream_error", "WS-006")
            assert (await client.end()).code == 1012
        assert await server.exit_code() == 0
        assert time.monotonic() - before < 3.5


async def test_a_pipeline_that_blocks_does_not_keep_the_process(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener, ("--drain-timeout", "0.2")) as server:
        async with open_client(server) as client:
            await streaming(client, at={"1": ["block", 30]})
            server.signal()
            assert (await client.end()).code == 1012
        assert await server.exit_code(5) == 0


async def test_a_client_that_does_not_answer_the_close_does_not_keep_the_process(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener, ("--drain-timeout", "0.2")) as server:
        async with open_client(server) as client:
            client.gone = True
            server.signal()
            assert await server.exit_code(4) == 0


async def test_a_second_signal_leaves_at_once(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener) as server:
        async with open_client(server) as client:
            await streaming(client, tokens=10_000, pace=0.01)
            server.signal()
            await drained(client)
            before = time.monotonic()
            server.signal()
            await server.exit_code(1)
            assert time.monotonic() - before < 1
            client.gone = True


@pytest.mark.parametrize(("count", "ending"), [(10_000, "failed"), (25, "completed")], ids=["cut off", "whole"])
async def test_the_service_hears_of_the_last_turns_before_the_process_leaves(
    listener: str, tmp_path: Path, count: int, ending: str
) -> None:
    with running(tmp_path, listener, ("--drain-timeout", "0.6")) as server:
        async with open_client(server) as client:
            message_id = await streaming(client, tokens=count, pace=0.01)
            server.signal()
            await client.end()
        assert await server.exit_code() == 0
        assert len(server.record("closed", message_id)) == 1
        assert [entry["ending"] for entry in server.record("ended", message_id)] == [ending]


async def test_v1_is_sent_the_receipt_of_the_last_turn(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener) as server:
        async with open_client(server, v1=True) as client:
            message_id = await streaming(client, tokens=30, pace=0.01)
            server.signal()
            await client.turn(message_id)
            assert "stream_receipt" in kinds(await client.until("goaway"))
            assert (await client.end()).code == 1012


async def test_two_servers_epochs_are_ordered(tmp_path: Path) -> None:
    epochs = []
    for _ in range(2):
        with running(tmp_path, "hypercorn") as server:
            async with open_client(server, "same", v1=True) as client:
                epochs.append(int(client.ready["position"].split(":")[0]))
    assert epochs[0] < epochs[1]
