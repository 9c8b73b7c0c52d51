"""How a report is shown to people, to programs and to Prometheus, and the exit code that says it in short."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from budget_operator.core.orphans.model import Found, Kind, Outcome, Report, Verdict
from budget_operator.core.prices.model import PriceList

ALL_WELL, REMAINING, UNTOLD = 0, 1, 2
#: What the running operator counts: all but folders in the bucket, which would have to be listed.
COUNTED = tuple(kind for kind in Kind if kind is not Kind.OBJECTS)
#: Which kinds cannot be counted where a list or a look has failed.
_HIDES = {"disks": Kind.DISK, "bucket": Kind.BUCKET}
_HEAD = ("verdict", "kind", "name", "place", "a month", "why")


@dataclass(frozen=True)
class Tally:
    """Orphans of one kind: how many, what those with a known price cost a month, and how many have none."""

    count: int = 0
    dollars: float = 0.0
    unpriced: int = 0


def exit_code(report: Report, outcomes: Sequence[Outcome] = ()) -> int:
    """0: there is no orphan (any more); 1: there are; 2: there are none, but not everything could be told."""
    over = {id(each.found) for each in outcomes if each.is_over}
    if any(id(each) not in over for each in report.orphans):
        return REMAINING
    blind = report.seen.unseen or any(each.verdict is Verdict.UNKNOWN for each in report.found)
    return UNTOLD if blind else ALL_WELL


def as_text(report: Report, prices: PriceList, today: date) -> str:
    """For people."""
    rows = [_row(each) for each in _ordered(report)]
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    lines = [_line(row, widths) for row in (_HEAD, *rows)] if rows else []
    lines += [f"not seen: {why}" for _, why in sorted(report.seen.unseen.items())]
    return "\n".join([*lines, *_together(report, prices, today)])


def outcome_line(outcome: Outcome) -> str:
    """What became of one orphan."""
    of = outcome.found.resource
    why = f": {outcome.why}" if outcome.why else ""
    return f"{outcome.end:<8} {of.kind} {of.name}{f' in {of.place}' if of.place else ''}{why}"


def as_json(report: Report, prices: PriceList, outcomes: Sequence[Outcome] = ()) -> str:
    """For programs. `monthly` is null where it is not known."""
    ends = {id(each.found): each for each in outcomes}
    document = {
        "pricesAsOf": prices.as_of.isoformat(),
        "resources": [_document(each, ends.get(id(each))) for each in _ordered(report)],
        "unseen": dict(sorted(report.seen.unseen.items())),
    }
    return json.dumps(document, indent=2)


def tallies(report: Report) -> Mapping[str, Tally]:
    """Of each kind that could be seen, also where there is no orphan of it."""
    hidden = {_HIDES.get(word, word) for word in report.seen.unseen}
    return {
        kind: _tally([each.monthly for each in report.orphans if each.resource.kind is kind])
        for kind in COUNTED
        if kind not in hidden
    }


def _tally(prices: Sequence[float | None]) -> Tally:
    known = [price for price in prices if price is not None]
    return Tally(len(prices), sum(known), len(prices) - len(known))


def _ordered(report: Report) -> list[Found]:
    """Orphans first, in the order in which they go."""
    others = [each for each in report.found if each.verdict is not Verdict.ORPHAN]
    return [*report.orphans, *sorted(others, key=lambda each: list(Verdict).index(each.verdict))]


def _row(found: Found) -> tuple[str, ...]:
    of = found.resource
    return str(found.verdict), str(of.kind), of.name, of.place or "-", _dollars(found.monthly), found.why


def _line(row: Iterable[str], widths: Sequence[int]) -> str:
    cells = zip(row, widths, strict=True)
    shown = [
        f"{cell:>{width}}" if number == _HEAD.index("a month") else f"{cell:<{width}}"
        for number, (cell, width) in enumerate(cells)
    ]
    return "  ".join(shown).rstrip()


def _dollars(monthly: float | None) -> str:
    return "unknown" if monthly is None else f"{monthly:.2f}"


def _together(report: Report, prices: PriceList, today: date) -> Iterator[str]:
    found = _tally([each.monthly for each in report.orphans])
    if not found.count:
        yield "No orphans." if exit_code(report) == ALL_WELL else "No orphans in what could be told."
        return
    unknown = f", and {found.unpriced} of unknown price" if found.unpriced else ""
    number = f"{found.count} orphan{'s' if found.count > 1 else ''}"
    yield f"{number}: {found.dollars:.2f} US dollars a month{unknown}."
    yield from prices.note(today)


def _document(found: Found, outcome: Outcome | None) -> dict[str, object]:
    of = found.resource
    shown: dict[str, object] = {
        "verdict": found.verdict,
        "kind": of.kind,
        "name": of.name,
        "place": of.place,
        "id": of.id,
        "monthly": found.monthly,
        "why": found.why,
    }
    if outcome is not None:
        shown["outcome"] = {"end": outcome.end, "why": outcome.why}
    return shown
