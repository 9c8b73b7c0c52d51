"""HTTP without a socket: what comes back for these bytes."""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest

from localcloud.guests.conversation import BODY_LIMIT, Answer, Asked, Conversation, answer
from localcloud.guests.guest import Failure, Guest

GUEST = Guest("127.77.0.10", "budget-x", "a1b2")
BROKEN = Guest("127.77.0.10", "budget-x", "a1b2", failure=Failure("LoadFailed", "no such file"))
EMPTY = Guest("127.77.0.10")


def request(method: str, target: str, body: Any = None, *, headers: str = "") -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {target} HTTP/1.1\r\nHost: model\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    return head.encode() + content


def talk(guest: Guest | None = GUEST) -> Conversation:
    return Conversation(lambda: guest, encrypted=True)


def read(said: bytes, method: str = "GET") -> list[tuple[int, bytes]]:
    """Each answer's status and body."""
    http, found, body = h11.Connection(h11.CLIENT), [], b""
    while said:
        http.send(h11.Request(method=method, target="/", headers=[("Host", "model")]))
        http.send(h11.EndOfMessage())
        http.receive_data(said)
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status, body = event.status_code, b""
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                assert isinstance(event, h11.InformationalResponse), event
        found.append((status, body))
        said = http.trailing_data[0]
        http = h11.Connection(h11.CLIENT)
    return found


@pytest.mark.parametrize(
    ("guest", "method", "target", "status", "content"),
    [
        (GUEST, "GET", "/healthz/ready", 200, {"status": "ready", "revision": "a1b2"}),
        (GUEST, "GET", "/healthz/ready/?x=1", 200, {"status": "ready", "revision": "a1b2"}),
        (GUEST, "HEAD", "/", 200, {"status": "alive", "name": "budget-x", "revision": "a1b2"}),
        (BROKEN, "GET", "/healthz/live", 200, {"status": "alive"}),
        (BROKEN, "GET", "/healthz/ready", 503, {"code": "NotReady", "detail": "no such file"}),
        (BROKEN, "POST", "/predict_dict", 503, {"code": "NotReady", "detail": "no such file"}),
        (GUEST, "GET", "/nothing", 404, {"code": "NotFound", "detail": "Not Found"}),
        (GUEST, "GET", "/predict", 405, {"code": "MethodNotAllowed", "detail": "Method Not Allowed"}),
        (GUEST, "POST", "/predict", 422, {"code": "InvalidBody", "detail": "The body is not JSON."}),
    ],
)
def test_answers(guest: Guest, method: str, target: str, status: int, content: Any) -> None:
    said = answer(guest, Asked(method, target), encrypted=True)
    assert (said.status, said.content) == (status, content)


def test_without_a_revision_it_is_alive_and_not_ready() -> None:
    assert answer(EMPTY, Asked("GET", "/healthz/live"), encrypted=True).status == 200
    said = answer(EMPTY, Asked("GET", "/healthz/ready"), encrypted=True)
    assert (said.status, "budget-config" in said.content["detail"]) == (503, True)


def test_without_tls_it_leads_there_as_the_vm_does() -> None:
    asked = Asked("POST", "/predict?x=1", "model.example.org")
    assert answer(GUEST, asked, encrypted=False) == Answer(
        308, headers={"Location": "https://model.example.org/predict?x=1"}
    )
    assert answer(GUEST, Asked("GET", "/healthz/live"), encrypted=False).status == 200
    plain = Guest("127.77.0.10", revision="a1b2", mode="Off")
    assert answer(plain, Asked("GET", "/healthz/ready"), encrypted=False).status == 200


@pytest.mark.parametrize(
    ("body", "status", "content"),
    [
        ({"payload": {"a": [1, None]}}, 200, {"a": [1, None]}),
        ({"payload": None}, 200, None),
        ({"a": 1}, 422, "InvalidBody"),
        ([], 422, "InvalidBody"),
    ],
)
def test_a_prediction_is_its_payload(body: Any, status: int, content: Any) -> None:
    [(found, said)] = read(talk().receive(request("POST", "/predict_dict", body)))
    document = json.loads(said)
    assert (found, document if found == 200 else document["code"]) == (status, content)


def test_a_body_that_nests_too_deeply_is_refused() -> None:
    depth = 100_000
    body = b"[" * depth + b"]" * depth
    assert answer(GUEST, Asked("POST", "/predict", body=body), encrypted=True).status == 422


def test_a_connection_is_used_again_and_requests_may_come_in_any_pieces() -> None:
    conversation = talk()
    sent = request("GET", "/healthz/live") + request("POST", "/predict", {"a": 1}) + request("GET", "/x")
    said = b"".join(conversation.receive(sent[at : at + 7]) for at in range(0, len(sent), 7))
    assert [status for status, _ in read(said)] == [200, 200, 404]
    assert [status for status, _ in read(conversation.receive(sent))] == [200, 200, 404]
    assert not conversation.over


def test_head_has_no_body() -> None:
    said = talk().receive(request("HEAD", "/healthz/ready"))
    assert said.endswith(b"\r\n\r\n")
    assert read(said, "HEAD") == [(200, b"")]


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.0\r\n\r\n", request("GET", "/", headers="Connection: close\r\n")]
)
def test_who_wants_to_close_is_answered_before(sent: bytes) -> None:
    conversation = talk()
    assert read(conversation.receive(sent))[0][0] == 200
    assert conversation.over


def test_a_body_that_is_too_long_is_not_waited_for() -> None:
    conversation = talk()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_LIMIT + 1}\r\n\r\n".encode()
    assert read(conversation.receive(head))[0][0] == 413
    assert conversation.over


def test_a_body_without_an_announced_length_is_bounded_as_well() -> None:
    conversation = talk()
    said = conversation.receive(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for _ in range(BODY_LIMIT // 0x10000 + 1):
        said += conversation.receive(chunk)
    assert read(said)[0][0] == 413
    assert conversation.over


def test_who_waits_before_sending_a_body_is_asked_for_it() -> None:
    conversation = talk()
    head, _, body = request("POST", "/predict", [1], headers="Expect: 100-continue\r\n").partition(
        b"\r\n\r\n"
    )
    assert conversation.receive(head + b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    assert read(conversation.receive(body)) == [(200, b"[1]")]


def test_what_is_no_http_is_refused() -> None:
    conversation = talk()
    assert read(conversation.receive(b"\x16\x03\x01 hello\r\n\r\n"))[0][0] == 400
    assert conversation.over


def test_a_vm_that_went_off_says_nothing() -> None:
    conversation = talk(None)
    assert conversation.receive(request("GET", "/healthz/live")) == b""
    assert conversation.over
