"""The keep-alive: starts every VM of one installation that should be running and is not.

Deployed as it stands, on Cloud Functions, behind one Pub/Sub topic. A message says only that a schedule has
ticked; what is to be done stands on the VMs themselves, in labels that the operator wrote. So it works while
the operator is away, a message delivered twice does no harm, and one that makes no sense starts at most what
is due anyway. It always ends well: the next tick is the retry, and a failing VM never holds back another.

Environment: BUDGET_PROJECT, BUDGET_INSTALLATION (the label's value), BUDGET_API_ENDPOINT (empty: Google's),
BUDGET_CREDENTIALS (adc or anonymous).
"""

import base64
import binascii
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import functions_framework

LABEL_INSTALLATION = "budgetml-installation"
LABEL_WANTED = "budgetml-wanted"
LABEL_SCHEDULE = "budgetml-schedule"

STOPPING_SECONDS = 60.0  # how long a VM that is going down is waited for
POLL_SECONDS = 2.0
TIMEOUT_SECONDS = 20.0  # of one call; calls are never repeated here
EVERY_SCHEDULE = ""

_LABEL_VALUE = re.compile(r"[a-z0-9_-]{1,63}")


class Action(Enum):
    """What one tick does with one VM."""

    START = "start"
    WAIT = "wait"
    SKIP = "skip"


@dataclass(frozen=True)
class Machine:
    """What the function knows of a VM."""

    name: str
    zone: str
    status: str
    wanted: str
    schedule: str
    incarnation: str  # differs after every start and stop


@dataclass(frozen=True)
class Tick:
    """One message: which schedule ticked, and what tells it from other ticks."""

    schedule: str
    id: str


def choose(machines: Iterable[Machine], schedule: str) -> list[tuple[Machine, Action]]:
    """What to do with each VM when `schedule` ticks (EVERY_SCHEDULE: any), those to wait for last."""
    chosen = [(machine, _action(machine, schedule)) for machine in machines]
    return sorted(chosen, key=lambda pair: (pair[1] is Action.WAIT, pair[0].zone, pair[0].name))


def _action(machine: Machine, schedule: str) -> Action:
    if machine.wanted != "running" or schedule not in (EVERY_SCHEDULE, machine.schedule):
        return Action.SKIP
    if machine.status in ("TERMINATED", "STOPPED"):
        return Action.START
    return Action.WAIT if machine.status == "STOPPING" else Action.SKIP


def read_tick(event_id: object, data: object) -> Tick:
    """The tick in a Pub/Sub event; anything that is not understood means every schedule."""
    identity = event_id if isinstance(event_id, str) and event_id else str(uuid.uuid4())
    return Tick(_schedule(data), identity)


