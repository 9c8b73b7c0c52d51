"""The predict routes under load and under attack, on a real gunicorn."""

import asyncio
import json
import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

AUTH = {"Authorization": "Bearer static-token"}
Serve = Callable[..., TestClient]
SLOW = """
    import time
    class Predictor:
        def load(self): pass
        def predict(self, request):
            time.sleep(request["seconds"])
            return "ok"
"""


@pytest.fixture
def slow(start: Any) -> Any:
    server = start(SLOW, BUDGET_THREADS="2", BUDGET_MAX_CONCURRENCY="4", BUDGET_MAX_QUEUE="8")
    server.until("readiness", server.ready)
    return server


def raw_call(server: Any, body: bytes) -> socket.socket:
    """A connection on which /predict_dict was asked; cheap, so that the callers are not what is slow here."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = b"POST /predict_dict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer static-token\r\n"
    connection.sendall(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return connection


def raw_answer(connection: socket.socket) -> tuple[int, bytes]:
    with connection:
        data = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(data[9:12]), data


def test_a_flood_is_refused_health_answers_and_what_was_accepted_is_finished(slow: Any) -> None:
    calls = [raw_call(slow, b'{"payload": {"seconds": 0.4}}') for _ in range(200)]
    latencies = []
    with httpx.Client(base_url=slow.url, trust_env=False) as prober:
        while any(select.select([call], [], [], 0) == ([], [], []) for call in calls):
            for method in ("GET", "HEAD"):
                began = time.monotonic()
                assert prober.request(method, "/healthz/live").status_code == 200
                latencies.append(time.monotonic() - began)
            time.sleep(0.05)
    answers = [raw_answer(call) for call in calls]
    assert Counter(status for status, _ in answers) == {200: 12, 429: 188}
    for status, data in answers:
        if status == 429:
            assert b"retry-after: 1\r\n" in data
            assert b'"code":"TooManyRequests"' in data
        else:
            assert data.endswith(b'"ok"')
    assert len(latencies) > 10
    assert max(latencies) < 1
    assert "Traceback" not in slow.log.read_text()


def test_who_hangs_up_while_waiting_is_not_predicted_for(start: Any, tmp_path: Any) -> None:
    server = start(
        """
        import pathlib, time
        class Predictor:
            def load(self): pass
            def predict(self, request):
                pathlib.Path("asked").open("a").write(request["who"])
                time.sleep(1)
        """,
        BUDGET_MAX_CONCURRENCY="1",
    )
    server.until("readiness", server.ready)

    async def run() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=10, trust_env=False) as client:

            async def ask(who: str) -> int:
                body = {"payload": {"who": who}}
                return (await client.post("/predict_dict", json=body, headers=AUTH)).status_code

            first = asyncio.ensure_future(ask("a"))
            while not (tmp_path / "asked").exists():
                await asyncio.sleep(0.01)
            second, third = asyncio.ensure_future(ask("b")), asyncio.ensure_future(ask("c"))
            while "budget_server_queue 2.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)
            second.cancel()
            assert [await first, await third] == [200, 200]

    asyncio.run(run())
    assert (tmp_path / "asked").read_text() == "ac"
    assert 'status="499"} 1.0' in httpx.get(f"{server.url}/metrics", trust_env=False).text


def test_in_flight_and_queue_are_told(slow: Any) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=slow.url, timeout=10, trust_env=False) as client:
            call: dict[str, Any] = {"json": {"payload": {"seconds": 0.5}}, "headers": AUTH}
            asked = [asyncio.ensure_future(client.post("/predict_dict", **call)) for _ in range(6)]
            while True:
                text = (await client.get("/metrics")).text
                if "in_flight 4.0" in text and "queue 2.0" in text:
                    break
                assert not all(one.done() for one in asked)
                await asyncio.sleep(0.01)
            await asyncio.gather(*asked)
            text = (await client.get("/metrics")).text
            assert "in_flight 0.0" in text
            assert "queue 0.0" in text

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_log_has_the_traceback_but_not_the_payload(
    serve: Serve, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(f"""
        class Predictor:
            def load(self): pass
            {kind} predict(self, request):
                try:
                    return float(request.payload["weight"])
                except ValueError as error:
                    raise RuntimeError("cannot weigh " + request.payload["weight"]) from error
    """)
    for path in ("/predict", "/predict_dict"):
        caplog.clear()
        answer = client.post(path, json={"payload": {"weight": "4111-secret"}})
        assert (answer.status_code, answer.json()["code"]) == (500, "PredictFailed")
        assert "4111" not in answer.text + caplog.text
        assert "RuntimeError: cannot weigh [payload]" in caplog.text
        assert "could not convert string to float: '[payload]'" in caplog.text
        assert 'return float(request.payload["weight"])' in caplog.text
        assert "budget_server/" not in caplog.text.replace("budget_server.predictor:predictor.py", "")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/predict_dict", b"{", 422, "InvalidBody"),
        ("POST", "/predict_dict", b'{"payload": 1}', 422, "InvalidBody"),
        ("POST", "/predict_dict", b'{"payload": {"k": "\xff"}}', 422, "InvalidBody"),
        ("POST", "/predict_dict", b'"payload"', 422, "InvalidBody"),
        ("POST", "/predict_dict", b"[" * 5000, 422, "InvalidBody"),
        ("GET", "/predict_dict", None, 405, "MethodNotAllowed"),
        ("PUT", "/", None, 405, "MethodNotAllowed"),
        ("GET", "/nothing", None, 404, "NotFound"),
        ("POST", "/predict_dict", b"x" * (2**20 + 1), 413, "BodyTooLarge"),
        ("POST", "/predict", b"x" * (2**20 + 1), 413, "BodyTooLarge"),
        ("POST", "/predict_image", b"x" * (2**20 + 1), 413, "BodyTooLarge"),
        ("POST", "/token", b"x" * 20_000, 413, "BodyTooLarge"),
        ("POST", "/token", b"username=u", 401, "Unauthorized"),
        ("POST", "/predict_image", b"no image", 422, "InvalidImage"),
        ("POST", "/v2/models/iris/infer", b"{}", 422, "InvalidBody"),
        ("POST", "/v2/models/other/infer", b"{}", 404, "NotFound"),
    ],
)
def test_every_error_has_one_shape_and_a_stable_code(
    serve: Serve, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    client = serve(SLOW, BUDGET_MAX_BODY_MIB="1")
    for place in (path, path + "/" if path != "/" else path):
        answer = client.request(method, place, content=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert isinstance(answer.json()["detail"], str)
        assert set(answer.json()) == (
            {"code", "detail", "error"} if path.startswith("/v2") else {"code", "detail"}
        )


def test_a_body_is_not_received_before_the_login_was_checked(start: Any) -> None:
    server = start(SLOW)
    server.until("readiness", server.ready)

    def endless() -> Any:
        while True:
            yield b"x" * 65536

    # The connection is closed after 64 MiB that nobody wants; until then nothing is kept of them.
    answer = httpx.post(f"{server.url}/predict_dict", content=endless(), trust_env=False)
    assert answer.json()["code"] == "Unauthorized"
    metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
    assert 'route="/predict_dict",status="401"} 1.0' in metrics


def test_other_web_pages_may_not_call_unless_configured(serve: Serve) -> None:
    asks = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    closed = serve(SLOW)
    assert "access-control-allow-origin" not in closed.options("/predict_dict", headers=asks).headers
    answer = closed.post("/predict_dict", json={"payload": {"seconds": 0}}, headers=asks)
    assert "access-control-allow-origin" not in answer.headers


def test_the_configured_web_pages_may_call(serve: Serve) -> None:
    asks = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    client = serve(SLOW, BUDGET_CORS_ORIGINS="https://app.example.com https://b.example.com:8443")
    allowed = client.options("/predict_dict", headers=asks)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, asks["Origin"])
    for path in ("/predict_dict", "/token", "/nothing"):
        answer = client.post(path, json={"payload": {"seconds": 0}}, headers=asks)
        assert answer.headers["access-control-allow-origin"] == asks["Origin"]
    other = client.options("/predict_dict", headers=asks | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_a_predict_batch_shares_calls_and_one_bad_item_fails_alone(start: Any) -> None:
    server = start(
        """
        import time
        class Predictor:
            def load(self): self.sizes = []
            def predict(self, request): return self.sizes
            def predict_batch(self, requests):
                self.sizes.append(len(requests))
                time.sleep(0.05)
                return [1 / request.payload["n"] for request in requests]
        """,
        BUDGET_BATCH_SIZE="8",
        BUDGET_THREADS="1",
    )
    server.until("readiness", server.ready)

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=20, trust_env=False) as client:
            calls = [
                client.post("/predict_dict", json={"payload": {"n": n}}, headers=AUTH) for n in range(40)
            ]
            return await asyncio.gather(*calls)

    answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [500, *[200] * 39]
    assert [answer.json() for answer in answers[1:]] == [1 / n for n in range(1, 40)]
    sizes = httpx.post(f"{server.url}/predict", headers=AUTH, trust_env=False).json()
    assert max(sizes) == 8
    assert len(sizes) < 20
    metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
    assert "budget_server_predictor_exceptions_total 1.0" in metrics
    assert "budget_server_batch_size_sum 40.0" in metrics


def test_openapi_shows_what_is_answered(serve: Serve) -> None:
    client = serve("class Predictor:\n    def load(self): pass\n    def predict(self, r): return 1\n")
    api = client.get("/openapi.json").json()
    assert client.get("/docs").status_code == 200
    asked = 0
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            body = (
                operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            )
            answer = client.request(method, path.replace("{name}", "iris"), json=body)
            expected = 422 if path == "/predict_image" else 401 if path == "/token" else 200
            assert answer.status_code == expected, (path, answer.text)
            asked += 1
    assert asked >= 13
    assert json.dumps(api).count("static-token") == 0


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(
    ("returned", "media_type", "body"),
    [
        ("{'a': [1, 'ü', None]}", "application/json", '{"a":[1,"ü",null]}'.encode()),
        ("'text'", "application/json", b'"text"'),
        ("7", "application/json", b"7"),
        ("b'raw'", "application/octet-stream", b"raw"),
        ("[float('nan'), float('inf')]", "application/json", b"[null,null]"),
        ("Point(1, 2)", "application/json", b'{"x":1,"y":2}'),
        ("Model(x=1)", "application/json", b'{"x":1}'),
        ("np.eye(2, dtype='float32')", "application/json", b"[[1.0,0.0],[0.0,1.0]]"),
        ("pd.DataFrame({'a': [1, 2]})", "application/json", b'[{"a":1},{"a":2}]'),
        ("pd.Series([1.5, np.nan])", "application/json", b"[1.5,null]"),
        ("PlainTextResponse('mine', 201)", "text/plain; charset=utf-8", b"mine"),
    ],
)
def test_whatever_a_predictor_returns(
    serve: Serve, kind: str, returned: str, media_type: str, body: bytes
) -> None:
    client = serve(f"""
        import dataclasses, numpy as np, pandas as pd, pydantic
        from starlette.responses import PlainTextResponse
        @dataclasses.dataclass
        class Point:
            x: int
            y: int
        class Model(pydantic.BaseModel):
            x: int
        class Predictor:
            def load(self): pass
            {kind} predict(self, request): return {returned}
    """)
    for path in ("/predict", "/predict_dict"):
        answer = client.post(path, json={"payload": {}})
        assert answer.status_code == (201 if "201" in returned else 200)
        assert (answer.headers["content-type"], answer.content) == (media_type, body)


def test_a_response_that_cannot_be_sent_is_an_error_of_our_shape(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve("""
        from starlette.responses import FileResponse
        class Predictor:
            def load(self): pass
            def predict(self, request): return FileResponse("/nothing/here")
    """)
    answer = client.post("/predict_dict", json={"payload": {}})
    assert (answer.status_code, answer.json()["code"]) == (500, "Internal")
    assert "/nothing/here" in caplog.text
