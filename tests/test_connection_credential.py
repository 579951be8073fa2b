"""`connection.py`: a credential that expires, and its renewal; on a virtual clock."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from support.memory import bench, settle
from trialogue import Hub
from trialogue.connection import CREDENTIAL_SECONDS


class Timed:
    """A credential on Trio's clock; `good` tokens add to its time."""

    def __init__(self, seconds: float) -> None:
        self.until = trio.current_time() + seconds
        self.asked = 0

    def remaining(self) -> float:
        self.asked += 1
        return self.until - trio.current_time()

    def renew(self, token: str) -> bool:
        if token != "good":
            return False
        self.until += 10
        return True


def alarms(hub: Hub) -> int:
    """How many alarms are set."""
    assert hub._commons
    return len(hub._commons.alarms._heap)


async def test_an_expired_credential_says_goaway_and_closes_with_1008(autojump_clock: MockClock) -> None:
    async with bench() as it:
        v1 = await it.connect(credential=Timed(5))
        plain = await it.connect(dialect="seed", credential=Timed(5))
        other = await it.connect(dialect="seed")
        await trio.sleep(4.9)
        assert v1.closed is None
        await trio.sleep(0.2)
        assert v1.frames[-1] == {"type": "goaway", "reason": "expired", "retry_after_ms": 0}
        assert v1.closed == plain.closed == (1008, "the credential has expired")
        assert plain.frames == []
        assert other.closed is None


async def test_the_turn_of_an_expired_connection_goes_on_for_who_comes_back(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(credential=Timed(5))
        await it.ask(client, "a")
        await trio.sleep(5.1)
        assert client.closed is not None
        it.service.emit("a", "still here")
        again = await it.connect(credential=Timed(5))
        assert [frame["token"] for frame in again.told("stream_token")] == ["still here"]


async def test_a_renewed_credential_keeps_the_connection(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(credential=Timed(5))
        await trio.sleep(4)
        client.say(type="auth", token="good")
        await trio.sleep(10.9)
        assert client.closed is None
        assert client.told("goaway", "stream_error") == []
        await trio.sleep(0.2)
        assert client.closed == (1008, "the credential has expired")


async def test_a_token_that_is_not_good_is_refused_and_changes_nothing(autojump_clock: MockClock) -> None:
    async with bench() as it:
        client = await it.connect(credential=Timed(5))
        client.say(type="auth", token="stolen")
        await settle()
        (refusal,) = client.told("stream_error")
        assert (refusal["error_code"], refusal["message_id"]) == ("WS-001", "unknown")
        assert "token" in refusal["message"]
        assert "stolen" not in str(client.frames)
        await trio.sleep(4.9)
        assert client.closed is None
        await trio.sleep(0.2)
        assert client.closed is not None


async def test_where_nothing_expires_a_token_is_of_no_interest_and_no_alarm_is_set() -> None:
    async with bench() as it:
        client = await it.connect()
        client.say(type="auth", token="anything")
        await settle()
        assert client.told("stream_error") == []
        assert alarms(it.hub) == 1  # the heartbeat


async def test_a_long_lived_credential_is_looked_at_now_and_then_and_renewing_sets_no_alarm(
    autojump_clock: MockClock,
) -> None:
    async with bench() as it:
        credential = Timed(10 * CREDENTIAL_SECONDS)
        client = await it.connect(credential=credential)
        for _ in range(50):
            client.say(type="auth", token="good")
        await settle()
        assert alarms(it.hub) == 2
        await trio.sleep(9.5 * CREDENTIAL_SECONDS)
        assert credential.asked == 10
        credential.until = 0  # the wall clock was set
        await trio.sleep(CREDENTIAL_SECONDS)
        assert client.closed is not None


async def test_a_connection_that_has_left_is_not_looked_at_again(autojump_clock: MockClock) -> None:
    async with bench() as it:
        credential = Timed(5)
        client = await it.connect(credential=credential)
        client.leave(1006)
        await trio.sleep(10)
        assert (credential.asked, client.closed) == (1, None)


async def test_an_expired_credential_ends_a_stuck_reader_too(autojump_clock: MockClock) -> None:
    async with bench() as it:
        stuck = await it.connect(credential=Timed(5))
        await it.ask(stuck, "a")
        stuck.full = True
        it.service.emit("a", "x")
        await trio.sleep(5.1)
        assert stuck.closed is None  # what it was handed comes first, for as long as a stalled peer is waited for
        await trio.sleep(10)
        assert stuck.closed == (1008, "the credential has expired")
