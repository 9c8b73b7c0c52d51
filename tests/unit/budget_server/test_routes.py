"""The HTTP surface, through the whole application."""

import asyncio
import io
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jose import jwt
from PIL import Image

from budget_server.app import create_app
from budget_server.settings import Settings

Serve = Callable[..., TestClient]
PASSWORD = "p£ss-wörd-✓"

ECHO = """
    class Predictor:
        def load(self): pass
        def predict(self, request): return request
"""
PAYLOAD = """
    class Predictor:
        def load(self): pass
        def predict(self, request): return {"seen": request.payload}
"""


def log_in(client: TestClient, password: str = PASSWORD) -> Any:
    return client.post("/token", data={"username": "u", "password": password})


def test_root_health_and_head(serve: Serve) -> None:
    client = serve(ECHO, login=False)
    assert client.get("/").json() == {"status": "alive", "name": "default/iris", "revision": "0123456789ab"}
    assert client.get("/healthz/live").json() == {"status": "alive"}
    assert client.get("/healthz/ready").json() == {"status": "ready", "revision": "0123456789ab"}
    for path in ("/", "/healthz/live", "/healthz/ready", "/healthz/live/"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_not_ready_with_the_reason_before_the_model_is_loaded(environment: dict[str, str]) -> None:
    client = TestClient(create_app(Settings.from_environment(environment)))  # not entered: nothing loads
    answer = client.get("/healthz/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "loading")
    assert "loading" in answer.json()["detail"]
    assert client.get("/healthz/live").status_code == 200
    predicted = client.post("/predict", headers={"Authorization": "Bearer static-token"}, json={})
    assert predicted.status_code == 503
    assert predicted.headers["retry-after"] == "5"


def test_every_path_with_and_without_final_slash_and_no_redirects(serve: Serve) -> None:
    client = serve("""
        class Predictor:
            def load(self): pass
            def predict(self, request): return 1
    """)
    for slash in ("", "/"):
        for path in ("/healthz/live", "/healthz/ready", "/docs", "/openapi.json"):
            assert client.get(path + slash).status_code == 200, path + slash
        assert client.post("/predict" + slash, json={}).json() == 1
        assert client.post("/predict_dict" + slash, json={"payload": {}}).json() == 1
        assert client.post("/predict_image" + slash, content=png()).json() == 1
        assert client.post("/token" + slash, data={"username": "u", "password": PASSWORD}).status_code == 200
    assert client.get("/nowhere/").status_code == 404


def test_log_in_and_ask(serve: Serve) -> None:
    client = serve(PAYLOAD, login=False)
    answer = log_in(client)
    assert answer.status_code == 200
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("bearer", 3600)
    assert answer.headers["cache-control"] == "no-store"
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    predicted = client.post("/predict", headers=bearer, json={"payload": [1]})
    assert (predicted.status_code, predicted.json()) == (200, {"seen": [1]})


@pytest.mark.parametrize(
    ("form", "sends"),
    [
        ({"data": {"grant_type": "password", "username": "u", "password": PASSWORD}}, "OAuth2"),
        ({"files": {"username": (None, "u"), "password": (None, PASSWORD)}}, "multipart"),
        ({"content": f"username=u&password={PASSWORD}".encode()}, "raw UTF-8, no content type"),
    ],
)
def test_login_forms_people_send(serve: Serve, form: dict[str, Any], sends: str) -> None:
    headers = {} if "content" not in form else {"Content-Type": "application/x-www-form-urlencoded"}
    assert serve(ECHO, login=False).post("/token", headers=headers, **form).status_code == 200, sends


@pytest.mark.parametrize(
    "form",
    [
        {"data": {"username": "u", "password": "é"}},
        {"data": {"username": "ü", "password": PASSWORD}},
        {"data": {"username": "u"}},
        {"json": {"username": "u", "password": PASSWORD}},
        {"content": b""},
        {"files": {"username": (None, "u"), "password": ("p.txt", PASSWORD.encode())}},
    ],
)
def test_wrong_logins_are_401_with_a_challenge(serve: Serve, form: dict[str, Any]) -> None:
    answer = serve(ECHO, login=False).post("/token", **form)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("size", [1025, 1_000_000, 20_000_000])
def test_a_huge_password_is_refused_at_once(serve: Serve, size: int) -> None:
    started = time.monotonic()
    answer = log_in(serve(ECHO, login=False), "x" * size)
    assert answer.status_code == 413
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("path", ["/predict", "/predict_dict", "/predict_image"])
@pytest.mark.parametrize(
    "header", [None, b"Bearer", b"Bearer caf\xe9", b"Basic dTpw", b"Bearer a.b.c", b"static-token"]
)
def test_no_token_no_answer(serve: Serve, path: str, header: bytes | None) -> None:
    client = serve(ECHO, login=False)
    answer = client.post(path, headers=[(b"authorization", header)] if header else None, content=b"not json")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "Traceback" not in answer.text


def test_a_stale_token_is_told_so(serve: Serve) -> None:
    now = 1_800_000_000
    client = serve(ECHO, login=False, now=lambda: now)
    stale = jwt.encode({"sub": "u", "iat": now - 900, "exp": now - 300}, b"\xab" * 32)
    answer = client.post("/predict", headers={"Authorization": f"Bearer {stale}"})
    assert answer.status_code == 401
    assert "expired" in answer.json()["detail"]


def test_a_strangers_body_is_not_received(serve: Serve) -> None:
    client = serve(ECHO, login=False)
    received = []

    async def receive() -> dict[str, Any]:
        received.append(1)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 401

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict_image",
        "raw_path": b"/predict_image",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
    }

    async def ask() -> None:
        await client.app(scope, receive, send)

    asyncio.run(ask())
    assert received == []


def test_predict_gets_the_request(serve: Serve) -> None:
    client = serve("""
        import fastapi
        class Predictor:
            def load(self): pass
            async def predict(self, request):
                assert isinstance(request, fastapi.Request)
                return [await request.json(), request.query_params["q"], request.headers["x-mine"]]
    """)
    answer = client.post("/predict?q=1", json={"a": 2}, headers={"X-Mine": "yes"})
    assert answer.json() == [{"a": 2}, "1", "yes"]


def test_predict_can_read_forms(serve: Serve) -> None:
    client = serve("""
        class Predictor:
            def load(self): pass
            async def predict(self, request): return dict(await request.form())
    """)
    assert client.post("/predict", data={"a": "2"}).json() == {"a": "2"}


@pytest.mark.parametrize("path", ["/predict", "/predict_dict"])
@pytest.mark.parametrize(
    ("body", "complaint"),
    [(b"{", "not JSON"), (b"\xff", "not JSON"), (b"[]", "payload"), (b"[" * 90_000, "JSON")],
)
def test_a_body_without_payload_is_422_and_says_so(
    serve: Serve, path: str, body: bytes, complaint: str
) -> None:
    answer = serve(PAYLOAD).post(path, content=body)
    assert answer.status_code == 422
    assert complaint in answer.json()["detail"]


def test_predict_dict_gets_a_dict_with_payload(serve: Serve) -> None:
    client = serve("""
        class Predictor:
            def load(self): pass
            def predict(self, request):
                assert isinstance(request, dict)
                return [request["s"], request.payload["s"], dict(**request), type(request.payload).__name__]
    """)
    answer = client.post("/predict_dict", json={"payload": {"s": "ABC"}})
    assert answer.json() == ["ABC", "ABC", {"s": "ABC"}, "dict"]
    refused = client.post("/predict_dict", json={"payload": [1]})
    assert (refused.status_code, refused.json()["detail"]) == (
        422,
        '"payload" must be a JSON object, not list.',
    )


NO_FILE = b'--x\r\nContent-Disposition: form-data; name="request"\r\n\r\ntext\r\n--x--\r\n'
IMAGE = """
    from PIL import Image
    class Predictor:
        def load(self): pass
        def predict(self, request):
            image = Image.open(request.file)
            return [request.filename, request.content_type, list(image.size)]
"""


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "upload",
    [
        {"files": {"request": ("a.png", png(), "image/png")}},
        {"files": {"file": ("a.png", png(), "image/png")}, "data": {"note": "text"}},
        {
            "files": [
                ("other", ("b.txt", b"no image", "text/plain")),
                ("request", ("a.png", png(), "image/png")),
            ]
        },
    ],
)
def test_predict_image_gets_an_upload(serve: Serve, upload: dict[str, Any]) -> None:
    assert serve(IMAGE).post("/predict_image", **upload).json() == ["a.png", "image/png", [4, 3]]


