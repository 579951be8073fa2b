"""Good frames with bad messages, where a plain hypercorn serves; for our own listeners, see the conformance suite."""

from __future__ import annotations

import json

import pytest

from conformance.test_bad_input import BAD_FIELDS, HUGE_NUMBERS, NO_OBJECTS, of_session
from rude.bystander import unnoticed
from support.raw_client import open_client
from support.server import PLAIN, Server


@pytest.fixture(scope="module", params=[PLAIN])
def listener(request: pytest.FixtureRequest) -> str:
    return str(request.param)


BAD: dict[str, str] = {
    **NO_OBJECTS,
    **{name: text for name, (text, _) in HUGE_NUMBERS.items()},
    **{name: json.dumps(fields) for name, (fields, _, _) in BAD_FIELDS.items()},
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_message_is_ws_001_and_nobody_else_notices(server: Server, name: str) -> None:
    async with unnoticed(server), open_client(server) as client:
        fields = BAD_FIELDS[name][0] if name in BAD_FIELDS else None
        await client.send_text(of_session(client, fields) if fields else BAD[name])
        (answer,) = await client.quiet()
        assert (answer["type"], answer["error_code"]) == ("stream_error", "WS-001")
        assert (await client.turn(await client.say()))[-1]["finish_reason"] == "stop"
