"""What the benchmark makes of what it measured."""

import json

import pytest

from dev.bench import wrk
from dev.bench.cores import Clock
from dev.bench.results import (
    GOALS,
    Case,
    Sample,
    Start,
    is_wanted,
    line,
    middle,
    rows,
    start_json,
    verdict,
    with_references,
)
from dev.bench.servers import agrees, ours_and_theirs
from dev.bench.work import WORKLOADS, mlp, named
from dev.errors import DevError

BARE = Case("bare", "echo", "async", 16)
OURS = Case("budget", "echo", "async", 16)
PRINTED = """\
Running 3s test @ http://127.0.0.1:40000/predict_dict
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.01ms  200.00us   9.00ms   80.00%
  30000 requests in 3.00s, 5.00MB read
Requests/sec:  10000.00
{"requests":30000,"microseconds":3000000,"p50":1010,"p99":2500,"not_200":0,"lost":0,"timeouts":0}
"""


def sample(rps: float, p50: float = 1.0, p99: float = 2.0, rss: float = 50.0) -> Sample:
    return Sample(rps, p50, p99, rss)


def test_the_last_line_of_wrk_is_its_report() -> None:
    report = wrk.parse(PRINTED)
    assert (report.rps, report.p50_ms, report.p99_ms) == (10_000, 1.01, 2.5)
    assert report.problem == ""


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("not_200", "7 of 30000 answers were not 200"),
        ("lost", "7 connections"),
        ("timeouts", "7 requests took"),
    ],
)
def test_one_bad_answer_is_no_measurement(field: str, said: str) -> None:
    assert said in wrk.parse(PRINTED.replace(f'"{field}":0', f'"{field}":7')).problem


def test_no_answer_is_no_measurement() -> None:
    assert wrk.parse(PRINTED.replace('"requests":30000', '"requests":0')).problem == "nothing was answered"


@pytest.mark.parametrize("printed", ["", "unable to connect to 127.0.0.1:1\n", '{"requests":1}\n', "[1]\n"])
def test_wrk_without_a_report_is_told_with_what_it_said(printed: str) -> None:
    with pytest.raises(DevError, match="without its report"):
        wrk.parse(printed)


def test_a_row_has_the_median_of_each_figure() -> None:
    taken = [sample(100, 1, 9, 50), sample(300, 3, 7, 70), sample(200, 2, 8, 60)]
    row = next(row for row in rows({BARE: [sample(400)] * 3, OURS: taken}) if row.case == OURS)
    assert (row.rps, row.p50_ms, row.p99_ms, row.rss_mib) == (200, 2, 8, 60)
    assert row.ratio == 0.5
    assert (row.lowest, row.highest) == (0.25, 0.75)


def test_a_ratio_is_to_the_bare_callable_of_the_same_workload_and_connections() -> None:
    samples = {
        BARE: [sample(100)],
        Case("bare", "echo", "async", 64): [sample(1000)],
        Case("bare", "mlp", "async", 64): [sample(50)],
        Case("budget", "mlp", "batch", 64): [sample(100)],
    }
    assert rows(samples)[-1].ratio == 2.0


@pytest.mark.parametrize(
    "samples", [{OURS: [sample(1)]}, {BARE: [], OURS: [sample(1)]}, {BARE: [sample(1)], OURS: []}]
)
def test_what_has_nothing_to_be_compared_has_no_row(samples: dict[Case, list[Sample]]) -> None:
    assert OURS not in [row.case for row in rows(samples)]


def test_disturbed_rounds_count_only_where_there_is_no_calm_one() -> None:
    disturbed = Sample(1, 100, 100, 50, others=0.5)
    bare = [sample(100), sample(100), disturbed]
    row = rows({BARE: bare, OURS: [sample(80), disturbed, sample(90)]})[1]
    assert (row.rps, row.ratio, row.p50_ms, row.calm) == (85, 0.85, 1, "2/3")
    assert (row.lowest, row.highest) == (0.8, 0.8), "the one round in which both were calm"
    assert line(row).endswith(": met")


