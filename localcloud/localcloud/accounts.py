"""Who calls: the service account that an access token is of, and the keys that such tokens are got with.

Nobody has to prove anything: a token says whose it is, and a caller without one is nobody in particular. What
an account may do is `iam`'s affair.
"""

from __future__ import annotations

import base64
import binascii
import json
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.routing import BaseRoute

from localcloud.errors import ApiError
from localcloud.store import Json
from localcloud.web import Call, route

TOKEN_SECONDS = 3599
_TOKEN_PATH = "/token"  # noqa: S105
_PREFIX = "localcloud-"


def routes() -> list[BaseRoute]:
    """Where a key is exchanged for a token, in place of oauth2.googleapis.com."""
    return [route("POST", _TOKEN_PATH, _exchange)]


def token(account: str) -> Json:
    """An access token, as token endpoints answer it."""
    text = base64.urlsafe_b64encode(account.encode()).decode().rstrip("=")
    return {"access_token": _PREFIX + text, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"}


def account_of(authorization: str) -> str:
    """The account that a header `Authorization` names: by a token from here, or by one that the caller has
    signed with its key. Empty for any other."""
    _, _, given = authorization.partition(" ")
    try:
        return _decoded(given.removeprefix(_PREFIX)) if given.startswith(_PREFIX) else _signer(given)
    except (ValueError, binascii.Error):
        return ""


def new_key(account: str, url: str) -> Json:
    """A key file as `gcloud iam service-accounts keys create` writes it, for the local cloud at `url`."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": account.partition("@")[2].partition(".")[0],
        "private_key_id": "localcloud",
        "private_key": pem.decode(),
        "client_email": account,
        "token_uri": url.rstrip("/") + _TOKEN_PATH,
    }


def _exchange(call: Call) -> Json:
    assertion = parse_qs(call.body.decode("latin-1")).get("assertion", [""])[0]
    account = account_of(f"Bearer {assertion}")
    if not account:
        raise ApiError(400, "invalid_grant", "The assertion is not a token that a key has signed.")
    return token(account)


def _signer(jwt: str) -> str:
    parts = jwt.split(".")
    claims = json.loads(_decoded(parts[1])) if len(parts) == 3 else {}
    return str(claims.get("iss", "")) if isinstance(claims, dict) else ""


def _decoded(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
