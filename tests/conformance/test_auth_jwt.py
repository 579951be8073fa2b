"""`--auth jwt` on both listeners: an identity provider's tokens, from its public key alone."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import pytest

from support.raw_client import V1, Refused, fresh, kinds, open_client
from support.server import Server, running

jwt = pytest.importorskip("jwt")

from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

PROVIDER = ec.generate_private_key(ec.SECP256R1())
PUBLIC = PROVIDER.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
SECRET = "a-secret-of-the-tests-0123456789abcdef"


@pytest.fixture(scope="module")
def server(listener: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    folder = tmp_path_factory.mktemp("jwt")
    (folder / "provider.pem").write_bytes(PUBLIC)
    (folder / "secret").write_text(SECRET)
    key = ("--jwt-key-file", "provider.pem", "--jwt-algorithm", "ES256", "--jwt-audience", "chat")
    with running(folder, listener, ("--auth", "jwt", *key, "--ws-token-secret-file", "secret")) as server:
        yield server


def bearer(sub: str = "alice", lifetime: float = 60.0, **claims: Any) -> str:
    token: str = jwt.encode(
        {"sub": sub, "aud": "chat", "exp": time.time() + lifetime, **claims}, PROVIDER, algorithm="ES256"
    )
    return token


def shows(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def refusal(server: Server, **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        async with open_client(server, **options):
            pass
    return caught.value


async def test_a_signed_token_in_a_header_or_a_subprotocol(server: Server) -> None:
    session_id = fresh("s")
    offer = {"Sec-WebSocket-Protocol": f"{V1}, bearer.{bearer()}"}
    async with (
        open_client(server, session_id, v1=True, headers=shows(bearer())) as first,
        open_client(server, session_id, v1=True, headers=shows(bearer("bob"))) as stranger,
        open_client(server, session_id, headers=offer) as second,
    ):
        assert second.headers["sec-websocket-protocol"] == V1
        assert (await second.next())["connections"] == 2
        assert first.ready["resumed"] == stranger.ready["resumed"] == "new"


async def test_what_is_no_good_token(server: Server) -> None:
    unsigned = jwt.encode({"sub": "alice", "aud": "chat", "exp": time.time() + 60}, None, algorithm="none")
    for headers in ({}, shows("x"), shows(unsigned), shows(bearer(lifetime=-1)), shows(bearer() + "x")):
        refused = await refusal(server, headers=headers)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="trialogue"')
    assert (await refusal(server, headers=shows(bearer(aud="shop")))).status == 403
    assert (await refusal(server, query={"ws_token": bearer()})).status == 401  # that is for ws_tokens


async def test_the_connection_ends_with_its_token_unless_that_is_renewed(server: Server) -> None:
    expires_at = time.time() + 1.5
    async with (
        open_client(server, v1=True, headers=shows(bearer(exp=expires_at))) as client,
        open_client(server, v1=True, headers=shows(bearer(exp=expires_at))) as renewing,
    ):
        await renewing.send(type="auth", token=bearer("bob"))
        assert (await renewing.wait_for("stream_error"))["error_code"] == "WS-001"
        await renewing.send(type="auth", token=bearer())
        closed = await client.end()
        assert (closed.code, 0 <= time.time() - expires_at < 1) == (1008, True)
        assert '"goaway"' in client.texts[-1]
        assert "goaway" not in kinds(await renewing.quiet())
