"""When a certificate is ordered, and what an answer of the DNS means; decisions alone."""

import pytest

from budget_server.vm.certificates_rules import (
    HOUR,
    LETS_ENCRYPT,
    LONGEST_PAUSE,
    ORDERS_AN_HOUR,
    PAUSES,
    Ledger,
    Problem,
    Reason,
    Subject,
    Validity,
    choose,
    meaning,
    seconds_asked,
    subjects,
)
from budget_server.vm.config import Tls
from budget_server.vm.dns_answers import Answers

IP = "203.0.113.7"
NAME = "model.test"
SUBJECT = Subject(NAME, "https://ca.test/directory")
FAILED = Problem(Reason.ORDER_FAILED, "no")
DAY = 24 * HOUR


def attempt(ledger: Ledger, now: float, problem: Problem | None = None, made: int = 1) -> Ledger:
    begun = ledger.begin(SUBJECT, now)
    return begun.fail(SUBJECT, problem, made, now) if problem else begun.succeed(SUBJECT, made, now)


@pytest.mark.parametrize(
    ("answers", "reason", "words"),
    [
        (Answers((IP,)), None, ()),
        (Answers(), Reason.NAME_NOT_RESOLVED, (f"create an A record {NAME} -> {IP}",)),
        (Answers(problem="SERVFAIL"), Reason.NAME_NOT_RESOLVED, ("SERVFAIL",)),
        (Answers(("198.51.100.1",)), Reason.WRONG_ADDRESS, ("198.51.100.1", f"change its A record to {IP}")),
        (Answers((IP, "198.51.100.1")), Reason.WRONG_ADDRESS, ("198.51.100.1", "remove")),
        (Answers((IP,), ("2001:db8::1",)), Reason.FOREIGN_AAAA, ("2001:db8::1", "remove")),
        (Answers((), ("2001:db8::1",)), Reason.FOREIGN_AAAA, ("2001:db8::1", f"create an A record {NAME}")),
    ],
)
def test_what_the_dns_says(answers: Answers, reason: Reason | None, words: tuple[str, ...]) -> None:
    problem = meaning(NAME, IP, answers)
    assert (problem and problem.reason) == reason
    assert all(word in problem.message for word in words if problem)


def test_pauses_grow_and_end_with_success() -> None:
    ledger, now = Ledger(), 1e9
    for pause in (*PAUSES, PAUSES[-1]):
        ledger = attempt(ledger, now, FAILED)
        assert ledger.not_before(SUBJECT, now) == now + pause
        now += pause + HOUR
    ledger = attempt(ledger, now)
    assert ledger.not_before(SUBJECT, now) <= now
    assert ledger.orders == len(PAUSES) + 2


def test_at_most_five_orders_within_any_hour_whatever_the_name() -> None:
    ledger, now = Ledger(), 1e9
    times: list[float] = []
    while now < 1e9 + 10 * HOUR:
        subject = Subject(f"m{len(times)}.test", SUBJECT.directory)
        now = max(now + 1, ledger.not_before(subject, now))
        ledger = ledger.begin(subject, now).succeed(subject, 1, now)
        times.append(now)
    for first, sixth in zip(times, times[ORDERS_AN_HOUR:], strict=False):
        assert sixth - first >= HOUR
    assert len(times) > 40


@pytest.mark.parametrize(
    ("asked", "pause"), [(5400.0, 5400), (None, HOUR), (1.0, PAUSES[0]), (1e9, LONGEST_PAUSE)]
)
def test_what_the_authority_asks_for_comes_first(asked: float | None, pause: float) -> None:
    ledger = attempt(Ledger(), 1e9, Problem(Reason.RATE_LIMITED, "too many", asked))
    assert ledger.not_before(SUBJECT, 1e9) == 1e9 + pause


def test_retry_after_has_two_forms() -> None:
    assert seconds_asked("120", 0) == 120
    assert seconds_asked("Thu, 01 Jan 1970 00:01:00 GMT", 20) == 40
    assert seconds_asked("Thu, 01 Jan 1970 00:01:00 GMT", 200) == 0
    assert seconds_asked("soon", 0) is None
    assert seconds_asked("", 0) is None


def test_an_authority_that_was_not_reached_has_cost_no_order() -> None:
    ledger = Ledger()
    for count in range(8):
        ledger = attempt(ledger, 1e9 + count, Problem(Reason.DIRECTORY_UNREACHABLE, "away"), made=0)
    assert (ledger.orders, ledger.recent) == (0, ())
    assert ledger.not_before(SUBJECT, 1e9) <= 1e9 + 8 + 600


def test_the_next_order_proves_the_name_in_the_other_way_only_after_a_failed_proof() -> None:
    ledger = attempt(Ledger(), 1e9, FAILED)
    assert ledger.entry(SUBJECT).challenge == "tls-alpn-01"
    limited = attempt(ledger, 1e9, Problem(Reason.RATE_LIMITED, "too many"))
    assert limited.entry(SUBJECT).challenge == "tls-alpn-01"
    assert attempt(limited, 1e9).entry(SUBJECT).challenge == "tls-alpn-01", "what has worked is kept"


def test_an_order_that_a_power_cut_interrupted_counts() -> None:
    begun = Ledger().begin(SUBJECT, 1e9)
    again = Ledger.model_validate_json(begun.model_dump_json()).after_boot(1e9 + 5)
    assert again.orders == 1
    assert again.not_before(SUBJECT, 1e9 + 5) == 1e9 + PAUSES[0]
    assert again.after_boot(1e9 + 6) == again


def test_changed_settings_are_tried_at_once_but_not_against_a_limit() -> None:
    failed = attempt(Ledger().configured(SUBJECT, "one"), 1e9, FAILED)
    assert failed.configured(SUBJECT, "one").not_before(SUBJECT, 1e9) > 1e9
    assert failed.configured(SUBJECT, "two").not_before(SUBJECT, 1e9) <= 1e9
    limited = attempt(Ledger().configured(SUBJECT, "one"), 1e9, Problem(Reason.RATE_LIMITED, "too many"))
    assert limited.configured(SUBJECT, "two").not_before(SUBJECT, 1e9) == 1e9 + HOUR


@pytest.mark.parametrize(("days", "after"), [(90, 60), (6, 3)])
def test_renewal_comes_with_time_to_spare(days: int, after: int) -> None:
    assert Validity(0, days * DAY).renew_at == after * DAY


def test_names() -> None:
    assert subjects(Tls(host=NAME, directory=SUBJECT.directory), IP) == (SUBJECT,)
    shared, address = subjects(Tls(), IP)
    assert shared == Subject("203-0-113-7.sslip.io", LETS_ENCRYPT)
    assert address == Subject(IP, LETS_ENCRYPT, "shortlived")


def test_which_name_without_a_host() -> None:
    shared, address = both = subjects(Tls(), IP)
    nothing: frozenset[Subject] = frozenset()
    limit = Problem(Reason.RATE_LIMITED, "too many", 7200)
    limited = Ledger().begin(shared, 1e9).fail(shared, limit, 1, 1e9)
    assert choose(both, nothing, Ledger(), nothing, 1e9) == shared
    assert choose(both, nothing, limited, nothing, 1e9) == address
    assert choose(both, nothing, limited, nothing, 1e9 + 7201) == shared
    assert choose(both, nothing, Ledger(), frozenset({shared}), 1e9) == address
    # what callers use already stays, also when it is to be renewed
    assert choose(both, frozenset({address}), Ledger(), nothing, 1e9) == address
