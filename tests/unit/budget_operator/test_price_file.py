"""The file of prices, while somebody writes it again and again."""

import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from budget_operator.core.errors import InvalidSpec
from budget_operator.core.prices import stored, table
from budget_operator.price_file import PriceFile

PRICES = table.shipped()


def put(path: Path, text: str) -> None:
    """As a ConfigMap's volume or `prices refresh` does it: another file by the same name."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(path)


def test_prices_are_read_again_when_they_have_changed(tmp_path: Path) -> None:
    path, newer = tmp_path / "prices.json", replace(PRICES, as_of=date(2026, 10, 1))
    put(path, stored.to_json(PRICES))
    file = PriceFile(path)
    assert file.current() == PRICES
    assert file.current() is file.current()
    put(path, stored.to_json(newer))
    assert file.current() == newer


@pytest.mark.parametrize("text", ["", "{}", None])
def test_what_cannot_be_read_is_told_and_the_last_prices_are_kept(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prices.json"
    put(path, stored.to_json(PRICES))
    file = PriceFile(path)
    if text is None:
        path.unlink()
    else:
        put(path, text)
    assert [file.current(), file.current()] == [PRICES, PRICES]
    assert [record.message[:14] for record in caplog.records] == ["BUDGET_PRICES:"], "once"
    put(path, stored.to_json(PRICES))
    os.utime(path, (0, 0))
    assert file.current() == PRICES


def test_an_operator_does_not_start_without_the_prices_it_was_told_of(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text("no prices")
    with pytest.raises(InvalidSpec, match=r"BUDGET_PRICES: .*prices refresh"):
        PriceFile(path)
    with pytest.raises(InvalidSpec, match="cannot be read"):
        PriceFile(tmp_path / "nowhere")