def _schedule(data: object) -> str:
    message = data.get("message") if isinstance(data, dict) else None
    encoded = message.get("data") if isinstance(message, dict) else None
    if not isinstance(encoded, str):
        return EVERY_SCHEDULE
    try:
        content = json.loads(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return EVERY_SCHEDULE
    named = content.get("schedule") if isinstance(content, dict) else None
    return named if isinstance(named, str) and _LABEL_VALUE.fullmatch(named) else EVERY_SCHEDULE


def request_id(tick: Tick, machine: Machine) -> str:
    """The same for the same tick delivered twice (one start then), another for every other start."""
    seed = json.dumps([tick.id, machine.zone, machine.name, machine.incarnation])
    return str(uuid.uuid5(uuid.NAMESPACE_OID, seed))


class Cloud:
    """The two calls to Compute Engine."""

    def __init__(self, project: str, installation: str, endpoint: str, credentials: str) -> None:
        self._project = project
        self._installation = installation
        self._endpoint = endpoint
        self._credentials = credentials

    @cached_property
    def _client(self) -> Any:
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import compute_v1

        anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
        return compute_v1.InstancesClient(
            credentials=anonymous if self._credentials == "anonymous" else None,
            client_options=ClientOptions(api_endpoint=self._endpoint.rstrip("/") or None),
        )

    def machines(self) -> list[Machine]:
        """All VMs of the installation, with one aggregated list; zones that do not answer are logged."""
        from google.cloud import compute_v1

        request = compute_v1.AggregatedListInstancesRequest(
            project=self._project, filter=f"labels.{LABEL_INSTALLATION}={self._installation}"
        )
        found: list[Machine] = []
        listed = self._client.aggregated_list(request=request, retry=None, timeout=TIMEOUT_SECONDS)
        for scope, scoped in listed:
            if scoped.warning.code == "UNREACHABLE":
                log("WARNING", f"{scope} did not answer: its VMs wait for the next tick")
            found.extend(_machine(instance) for instance in scoped.instances)
        return found

    def start(self, machine: Machine, identity: str) -> str:
        """Start a VM; returns the operation's name."""
        operation = self._client.start_unary(
            request={
                "project": self._project,
                "zone": machine.zone,
                "instance": machine.name,
                "request_id": identity,
            },
            retry=None,
            timeout=TIMEOUT_SECONDS,
        )
        for error in operation.error.errors:
            raise RuntimeError(f"{error.code}: {error.message}")
        return str(operation.name)


def _machine(instance: Any) -> Machine:
    return Machine(
        name=instance.name,
        zone=instance.zone.rsplit("/", 1)[-1],
        status=instance.status,
        wanted=instance.labels.get(LABEL_WANTED, ""),
        schedule=instance.labels.get(LABEL_SCHEDULE, ""),
        incarnation=f"{instance.id}/{instance.last_start_timestamp}/{instance.last_stop_timestamp}",
    )


def keep_alive(cloud: Cloud, tick: Tick, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    """One tick: start what is down, then wait for what is going down and start that too."""
    waiting: dict[tuple[str, str], Machine] = {}
    for machine, action in choose(cloud.machines(), tick.schedule):
        if action is Action.START:
            _start(cloud, tick, machine)
        elif action is Action.WAIT:
            waiting[machine.zone, machine.name] = machine
        else:
            log("INFO", f"{machine.name}: nothing to do", machine)
    deadline = clock() + STOPPING_SECONDS
    while waiting and clock() < deadline:
        sleep(POLL_SECONDS)
        still_there = choose(cloud.machines(), tick.schedule)
        seen = {(machine.zone, machine.name): (machine, action) for machine, action in still_there}
        for key, before in list(waiting.items()):
            machine, action = seen.get(key, (before, Action.SKIP))
            if action is Action.WAIT:
                continue
            del waiting[key]
            if action is Action.START:
                _start(cloud, tick, machine)
            else:
                log("INFO", f"{machine.name}: nothing to do any more", machine)
    for machine in waiting.values():
        log("WARNING", f"{machine.name}: still stopping; the next tick starts it", machine)


def _start(cloud: Cloud, tick: Tick, machine: Machine) -> None:
    try:
        operation = cloud.start(machine, request_id(tick, machine))
    except Exception as error:  # whatever befalls one VM, the others get their turn
        log("ERROR", f"{machine.name}: could not be started: {type(error).__name__}: {error}", machine)
        return
    log("NOTICE", f"{machine.name}: starting ({operation})", machine)


def log(severity: str, message: str, machine: Machine | None = None) -> None:
    """One line that Cloud Logging reads as an entry with a severity."""
    entry = {"severity": severity, "message": message[:1000]}
    if machine is not None:
        entry |= {"instance": machine.name, "zone": machine.zone, "status": machine.status}
    sys.stdout.write(json.dumps(entry) + "\n")
    sys.stdout.flush()


def _cloud() -> Cloud:
    return Cloud(
        project=os.environ["BUDGET_PROJECT"],
        installation=os.environ["BUDGET_INSTALLATION"],
        endpoint=os.environ.get("BUDGET_API_ENDPOINT", ""),
        credentials=os.environ.get("BUDGET_CREDENTIALS", "adc"),
    )


def received(delivery: Any) -> tuple[object, object]:
    """Event id and data of a delivery: an HTTP request in any form that a message takes, or an event."""
    headers = getattr(delivery, "headers", None)
    if headers is None:
        return delivery.get("id"), delivery.data
    try:
        body = json.loads(delivery.get_data())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return headers.get("ce-id"), body
    if "specversion" in body:  # a whole CloudEvent as JSON
        return body.get("id"), body.get("data")
    message = body.get("message")
    in_message = message.get("messageId") if isinstance(message, dict) else None
    return headers.get("ce-id") or in_message, body


@functions_framework.http
def restart(delivery: Any) -> Any:
    """The function's entry point. Never fails: Pub/Sub would only send the same tick again.

    It takes the plain request, because the framework refuses with 400 what it does not recognise as a
    CloudEvent before a line of ours has run. Handed a CloudEvent, it does the same with it.
    """
    if getattr(delivery, "method", "POST") != "POST":
        return "only messages are served here", 405
    try:
        tick = read_tick(*received(delivery))
        log("INFO", f"tick of {tick.schedule or 'every schedule'}")
        keep_alive(_cloud(), tick, time.monotonic, time.sleep)
    except Exception as error:  # a missing setting, a list that failed, a bug: all end well
        log("ERROR", f"nothing could be done: {type(error).__name__}: {error}")
    return ""
