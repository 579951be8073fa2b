"""`spec.py`: the AsyncAPI document, by the official parser, and against what the code really sends and takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from pydantic import BaseModel, ConfigDict, create_model

from support import node
from support.raw_client import open_client
from support.server import LISTENERS, running
from trialogue.core.dialects import SUBPROTOCOL
from trialogue.core.errors import ERRORS, CloseCode
from trialogue.core.frames import SEED_FRAMES, V1_FRAMES
from trialogue.core.onerag import NAMES, UNREADABLE
from trialogue.core.protocol import Command, Invalid, parse
from trialogue_adapters import spec
from trialogue_adapters.servers.handshake import PATH

DOCUMENT = json.loads(spec.as_json())
MESSAGES = DOCUMENT["components"]["messages"]


def parsed(document: Any, folder: Path) -> dict[str, Any]:
    file = folder / "spec.json"
    file.write_text(json.dumps(document))
    found = json.loads(node.run(node.with_packages() / "check_spec.mjs", file))
    assert isinstance(found, dict)
    return found


def test_the_official_parser_finds_nothing_and_each_example_fits_its_schema(tmp_path: Path) -> None:
    assert parsed(DOCUMENT, tmp_path) == {"read": True, "findings": []}


@pytest.mark.slow
def test_a_wrong_example_and_a_missing_schema_would_be_found(tmp_path: Path) -> None:
    broken = json.loads(spec.as_json())
    broken["components"]["messages"]["StreamToken"]["examples"][0]["payload"]["index"] = "first"
    (finding,) = parsed(broken, tmp_path)["findings"]
    assert (finding["code"], finding["path"][0]) == ("wrong-example", "StreamToken")
    del broken["components"]["schemas"]["Goaway"]
    assert "invalid-ref" in {found["code"] for found in parsed(broken, tmp_path)["findings"]}


def test_the_command_prints_it_and_the_server_serves_it(tmp_path: Path) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "trialogue_adapters", "spec"], capture_output=True, check=True, text=True
    ).stdout
    assert json.loads(printed) == DOCUMENT
    with running(tmp_path, "hypercorn") as server, urlopen(f"{server.address}/asyncapi.json") as answer:
        assert answer.headers["content-type"] == spec.CONTENT_TYPE
        assert answer.read() == spec.as_json()


def test_what_clients_send_is_what_the_server_takes() -> None:
    sent = set(DOCUMENT["channels"]["v1"]["messages"]) - {model.__name__ for model in V1_FRAMES}
    assert sent == {command.__name__ for command in Command.__args__}
    for name in sent:
        for example in MESSAGES[name]["examples"]:
            command = parse(json.dumps(example["payload"]))
            assert not isinstance(command, Invalid)
            assert type(command).__name__ == name


@pytest.mark.parametrize("channel", ["seed", "v1", "onerag"])
def test_every_channel_is_the_endpoint_s(channel: str) -> None:
    found = DOCUMENT["channels"][channel]
    binding = found["bindings"]["ws"]
    assert found["address"] == PATH
    query = binding["query"]["properties"]
    assert set(query) - {"after"} == {"session_id", "lang", "ws_token"}
    assert re.fullmatch(query["session_id"]["pattern"], "s1")
    assert ("after" in query) is (channel != "onerag")
    asked = binding.get("headers", {}).get("properties", {}).get("Sec-WebSocket-Protocol", {}).get("const")
    assert asked == (SUBPROTOCOL if channel == "v1" else None)


def test_codes_and_texts_are_the_code_s() -> None:
    assert {row["code"]: row["retryable"] for row in DOCUMENT["x-error-codes"]} == {
        code: row.retryable for code, row in ERRORS.items()
    }
    assert {row["code"]: row["onerag"][-1] for row in DOCUMENT["x-error-codes"]} == NAMES
    assert DOCUMENT["x-error-codes"][0]["onerag"][0] == UNREADABLE
    for row in DOCUMENT["x-error-codes"]:
        for lang in ("ko", "en"):
            assert row["texts"][lang]["message"]
            assert row["texts"][lang]["solutions"]
    assert {row["code"] for row in DOCUMENT["x-close-codes"]} == set(CloseCode)


# ── What is really sent ──────────────────────────────────────────────────────────────────────────────────────────


def exactly(model: type[BaseModel]) -> type[BaseModel]:
    """The model, without tolerance for keys that it does not name."""
    extra = model.model_config.get("extra") or "forbid"
    config = ConfigDict(extra=extra, populate_by_name=False)
    made = create_model(model.__name__, __base__=model)
    made.model_config = {**model.model_config, **config}
    made.model_rebuild(force=True)
    return made


EXACT = {
    dialect: {MESSAGES[model.__name__]["name"]: exactly(model) for model in models}
    for dialect, models in (("seed", SEED_FRAMES), (SUBPROTOCOL, V1_FRAMES))
}


def test_every_frame_has_an_example_that_is_one() -> None:
    for models in EXACT.values():
        for model in models.values():
            examples = MESSAGES[model.__name__]["examples"]
            assert examples
            for example in examples:
                model.model_validate_json(json.dumps(example["payload"]), strict=True)


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_conversation_s_frames_are_the_document_s(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener) as server:
        for dialect in EXACT:
            v1 = dialect == SUBPROTOCOL
            async with open_client(server, v1=v1) as client, open_client(server, client.session_id, v1=v1) as other:
                await client.say(pace=0.01, done={"usage": 1}, metadata={"session_id": "confirmed"})
                queued = await client.say(on_busy="enqueue", at={"1": ["yield", {"event": "rerank", "data": [1]}]})
                await client.turn(queued)
                running_id = await client.say(tokens=None, pace=0.01)
                await client.wait_for("stream_token")
                await client.cancel(running_id)
                await client.turn(await client.say(at={"1": ["raise", "ValueError"]}))
                await client.say("again")
                await client.turn("again")
                await client.say("again")
                await other.send(type="typing", active=True)
                await client.send(type="message", content=" ", message_id="m", session_id=client.session_id)
                await client.wait_for("stream_error", "m")
                await client.quiet()
            kinds = set()
            for text in client.texts:
                body = json.loads(text)
                kinds.add(body["type"])
                EXACT[dialect][body["type"]].model_validate_json(text, strict=True)
            assert kinds == set(EXACT[dialect]) - {"goaway"}, "the conversation leaves something out"
