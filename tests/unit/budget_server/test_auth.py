"""The login's rules, with the clock in hand."""

import base64
import hashlib
import hmac
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jose import jws, jwt

from budget_server.auth import Auth
from budget_server.errors import TooLarge, Unauthorized
from budget_server.settings import Settings

NOW = 1_800_000_000
KEY = bytes.fromhex("ab" * 32)
ALL_OFF = {"verify_aud": False, "verify_exp": False}


def make_auth(environment: dict[str, str], **changes: str) -> Auth:
    return Auth(Settings.from_environment(environment | changes), lambda: NOW)


@pytest.fixture
def auth(environment: dict[str, str]) -> Auth:
    return make_auth(environment)


def signed(key: bytes = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    return str(jwt.encode({"sub": "u", "exp": NOW + 600, **claims}, key, algorithm=algorithm))


def unsigned(algorithm: str) -> str:
    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part({'sub': 'u', 'exp': 4102444800})}."


def empty_key_token() -> str:
    head = unsigned("HS256")[:-1]
    seal = hmac.new(b"", head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(seal).rstrip(b'=').decode()}"


def test_a_login_gives_a_token_that_is_accepted_and_says_when_it_ends(auth: Auth) -> None:
    answer = auth.login("u", "p£ss-wörd-✓")
    assert (answer["token_type"], answer["expires_in"]) == ("bearer", 3600)
    claims = jwt.decode(answer["access_token"], KEY, algorithms=["HS256"], options=ALL_OFF)
    expected = {"iss": "default/iris", "aud": "default/iris", "sub": "u", "iat": NOW, "exp": NOW + 3600}
    assert claims == expected
    auth.check(answer["access_token"])


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("u", "é"),
        ("u", ""),
        ("u", "p£ss-wörd-✓ "),
        ("ü", "p£ss-wörd-✓"),
        ("", ""),
        ("u", "\0"),
        ("\ud800", "\ud800"),
    ],
)
def test_a_wrong_login_is_refused(auth: Auth, username: str, password: str) -> None:
    with pytest.raises(Unauthorized, match="username or password"):
        auth.login(username, password)


def test_long_passwords_count_to_the_last_byte(environment: dict[str, str]) -> None:
    for length in (36, 511):
        good, twin = "é" * length + "A", "é" * length + "B"
        auth = make_auth(environment, BUDGET_PWD=good)
        assert auth.login("u", good)
        with pytest.raises(Unauthorized):
            auth.login("u", twin)


def test_a_huge_password_is_refused_before_it_is_hashed(auth: Auth) -> None:
    with pytest.raises(TooLarge):
        auth.login("u", "x" * 1_000_000)


def test_the_password_is_kept_as_an_argon2_hash(auth: Auth) -> None:
    kept = vars(auth)
    assert kept["_password_hash"].startswith("$argon2id$")
    assert "p£ss-wörd-✓" not in map(str, kept.values())


def test_the_static_token(auth: Auth, environment: dict[str, str]) -> None:
    auth.check("static-token")
    # A header arrives as latin-1 text of whatever bytes were sent.
    make_auth(environment, BUDGET_TOKEN="tökén").check("tökén".encode().decode("latin-1"))


@pytest.mark.parametrize("token", [None, "", "caf\xe9", "static-toke", "static-token ", "a.b.c", "✓"])
def test_what_is_no_token_is_refused(auth: Auth, token: str | None) -> None:
    with pytest.raises(Unauthorized):
        auth.check(token)


@pytest.mark.parametrize(
    "token",
    [
        unsigned("none"),
        unsigned("NONE"),
        unsigned("nOnE"),
        empty_key_token(),
        signed(algorithm="HS512"),
        signed(key=b"\xcd" * 32),
        signed(iss="default/other"),
        signed(aud="default/other"),
        signed(aud=["default/iris"]),
        signed(sub="admin"),
        signed(exp=True),
        str(jwt.encode({"sub": "u"}, KEY, algorithm="HS256")),
        base64.urlsafe_b64encode(b"[" * 20_000).decode() + ".e30.x",
    ],
)
def test_tokens_that_are_not_ours_are_refused(auth: Auth, token: str) -> None:
    with pytest.raises(Unauthorized):
        auth.check(token)


@given(st.text() | st.lists(st.text(alphabet="abcABC019-_=é"), min_size=3, max_size=3).map(".".join))
def test_any_text_is_refused_and_nothing_else_happens(token: str) -> None:
    with pytest.raises(Unauthorized):
        _shared_auth().check(token)


def _shared_auth(made: list[Auth] = []) -> Auth:  # noqa: B006 - one for all examples: hashing is slow on purpose
    if not made:
        env = {
            "BUDGET_USERNAME": "u",
            "BUDGET_PWD": "p",
            "BUDGET_TOKEN": "a-long-static-token",
            "BUDGET_NAME": "n",
        }
        made.append(
            Auth(
                Settings.from_environment(env | {"BUDGET_SIGNING_KEY": "ab" * 32, "BUDGET_CODE_DIR": "."}),
                lambda: NOW,
            )
        )
    return made[0]


@pytest.mark.parametrize(
    ("iat", "exp"),
    [
        pytest.param(NOW + 45, NOW + 600, id="issued in the future by a clock that was stepped back"),
        pytest.param(NOW - 600, NOW - 5, id="expired within the leeway of 60 s"),
        pytest.param(NOW - 600, NOW - 60, id="expired exactly at the leeway"),
    ],
)
def test_a_clock_that_is_off_by_a_little_locks_nobody_out(auth: Auth, iat: int, exp: int) -> None:
    auth.check(signed(iat=iat, exp=exp))


@pytest.mark.parametrize("exp", [NOW - 61, NOW - 300, float("nan")])
def test_an_expired_token_says_so_in_one_log_line_without_the_token(
    auth: Auth, exp: float, caplog: pytest.LogCaptureFixture
) -> None:
    token = signed(iat=NOW - 900, exp=exp) if exp > 0 else _signed_nan()
    with caplog.at_level(logging.INFO, "budget_server"), pytest.raises(Unauthorized, match="expired"):
        auth.check(token)
    assert len(caplog.records) == 1
    assert "expired" in caplog.text
    assert token not in caplog.text


def _signed_nan() -> str:
    return str(jws.sign({"sub": "u", "exp": float("nan")}, KEY, algorithm="HS256"))
