"""FastAPI's routes: which deployment this is, health, login, metrics. The predictor's are in `endpoints`."""

import logging
import re
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import OAuth2PasswordBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from budget_server import openapi, openinference
from budget_server.endpoints import Parts, content_of
from budget_server.errors import (
    CallerError,
    Internal,
    InvalidBody,
    MethodNotAllowed,
    NotFound,
    NotReady,
    Unauthorized,
)
from budget_server.limits import check_length, read_body
from budget_server.throttle import client_of, is_local

MAX_LOGIN_BYTES = 16 * 1024

log = logging.getLogger("budget_server.routes")
router = APIRouter()
_PAGE_FILES = "/docs/static"
_bearer = OAuth2PasswordBearer(tokenUrl="token", auto_error=False, scheme_name=openapi.SCHEME)


def install(app: FastAPI) -> None:
    """The routes, and one shape for every error."""
    app.include_router(router)
    # Swagger UI from our own address: the page works without the internet, and tells nobody who reads it.
    app.mount(_PAGE_FILES, StaticFiles(packages=[("fastapi_offline", "static")]), name="page files")
    app.add_exception_handler(CallerError, _caller_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)


def _parts(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)


PartsOf = Annotated[Parts, Depends(_parts)]


def _answer(request: Request, error: CallerError) -> Response:
    return JSONResponse(content_of(error, request.url.path), error.status, dict(error.headers))


async def _caller_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, CallerError)
    if error.status >= 500:
        log.error("Answered %d: %s", error.status, error)
    return _answer(request, error)


async def _http_error(request: Request, error: Exception) -> Response:
    """FastAPI's own: no such route, another method."""
    assert isinstance(error, HTTPException)
    told: type[CallerError] = {404: NotFound, 405: MethodNotAllowed}.get(error.status_code, CallerError)
    return _answer(request, told(str(error.detail), error.headers))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
    return _answer(request, InvalidBody(f"The request is not what this route takes: {fields}."))


async def _unexpected(request: Request, _error: Exception) -> Response:
    """A mistake of ours; Starlette logs it."""
    return _answer(request, Internal("The server failed; the log has more."))


@router.head("/", include_in_schema=False)
@router.get("/", tags=["server"], summary="Which deployment this is")
async def root(parts: PartsOf) -> dict[str, str]:
    return {"status": "alive", "name": parts.settings.name, "revision": parts.settings.revision}


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=request.app.title,
        swagger_js_url=f"{_PAGE_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{_PAGE_FILES}/swagger-ui.css",
        swagger_favicon_url=f"{_PAGE_FILES}/favicon.png",
    )


@router.head("/healthz/live", include_in_schema=False)
@router.get("/healthz/live", tags=["server"], summary="Whether the process answers")
async def live() -> dict[str, str]:
    return {"status": "alive"}


@router.head("/healthz/ready", include_in_schema=False)
@router.get(
    "/healthz/ready", tags=["server"], summary="Whether the model is loaded", responses=openapi.errors("503")
)
async def ready(parts: PartsOf) -> Response:
    if parts.host.state == "ready":
        return JSONResponse({"status": "ready", "revision": parts.settings.revision})
    reason = NotReady(parts.host.reason)
    return JSONResponse({"status": parts.host.state, **reason.content}, reason.status, dict(reason.headers))


@router.get(
    "/metrics",
    tags=["server"],
    summary="Numbers for Prometheus; for the logged-in, and for this machine itself",
    response_class=Response,
    responses=openapi.errors("401"),
)
async def metrics(
    request: Request, parts: PartsOf, _documented: Annotated[str | None, Depends(_bearer)]
) -> Response:
    if not is_local(request.scope):
        header = request.headers.get("authorization")
        parts.authorize(request.scope, header.encode("latin-1") if header else None)
    return Response(parts.board.exposition(), media_type=CONTENT_TYPE_LATEST)


_LOGIN_FORM = {
    "type": "object",
    "required": ["username", "password"],
    "properties": {
        "grant_type": {"type": "string", "enum": ["password"]},
        "username": {"type": "string"},
        "password": {"type": "string", "format": "password"},
    },
}


@router.post(
    "/token",
    tags=["server"],
    summary="Log in: a bearer token for username and password",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": _LOGIN_FORM}},
        }
    },
    responses=openapi.errors("401", "413", "429"),
)
async def token(request: Request, parts: PartsOf) -> JSONResponse:
    check_length(request.scope, MAX_LOGIN_BYTES)
    username, password = await _login_form(request)
    with parts.logins.attempt(client_of(request.scope)):
        answer = await parts.auth.login_in_thread(username, password)
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


async def _login_form(request: Request) -> tuple[str, str]:
    body = await read_body(request.receive, MAX_LOGIN_BYTES)
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


def _model(parts: Parts) -> str:
    return openinference.model_name(parts.settings.name)


@router.get("/v2", tags=["open inference"], summary="This server")
async def v2() -> dict[str, Any]:
    return openinference.server_metadata()


@router.get("/v2/health/live", tags=["open inference"], summary="Whether the process answers")
async def v2_live() -> dict[str, Any]:
    return openinference.server_live()


@router.get(
    "/v2/health/ready",
    tags=["open inference"],
    summary="Whether the model is loaded",
    responses=openapi.errors("503"),
)
async def v2_ready(parts: PartsOf) -> dict[str, Any]:
    return openinference.server_ready(parts.host.state == "ready", parts.host.reason)


@router.get("/v2/models/{name}/versions/{version}", include_in_schema=False)
@router.get(
    "/v2/models/{name}",
    tags=["open inference"],
    summary="The model",
    responses=openapi.errors("404", "422"),
)
async def v2_model(parts: PartsOf, name: str, version: str | None = None) -> dict[str, Any]:
    openinference.check_model(name, version, _model(parts), parts.settings.revision)
    return openinference.metadata(name, parts.settings.revision)


@router.get("/v2/models/{name}/versions/{version}/ready", include_in_schema=False)
@router.get(
    "/v2/models/{name}/ready",
    tags=["open inference"],
    summary="Whether the model is loaded",
    responses=openapi.errors("404", "422", "503"),
)
async def v2_model_ready(parts: PartsOf, name: str, version: str | None = None) -> dict[str, Any]:
    openinference.check_model(name, version, _model(parts), parts.settings.revision)
    return openinference.model_ready(name, parts.host.state == "ready", parts.host.reason)


@router.post("/v2/models/{name}/versions/{version}/infer", include_in_schema=False)
@router.post("/v2/models/{name}/infer", include_in_schema=False)
async def v2_other_model(parts: PartsOf, name: str, version: str | None = None) -> None:
    """The model that is served here is answered in `endpoints`: what comes here asks for another."""
    openinference.check_model(name, version, _model(parts), parts.settings.revision)
