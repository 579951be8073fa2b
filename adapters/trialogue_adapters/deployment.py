"""From settings to an application: the one place that knows which settings make which parts."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import TYPE_CHECKING

from pydantic import SecretStr

from trialogue import NullTracer, Policy, Tracer
from trialogue_adapters.auth import Authenticator, Gate, Misconfigured, Origins, WsTokens
from trialogue_adapters.auth.api_keys import ApiKeys
from trialogue_adapters.observability.names import Hide, hashing, plain
from trialogue_adapters.observability.turn_lines import TurnLines
from trialogue_adapters.servers.asgi import App
from trialogue_adapters.services import find
from trialogue_adapters.settings import Settings

if TYPE_CHECKING:
    from trialogue_adapters.valkey import ValkeyStore

PROCESS_KEY = token_bytes(32)
"""Hashes names when nobody gave a key: they can be told apart for as long as this process lives."""


def make_app(settings: Settings) -> App:
    """The application that these settings describe. Raises CannotLoad when the named service cannot be imported."""
    tracer = make_tracer(settings)  # before the service: what it sets up for OpenTelemetry builds on ours
    source, runtime = find(settings, say_aside)
    return App(
        source,
        runtime=runtime,
        limits=settings.limits(),
        policy=Policy(settings.policy),
        dialect=settings.dialect,
        heartbeat=settings.heartbeat,
        gate=make_gate(settings),
        proxies=settings.proxies,
        test_echo=settings.test_echo,
        tracer=tracer,
        store=make_store(settings),
        durability=settings.log_durability,
    )


def make_store(settings: Settings) -> ValkeyStore | None:
    """What sessions are shared through, by these settings; None: they are this process's own. Raises Misconfigured."""
    if settings.redis_url is None:
        return None
    try:
        from trialogue_adapters.valkey import Address, BadAddress, ValkeyStore
    except ModuleNotFoundError:
        raise Misconfigured("--redis-url needs coredis: pip install 'trialogue[redis]'") from None
    try:
        address = Address.parse(settings.redis_url)
    except BadAddress as error:
        raise Misconfigured(f"--redis-url: {error}") from None
    return ValkeyStore(
        address,
        prefix=settings.redis_prefix,
        session_ttl=settings.session_ttl,
    )


def make_hide(settings: Settings) -> Hide:
    """How logs and spans show names by these settings. Raises Misconfigured."""
    if settings.log_ids == "plain":
        return plain
    if settings.log_ids_key_file is None:
        return hashing(PROCESS_KEY)
    try:
        return hashing(_secret_in(settings.log_ids_key_file, "--log-ids-key-file"))
    except ValueError as error:
        raise Misconfigured(f"--log-ids-key-file {settings.log_ids_key_file}: {error}") from None


def make_tracer(settings: Settings) -> Tracer:
    """Who is told of turns by these settings. Raises Misconfigured."""
    hide = make_hide(settings)
    tracer: Tracer = NullTracer()
    if settings.otel:
        try:
            from trialogue_adapters.observability.otel import span_tracer

            tracer = span_tracer(settings.otel, hide)
        except ModuleNotFoundError:
            extra = "otlp" if settings.otel == "otlp" else "otel"
            raise Misconfigured(
                f"--otel {settings.otel} needs OpenTelemetry: pip install 'trialogue[{extra}]'"
            ) from None
    return TurnLines(tracer) if settings.log_turns else tracer


def with_one_secret(settings: Settings) -> Settings:
    """The settings for several processes: if nobody gave a secret of ws_tokens, all have the same one."""
    if settings.ws_token_secret or settings.ws_token_secret_file:
        return settings
    return settings.model_copy(update={"ws_token_secret": SecretStr(token_hex(32))})


def make_gate(settings: Settings) -> Gate:
    """Who may come in by these settings. Raises Misconfigured."""
    if settings.auth and settings.api_key_file:
        raise Misconfigured("--auth jwt and --api-key-file: one of them only")
    authenticator: Authenticator | None = None
    if settings.api_key_file:
        authenticator = ApiKeys(settings.api_key_file)
    elif settings.auth:
        authenticator = _jwt(settings)
    tokens = WsTokens(_ws_token_secret(settings), lifetime=settings.ws_token_ttl)
    return Gate(authenticator, tokens, Origins(settings.allow_origin))


def _jwt(settings: Settings) -> Authenticator:
    if settings.jwt_key_file is None:
        raise Misconfigured("--auth jwt needs --jwt-key-file")
    try:
        from trialogue_adapters.auth.jwt_bearer import JwtBearer
    except ModuleNotFoundError:
        raise Misconfigured("--auth jwt needs PyJWT: pip install 'trialogue[auth]'") from None
    return JwtBearer(
        _secret_in(settings.jwt_key_file, "--jwt-key-file"),
        settings.jwt_algorithm,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
    )


def _ws_token_secret(settings: Settings) -> bytes | None:
    if settings.ws_token_secret and settings.ws_token_secret_file:
        raise Misconfigured("--ws-token-secret and --ws-token-secret-file: one of them only")
    if settings.ws_token_secret_file:
        return _secret_in(settings.ws_token_secret_file, "--ws-token-secret-file")
    return settings.ws_token_secret.get_secret_value().encode() if settings.ws_token_secret else None


def _secret_in(path: Path, flag: str) -> bytes:
    """A file's content without the white space around it."""
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise Misconfigured(f"{flag} {path}: {error.strerror}") from None


KNOWN_HYPERCORN = "0.18.0"


def harden_host(settings: Settings) -> None:
    """Harden the hypercorn whose Trio worker runs this process, and say so; another server is left as it is.

    A version that we do not know is left alone too: what we would override may mean something else there.
    """
    if "hypercorn.trio.run" not in sys.modules:
        return
    found = version("hypercorn")
    if not settings.harden:
        say_aside("trialogue: warning: this hypercorn is not hardened (harden = off): one client can end the process")
    elif found != KNOWN_HYPERCORN:
        say_aside(
            f"trialogue: warning: hypercorn {found} is not {KNOWN_HYPERCORN} and is not hardened: "
            "one client can end the process"
        )
    else:
        from trialogue_adapters.servers.hypercorn import harden

        harden(settings.heartbeat, deflate=settings.deflate)
        say_aside(f"trialogue: hardened this hypercorn {found}")


def say_aside(line: str) -> None:
    """Tell the operator something: standard output is for the address line alone."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