def test_a_calm_round_is_never_compared_with_a_disturbed_one() -> None:
    slow = Sample(50, 2, 4, 50, others=0.5)
    bare, ours = rows({BARE: [slow, slow], OURS: [sample(100), Sample(20, 2, 4, 50, others=0.5)]})
    assert (bare.ratio, ours.rps, ours.ratio, ours.calm) == (1, 60, 1.2, "1/2")
    assert line(ours).endswith("met, but disturbed")


def test_the_json_of_a_row() -> None:
    row = rows({BARE: [sample(300.0)], OURS: [sample(100.04, 1.23456, 2.0, 51.26)]})[1].as_json()
    assert json.loads(json.dumps(row)) == {
        "server": "budget",
        "workload": "echo",
        "predictor": "async",
        "connections": 16,
        "rps": 100.0,
        "p50_ms": 1.235,
        "p99_ms": 2.0,
        "rss_mib": 51.3,
        "ratio": 0.333,
    }


def test_goals_stand_beside_our_rows_alone() -> None:
    theirs = Case("fastapi", "echo", "async", 16)
    table = rows({BARE: [sample(100)], OURS: [sample(84.9)], theirs: [sample(85)]})
    assert [row.goal for row in table] == [None, 0.85, None]
    assert line(table[1]).endswith("at least 0.85: NOT met")
    assert line(table[2]).endswith("0.85-0.85      1/1")


def test_a_goal_is_met_to_the_dot() -> None:
    assert verdict(0.85, 0.85) == "at least 0.85: met"
    assert verdict(1.51, 1.5, at_most=True) == "at most 1.5: NOT met"
    assert verdict(1.5, 1.5, at_most=True) == "at most 1.5: met"


def test_every_goal_is_measured() -> None:
    cases = [case for server in ours_and_theirs() for case in server.cases]
    assert len(cases) == len(set(cases))
    assert {(case.workload, case.predictor) for case in cases if case.server == "budget"} >= GOALS.keys()
    assert with_references(cases) == set(cases), "every case has its bare callable"


def test_only_chooses_by_words() -> None:
    assert is_wanted(OURS, [])
    assert is_wanted(OURS, ["nothing", "budget/echo"])
    assert is_wanted(OURS, ["16"])
    assert not is_wanted(OURS, ["budget/async", "bud", "mlp"])
    assert with_references([OURS]) == {BARE, OURS}


def test_starts_are_told_by_their_medians() -> None:
    starts = [Start(1.0, 70, 120), Start(3.0, 60, 140), Start(2.0004, 80, 130)]
    assert start_json(middle(starts)) == {"ready_seconds": 2.0, "worker_rss_mib": 70, "tree_rss_mib": 130}


def test_who_else_took_of_the_core() -> None:
    before, after = Clock(elapsed=100, busy=50, own=20), Clock(elapsed=104, busy=53, own=22)
    assert before.others(after) == 0.25
    assert before.others(Clock(elapsed=104, busy=51, own=22)) == 0, "what the server did on another core"


@pytest.mark.parametrize("name", WORKLOADS)
def test_an_answer_is_compared_with_the_work(name: str) -> None:
    workload = named(name)
    answer = workload.work(workload.PAYLOAD)
    assert agrees(answer, json.loads(json.dumps(answer)))
    assert not agrees(answer, {})
    assert not agrees(answer, None)


def test_a_batch_agrees_but_for_rounding() -> None:
    other = {"inputs": mlp.PAYLOAD["inputs"][::-1]}
    both = mlp.batch([mlp.PAYLOAD, other])
    assert agrees(mlp.work(mlp.PAYLOAD), both[0])
    assert agrees(mlp.work(other), both[1])
    assert not agrees(both[0], both[1])
