"""JSON Web Tokens (RFC 7519), by PyJWT. The principal is `sub`; one key has one algorithm (RFC 8725, section 3.1).

The token's header chooses nothing: the algorithm is the operator's, so neither `none` nor a public key taken for an
HMAC secret gets anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jwt

from trialogue_adapters.auth.port import Caller, Denied, Grant, Misconfigured, is_principal

MIN_HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""A key as long as the hash's output (RFC 7518, section 3.2)."""


FAR_FUTURE = 253_402_300_799
"""The last second of the year 9999: an `exp` may be any number, and a difference of times must stay a float."""


class JwtBearer:
    """Whoever shows a token that is signed, meant for us, and not expired. A token without `exp` is refused."""

    challenges: Sequence[str] = ('Bearer realm="trialogue"',)

    def __init__(
        self,
        key: bytes,
        algorithm: str,
        *,
        audience: str | None = None,
        issuer: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`key` is the HMAC secret, or the public key in PEM. Raises Misconfigured if it does not fit the algorithm."""
        if len(key) < MIN_HMAC_BYTES.get(algorithm, 0):
            raise Misconfigured(f"the JWT key: {algorithm} needs at least {MIN_HMAC_BYTES[algorithm]} bytes")
        try:
            self._key: Any = jwt.get_algorithm_by_name(algorithm).prepare_key(key)
        except (jwt.InvalidKeyError, ValueError, TypeError, NotImplementedError):
            raise Misconfigured(f"the JWT key is not one for {algorithm}") from None
        self._algorithm = algorithm
        self._audience = audience
        self._issuer = issuer
        self._now = now

    def __repr__(self) -> str:
        return f"<JwtBearer {self._algorithm}>"

    def identify(self, caller: Caller) -> Grant:
        token = caller.token
        if token is None:
            raise Denied(401, "a JWT is needed")
        claims = self._claims(token)
        expires_at, principal = claims["exp"], claims["sub"]
        if not (isinstance(expires_at, int | float) and self._now() < expires_at):
            raise Denied(401, "the JWT has expired")
        if not is_principal(principal):
            raise Denied(401, "the JWT's sub must be 1 to 256 printable characters")
        return Grant(principal, min(expires_at, FAR_FUTURE))

    def principals(self) -> None:
        return None

    def _claims(self, token: str) -> dict[str, Any]:
        """The claims of a token that is rightly signed and meant for us; the expiry is the caller's to judge."""
        try:
            return jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options={"require": ["exp", "sub"], "verify_exp": False},
            )
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
            raise Denied(403, "the JWT is meant for somebody else") from None
        except jwt.MissingRequiredClaimError as error:
            raise Denied(401, f"the JWT has no {error.claim}") from None
        except (jwt.InvalidTokenError, ValueError):
            raise Denied(401, "the JWT is not valid") from None
