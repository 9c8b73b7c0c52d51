"""The login's rules, with the clock in hand."""

import asyncio
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

from budget_server.auth import LEEWAY, MOST_KNOWN, MOST_LOGINS, Auth, TokenExpired
from budget_server.errors import BodyTooLarge, TooManyRequests, Unauthorized
from budget_server.settings import Settings

NOW = 1_800_000_000
KEY = bytes.fromhex("ab" * 32)
ALL_OFF = {"verify_aud": False, "verify_exp": False}


def check(auth: Auth, token: str | None) -> None:
    auth.check_header(None if token is None else b"Bearer " + token.encode("utf-8", "surrogatepass"))


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
    check(auth, answer["access_token"])


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
    with pytest.raises(BodyTooLarge):
        auth.login("u", "x" * 1_000_000)


def test_the_password_is_kept_as_an_argon2_hash(auth: Auth) -> None:
    kept = vars(auth)
    assert kept["_password_hash"].startswith("$argon2id$")
    assert "p£ss-wörd-✓" not in map(str, kept.values())


def test_the_static_token(auth: Auth, environment: dict[str, str]) -> None:
    check(auth, "static-token")
    make_auth(environment, BUDGET_TOKEN="tökén").check_header("Bearer tökén".encode())


@pytest.mark.parametrize("token", [None, "", "caf\xe9", "static-toke", "static-token ", "a.b.c", "✓"])
def test_what_is_no_token_is_refused(auth: Auth, token: str | None) -> None:
    with pytest.raises(Unauthorized):
        check(auth, token)


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
        signed(iat=True),
        signed(iat=float("inf")),
        signed() + "!!!!",
        signed() + "=",
        str(jwt.encode({"sub": "u"}, KEY, algorithm="HS256")),
        base64.urlsafe_b64encode(b"[" * 20_000).decode() + ".e30.x",
    ],
)
def test_tokens_that_are_not_ours_are_refused(auth: Auth, token: str) -> None:
    with pytest.raises(Unauthorized):
        check(auth, token)


@given(st.text() | st.lists(st.text(alphabet="abcABC019-_=é"), min_size=3, max_size=3).map(".".join))
def test_any_text_is_refused_and_nothing_else_happens(token: str) -> None:
    with pytest.raises(Unauthorized):
        check(_shared_auth(), token)


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
    check(auth, signed(iat=iat, exp=exp))


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_from_further_ahead_than_clocks_may_be_off_is_refused(auth: Auth, claim: str) -> None:
    ahead: dict[str, Any] = {claim: NOW + LEEWAY}
    check(auth, signed(**ahead))
    with pytest.raises(Unauthorized, match=f"{claim} is more than 60 s ahead"):
        check(auth, signed(**{claim: ahead[claim] + 1}))


@pytest.mark.parametrize("last", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
def test_a_signature_is_written_in_one_way_only(auth: Auth, last: str) -> None:
    token = signed()
    if last == token[-1]:
        check(auth, token)
    else:
        with pytest.raises(Unauthorized):
            check(auth, token[:-1] + last)


def test_only_a_token_of_ours_counts_as_expired(auth: Auth) -> None:
    with pytest.raises(TokenExpired):
        check(auth, signed(exp=NOW - 61))
    with pytest.raises(Unauthorized) as caught:
        check(auth, signed(key=b"\xcd" * 32, exp=NOW - 61))
    assert not isinstance(caught.value, TokenExpired)


@pytest.mark.parametrize("exp", [NOW - 61, NOW - 300, float("nan")])
def test_an_expired_token_says_so_in_one_log_line_without_the_token(
    auth: Auth, exp: float, caplog: pytest.LogCaptureFixture
) -> None:
    token = signed(iat=NOW - 900, exp=exp) if exp > 0 else _signed_nan()
    with caplog.at_level(logging.INFO, "budget_server"), pytest.raises(Unauthorized, match="expired"):
        check(auth, token)
    assert len(caplog.records) == 1
    assert "expired" in caplog.text
    assert token not in caplog.text


def _signed_nan() -> str:
    return str(jws.sign({"sub": "u", "exp": float("nan")}, KEY, algorithm="HS256"))


@pytest.mark.parametrize(
    "header",
    [b"", b"Bearer", b"Bearer ", b"Basic dTpw", b"static-token", b"Bearerstatic-token", b"Bearer caf\xe9"],
)
def test_what_bears_no_token_is_refused(auth: Auth, header: bytes) -> None:
    with pytest.raises(Unauthorized):
        auth.check_header(header)
    assert not auth.is_known(header)


@pytest.mark.parametrize("scheme", [b"bearer", b"BEARER", b"Bearer ", b"Bearer"])
def test_the_scheme_is_read_as_http_says(auth: Auth, scheme: bytes) -> None:
    auth.check_header(scheme + b" static-token")


def test_a_good_token_is_known_until_its_last_second(environment: dict[str, str]) -> None:
    clock = [float(NOW)]
    auth = Auth(Settings.from_environment(environment), lambda: clock[0])
    header = b"Bearer " + auth.issue().encode()
    assert not auth.is_known(header)
    auth.check_header(header)
    clock[0] = NOW + 3600 + LEEWAY
    assert auth.is_known(header)
    clock[0] += 1
    assert not auth.is_known(header)
    with pytest.raises(Unauthorized, match="expired"):
        auth.check_header(header)
    clock[0] = NOW - 300  # stepped back: nobody is locked out
    assert auth.is_known(header)


def test_known_tokens_are_bounded(auth: Auth) -> None:
    # spaces after the scheme make other values of one token
    headers = [b"Bearer" + b" " * number + auth.issue().encode() for number in range(1, MOST_KNOWN + 11)]
    for header in headers:
        auth.check_header(header)
    assert not auth.is_known(headers[0])
    assert auth.is_known(headers[-1])
    assert sum(map(auth.is_known, headers)) == MOST_KNOWN


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_token_changed_in_any_byte_is_refused(position: int, flip: int) -> None:
    auth = _shared_auth()
    token = bytearray(auth.issue().encode())
    position %= len(token)
    token[position] ^= flip
    with pytest.raises(Unauthorized):
        auth.check_header(b"Bearer " + bytes(token))


def test_the_token_of_a_login_is_known_at_once(auth: Auth) -> None:
    answer = asyncio.run(auth.login_in_thread("u", "p£ss-wörd-✓"))
    assert auth.is_known(b"Bearer " + answer["access_token"].encode())


def test_a_refused_login_is_one_log_line_without_what_was_typed(
    auth: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "budget_server"), pytest.raises(Unauthorized):
        auth.login("typed-name", "typed-password")
    assert caplog.messages == ["Login refused: wrong username or password"]


def test_logins_at_a_time_are_bounded(auth: Auth) -> None:
    async def run() -> list[Any]:
        calls = [auth.login_in_thread("u", "wrong") for _ in range(MOST_LOGINS + 5)]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    kinds = [type(answer) for answer in asyncio.run(run())]
    assert kinds.count(TooManyRequests) == 5
    assert kinds.count(Unauthorized) == MOST_LOGINS
