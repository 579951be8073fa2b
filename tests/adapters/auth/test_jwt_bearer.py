"""`auth/jwt_bearer.py`: tokens of an identity provider, and those who would like to be one."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest

jwt = pytest.importorskip("jwt")

from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402

from trialogue_adapters.auth import Caller, Denied, Misconfigured  # noqa: E402
from trialogue_adapters.auth.jwt_bearer import FAR_FUTURE, JwtBearer  # noqa: E402

KEY = b"0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000.0
GOOD = {"sub": "alice", "exp": NOW + 60}


def public_pem(private: Any) -> bytes:
    pem: bytes = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def bearer(key: bytes = KEY, algorithm: str = "HS256", now: float = NOW, **options: Any) -> JwtBearer:
    return JwtBearer(key, algorithm, now=lambda: now, **options)


def shows(token: str) -> Caller:
    return Caller([(b"authorization", f"Bearer {token}".encode())])


def status(authenticator: JwtBearer, token: str) -> int:
    """What the token is answered with; 200 if it is let in."""
    try:
        authenticator.identify(shows(token))
    except Denied as denied:
        return denied.status if not token or token not in denied.reason else -1
    return 200


def signed(claims: Any = GOOD, key: Any = KEY, algorithm: str = "HS256", **options: Any) -> str:
    token: str = jwt.encode(claims, key, algorithm=algorithm, **options)
    return token


def test_the_subject_is_the_principal() -> None:
    grant = bearer().identify(shows(signed()))
    assert (grant.principal, grant.expires_at) == ("alice", NOW + 60)
    assert bearer().principals() is None
    assert repr(bearer()) == "<JwtBearer HS256>"


@pytest.mark.parametrize(("private", "algorithm"), [(RSA, "RS256"), (RSA, "PS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_public_keys(private: Any, algorithm: str) -> None:
    authenticator = bearer(public_pem(private), algorithm)
    assert status(authenticator, signed(key=private, algorithm=algorithm)) == 200
    assert status(authenticator, signed()) == 401


@pytest.mark.parametrize(("when", "answer"), [(-1.0, 200), (-0.001, 200), (0.0, 401), (0.001, 401), (3600.0, 401)])
def test_its_last_moment_is_just_before_the_expiry(when: float, answer: int) -> None:
    assert status(bearer(now=NOW + 60 + when), signed()) == answer


BAD_CLAIMS: dict[str, Any] = {
    "no exp": {"sub": "alice"},
    "no sub": {"exp": NOW + 60},
    "an empty sub": {**GOOD, "sub": ""},
    "a long sub": {**GOOD, "sub": "x" * 257},
    "a sub with a newline": {**GOOD, "sub": "a\nb"},
    "a number for a sub": {**GOOD, "sub": 5},
    "a text for an exp": {**GOOD, "exp": "1900000000"},
    "no number for an exp": {**GOOD, "exp": float("nan")},
    "a list for an exp": {**GOOD, "exp": [NOW + 60]},
    "not yet": {**GOOD, "nbf": 99_999_999_999},
}


@pytest.mark.parametrize("name", BAD_CLAIMS)
def test_claims_that_do_not_count(name: str) -> None:
    assert status(bearer(), by_hand({"alg": "HS256"}, BAD_CLAIMS[name])) == 401


@pytest.mark.parametrize("far", [float("inf"), 10**400, FAR_FUTURE + 1])
def test_an_expiry_beyond_all_years_is_cut_to_one_that_can_be_reckoned_with(far: float) -> None:
    grant = bearer().identify(shows(by_hand({"alg": "HS256"}, {**GOOD, "exp": far})))
    assert grant.expires_at - NOW < 1e12


def by_hand(header: dict[str, Any], claims: Any, key: bytes = KEY, digest: str = "sha256") -> str:
    """A token with whatever header, signed by HMAC."""
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    mac = urlsafe_b64encode(hmac.digest(key, b".".join(parts), digest)).rstrip(b"=")
    return b".".join([*parts, mac]).decode()


def test_the_header_chooses_nothing() -> None:
    pem = public_pem(RSA)
    for algorithm in ("none", "None", "NONE", "HS512", "RS256", "ES256", "", None, 5):
        assert status(bearer(), by_hand({"alg": algorithm}, GOOD)) == 401, algorithm
    assert status(bearer(), by_hand({}, GOOD)) == 401
    unsigned = by_hand({"alg": "none"}, GOOD).rpartition(".")[0]
    for token in (unsigned, unsigned + "."):
        assert status(bearer(), token) == status(bearer(pem, "RS256"), token) == 401
    # The classic: the public key, which everybody has, as an HMAC secret.
    assert status(bearer(pem, "RS256"), by_hand({"alg": "HS256"}, GOOD, key=pem)) == 401
    assert status(bearer(pem, "RS256"), by_hand({"alg": "RS256"}, GOOD, key=pem)) == 401


def test_a_critical_extension_that_nobody_knows_is_refused() -> None:
    assert status(bearer(), by_hand({"alg": "HS256", "crit": ["x"], "x": 1}, GOOD)) == 401


def test_every_changed_character_is_refused() -> None:
    token = signed()
    for place, now in enumerate(token):
        changed = token[:place] + ("A" if now != "A" else "B") + token[place + 1 :]
        last_bits = place == len(token) - 1  # 43 characters are 258 bits: base64's last two say nothing
        assert status(bearer(), changed) == 401 or last_bits


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "..", "eyJ.eyJ.x", "é.é.é", "x" * 100_000])
def test_nonsense_is_refused(token: str) -> None:
    assert status(bearer(), token) == 401


def test_nobody_is_asked_for_a_token() -> None:
    with pytest.raises(Denied, match="needed"):
        bearer().identify(Caller())


def test_a_token_for_somebody_else_is_403() -> None:
    ours = bearer(audience="chat", issuer="https://id.example")
    claims = {**GOOD, "aud": "chat", "iss": "https://id.example"}
    assert status(ours, signed(claims)) == 200
    assert status(ours, signed({**claims, "aud": ["other", "chat"]})) == 200
    assert status(ours, signed({**claims, "aud": "other"})) == 403
    assert status(ours, signed({**claims, "iss": "https://evil.example"})) == 403
    assert status(bearer(), signed({**GOOD, "aud": "chat"})) == 403
    assert status(ours, signed(GOOD)) == 401
    assert status(ours, signed({**claims, "aud": "other"}, key=KEY[::-1])) == 401


UNFIT = [(KEY, "RS256"), (b"x" * 31, "HS256"), (KEY, "HS512"), (b"", "HS256"), (b"-----BEGIN", "ES256"), (KEY, "EdDSA")]


@pytest.mark.parametrize(("key", "algorithm"), UNFIT)
def test_a_key_that_does_not_fit_is_said_at_the_start(key: bytes, algorithm: str) -> None:
    with pytest.raises(Misconfigured, match=algorithm) as caught:
        JwtBearer(key, algorithm)
    assert KEY.decode() not in str(caught.value)


@pytest.mark.parametrize(("private", "algorithm"), [(RSA, "HS256"), (RSA, "ES256"), (EC, "RS256"), (ED, "ES256")])
def test_a_public_key_is_not_taken_for_another_kind(private: Any, algorithm: str) -> None:
    with pytest.raises(Misconfigured, match=algorithm):
        JwtBearer(public_pem(private), algorithm)
