"""Predictors that yield: what the pieces look like, how a stream ends early."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

Serve = Callable[..., TestClient]
AUTH = {"Authorization": "Bearer static-token"}


@pytest.mark.parametrize("kind", ["async ", ""])
@pytest.mark.parametrize(
    ("items", "media_type", "body"),
    [
        ("['a', 'b', 'ü']", "text/plain; charset=utf-8", "abü".encode()),
        ("[b'a', bytearray(b'b')]", "application/octet-stream", b"ab"),
        ("[{'n': 1}, [2.0, float('nan')], None]", "application/x-ndjson", b'{"n":1}\n[2.0,null]\nnull\n'),
        (
            "['data: a\\n\\n', 'event: x\\ndata: b\\n\\n']",
            "text/event-stream",
            b"data: a\n\nevent: x\ndata: b\n\n",
        ),
        ("[]", "text/plain; charset=utf-8", b""),
        (
            "[Event(data={'n': 1}, event='tick', id='7'), Event(raw_data='raw'), {'n': 2}]",
            "text/event-stream",
            b'event: tick\ndata: {"n":1}\nid: 7\n\ndata: raw\n\ndata: {"n":2}\n\n',
        ),
    ],
)
def test_the_first_item_decides_what_is_sent(
    serve: Serve, kind: str, items: str, media_type: str, body: bytes
) -> None:
    client = serve(f"""
        from fastapi.sse import ServerSentEvent as Event
        class Predictor:
            def load(self): pass
            {kind}def predict(self, request):
                for item in {items}:
                    yield item
    """)
    for path in ("/predict", "/predict_dict"):
        answer = client.post(path, json={"payload": {}})
        assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
        assert answer.content == body
        assert "content-length" not in answer.headers


def test_a_generator_may_be_returned_and_awaited(serve: Serve) -> None:
    client = serve("""
        class Predictor:
            def load(self): pass
            async def pieces(self, n):
                for number in range(n): yield str(number)
            async def predict(self, request): return self.pieces(request["n"])
    """)
    assert client.post("/predict_dict", json={"payload": {"n": 3}}).text == "012"


def test_what_fails_before_the_first_item_is_an_ordinary_error(serve: Serve) -> None:
    client = serve("""
        class Predictor:
            def load(self): pass
            async def predict(self, request):
                raise ValueError("no")
                yield
    """)
    answer = client.post("/predict_dict", json={"payload": {}})
    assert (answer.status_code, answer.json()["code"]) == (500, "PredictFailed")


BREAKS = """
    import asyncio, pathlib
    class Predictor:
        def load(self): pass
        async def predict(self, request):
            try:
                yield "begun "
                if request["how"] == "raise":
                    raise ValueError(request["how"])
                while True:
                    await asyncio.sleep(0.01)
                    yield "x" * 1000
            finally:
                pathlib.Path("ended").touch()
"""


def test_what_fails_later_ends_the_answer_before_its_end(start: Any, tmp_path: Path) -> None:
    server = start(BREAKS)
    server.until("readiness", server.ready)
    with pytest.raises(httpx.RemoteProtocolError):
        server.client.post("/predict_dict", json={"payload": {"how": "raise"}}, headers=AUTH)
    server.until("the log", lambda: "ValueError: [payload]" in server.log.read_text())
    assert (tmp_path / "ended").exists()
    metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
    assert 'budget_server_requests_total{route="/predict_dict",status="500"} 1.0' in metrics
    assert "budget_server_predictor_exceptions_total 1.0" in metrics


def test_a_caller_that_hangs_up_ends_the_generator_and_frees_its_place(start: Any, tmp_path: Path) -> None:
    server = start(BREAKS, BUDGET_MAX_CONCURRENCY="1", BUDGET_MAX_QUEUE="0")
    server.until("readiness", server.ready)
    with server.client.stream(
        "POST", "/predict_dict", json={"payload": {"how": "on"}}, headers=AUTH
    ) as answer:
        pieces = answer.iter_text()
        assert next(pieces).startswith("begun ")
        busy = server.client.post("/predict_dict", json={"payload": {"how": "on"}}, headers=AUTH)
        assert (busy.status_code, busy.json()["code"]) == (429, "TooManyRequests")
        assert busy.headers["retry-after"] == "1"
    server.until("the generator's end", (tmp_path / "ended").exists)

    def free() -> bool:
        with server.client.stream(
            "POST", "/predict_dict", json={"payload": {"how": "on"}}, headers=AUTH
        ) as again:
            return bool(again.status_code == 200)

    server.until("a free place", free)
