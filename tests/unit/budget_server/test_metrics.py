"""What Prometheus reads, across workers and their replacements."""

import os
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from budget_server.metrics import ROUTE_INDEX, Board

AUTH = {"Authorization": "Bearer static-token"}


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values."""
    return {
        (
            sample.name,
            *(sample.labels[name] for name in ("route", "status", "le") if name in sample.labels),
        ): (sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(board: Board) -> dict[tuple[str, ...], float]:
    return samples(board.exposition().decode())


def test_workers_in_other_processes_are_added_up() -> None:
    board = Board(3)
    for number in (0, 1):
        if (pid := os.fork()) == 0:
            slot = board.slots[number]
            for _ in range(10):
                slot.answered(ROUTE_INDEX["/predict"], 200, 0.004)
            slot.answered(ROUTE_INDEX["/predict"], 503, 99.0)
            slot.occupied(2, 5)
            slot.batch(5)
            slot.exception()
            slot.loaded(1.0 + number)
            os._exit(0)
        os.waitpid(pid, 0)
    found = read(board)
    assert found["budget_server_requests_total", "/predict", "200"] == 20
    assert found["budget_server_requests_total", "/predict", "503"] == 2
    assert found["budget_server_request_seconds_bucket", "/predict", "0.0025"] == 0
    assert found["budget_server_request_seconds_bucket", "/predict", "0.005"] == 20
    assert found["budget_server_request_seconds_bucket", "/predict", "60.0"] == 20
    assert found["budget_server_request_seconds_bucket", "/predict", "+Inf"] == 22
    assert found["budget_server_request_seconds_count", "/predict"] == 22
    assert round(found["budget_server_request_seconds_sum", "/predict"], 2) == 198.08
    assert found["budget_server_in_flight",] == 4
    assert found["budget_server_queue",] == 6
    assert found["budget_server_batch_size_bucket", "4.0"] == 0
    assert found["budget_server_batch_size_bucket", "8.0"] == 2
    assert found["budget_server_predictor_exceptions_total",] == 2
    assert found["budget_server_load_seconds",] == 2.0
    assert found["budget_server_workers",] == 2


def test_the_end_of_a_worker_keeps_its_counters_and_clears_its_gauges() -> None:
    board = Board(1)
    slot = board.slots[0]
    slot.loaded(3)
    slot.answered(ROUTE_INDEX["/"], 200, 0.001)
    slot.occupied(5, 5)
    slot.restarted()
    slot.clear()
    found = read(board)
    assert found["budget_server_requests_total", "/", "200"] == 1
    assert found["budget_server_worker_restarts_total",] == 1
    assert found["budget_server_in_flight",] == found["budget_server_queue",] == 0
    assert found["budget_server_workers",] == 0


def test_every_route_is_counted_by_its_name_and_strangers_make_no_series(
    serve: Callable[..., TestClient],
) -> None:
    client = serve("class Predictor:\n    def load(self): pass\n    def predict(self, r): return 1\n")
    client.post("/predict_dict", json={"payload": {}})
    client.post("/predict/", json={})
    client.post("/predict", json={}, headers={"Authorization": "Bearer wrong"})
    for path in ("/a", "/b", "/c"):
        client.get(path)
    client.get("/healthz/live/")
    client.get("/predict")
    found = samples(client.get("/metrics").text)
    counted = {key[1:]: value for key, value in found.items() if key[0] == "budget_server_requests_total"}
    assert counted == {
        ("/predict_dict", "200"): 1,
        ("/predict", "200"): 1,
        ("/predict", "401"): 1,
        ("/predict", "405"): 1,
        ("other", "404"): 3,
        ("/healthz/live", "200"): 1,
    }


def test_the_right_sums_over_several_gunicorn_workers_and_a_crash(start: Any) -> None:
    server = start(
        """
        import os
        class Predictor:
            def load(self): pass
            def predict(self, request):
                if request.get("die"): os._exit(1)
                return os.getpid()
        """,
        BUDGET_WORKERS="3",
    )
    server.until("readiness", server.ready)

    def scrape() -> dict[tuple[str, ...], float]:
        return samples(httpx.get(f"{server.url}/metrics", trust_env=False).text)

    server.until("all workers", lambda: scrape()["budget_server_workers",] == 3)
    pids = set()
    for _ in range(60):
        pids.add(httpx.post(f"{server.url}/predict_dict", json={"payload": {}}, headers=AUTH).json())
    assert scrape()["budget_server_requests_total", "/predict_dict", "200"] == 60
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{server.url}/predict_dict", json={"payload": {"die": 1}}, headers=AUTH)
    server.until("the crash", lambda: scrape()["budget_server_worker_restarts_total",] == 1)
    server.until("all workers", lambda: scrape()["budget_server_workers",] == 3)
    found = scrape()
    assert found["budget_server_requests_total", "/predict_dict", "200"] == 60
    assert found["budget_server_in_flight",] == 0
    assert len(pids) > 1


def test_only_for_the_logged_in_or_this_machine(start: Any) -> None:
    server = start("class Predictor:\n    def load(self): pass\n    def predict(self, r): return 1\n")
    server.until("readiness", server.ready)
    local = httpx.Client(base_url=server.url, trust_env=False)
    assert local.get("/metrics").status_code == 200
    # behind the front door, and behind a proxy of the user's own
    for client in (server.client, local):
        headers = {"X-Forwarded-For": "127.0.0.1"}
        refused = client.get("/metrics", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "Unauthorized")
        assert client.get("/metrics", headers=headers | AUTH).status_code == 200
