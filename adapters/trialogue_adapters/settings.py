"""Every setting of `trialogue serve`: flag, `TRIALOGUE_*` variable, TOML file, default — in that order of precedence.

Settings are values: they are read once, here, and handed down; no module below imports this one. A field's description
is its line in `--help`, which stays short; the docstring below it is what docs/configuration.md says besides. The
tables there are written from here: `pytest tests/docs/test_configuration.py -n 0 --write-settings`.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from trialogue import Limits

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


def _words(value: Any) -> Any:
    """A variable or flag may hold several, with commas or spaces between them."""
    words = [value] if isinstance(value, str) else value
    return [part for word in words for part in word.replace(",", " ").split()] if isinstance(words, list) else value


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]

CONFIG_VARIABLE = "TRIALOGUE_CONFIG"
DEFAULT_CONFIG = "trialogue.toml"


class Settings(BaseSettings):
    """The settings of one server process."""

    model_config = SettingsConfigDict(
        env_prefix="TRIALOGUE_",
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_prog_name="trialogue serve",
    )

    config: Path | None = Field(None, description=f"TOML file with settings; without it, {DEFAULT_CONFIG} if there.")
    """It is looked for in the current folder. Cannot be set in a file."""
    host: str = Field("127.0.0.1", description="Address to listen on.")
    """One that others can reach needs `--api-key-file`, `--auth jwt` or `--insecure`."""
    insecure: bool = Field(default=False, description="Listen on a non-loopback address although everybody is let in.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="Port; 0 takes any free one. `PORT` counts.")
    """The line `listening on …` says which."""
    ops_port: Annotated[int | None, Field(ge=0, le=65535)] = Field(
        None, description="A port of its own for /livez, /readyz, /healthz, /metrics; 0 takes any free one."
    )
    """It has no TLS, and stands beside either listener. The log says which one was taken."""
    listener: Literal["hypercorn", "trio-websocket"] = Field(
        "hypercorn", description="Which server; trio-websocket serves /chat-ws only."
    )
    service: str | None = Field(
        None,
        description="MODULE:ATTR of your ChatService, or sse:URL; the embedded RAG if absent. The current folder is"
        " importable.",
    )
    """`sse:URL` is a server that [streams events](bridges.md#a-server-that-streams-events)."""
    service_runtime: Literal["asyncio", "trio", "sync"] = Field("asyncio", description="What the service runs on.")
    docs: Path | None = Field(None, description="Folder that the embedded RAG answers from.")
    """Without it, these pages and Python's language topics."""
    answer: Literal["auto", "extractive", "local", "openai"] = Field(
        "auto", description="How the embedded RAG answers; openai: by the model at --llm-url."
    )
    """`extractive` quotes, `local` uses the local model, `auto` takes that model if it is installed."""
    llm_url: str | None = Field(None, description="Address of an OpenAI-compatible server, with its /v1.")
    """For [`--answer openai`](bridges.md#a-model-behind-an-openai-compatible-api)."""
    model: str | None = Field(None, description="The model that is asked for there.")
    llm_api_key: SecretStr | None = Field(
        None, description="Key of that server. Use the variable, or OPENAI_API_KEY: others can see your flags."
    )
    retrieval: bool = Field(default=True, description="Put what the documents say before a question to --llm-url.")
    """`--no-retrieval` asks the model alone."""
    policy: Literal["interrupt", "enqueue", "reject", "rollback"] = Field(
        "interrupt", description="What a message does to a running turn."
    )
    """That is for messages without an
    [`on_busy`](websocket-api-guide.md#a-message-while-something-is-unfinished) of their own."""
    queue_size: Count = Field(8, description="Turns that may wait behind the running one of a session.")
    """One more is WS-003."""
    dialect: Literal["seed", "onerag"] = Field("seed", description="What clients get that ask for no subprotocol.")
    """`seed`: the five events. `onerag`: the habits and HTTP endpoints of a [OneRAG server](onerag.md)."""
    stop_grace: Seconds = Field(0.25, description="Seconds a stopped upstream may take to close.")
    """Then it is abandoned: nobody waits for it any longer."""
    linger: Seconds = Field(30.0, description="Seconds a turn goes on with nobody attached.")
    session_ttl: Seconds = Field(600.0, description="Seconds a session lives after its last connection.")
    """Its log and its message ids are kept for as long. With `--redis-url` at least 2."""
    heartbeat: Annotated[float, Field(gt=0)] = Field(20.0, description="Seconds between pings, and for the pong.")
    drain_timeout: Seconds = Field(20.0, description="Seconds that running answers get at shutdown.")
    """It begins with SIGINT or SIGTERM, and what is left then is WS-006. A connection whose session has nothing left to
    do is closed at once. A second signal leaves at once."""
    first_token_timeout: Seconds = Field(30.0, description="Seconds to the first token, then RAG-002. 0: no limit.")
    token_timeout: Seconds = Field(20.0, description="Seconds between tokens, then RAG-003. 0: no limit.")
    """It may take a quarter longer until that is noticed."""
    turn_timeout: Seconds = Field(300.0, description="Seconds for a whole turn, then RAG-004. 0: no limit.")
    max_answer_bytes: Annotated[int, Field(gt=0)] = Field(1 << 20, description="UTF-8 bytes of one answer.")
    """There it ends, with `finish_reason` `length`."""
    log_bytes: Annotated[int, Field(gt=0)] = Field(1 << 20, description="Bytes of ended turns that a session keeps.")
    """They are there for those who come back; the oldest goes first. What runs is kept whole."""
    log_bytes_in_all: Count = Field(1 << 30, description="Bytes that all sessions keep. 0: no limit.")
    """Past that, ended turns are let go, those of vacant sessions first; while running turns alone need more, a message
    is WS-010."""
    max_vacant: Count = Field(10_000, description="Sessions kept with nobody attached. 0: no limit.")
    """Past that, the one that has been alone longest goes."""
    max_connections: Count = Field(10_000, description="Connections of the process; one more is HTTP 503. 0: no limit.")
    max_generations: Count = Field(1_000, description="Generations at a time; one more turn waits. 0: no limit.")
    """Principals get their places in turn. Clients are told (`stream_status`, `waiting`)."""
    max_waiting: Count = Field(1_000, description="Turns that wait for a generation; one more is WS-010. 0: no limit.")
    max_abandoned: Count = Field(
        50, description="Abandoned upstreams that may still compute; past that, WS-010. 0: no limit."
    )
    max_connections_per_client: Count = Field(
        1_000, description="Connections of one client; one more is HTTP 429. 0: no limit."
    )
    handshakes_per_second: Count = Field(
        500, description="Handshakes from one address; one more is HTTP 429. 0: no limit."
    )
    messages_per_minute: Count = Field(600, description="Frames of one client; one more is WS-005. 0: no limit.")
    turns_per_minute: Count = Field(300, description="Messages of one client; one more is WS-005. 0: no limit.")
    refusals_per_minute: Count = Field(300, description="Refused frames of one client, then 1008. 0: no limit.")
    """Refusals count that are the client's own fault: WS-001, WS-004, WS-005."""
    proxies: Count = Field(0, description="Proxies in front whose X-Forwarded-For is believed.")
    """Each adds an address to it, and that many are believed."""
    allow_origin: Origins = Field((), description="Origin whose pages may connect, besides our own; * is any.")
    """Like `https://app.example`. Again for more, or several with commas."""
    api_key_file: Path | None = Field(None, description="File with lines name:key; whoever shows a key is let in.")
    """It is let in as that name. The file may change while the server runs."""
    auth: Literal["jwt"] | None = Field(None, description="Let in whoever shows a JSON Web Token.")
    """`jwt` is the only way today. Who comes is let in as the token's `sub`. Needs the extra `[auth]` and a key."""
    jwt_key_file: Path | None = Field(None, description="The public key in PEM, or the HMAC secret.")
    jwt_algorithm: Algorithm = Field("HS256", description="The one algorithm that the key is for.")
    jwt_audience: str | None = Field(None, description="The aud that a token must have.")
    """Without it, a token that names an audience is refused."""
    jwt_issuer: str | None = Field(None, description="The iss that a token must have.")
    ws_token_secret: SecretStr | None = Field(
        None, description="Secret of ws_tokens. Better its variable or its file: others can see your flags."
    )
    """At least 32 bytes. Without any, one is made at the start, and tokens die with the process."""
    ws_token_secret_file: Path | None = Field(None, description="File with the secret of ws_tokens.")
    ws_token_ttl: Annotated[float, Field(gt=0)] = Field(900.0, description="Seconds that a ws_token is good for.")
    redis_url: str | None = Field(
        None, description="Valkey or Redis that many nodes share: redis://, rediss:// or unix://. `REDIS_URL` counts."
    )
    """See [Many nodes](scale.md). `redis://[user:password@]host:port/db`, `rediss://…` for TLS, `unix:///path`. Better
    a variable than the flag: others can see your flags."""
    redis_prefix: Annotated[str, Field(min_length=1)] = Field(
        "trialogue", description="What the names of its keys begin with."
    )
    """Deployments with different ones can share a store."""
    log_durability: Literal["ahead", "behind"] = Field(
        "ahead", description="Is an entry in the shared log before a client sees it, or after?"
    )
    """`behind`: clients do not wait for the store, and a node that is lost may take up to 0.2 s of what they saw with
    it."""
    workers: Annotated[int, Field(ge=1)] = Field(1, description="Processes; more than one need --redis-url.")
    """They are behind one listening socket. `--ops-port` is the first one's; the others have those after it."""
    certfile: Path | None = Field(None, description="Certificate chain (PEM) for TLS; needs the keyfile.")
    keyfile: Path | None = Field(None, description="Private key (PEM) of the certificate.")
    """With both, the port speaks TLS (`https://`, `wss://`) and nothing else."""
    deflate: bool = Field(default=False, description="Compress for clients that offer permessage-deflate.")
    """Saves bandwidth; costs CPU per token, and 40 KB or more per connection."""
    test_echo: bool = Field(default=False, description="Serve /echo, for conformance suites.")
    """It sends every message back to whoever comes."""
    harden: bool = Field(default=True, description="Harden the process that a plain `hypercorn` command has started.")
    """`trialogue serve` is hardened whatever this says."""
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Form of log lines; auto is console at a terminal, else json."
    )
    """See [Logs](observability.md#logs)."""
    log_turns: bool = Field(default=False, description="Log a line for each turn that ends.")
    """It has the turn's names, its ending, its length, its tokens."""
    log_ids: Literal["plain", "hashed"] = Field("plain", description="How logs and spans show names of sessions.")
    """The same goes for messages and principals. `hashed`: by a keyed hash."""
    log_ids_key_file: Path | None = Field(None, description="File with the key of hashed names.")
    """Without it a key is made at the start, and hashes cannot be compared with those of another process."""
    log_errors: Literal["type", "full"] = Field(
        "type", description="What logs tell of an exception; full is its text too, which may quote a user."
    )
    """`type`: its type and places only. See [What is never logged](observability.md#what-is-never-logged)."""
    otel: Literal["otlp", "console"] | None = Field(None, description="Export OpenTelemetry spans.")
    """`otlp`: to a collector, which the `OTEL_*` variables name. `console`: to stderr. Needs the extra `[otlp]` or
    `[otel]`. See [Traces](observability.md#traces)."""

    @field_validator("port", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdigit() else value

    @model_validator(mode="after")
    def _whole_certificate(self) -> Self:
        if (self.certfile is None) is not (self.keyfile is None):
            raise ValueError("--certfile and --keyfile: both or none")
        return self

    @model_validator(mode="after")
    def _shared_log(self) -> Self:
        if self.workers > 1 and self.redis_url is None:
            raise ValueError(f"--workers {self.workers} needs --redis-url: workers share sessions through it")
        if self.redis_url is not None and self.session_ttl < SHARED_TTL:
            raise ValueError(
                f"--session-ttl {self.session_ttl:g} is too short with --redis-url: {SHARED_TTL:g} or more"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """pydantic-settings ignores a TOML file that is not declared here."""
        return init_settings, env_settings, _Foreign(settings_cls), _File(settings_cls)

    @model_validator(mode="after")
    def _whole_model(self) -> Self:
        asked = self.answer == "openai"
        if asked and not (self.llm_url and self.model):
            raise ValueError("--answer openai needs --llm-url and --model")
        if not asked and (self.llm_url or self.model or not self.retrieval):
            raise ValueError("--llm-url, --model and --no-retrieval belong to --answer openai")
        if asked and self.service:
            raise ValueError("--answer openai and --service: one of them only")
        return self

    @property
    def authenticates(self) -> bool:
        """Must clients show something, to be let in?"""
        return self.auth is not None or self.api_key_file is not None

    def limits(self) -> Limits:
        """The engine's part of the settings."""
        shared = set(Limits.__dataclass_fields__) & set(type(self).model_fields)
        return Limits(**{name: getattr(self, name) for name in shared})


def from_environment() -> dict[str, Any]:
    """What the `TRIALOGUE_*` variables say, by the settings' names."""
    return EnvSettingsSource(Settings)()


SHARED_TTL = 2.0
"""Seconds that a session in a store lives at least: its owner tells the store once a second that it lives."""

FOREIGN = {"port": "PORT", "llm_api_key": "OPENAI_API_KEY", "redis_url": "REDIS_URL"}
"""Variables that are not ours: what hosting platforms set, and where keys usually are."""


def from_foreign() -> dict[str, Any]:
    """What they say, by the settings' names."""
    return {name: os.environ[variable] for name, variable in FOREIGN.items() if os.environ.get(variable)}


def from_file(named: Path | str | None) -> dict[str, Any]:
    """What the settings file says; nothing if there is none. Raises SettingsError, or tomllib's TOMLDecodeError."""
    path = Path(named or DEFAULT_CONFIG)
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--config {path}: {error}") from None
    if "config" in said:
        raise SettingsError(f"--config {path}: config: a settings file cannot name another")
    return said


class _Foreign(PydanticBaseSettingsSource):
    """Behind our own variables."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return from_foreign().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return from_foreign()


class _File(PydanticBaseSettingsSource):
    """The TOML file: the one that the sources before this name, or the default one."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return from_file(self.current_state.get("config"))
