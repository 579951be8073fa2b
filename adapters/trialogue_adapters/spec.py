"""The wire as an AsyncAPI 3 document, made from the models: `trialogue spec`, `/asyncapi.json`.

It describes the server: it receives what clients send. Nothing of the wire is written down here a second time; frames,
codes and texts come from the core, so the document cannot say what the code does not. What has no place in AsyncAPI
(close codes, the texts of errors, HTTP refusals) stands at the root, under `x-` names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from trialogue import SUBPROTOCOL, CloseCode, __version__
from trialogue.core.dialects import DialectName
from trialogue.core.errors import ERRORS, ErrorSpec, Lang
from trialogue.core.frames import SEED_FRAMES, V1_FRAMES
from trialogue.core.onerag import NAMES, UNREADABLE
from trialogue.core.protocol import (
    SESSION_ID_PATTERN,
    ClientAck,
    ClientAuth,
    ClientCancel,
    ClientMessage,
    ClientPing,
    ClientTyping,
)

__all__ = ["CONTENT_TYPE", "as_json", "document"]

CONTENT_TYPE = "application/vnd.aai.asyncapi+json;version=3.1.0"

Json = dict[str, Any]

CLIENT_FRAMES: Mapping[type[BaseModel], Json] = {
    ClientMessage: {"type": "message", "message_id": "m1", "content": "What is Trio?", "session_id": "s1"},
    ClientCancel: {"type": "cancel", "message_id": "m1"},
    ClientAck: {"type": "ack", "message_id": "m1", "index": 41},
    ClientTyping: {"type": "typing", "active": True},
    ClientAuth: {"type": "auth", "token": "v1.1760000900.kkZpY0ScGkOyb5Dk0vJr4nJkq9xAdyJgBvEOh0nVh0A"},
    ClientPing: {"type": "ping", "id": "p1"},
}
DIALECTS: Mapping[DialectName, str] = {
    "seed": "The default: five events and nothing unasked. No subprotocol is asked for.",
    "trialogue.v1": f"For a client that offers the subprotocol `{SUBPROTOCOL}`: positions, phases, receipts, resuming.",
    "onerag": "The default of a server that was started with `--dialect onerag`: the same events, with `stream_start` "
    "after the pipeline's metadata, sources last, and that server's error names.",
}
CLOSE_CODES: Mapping[CloseCode, tuple[str, bool]] = {
    CloseCode.NORMAL: ("The session was deleted; from a client: stop its turns.", False),
    CloseCode.BINARY: ("A binary frame was sent.", False),
    CloseCode.POLICY: ("Too many refused frames, or a credential that has expired.", False),
    CloseCode.TOO_BIG: ("A frame of more than 64 KiB was sent.", False),
    CloseCode.CRASHED: ("The session has crashed repeatedly.", True),
    CloseCode.RESTART: ("The server restarts: resume, here or elsewhere.", True),
    CloseCode.OVERLOADED: ("The server is overloaded.", True),
    CloseCode.TOO_SLOW: ("The client reads too slowly; what it missed is in the log.", True),
}
"""What each close code means, and whether it is of any use to come back."""

REFUSALS: Mapping[int, str] = {
    400: "No valid session_id, or another field of the query that cannot be read.",
    401: "No credential, or one that is not good here.",
    403: "A page of another origin, or a token for another audience.",
    404: "Another path.",
    426: "No WebSocket handshake, or another version of it.",
    429: "Too many connections or handshakes of this client.",
    503: "Draining, or at capacity.",
}
"""What a handshake is answered with before any upgrade; each has a JSON body."""


@cache
def as_json() -> bytes:
    """The document as it is served."""
    return json.dumps(document(), ensure_ascii=False, indent=2).encode() + b"\n"


def document() -> Json:
    """The AsyncAPI document."""
    channels: Json = {}
    operations: Json = {}
    for dialect in DIALECTS:
        name = _channel_name(dialect)
        received, sent = [model.__name__ for model in CLIENT_FRAMES], [model.__name__ for model in _frames_of(dialect)]
        channels[name] = _channel(dialect, [*received, *sent])
        operations[f"{name}Receive"] = _operation(name, "receive", "What clients send.", received)
        operations[f"{name}Send"] = _operation(name, "send", "What clients are sent.", sent)
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Trialogue",
            "version": __version__,
            "description": "Streaming chat that can be interrupted, cancelled and resumed. JSON text frames over one "
            "WebSocket per client; a refused handshake is an HTTP answer with a JSON body. Applications may send "
            "further frames: a client ignores types and keys that it does not know.",
            "license": {"name": "MIT", "url": "https://opensource.org/license/mit"},
        },
        "defaultContentType": "application/json",
        "servers": {"default": _server()},
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": _schemas(),
            "messages": _messages(),
            "securitySchemes": _security(),
        },
        "x-error-codes": [_error(spec) for spec in ERRORS.values()],
        "x-close-codes": [
            {"code": int(code), "meaning": meaning, "comeBack": again} for code, (meaning, again) in CLOSE_CODES.items()
        ],
        "x-http-refusals": [{"status": status, "when": when} for status, when in REFUSALS.items()],
    }


def _channel_name(dialect: DialectName) -> str:
    return "v1" if dialect == SUBPROTOCOL else dialect


def _frames_of(dialect: DialectName) -> Sequence[type[BaseModel]]:
    return V1_FRAMES if dialect == SUBPROTOCOL else SEED_FRAMES


def _server() -> Json:
    return {
        "host": "{host}",
        "protocol": "wss",
        "description": "`ws` where there is no TLS. Without credentials configured, everybody is let in.",
        "variables": {"host": {"description": "Where the server listens.", "default": "127.0.0.1:8000"}},
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _security()],
    }


def _security() -> Json:
    return {
        "wsToken": {
            "type": "httpApiKey",
            "in": "query",
            "name": "ws_token",
            "description": "A token for one session, minted at `POST /auth/ws-token`.",
        },
        "apiKey": {"type": "httpApiKey", "in": "header", "name": "X-API-Key", "description": "For programs."},
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key or a JSON Web Token; browsers offer it as the subprotocol `bearer.TOKEN`.",
        },
    }


def _channel(dialect: DialectName, messages: Sequence[str]) -> Json:
    offer = {"Sec-WebSocket-Protocol": {"type": "string", "const": SUBPROTOCOL}}
    headers = {"type": "object", "properties": offer, "required": list(offer)}
    query: Json = {
        "session_id": {
            "type": "string",
            "pattern": SESSION_ID_PATTERN,
            "description": "Exactly once. Who connects with the same id meets in the same session.",
        },
        "lang": {"type": "string", "enum": list(get_args(Lang)), "description": "Of texts; else Accept-Language."},
        "ws_token": {"type": "string", "description": "A token for this session."},
    }
    if dialect != "onerag":
        query["after"] = {
            "type": "string",
            "pattern": r"^[0-9]+:[0-9]+$",
            "description": "Go on after this position, `epoch:offset`.",
        }
    return {
        "address": "/chat-ws",
        "title": dialect,
        "description": DIALECTS[dialect],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {"type": "object", "properties": query, "required": ["session_id"]},
                **({"headers": headers} if dialect == SUBPROTOCOL else {}),
                "bindingVersion": "0.1.0",
            }
        },
    }


def _operation(channel: str, action: str, summary: str, messages: Sequence[str]) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _messages() -> Json:
    """A message per model, with its examples."""
    messages: Json = {}
    for model in (*CLIENT_FRAMES, *SEED_FRAMES, *V1_FRAMES):
        name = model.__name__
        kind = model.model_json_schema()["properties"]["type"]["const"]
        messages[name] = {
            "name": kind,
            "title": name,
            "summary": (model.__doc__ or "").partition("\n")[0],
            "payload": {"$ref": f"#/components/schemas/{name}"},
            "examples": [{"payload": example} for example in _examples(model)],
        }
    return messages


def _examples(model: type[BaseModel]) -> Sequence[Json]:
    """A model's own examples; an event of the seed is `trialogue.v1`'s without what that adds."""
    if model in CLIENT_FRAMES:
        return [CLIENT_FRAMES[model]]
    richer = next((frame for frame in V1_FRAMES if issubclass(frame, model)), model)
    listed: Sequence[Json] = richer.model_json_schema()["examples"]
    return [{key: value for key, value in example.items() if key in model.model_fields} for example in listed]


def _schemas() -> Json:
    sent = {model.__name__ for model in (*SEED_FRAMES, *V1_FRAMES)}
    models = list(dict.fromkeys((*CLIENT_FRAMES, *SEED_FRAMES, *V1_FRAMES)))
    _, schema = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {name: _tidy(body, sent=name in sent) for name, body in sorted(schema["$defs"].items())}


def _tidy(schema: Json, *, sent: bool) -> Json:
    """Without what only repeats names. A frame that is sent always has its type, and no null for what is absent."""
    schema.pop("examples", None)
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
        if sent and "default" in field and field["default"] is None:
            del field["default"]
            options = [option for option in field.pop("anyOf", ()) if option != {"type": "null"}]
            if len(options) == 1:
                field.update(options[0])
    if sent:
        schema["required"] = list(dict.fromkeys(["type", *schema["required"]]))
        schema["properties"]["type"].pop("default", None)
    return schema


def _error(spec: ErrorSpec) -> Json:
    onerag = [*([UNREADABLE] if spec.code == "WS-001" else []), NAMES[spec.code]]
    return {
        "code": spec.code,
        "onerag": onerag,
        "party": spec.party,
        "retryable": spec.retryable,
        "retryAfterMs": spec.retry_after_ms,
        "texts": {
            lang: {"message": spec.text(lang).message, "solutions": list(spec.text(lang).remedies)}
            for lang in get_args(Lang)
        },
    }
