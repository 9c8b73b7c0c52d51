"""The HTTP surface: which route hands what to the predictor, and who may call it.

The predictor routes read the body themselves, after the login was checked: FastAPI's own body parameters
would receive and parse a stranger's upload first.
"""

import asyncio
import logging
import re
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from fastapi.security import OAuth2PasswordBearer

from budget_server.auth import Auth
from budget_server.errors import CallerError, BodyTooLarge, Unauthorized
from budget_server.inputs import dict_payload, image_upload, predict_request
from budget_server.predictor import PredictorHost
from budget_server.settings import Settings

MAX_LOGIN_BYTES = 16 * 1024
MAX_DISCARDED_BYTES = 8 * 1024 * 1024

log = logging.getLogger("budget_server.routes")
router = APIRouter()
_bearer = OAuth2PasswordBearer(tokenUrl="token", auto_error=False)


@dataclass(frozen=True)
class Parts:
    """What the routes work with; one per application, as `app.state.parts`."""

    settings: Settings
    auth: Auth
    host: PredictorHost


def _parts(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)


async def _authorized(
    parts: Annotated[Parts, Depends(_parts)], token: Annotated[str | None, Depends(_bearer)]
) -> PredictorHost:
    parts.auth.check(token)
    return parts.host


PartsOf = Annotated[Parts, Depends(_parts)]
AuthorizedHost = Annotated[PredictorHost, Depends(_authorized)]


async def answer_error(_request: Request, error: Exception) -> Response:
    """The one place where our errors become answers."""
    assert isinstance(error, CallerError)
    if error.status >= 500:
        log.error("Answered %d: %s", error.status, error)
    return JSONResponse({"detail": str(error)}, error.status, dict(error.headers))


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


_LOGIN_FORM = {
    "type": "object",
    "required": ["username", "password"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["password"]},
        "username": {"type": "string"},
        "password": {"type": "string", "format": "password"},
    },
}
_DICT_BODY = {
    "type": "object",
    "required": ["payload"],
    "properties": {"payload": {"type": "object", "additionalProperties": True}},
}
_BINARY = {"type": "string", "format": "binary"}
_IMAGE_FORM = {"type": "object", "required": ["request"], "properties": {"request": _BINARY}}


@router.head("/", include_in_schema=False)
@router.get("/", summary="Which deployment this is")
async def root(parts: PartsOf) -> dict[str, str]:
    return {"status": "alive", "name": parts.settings.name, "revision": parts.settings.revision}


@router.head("/healthz/live", include_in_schema=False)
@router.get("/healthz/live", summary="Whether the process answers")
async def live() -> dict[str, str]:
    return {"status": "alive"}


@router.head("/healthz/ready", include_in_schema=False)
@router.get("/healthz/ready", summary="Whether the model is loaded")
async def ready(parts: PartsOf) -> Response:
    if parts.host.state == "ready":
        return JSONResponse({"status": "ready", "revision": parts.settings.revision})
    answer = {"status": parts.host.state, "detail": parts.host.reason}
    return JSONResponse(answer, 503, {"Retry-After": "5"})


@router.post(
    "/token",
    summary="Log in: a bearer token for username and password",
    openapi_extra=_body({"application/x-www-form-urlencoded": {"schema": _LOGIN_FORM}}),
)
async def token(request: Request, parts: PartsOf) -> JSONResponse:
    username, password = await _login_form(request)
    loop = asyncio.get_running_loop()
    answer = await loop.run_in_executor(parts.auth.thread, parts.auth.login, username, password)
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


@router.post(
    "/predict",
    summary="Ask the model; predict gets the request itself",
    openapi_extra=_body({"application/json": {"schema": {}}}),
)
async def predict(request: Request, host: AuthorizedHost) -> Response:
    return await host.predict(await predict_request(request))


@router.post(
    "/predict_dict",
    summary="Ask the model; predict gets the payload, a dict",
    openapi_extra=_body({"application/json": {"schema": _DICT_BODY}}),
)
async def predict_dict(request: Request, host: AuthorizedHost) -> Response:
    return await host.predict(await dict_payload(request))


@router.post(
    "/predict_image",
    summary="Ask the model; predict gets an UploadFile with the image's bytes as sent",
    openapi_extra=_body({"multipart/form-data": {"schema": _IMAGE_FORM}, "image/*": {"schema": _BINARY}}),
)
async def predict_image(request: Request, host: AuthorizedHost) -> Response:
    return await host.predict(await image_upload(request))


async def _login_form(request: Request) -> tuple[str, str]:
    body = await _bounded_body(request)
    if not request.headers.get("content-type", "").lower().startswith("multipart/"):
        # Starlette reads unescaped bytes as latin-1; browsers and curl mean UTF-8.
        body = re.sub(rb"[\x80-\xff]", lambda byte: b"%%%02X" % ord(byte[0]), body)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    form = await Request(request.scope, receive).form()
    username, password = form.get("username"), form.get("password")
    if not isinstance(username, str) or not isinstance(password, str):
        raise Unauthorized("Send username and password as form fields.")
    return username, password


async def _bounded_body(request: Request) -> bytes:
    """The login form. What is too much is received and dropped: many clients read no answer before."""
    body, received = bytearray(), 0
    async for chunk in request.stream():
        received += len(chunk)
        body += chunk[: MAX_LOGIN_BYTES - len(body)]
        if received > MAX_DISCARDED_BYTES:
            break
    if received > MAX_LOGIN_BYTES:
        raise BodyTooLarge(f"A login form has at most {MAX_LOGIN_BYTES} bytes.")
    return bytes(body)
