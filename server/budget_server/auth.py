"""The login: passwords, the tokens of /token, the static token.

One username and password per deployment. Tokens are HS256 signed with the deployment's own key, which is
the same at every boot, so they outlive a preemption. Nothing here knows HTTP beyond the header's text.
"""

import hmac
import logging
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from jose import jwk, jwt
from passlib.hash import argon2

from budget_server.errors import BodyTooLarge, TooManyRequests, Unauthorized
from budget_server.settings import MAX_PASSWORD_BYTES, Settings
from budget_server.threads import Threads

ALGORITHM = "HS256"
LEEWAY = 60
"""Seconds the VM's clock may be off."""
MOST_LOGINS = 16
"""Waiting at a time; each takes a thread some 20 ms."""
MOST_KNOWN = 1024
"""Verified tokens kept at hand: decoding one takes as long as several small predictions."""
MAX_TOKEN_BYTES = 16 * 1024
# Decoders skip foreign characters in a signature and two bits of its last one; only one spelling is taken.
_SIGNED = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
# OWASP's smaller argon2id profile: the default takes 64 MiB a check, too much beside a model on a small VM.
_HASHER = argon2.using(type="ID", memory_cost=19 * 1024, rounds=2, parallelism=1)
_CLAIM_CHECKS_ARE_OURS = {
    f"verify_{claim}": False for claim in ("aud", "iat", "exp", "nbf", "iss", "sub", "jti", "at_hash")
}

log = logging.getLogger("budget_server.auth")


class TokenExpired(Unauthorized):
    """A token of ours whose time is over: no guess, so `throttle` need not count it."""


class Auth:
    """Checks logins and tokens of one deployment."""

    def __init__(self, settings: Settings, now: Callable[[], float]) -> None:
        self._name = settings.name
        self._username = settings.username
        self._ttl = settings.token_ttl
        self._token = settings.token.get_secret_value().encode()
        self._password_hash = _HASHER.hash(settings.password.get_secret_value())
        self._key = jwk.construct(settings.signing_key.get_secret_value(), ALGORITHM)
        self._now = now
        # One thread: bounds what a flood of logins can take, and keeps it off the event loop.
        self._thread = Threads(1, "login")
        self._logins = 0
        # Values of the header that were found good, with the last second that each is.
        self._known: OrderedDict[bytes, float] = OrderedDict()

    async def login_in_thread(self, username: str, password: str) -> dict[str, Any]:
        """The answer of /token; at most so many wait for the one thread that does this."""
        if self._logins >= MOST_LOGINS:
            raise TooManyRequests("Too many logins at a time; try again.")
        self._logins += 1
        try:
            answer = await self._thread.run(lambda: self.login(username, password))
        finally:
            self._logins -= 1
        # Known from now on, so that it is good at once also where others' bad tokens are being slowed down.
        self.check_header(b"Bearer " + answer["access_token"].encode())
        return answer

    def login(self, username: str, password: str) -> dict[str, Any]:
        """The answer of /token; slow on purpose."""
        if len(password.encode("utf-8", "replace")) > MAX_PASSWORD_BYTES:
            raise BodyTooLarge(f"No password here is longer than {MAX_PASSWORD_BYTES} bytes.")
        # Both are always compared, so that time does not tell which was wrong.
        right_name = hmac.compare_digest(_bytes(username), _bytes(self._username))
        right_password = _verified(password, self._password_hash)
        if not (right_name and right_password):
            log.warning("Login refused: wrong username or password")
            raise Unauthorized("The username or password is wrong.")
        return {"access_token": self.issue(), "token_type": "bearer", "expires_in": self._ttl}

    def issue(self) -> str:
        """A signed token for the user."""
        now = int(self._now())
        claims = {
            "iss": self._name,
            "aud": self._name,
            "sub": self._username,
            "iat": now,
            "exp": now + self._ttl,
        }
        return str(jwt.encode(claims, self._key, algorithm=ALGORITHM))

    def is_known(self, header: bytes) -> bool:
        """Whether this value of the Authorization header was found good before and still is.

        Only what has been verified is ever looked up successfully, so the time this takes tells nothing.
        """
        good_until = self._known.get(header)
        return good_until is not None and self._now() <= good_until

    def check_header(self, header: bytes | None) -> None:
        """Refuse what does not bear the static token or one of ours that is still good."""
        scheme, _, token = (header or b"").partition(b" ")
        token = token.lstrip()
        if scheme.lower() != b"bearer" or not token:
            raise Unauthorized("Send the header Authorization: Bearer TOKEN; POST /token gives one.")
        try:
            good_until = self._good_until(token)
        except Unauthorized as refusal:
            log.warning("Token refused: %s", refusal)
            raise
        assert header is not None
        self._known[header] = good_until
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def _good_until(self, token: bytes) -> float:
        """The last second at which this token is good, on our clock."""
        if hmac.compare_digest(token, self._token):
            return math.inf
        claims = self._claims(token)
        self._check_claims(claims)
        return _seconds(claims, "exp") + LEEWAY

    def _claims(self, token: bytes) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_BYTES or not _SIGNED.fullmatch(token):
            raise Unauthorized("The token is not valid here: not of the form of those from POST /token.")
        try:
            claims: dict[str, Any] = jwt.decode(
                token.decode("ascii"), self._key, algorithms=[ALGORITHM], options=_CLAIM_CHECKS_ARE_OURS
            )
        except Exception:  # strangers choose these bytes: whatever they trip over, it is not a token
            raise Unauthorized("The token is not valid here: signed with another key or algorithm.") from None
        return claims

    def _check_claims(self, claims: dict[str, Any]) -> None:
        now = self._now()
        if not now <= _seconds(claims, "exp") + LEEWAY:
            raise TokenExpired("The token has expired; POST /token gives a new one.")
        # Issued by a clock that ran ahead, it would outlive its time by as much.
        for claim in ("iat", "nbf"):
            if claim in claims and not _seconds(claims, claim) <= now + LEEWAY:
                raise Unauthorized(f"The token is not good yet: its {claim} is more than {LEEWAY} s ahead.")
        if claims.get("sub") != self._username:
            raise Unauthorized("The token is for another user.")
        # The key is the deployment's own; should two have been given one key, the names tell them apart.
        if any(claims.get(claim, self._name) != self._name for claim in ("iss", "aud")):
            raise Unauthorized("The token is for another deployment.")


def _seconds(claims: dict[str, Any], claim: str) -> float:
    value = claims.get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthorized(f"The token's {claim} is no number.")
    return value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _verified(password: str, password_hash: str) -> bool:
    try:
        return bool(_HASHER.verify(password, password_hash))
    except (ValueError, TypeError):  # passlib refuses NUL characters and lone surrogates
        return False
