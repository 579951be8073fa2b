"""A credential: fixed, fetched, and what none can be."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trialogue_adapters.client.credential import RENEW_AT, Credential, Token
from trialogue_adapters.client.errors import Unreachable


async def fetch() -> str:
    return "fetched"


@pytest.mark.parametrize(
    ("source", "taken", "renewable"),
    [
        (None, None, False),
        ("key", "key", False),
        (lambda: None, None, True),
        (lambda: "now", "now", True),
        (fetch, "fetched", True),
    ],
)
async def test_sources(source: Any, taken: str | None, renewable: bool) -> None:
    credential = Credential(source)
    assert (await credential.take(), credential.renewable) == (taken, renewable)
    assert [token async for token in credential.renewals()] == [], "it does not expire"


@pytest.mark.parametrize("value", ["", "a b", "a\nb", "키"])
async def test_what_no_header_can_hold(value: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        await Credential(value).take()


async def test_it_is_renewed_in_time_until_none_can_be_fetched(autojump_clock: trio.testing.MockClock) -> None:
    times = []

    def fetch() -> Token:
        if len(times) == 3:
            raise ConnectionError("gone")
        times.append(trio.current_time())
        return Token("secret", 100)

    credential = Credential(fetch)
    await credential.take()
    start = times[0]
    assert [token async for token in credential.renewals()] == ["secret"] * 2
    assert [time - start for time in times] == pytest.approx([0, 100 * RENEW_AT, 200 * RENEW_AT])
    with pytest.raises(Unreachable, match="gone"):
        await credential.take()
    assert "secret" not in repr(Token("secret", 1))
