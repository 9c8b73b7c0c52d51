"""Cloud Functions, v2: `/v2/projects/*/locations/*/functions` and `…/operations`, and what they make.

Here are the routes, and `/functions/…`, where functions are called. Python only; a function really runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import httpx
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from localcloud.context import Context, Resource
from localcloud.errors import ApiError, invalid
from localcloud.services.functions import surroundings
from localcloud.services.functions.build import tail
from localcloud.services.functions.deployments import FUNCTION, RUNTIMES, Deployments
from localcloud.services.functions.events import MODE, BadPushError, from_push
from localcloud.services.functions.operations import OPERATION
from localcloud.services.functions.processes import Processes
from localcloud.services.functions.runtime import Runtime, Serving, StartError
from localcloud.services.functions.sources import Sources
from localcloud.services.pubsub import broker_of
from localcloud.services.wire import paged
from localcloud.store import Json
from localcloud.web import Call, endpoint, route

_log = logging.getLogger(__name__)
_PARENT = "/v2/projects/{project}/locations/{location}"
_FUNCTION = _PARENT + "/functions/{function}"
_LOG_LINES = 1000


def routes(context: Context, runtime: Runtime | None = None) -> list[BaseRoute]:
    """`runtime`: what runs functions, if not processes of this machine."""
    runtime = runtime or Processes(context.settings.home, context.settings.base_url)
    sources = Sources(context)
    deployments = Deployments(context, broker_of(context), runtime, sources)
    context.registry.background += [runtime, deployments.tasks]
    context.registry.listers.append(lambda: _resources(context))
    context.registry.logs.append(lambda name: _log_of(context, runtime, name))
    return [
        *_source_routes(sources),
        *_function_routes(context, deployments),
        *_other_routes(context, deployments),
        *surroundings.routes(),
        Route(
            "/functions/{project}/{location}/{function}",
            endpoint(lambda call: _invoke(deployments, runtime, call)),
            methods=["GET", "POST", "PUT", "DELETE", "PATCH"],
        ),
    ]


def _resources(context: Context) -> Iterator[Resource]:
    for key, function in context.store.list(FUNCTION):
        yield Resource("function", key.rsplit("/", 1)[1], key.split("/")[3], function["state"])


def _log_of(context: Context, runtime: Runtime, name: str) -> str | None:
    known = any(name in (key, key.rsplit("/", 1)[1]) for key, _ in context.store.list(FUNCTION))
    return tail(runtime.log(name.rsplit("/", 1)[-1]), _LOG_LINES) if known else None


def _parent(call: Call) -> str:
    return f"projects/{call.params['project']}/locations/{call.params['location']}"


def _name(call: Call) -> str:
    return f"{_parent(call)}/functions/{call.params['function']}"


def _source_routes(sources: Sources) -> list[BaseRoute]:
    def upload(call: Call) -> Response:
        sources.upload(call.params["upload"], call.body)
        return Response()

    return [
        route(
            "POST",
            _PARENT + "/functions:generateUploadUrl",
            lambda call: sources.upload_url(call.params["location"]),
        ),
        route("PUT", "/upload/functions/{upload}", upload),
    ]


def _function_routes(context: Context, deployments: Deployments) -> list[BaseRoute]:
    def create(call: Call) -> Json:
        return deployments.create(_parent(call), call.query.get("functionId", ""), call.json())

    def change(call: Call) -> Json:
        return deployments.change(_name(call), call.json(), call.query.get("updateMask", ""))

    def listed(call: Call) -> Json:
        location = "" if call.params["location"] == "-" else f"{call.params['location']}/functions/"
        prefix = f"projects/{call.params['project']}/locations/{location}"
        return paged("functions", context.store.list(FUNCTION, prefix), call.query)

    return [
        route("POST", _PARENT + "/functions", create),
        route("GET", _PARENT + "/functions", listed),
        route("GET", _FUNCTION, lambda call: deployments.get(_name(call))),
        route("PATCH", _FUNCTION, change),
        route("DELETE", _FUNCTION, lambda call: deployments.delete(_name(call))),
    ]


def _other_routes(context: Context, deployments: Deployments) -> list[BaseRoute]:
    def operation(call: Call) -> Json:
        return deployments.operations.get(f"{_parent(call)}/operations/{call.params['operation']}")

    def operations(call: Call) -> Json:
        return paged("operations", context.store.list(OPERATION, f"{_parent(call)}/operations/"), call.query)

    def runtimes(_: Call) -> Json:
        return {"runtimes": [_runtime(name) for name in RUNTIMES]}

    return [
        route("GET", _PARENT + "/operations", operations),
        route("GET", _PARENT + "/operations/{operation}", operation),
        route("GET", _PARENT + "/runtimes", runtimes),
    ]


def _runtime(name: str) -> Json:
    shown = f"Python {name[6]}.{name[7:]}"
    return {"name": name, "displayName": shown, "stage": "GA", "environment": "GEN_2"}


def _invoke(deployments: Deployments, runtime: Runtime, call: Call) -> Response:
    """Hand a request to the function; a push of its trigger becomes an event first."""
    name = _name(call)
    serving = deployments.serving(name)
    headers, body, mode = dict(call.headers), call.body, call.query.get(MODE)
    if mode is not None:
        try:
            event = from_push(mode, body)
        except BadPushError as error:
            raise invalid(str(error)) from error
        headers, body = event.headers, event.body
    answer = _answer(runtime, serving, call.method, headers, body)
    if mode is not None and answer.status_code >= 300 and not _retried(deployments.get(name)):
        _log.warning("%s answered %s; its trigger does not retry", name, answer.status_code)
        return Response(status_code=204)
    return answer


def _answer(
    runtime: Runtime, serving: Serving, method: str, headers: Mapping[str, str], body: bytes
) -> Response:
    """What the function says. A 503 means that it was never reached; its own failures are 500 and 504."""
    try:
        answer = runtime.call(serving, method, headers, body)
    except (StartError, httpx.ConnectError) as error:
        _log.warning("%s could not be reached: %s", serving.function, error)
        raise ApiError(503, "backendError", f"The function could not be reached: {error}") from error
    except httpx.TimeoutException:
        return Response(f"The function took more than {serving.timeout} seconds", 504)
    except httpx.HTTPError as error:
        return Response(f"The function broke off: {error}", 500)
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


def _retried(function: Json) -> bool:
    return (function.get("eventTrigger") or {}).get("retryPolicy") == "RETRY_POLICY_RETRY"
