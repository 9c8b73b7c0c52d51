"""Cloud Scheduler: `/v1/projects/*/locations/*/jobs`, with Pub/Sub targets.

Here are the routes and the control verb `tick`. HTTP and App Engine targets are not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from starlette.routing import BaseRoute

from localcloud.context import Context, Resource
from localcloud.errors import not_found
from localcloud.services.pubsub import broker_of
from localcloud.services.scheduler.jobs import JOB, Jobs
from localcloud.services.scheduler.ticker import Ticker
from localcloud.services.wire import paged
from localcloud.store import Json
from localcloud.web import Call, Handler, route

_JOBS = "/v1/projects/{project}/locations/{location}/jobs"
_JOB = _JOBS + "/{job}"


def routes(context: Context) -> list[BaseRoute]:
    jobs = Jobs(context, broker_of(context))
    ticker = Ticker(context, jobs)
    context.registry.background.append(ticker)
    context.registry.listers.append(lambda: _resources(context))
    context.registry.verbs["tick"] = lambda name: run_job(context, name)
    return _routes(context, jobs, ticker)


def run_job(context: Context, name: str) -> Json:
    """Make a job tick now; `name` is its full path or its last part."""
    for key, _ in context.store.list(JOB):
        if name in (key, key.rsplit("/", 1)[1]):
            return Jobs(context, broker_of(context)).run(key)
    raise not_found(name)


def _resources(context: Context) -> Iterator[Resource]:
    for key, job in context.store.list(JOB):
        yield Resource("job", key.rsplit("/", 1)[1], key.split("/")[3], job["state"])


def _parent(call: Call) -> str:
    return f"projects/{call.params['project']}/locations/{call.params['location']}"


def _name(call: Call) -> str:
    return f"{_parent(call)}/jobs/{call.params['job']}"


def _routes(context: Context, jobs: Jobs, ticker: Ticker) -> list[BaseRoute]:
    def listed(call: Call) -> Json:
        return paged("jobs", context.store.list(JOB, f"{_parent(call)}/jobs/"), call.query)

    def change(call: Call) -> Json:
        return jobs.change(_name(call), call.json(), call.query.get("updateMask", ""))

    def delete(call: Call) -> Json:
        jobs.delete(_name(call))
        return {}

    def verb(act: Callable[[str], Json]) -> Handler:
        return lambda call: act(_name(call))

    def touching(handler: Handler) -> Handler:
        """The ticker looks again at what is due after a change."""

        def run(call: Call) -> Json:
            answer = handler(call)
            assert isinstance(answer, dict)
            ticker.poke()
            return answer

        return run

    return [
        route("POST", _JOB + ":pause", verb(jobs.pause)),
        route("POST", _JOB + ":resume", touching(verb(jobs.resume))),
        route("POST", _JOB + ":run", verb(jobs.run)),
        route("GET", _JOBS, listed),
        route("POST", _JOBS, touching(lambda call: jobs.create(_parent(call), call.json()))),
        route("GET", _JOB, verb(jobs.get)),
        route("PATCH", _JOB, touching(change)),
        route("DELETE", _JOB, delete),
    ]