def test_predict_image_takes_a_raw_body(serve: Serve) -> None:
    client = serve(IMAGE)
    assert client.post("/predict_image", content=png(), headers={"Content-Type": "image/png"}).json() == [
        "image",
        "image/png",
        [4, 3],
    ]
    assert client.post("/predict_image", content=png()).json()[2] == [4, 3]


@pytest.mark.parametrize(
    "upload",
    [
        {"content": b""},
        {"content": NO_FILE, "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"garbage", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"garbage", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    ],
)
def test_predict_image_without_a_file_is_4xx(serve: Serve, upload: dict[str, Any]) -> None:
    assert serve(IMAGE).post("/predict_image", **upload).status_code == 422


def test_an_async_predict_can_read_the_upload(serve: Serve) -> None:
    client = serve("""
        class Predictor:
            def load(self): pass
            async def predict(self, request): return len(await request.read())
    """)
    assert client.post("/predict_image", content=png()).json() == len(png())


def test_numpy_results(serve: Serve) -> None:
    client = serve("""
        import numpy as np
        class Predictor:
            def load(self): pass
            def predict(self, request):
                return {"n": np.int64(3), "ok": np.bool_(True), "p": np.float32(.5),
                        "v": np.array([1.0, np.nan, np.inf])}
    """)
    answer = client.post("/predict", json={})
    assert answer.text == '{"n":3,"ok":true,"p":0.5,"v":[1.0,null,null]}'
    assert answer.headers["content-type"] == "application/json"


def test_what_cannot_be_encoded_is_500_naming_key_and_type(serve: Serve) -> None:
    client = serve("""
        import threading
        class Predictor:
            def load(self): pass
            def predict(self, request): return {"model": {"lock": threading.Event()}}
    """)
    answer = client.post("/predict", json={})
    assert answer.status_code == 500
    assert "'model.lock'" in answer.json()["detail"]
    assert "threading.Event" in answer.json()["detail"]


def test_a_failing_predict_shows_no_traceback(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    client = serve("""
        class Predictor:
            def load(self): pass
            def predict(self, request): raise ValueError("inner secret")
    """)
    with caplog.at_level(logging.ERROR):
        answer = client.post("/predict", json={})
    assert answer.status_code == 500
    assert "ValueError" in answer.json()["detail"]
    assert "secret" not in answer.text
    assert "ValueError: inner secret" in caplog.text


def test_the_users_own_response_and_bytes(serve: Serve) -> None:
    client = serve("""
        from fastapi import Response
        class Predictor:
            def load(self): pass
            def predict(self, request):
                return b"raw" if "raw" in request.payload else Response("x", 202, media_type="text/csv")
    """)
    assert client.post("/predict", json={"payload": "raw"}).content == b"raw"
    answer = client.post("/predict", json={"payload": ""})
    assert (answer.status_code, answer.headers["content-type"]) == (202, "text/csv; charset=utf-8")


def test_busy_predictions_do_not_starve_health(serve: Serve) -> None:
    client = serve(
        """
        import threading
        gate = threading.Event()
        class Predictor:
            def load(self): pass
            def predict(self, request): gate.wait(20); return "ok"
        """,
        BUDGET_THREADS="2",
    )
    answers: list[Any] = []
    callers = [
        threading.Thread(target=lambda: answers.append(client.post("/predict", json={}).json()))
        for _ in range(12)
    ]
    for caller in callers:
        caller.start()
    slowest = 0.0
    for _ in range(20):
        started = time.monotonic()
        assert client.get("/healthz/live").status_code == client.head("/healthz/live").status_code == 200
        slowest = max(slowest, time.monotonic() - started)
    assert slowest < 1
    assert answers == []
    sys.modules["predictor"].gate.set()
    for caller in callers:
        caller.join(10)
    assert answers == ["ok"] * 12


def test_openapi_lets_people_authorize_and_shows_the_bodies(serve: Serve) -> None:
    api = serve(ECHO, login=False).get("/openapi.json").json()
    flow = api["components"]["securitySchemes"]["OAuth2PasswordBearer"]["flows"]["password"]
    assert flow["tokenUrl"] == "token"
    assert set(api["paths"]) == {
        "/",
        "/token",
        "/predict",
        "/predict_dict",
        "/predict_image",
        "/healthz/live",
        "/healthz/ready",
        "/metrics",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{name}",
        "/v2/models/{name}/ready",
        "/v2/models/iris/infer",
    }
    for path in ("/predict", "/predict_dict", "/predict_image", "/v2/models/iris/infer"):
        assert api["paths"][path]["post"]["security"] == [{"OAuth2PasswordBearer": []}]
    image = api["paths"]["/predict_image"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert image["schema"]["properties"]["request"]["format"] == "binary"
    assert "security" not in api["paths"]["/token"]["post"]
    assert set(api["components"]["schemas"]) == {"Error"}  # one shape for all errors
    tags = [tag for path in api["paths"].values() for operation in path.values() for tag in operation["tags"]]
    assert set(tags) == {"predict", "server", "open inference"}
    assert json.dumps(api).count("static-token") == 0


def test_the_documentation_page_needs_nobody_else(serve: Serve) -> None:
    client = serve(ECHO, login=False)
    page = client.get("/docs").text
    addresses = re.findall(r"(?:src|href)=\"([^\"]+)\"|url: '([^']+)'", page)
    found = [one or other for one, other in addresses]
    assert len(found) == 4
    for address in found:
        assert address.startswith("/")
        assert client.get(address).status_code == 200
