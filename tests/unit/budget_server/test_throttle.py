"""Guessing slowed down, for each client by itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_server import throttle
from budget_server.errors import TooManyRequests, Unauthorized
from budget_server.throttle import LOGINS, MOST_CLIENTS, Rate, Throttle, client_of, is_local


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def allowed(guard: Throttle, client: str = "a") -> bool:
    try:
        guard.check(client)
    except TooManyRequests:
        return False
    return True


def test_a_burst_is_free_and_then_one_for_every_few_seconds() -> None:
    clock = Clock()
    guard = Throttle(LOGINS, clock)
    for _ in range(10):
        assert allowed(guard)
        guard.failed("a")
    with pytest.raises(TooManyRequests) as caught:
        guard.check("a")
    assert caught.value.headers["Retry-After"] == "3"
    assert allowed(guard, "b")
    clock.now += 2.9
    assert not allowed(guard)
    clock.now += 0.2
    assert allowed(guard)
    guard.failed("a")
    assert not allowed(guard)
    clock.now += 3600
    for _ in range(10):
        assert allowed(guard)
        guard.failed("a")
    assert not allowed(guard)


def test_what_turned_out_well_is_forgiven() -> None:
    guard = Throttle(Rate(2, 10), Clock())
    for _ in range(50):
        assert allowed(guard)
        guard.failed("a")
        guard.forgive("a")


def end(ending: Exception | None) -> None:
    if ending:
        raise ending


def tried(guard: Throttle, ending: Exception | None) -> type[Exception] | None:
    try:
        with guard.attempt("a"):
            end(ending)
    except Exception as error:
        return type(error)
    return None


def test_an_attempt_counts_only_if_the_password_was_wrong() -> None:
    guard = Throttle(Rate(2, 10), Clock())
    for ending in (None, TooManyRequests("busy"), ValueError()) * 5:
        assert tried(guard, ending) is (type(ending) if ending else None)
    assert tried(guard, Unauthorized("wrong")) is Unauthorized
    assert tried(guard, Unauthorized("wrong")) is Unauthorized
    assert tried(guard, None) is TooManyRequests


def test_attempts_at_once_share_the_burst() -> None:
    guard = Throttle(Rate(2, 10), Clock())
    with guard.attempt("a"), guard.attempt("a"):
        assert tried(guard, None) is TooManyRequests
    assert tried(guard, None) is None


@given(
    st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=80), st.integers(1, 5), st.floats(0.5, 10)
)
def test_never_more_failures_in_any_time_than_burst_and_rate_allow(
    steps: list[tuple[float, bool]], burst: int, seconds: float
) -> None:
    clock = Clock()
    guard = Throttle(Rate(burst, seconds), clock)
    failures: list[float] = []
    for wait, forgiven in steps:
        clock.now += wait
        if allowed(guard):
            guard.failed("a")
            if forgiven:
                guard.forgive("a")
            else:
                failures.append(clock.now)
    for first, begin in enumerate(failures):
        for last, end in enumerate(failures[first:], first):
            assert last - first + 1 <= burst + (end - begin) / seconds + 1e-6


def test_memory_is_bounded_and_the_least_recent_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_CLIENTS == 4096
    monkeypatch.setattr(throttle, "MOST_CLIENTS", 3)
    guard = Throttle(Rate(1, 100), Clock())
    for client in ("a", "b", "c", "a", "d"):
        guard.failed(client)
    assert [client for client in "abcd" if not allowed(guard, client)] == ["a", "c", "d"]


def scope(peer: str | None, **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"client": (peer, 5) if peer is not None else None, "headers": pairs}


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        (None, "203.0.113.7", "203.0.113.7"),
        (None, "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        (None, "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        (None, "::ffff:203.0.113.7", "203.0.113.7"),
        (None, "", ""),
        (None, "x" * 1000, "x" * 64),
        ("127.0.0.1", "203.0.113.7", "127.0.0.1"),
        ("198.51.100.1", "203.0.113.7", "198.51.100.1"),
        ("2001:db8::9", "", "2001:db8::/64"),
    ],
)
def test_the_client_is_who_the_front_door_reports(peer: str | None, forwarded: str, client: str) -> None:
    assert client_of(scope(peer, x_forwarded_for=forwarded)) == client


@pytest.mark.parametrize(
    ("found", "local"),
    [
        (scope("127.0.0.1"), True),
        (scope("::1"), True),
        (scope(None), True),
        (scope("198.51.100.1"), False),
        (scope("127.0.0.1", x_forwarded_for="127.0.0.1"), False),
        (scope(None, x_forwarded_for="203.0.113.7"), False),
        (scope("127.0.0.1", forwarded="for=203.0.113.7"), False),
        (scope("127.0.0.1", via="1.1 proxy"), False),
        (scope("127.0.0.1", x_real_ip="203.0.113.7"), False),
    ],
)
def test_local_is_who_asks_for_itself_on_this_machine(found: dict[str, Any], local: bool) -> None:
    assert is_local(found) is local
