"""`mounting/border.py`: a connection of a host on asyncio, as an application on Trio sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from trialogue import Disconnected
from trialogue_adapters.mounting import Border, HostTransport, guest_of_this_loop
from trialogue_adapters.mounting.border import INBOX_MESSAGES, PARKED_BYTES, close_code

SECONDS = 5.0


class Host:
    """What an ASGI server does for one connection; `writable` is its flow control, `raises` a client that has gone."""

    def __init__(self) -> None:
        self.from_client: asyncio.Queue[Any] = asyncio.Queue()
        self.sent: list[Any] = []
        self.asked = 0
        self.writable = asyncio.Event()
        self.writable.set()
        self.raises: Exception | None = None

    async def receive(self) -> Any:
        self.asked += 1
        return await self.from_client.get()

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        if self.raises:
            raise self.raises
        self.sent.append(message)

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.sent if message["type"] == "websocket.send"]


@asynccontextmanager
async def nothing() -> Any:
    yield


def crossing(work: Callable[[Border, Host], Awaitable[None]]) -> Host:
    """Run that on Trio, on one connection of a fresh host, until it has returned."""

    async def main() -> Host:
        host = Host()
        async with guest_of_this_loop() as guest, guest.mount(nothing) as mount:
            border = Border("websocket", host.receive, host.send)
            await border.serve(mount.start(lambda: work(border, host)))
        return host

    return run(main())


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(debug=True) as runner:
        return runner.run(asyncio.wait_for(main, SECONDS))


def text(number: int) -> dict[str, str]:
    return {"type": "websocket.receive", "text": str(number)}


def test_frames_and_messages_keep_their_order() -> None:
    async def work(border: Border, host: Host) -> None:
        transport = HostTransport(border)
        assert transport.write([b"1", "둘".encode()])
        assert transport.write([b"3"])
        await transport.close(1012, "restart")
        await transport.close(1000, "again")

    host = crossing(work)
    assert host.texts == ["1", "둘", "3"]
    assert host.sent[3:] == [{"type": "websocket.close", "code": 1012, "reason": "restart"}]


def test_what_the_client_says_comes_in_order_and_the_host_is_not_asked_for_more_than_there_is_room_for() -> None:
    many = 3 * INBOX_MESSAGES

    async def work(border: Border, host: Host) -> None:
        transport = HostTransport(border)
        for number in range(many):
            host.from_client.put_nowait(text(number))
        assert await transport.receive() == "0"
        await trio.sleep(0.02)
        assert host.asked <= INBOX_MESSAGES + 2
        assert [await transport.receive() for _ in range(many - 1)] == [str(n) for n in range(1, many)]
        host.from_client.put_nowait({"type": "websocket.receive", "bytes": b"\x00"})
        assert await transport.receive() == b"\x00"

    crossing(work)


def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    async def work(border: Border, host: Host) -> None:
        with trio.move_on_after(0.01):
            await border.receive()
        host.from_client.put_nowait(text(1))
        assert await border.receive() == text(1)

    crossing(work)


def test_a_slow_client_fills_the_transport_and_drains_it() -> None:
    async def work(border: Border, host: Host) -> None:
        transport, frame = HostTransport(border), b"x" * (PARKED_BYTES // 4)
        host.writable.clear()
        assert [transport.write([frame]) for _ in range(5)] == [True, True, True, True, False]
        with trio.move_on_after(0.02) as patience:
            await transport.drain()
        assert patience.cancelled_caught
        assert host.sent == []
        host.writable.set()
        while not await transport.drain():
            pass
        await border.send({"type": "last"})
        assert host.texts == [frame.decode()] * 5

    crossing(work)


def test_a_client_that_has_gone_takes_no_more_and_the_writer_hears_of_it() -> None:
    async def work(border: Border, host: Host) -> None:
        transport = HostTransport(border)
        host.writable.clear()
        assert not transport.write([b"x" * PARKED_BYTES, b"y"])
        host.raises = OSError("gone")
        host.writable.set()
        with pytest.raises(Disconnected):  # noqa: PT012 - one of these
            while True:
                await transport.drain()
        assert transport.write([b"z" * 2 * PARKED_BYTES]), "nobody waits for a client that has gone"
        await transport.close(1000, "never raises")
        with pytest.raises(OSError, match="gone"):
            await border.send({"type": "websocket.close"})

    assert crossing(work).sent == []


def test_a_host_that_cannot_receive_has_lost_the_client() -> None:
    async def work(border: Border, host: Host) -> None:
        async def broken() -> Any:
            raise RuntimeError("no such connection")

        border._host_receive = broken
        with pytest.raises(Disconnected) as gone:
            await HostTransport(border).receive()
        assert gone.value.code == 1006

    crossing(work)


def test_the_hosts_cancel_reaches_the_application_also_when_its_client_takes_nothing() -> None:
    async def main() -> None:
        host, ended, before = Host(), asyncio.Event(), len(asyncio.all_tasks())
        host.writable.clear()
        async with guest_of_this_loop() as guest, guest.mount(nothing) as mount:
            border = Border("websocket", host.receive, host.send)

            async def work() -> None:
                try:
                    border.park([b"never sent"])
                    await border.receive()
                finally:
                    ended.set()

            task = asyncio.create_task(border.serve(mount.start(work)))
            await asyncio.sleep(0.01)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended.is_set()
        assert len(asyncio.all_tasks()) == before, "the carriers have ended, too"

    run(main())


def test_an_application_that_returns_waits_for_no_client() -> None:
    async def work(border: Border, host: Host) -> None:
        host.writable.clear()
        border.park([b"for somebody who does not read"])

    assert crossing(work).sent == []


def test_a_carrier_that_fails_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def work(border: Border, host: Host) -> None:
        border.park(["a str has no decode"])  # type: ignore[list-item]
        border.park([b"x"])
        border._deliver = None  # type: ignore[method-assign, assignment]
        await trio.sleep_forever()

    crossing(work)
    assert "a carrier has failed" in caplog.text


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ({"code": 1000, "reason": ""}, 1000),
        ({"code": 4001, "reason": "mine"}, 4001),
        ({"code": 1005, "reason": ""}, 1005),
        ({"code": 1005}, 1006),
        ({"code": 1005, "reason": None}, 1006),
        ({"code": 1006}, 1006),
        ({}, 1006),
    ],
)
def test_a_lost_connection_is_told_from_a_close_frame_without_a_code(told: dict[str, Any], meant: int) -> None:
    assert close_code({"type": "websocket.disconnect", **told}) == meant
