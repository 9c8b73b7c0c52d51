"""Who a token is of, however it was got."""

import json
from pathlib import Path

import google.oauth2.service_account as google
import pytest
from starlette.testclient import TestClient

from localcloud.accounts import account_of, new_key, token
from localcloud.app import create_app
from localcloud.context import Context

ACCOUNT = "operator@p1.iam.gserviceaccount.com"
URL = "http://localcloud.test"


def test_a_token_is_of_its_account() -> None:
    assert account_of(f"Bearer {token(ACCOUNT)['access_token']}") == ACCOUNT


@pytest.mark.parametrize(
    "header",
    ["", "Basic eDp5", "Bearer ya29.foreign", "Bearer a.!.c", "Bearer a.bnVsbA.c", "Bearer localcloud-_w"],
)
def test_any_other_is_nobodys(header: str) -> None:
    assert account_of(header) == ""


def test_googles_library_is_the_account_of_a_key(tmp_path: Path, context: Context) -> None:
    """With a token that it signs itself, and with one that the key is exchanged for."""
    file = tmp_path / "key.json"
    file.write_text(json.dumps(new_key(ACCOUNT, URL)))
    made = google.Credentials.from_service_account_file(str(file), scopes=["cloud-platform"])  # type: ignore[no-untyped-call]
    assert (made.project_id, made._token_uri) == ("p1", f"{URL}/token")
    assertion = made._make_authorization_grant_assertion().decode()
    assert account_of(f"Bearer {assertion}") == ACCOUNT
    with TestClient(create_app(context)) as client:
        answer = client.post("/token", data={"assertion": assertion}).json()
        assert answer == token(ACCOUNT)
        assert client.post("/token", data={"assertion": "x"}).status_code == 400
