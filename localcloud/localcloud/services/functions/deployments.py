"""Functions made, changed and deleted: the requests, and the work behind their operations.

The work is a durable task: built by `build`, started by `processes`, triggered by a push subscription.
A revision that does not build or start leaves the one before it serving.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import asdict
from typing import Any

from localcloud.clock import rfc3339
from localcloud.context import Context
from localcloud.errors import ApiError, conflict, invalid
from localcloud.operations import Tasks
from localcloud.services.compute.paths import account
from localcloud.services.functions.events import push_endpoint, trigger_names
from localcloud.services.functions.models import PUBLISHED, Function
from localcloud.services.functions.operations import Operations
from localcloud.services.functions.runtime import BuildError, Runtime, Serving, StartError
from localcloud.services.functions.sources import Sources
from localcloud.services.pubsub.broker import Broker
from localcloud.services.wire import merge, parse, resource_exists, resource_missing
from localcloud.store import AlreadyExists, Json

FUNCTION = "functions.function"
_SERVING = "functions.serving"
RUNTIMES = ("python310", "python311", "python312", "python313")
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_INTERNAL, _INVALID = 13, 3


class Deployments:
    """The functions of all projects and locations."""

    def __init__(self, context: Context, broker: Broker, runtime: Runtime, sources: Sources) -> None:
        self._context = context
        self._store = context.store
        self._broker = broker
        self._runtime = runtime
        self._sources = sources
        self.operations = Operations(context)
        self.tasks = Tasks("functions", context.store, context.clock)
        self.tasks.on("deploy", lambda args: self._deploy(args["function"], args["operation"]))
        self.tasks.on("delete", lambda args: self._delete(args["function"], args["operation"]))
        self.tasks.on_failure(self._broken)

    # Requests

    def create(self, parent: str, short: str, body: Json) -> Json:
        name = f"{parent}/functions/{short}"
        if not _ID.fullmatch(short):
            raise invalid(
                f"Invalid function_id '{short}': lower case, digits and hyphens, at most 63 characters"
            )
        given = parse(Function, body, "function").wire() | {"name": name}
        _check(given)
        now = rfc3339(self._context.clock.now())
        function = _with_defaults(given, self.uri(name)) | {"createTime": now}
        return self._begin(function, "create", given)

    def change(self, name: str, body: Json, mask: str) -> Json:
        given = parse(Function, body, "function").wire()
        with self._store.transaction():
            merged = merge(Function, self.get(name), given, mask) | {"name": name}
            _check(parse(Function, merged, "function").wire())
            return self._begin(_with_defaults(merged, self.uri(name)), "update", given)

    def _begin(self, function: Json, verb: str, request: Json) -> Json:
        name = function["name"]
        function = function | {"state": "DEPLOYING", "updateTime": rfc3339(self._context.clock.now())}
        with self._store.transaction():
            if verb == "create":
                self._insert(function)
            else:
                self._refuse_while_busy(self.get(name))
                self._store.put(FUNCTION, name, function)
            stages = ("BUILD", "SERVICE", "TRIGGER") if "eventTrigger" in function else ("BUILD", "SERVICE")
            operation = self.operations.begin(name, verb, request, stages)
            self.tasks.add(name, "deploy", {"function": name, "operation": operation["name"]})
        return operation

    def _insert(self, function: Json) -> None:
        try:
            self._store.insert(FUNCTION, function["name"], function)
        except AlreadyExists as error:
            raise resource_exists(function["name"]) from error

    def delete(self, name: str) -> Json:
        with self._store.transaction():
            function = self.get(name)
            self._refuse_while_busy(function)
            self._store.put(FUNCTION, name, function | {"state": "DELETING"})
            operation = self.operations.begin(name, "delete", None)
            self.tasks.add(name, "delete", {"function": name, "operation": operation["name"]})
        return operation

    def _refuse_while_busy(self, function: Json) -> None:
        if function["state"] in ("DEPLOYING", "DELETING"):
            raise conflict(f"unable to queue the operation: one is under way for {function['name']}")

    def get(self, name: str) -> Json:
        found = self._store.get(FUNCTION, name)
        if found is None:
            raise resource_missing(name)
        return found

    def uri(self, name: str) -> str:
        """Where the function is called, on the same port as everything."""
        _, project, _, location, _, short = name.split("/")
        return f"{self._context.settings.base_url}/functions/{project}/{location}/{short}"

    def serving(self, name: str) -> Serving:
        """The revision that takes requests."""
        found = self._store.get(_SERVING, name)
        if found is None:
            raise resource_missing(name)
        return Serving.of(found)

    # The work

    def _deploy(self, name: str, operation: str) -> None:
        try:
            function = self._built(self.get(name), operation)
            function = self._triggered(function, operation)
        except (BuildError, StartError, ApiError) as error:
            self._fail(name, operation, _INVALID, str(error))
            return
        function |= {"state": "ACTIVE", "updateTime": rfc3339(self._context.clock.now())}
        function.pop("stateMessages", None)
        self._store.put(FUNCTION, name, function)
        self.operations.succeed(operation, function)

    def _built(self, function: Json, operation: str) -> Json:
        """Build a revision, start it, and let it take the requests."""
        name, build, service = function["name"], function["buildConfig"], function["serviceConfig"]
        self.operations.stage(operation, "BUILD", "IN_PROGRESS")
        source = build["source"]["storageSource"]
        archive, generation = self._sources.read(source)
        log = self._context.settings.home / "log" / f"build-{name.rsplit('/', 1)[1]}.log"
        built = self._runtime.build(archive, build["runtime"], build.get("environmentVariables") or {}, log)
        self.operations.stage(operation, "BUILD", "COMPLETE")
        self.operations.stage(operation, "SERVICE", "IN_PROGRESS")
        serving = Serving(
            function=name,
            revision=f"{name.rsplit('/', 1)[1]}-{uuid.uuid4().hex[:8]}",
            source=str(built.source),
            python=str(built.python),
            entry_point=build["entryPoint"],
            signature="cloudevent" if "eventTrigger" in function else "http",
            timeout=service["timeoutSeconds"],
            variables=service.get("environmentVariables") or {},
            account=account(name.split("/")[1], service.get("serviceAccountEmail", "")),
        )
        self._runtime.ensure(serving)
        self._store.put(_SERVING, name, asdict(serving))
        self.operations.stage(operation, "SERVICE", "COMPLETE")
        return function | {
            "buildConfig": build | _build_output(name, source | {"generation": generation}),
            "serviceConfig": service | {"revision": serving.revision},
        }

    def _triggered(self, function: Json, operation: str) -> Json:
        """Subscribe the function to its topic, in place of what was subscribed before."""
        trigger, subscription = trigger_names(function["name"])
        wanted = function.get("eventTrigger")
        if wanted is None:
            self._unsubscribe(subscription)
            return function
        self.operations.stage(operation, "TRIGGER", "IN_PROGRESS")
        body = _subscription(function["url"], wanted)
        with self._store.transaction():
            there = self._subscription(subscription)
            if there is not None and there["topic"] != body["topic"]:
                self._unsubscribe(subscription)
                there = None
            if there is None:
                self._broker.create_subscription(subscription, body)
            else:
                self._broker.update_subscription(
                    subscription, body, "pushConfig,retryPolicy,ackDeadlineSeconds"
                )
        self.operations.stage(operation, "TRIGGER", "COMPLETE")
        return function | {"eventTrigger": wanted | {"trigger": trigger}}

    def _subscription(self, name: str) -> Json | None:
        try:
            return self._broker.subscription(name)
        except ApiError:
            return None

    def _unsubscribe(self, name: str) -> None:
        if self._subscription(name) is not None:
            self._broker.delete_subscription(name)

    def _delete(self, name: str, operation: str) -> None:
        self._unsubscribe(trigger_names(name)[1])
        self._runtime.end(name)
        with self._store.transaction():
            self._store.delete(_SERVING, name)
            self._store.delete(FUNCTION, name)
            self.operations.succeed(operation, None)

    def _broken(self, args: Json, error: Exception) -> None:
        self._fail(args["function"], args["operation"], _INTERNAL, f"internal error: {error}")

    def _fail(self, name: str, operation: str, code: int, message: str) -> None:
        text = f"Could not create or update Cloud Run service or its build: {message}"
        said = [{"severity": "ERROR", "type": "DeploymentFailed", "message": text}]
        with self._store.transaction():
            self._store.put(FUNCTION, name, self.get(name) | {"state": "FAILED", "stateMessages": said})
            self.operations.fail(operation, code, text)


def _check(function: Json) -> None:
    build = function.get("buildConfig") or {}
    if function.get("environment", "GEN_2") not in ("GEN_2", "ENVIRONMENT_UNSPECIFIED"):
        raise invalid("environment must be GEN_2: functions of the first generation are not offered")
    if build.get("runtime") not in RUNTIMES:
        raise invalid(
            f"Invalid value '{build.get('runtime', '')}' for buildConfig.runtime: {', '.join(RUNTIMES)}"
        )
    if not build.get("entryPoint"):
        raise invalid("buildConfig.entryPoint must be given")
    source = (build.get("source") or {}).get("storageSource") or {}
    if not source.get("bucket") or not source.get("object"):
        raise invalid("buildConfig.source.storageSource must name a bucket and an object")
    trigger = function.get("eventTrigger")
    if trigger is None:
        return
    if trigger.get("eventType") != PUBLISHED:
        raise invalid(f"eventTrigger.eventType must be {PUBLISHED}; other events are not offered")
    if not re.fullmatch(r"projects/[^/]+/topics/[^/]+", trigger.get("pubsubTopic") or ""):
        raise invalid("eventTrigger.pubsubTopic must be projects/<PROJECT>/topics/<TOPIC>")


def _with_defaults(function: Json, uri: str) -> Json:
    """What Google fills in."""
    name = function["name"]
    _, project, _, location, _, short = name.split("/")
    service: dict[str, Any] = {
        "timeoutSeconds": 60,
        "availableMemory": "256M",
        "availableCpu": "0.1666",
        "maxInstanceCount": 100,
        "ingressSettings": "ALLOW_ALL",
        "allTrafficOnLatestRevision": True,
    } | (function.get("serviceConfig") or {})
    service |= {"service": f"projects/{project}/locations/{location}/services/{short}", "uri": uri}
    filled = function | {"environment": "GEN_2", "serviceConfig": service, "url": uri}
    if "eventTrigger" in function:
        defaults = {"retryPolicy": "RETRY_POLICY_DO_NOT_RETRY", "triggerRegion": location}
        filled["eventTrigger"] = defaults | function["eventTrigger"]
    return filled


def _build_output(name: str, source: Json) -> Json:
    _, _, _, location, _, _ = name.split("/")
    return {
        "build": f"projects/1/locations/{location}/builds/{uuid.uuid4()}",
        "sourceProvenance": {"resolvedStorageSource": source},
        "dockerRegistry": "ARTIFACT_REGISTRY",
    }


def _subscription(uri: str, trigger: Json) -> Json:
    """The push subscription that Eventarc makes for a trigger."""
    push: Json = {"pushEndpoint": push_endpoint(uri, trigger["pubsubTopic"])}
    if trigger.get("serviceAccountEmail"):
        push["oidcToken"] = {"serviceAccountEmail": trigger["serviceAccountEmail"], "audience": uri}
    return {
        "topic": trigger["pubsubTopic"],
        "pushConfig": push,
        "ackDeadlineSeconds": 600,
        "retryPolicy": {"minimumBackoff": "10s", "maximumBackoff": "600s"},
    }
