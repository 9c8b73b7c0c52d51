"""Prices that another process fetches, once a day."""

import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from budget_operator.core.errors import BudgetError, InvalidSpec, Unavailable
from budget_operator.core.prices import stored, table
from budget_operator.daily_prices import DailyPrices
from budget_operator.process import Operator, Pace

SHIPPED = table.shipped()
COPY = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"


def command(script: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script, *words)


def test_they_are_those_that_were_fetched_last(tmp_path: Path) -> None:
    newer = replace(SHIPPED, as_of=date(2026, 10, 1))
    found = tmp_path / "found.json"
    found.write_text(stored.to_json(newer))
    prices = DailyPrices(command(COPY, str(found)))
    assert prices.current() == SHIPPED
    prices.refresh()
    assert prices.current() == newer
    found.unlink()
    with pytest.raises(Unavailable, match="No such file"):
        prices.refresh()
    assert prices.current() == newer


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("import sys; sys.exit('enable the API: gcloud services enable')", Unavailable, "enable the API"),
        ("raise SystemExit(3)", Unavailable, "exit code 3"),
        ("pass", Unavailable, "exit code 0"),
        ("import sys; open(sys.argv[-1], 'w').write('{}')", InvalidSpec, "no list of prices"),
    ],
)
def test_what_cannot_be_had_is_told(script: str, error: type[BudgetError], says: str) -> None:
    prices = DailyPrices(command(script))
    with pytest.raises(error, match=says):
        prices.refresh()
    assert prices.current() == SHIPPED


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(Unavailable, match="not-there"):
        DailyPrices(("/not-there",)).refresh()


def test_the_command_that_it_runs_is_ours() -> None:
    """Nothing answers there; it comes as far as asking."""
    words = ("--endpoint=http://127.0.0.1:9", "--credentials=anonymous", "--output")
    prices = DailyPrices((sys.executable, "-m", "budget_operator.main", "prices", "refresh", *words))
    with pytest.raises(Unavailable, match=r"/v1/services/.*/skus"):
        prices.refresh()


def test_they_are_renewed_again_and_again_whatever_fails(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = [Unavailable("prices cannot be fetched: 403"), RuntimeError("a bug"), None]

    def renew() -> None:
        outcome = outcomes.pop(0)
        if not outcomes:
            operator.stopping.set()
        if outcome is not None:
            raise outcome

    nothing: object = None
    pace = Pace(first_prices=0.0, prices=0.0)
    operator = Operator(nothing, nothing, nothing, nothing, pace, None, renew)  # type: ignore[arg-type]
    operator._renew_prices(renew)
    assert outcomes == []
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "prices cannot be fetched: 403; tried again in a day",
        "prices could not be renewed, unexpectedly",
    ]
