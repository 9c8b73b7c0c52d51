"""The keep-alive: starts every VM of one installation that should be running and is not.

Deployed as it stands, on Cloud Functions, behind one Pub/Sub topic. A message says only that a schedule has
ticked; what is to be done stands on the VMs themselves, in labels that the operator wrote. So it works while
the operator is away, a message delivered twice does no harm, and one that makes no sense starts at most what
is due anyway. It always ends well: the next tick is the retry, and a failing VM never holds back another.

A VM that is being switched off sends a message as well, with its name: then it alone is waited for, although
it may still be shown as running, and started. Not so if that was its fate soon after its start: where VMs do
not live long enough to serve, one start per tick is enough. So this function needs no memory; pauses that
grow are the operator's, which knows how often a VM was taken away before it served.

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
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import Any

import functions_framework

LABEL_INSTALLATION = "budgetml-installation"
LABEL_WANTED = "budgetml-wanted"
LABEL_SCHEDULE = "budgetml-schedule"
LABEL_MOVE = "budget-move"
METADATA_LIMIT = "budget-limit"

STOPPING_SECONDS = 60.0  # how long a VM that is going down is waited for
CHANGING_SECONDS = 600.0  # how long the operator may keep a VM off to change it, before it counts as lost
SERVED_SECONDS = 30.0  # a VM that was up for less can hardly have served
POLL_SECONDS = 2.0
TIMEOUT_SECONDS = 20.0  # of one call; calls are never repeated here
EVERY_SCHEDULE = ""

SOMEWHERE = "a scope"  # Google says that a list is incomplete, and not where

_INCOMPLETE = frozenset({"UNREACHABLE", "PARTIAL_SUCCESS", "LIST_OVERHEAD_QUOTA_EXCEED"})
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{1,63}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


class Action(Enum):
    """What one tick does with one VM."""

    START = "start"
    RESUME = "resume"
    WAIT = "wait"
    LEAVE = "leave"  # to the next tick
    SKIP = "skip"


@dataclass(frozen=True)
class Limit:
    """Until when a VM may run in a month, by its budget; the operator wrote it on the VM."""

    month: str  # `2026-11`, in UTC
    deadline: int  # of that month, in seconds since 1970
    monthly: int  # billionths of a dollar
    running: int  # the same, an hour
    stopped: int  # the same, an hour while the VM is off

    def is_over(self, now: float) -> bool:
        """Whether it has to be off. In a later month it counts as having run from the beginning."""
        begin = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        if f"{begin:%Y-%m}" <= self.month:
            return now >= self.deadline
        if self.running <= self.stopped:
            return False
        hours = round(((begin + timedelta(days=32)).replace(day=1) - begin) / timedelta(hours=1))
        left = max(0, self.monthly - self.stopped * hours)
        return now >= begin.timestamp() + left * 3600 // (self.running - self.stopped)


@dataclass(frozen=True)
class Machine:
    """What the function knows of a VM."""

    name: str
    zone: str
    status: str
    wanted: str
    schedule: str
    incarnation: str  # differs after every start and stop
    started_at: float = 0.0  # in seconds since 1970; 0 = not told
    stopped_at: float = 0.0
    moves: bool = False  # the operator makes another one in its place
    limit: "Limit | None" = None  # of its budget
    reachable: bool = True  # it has an address, or will have one when it runs

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from all others."""
        return self.zone, self.name


@dataclass(frozen=True)
class Listing:
    """The VMs that were found, and the scopes that did not answer ("zones/Z")."""

    machines: tuple[Machine, ...]
    silent: frozenset[str] = frozenset()

    def misses(self, zone: str) -> bool:
        """Whether a VM may be there that was not found."""
        return not self.silent.isdisjoint((f"zones/{zone}", SOMEWHERE))


@dataclass(frozen=True)
class Tick:
    """One message: which schedule ticked, what tells it from other ticks, and which VM is about to go, if one
    has sent it."""

    schedule: str
    id: str
    leaving: str = ""


def choose(
    machines: Iterable[Machine], schedule: str, now: float, leaving: str = ""
) -> list[tuple[Machine, Action]]:
    """What to do with each VM, or only with the one that is `leaving`, when `schedule` ticks (EVERY_SCHEDULE:
    any); those to wait for come last."""
    chosen = [
        (machine, _action(machine, schedule, now, leaving))
        for machine in machines
        if leaving in ("", machine.name)
    ]
    return sorted(chosen, key=lambda pair: (pair[1] is Action.WAIT, pair[0].zone, pair[0].name))


def _action(machine: Machine, schedule: str, now: float, leaving: str) -> Action:
    if schedule not in (EVERY_SCHEDULE, machine.schedule) or not _is_wanted(machine, now):
        return Action.SKIP
    if leaving and _seconds_up(machine, now) < SERVED_SECONDS:
        return Action.LEAVE
    if machine.status in ("TERMINATED", "STOPPED"):
        return Action.START
    if machine.status == "SUSPENDED":
        return Action.RESUME
    going = ("STOPPING", "SUSPENDING", *(("RUNNING",) if leaving else ()))
    return Action.WAIT if machine.status in going else Action.SKIP


def _seconds_up(machine: Machine, now: float) -> float:
    if not machine.started_at:
        return now
    until = machine.stopped_at if machine.status in ("TERMINATED", "STOPPED") else now
    return until - machine.started_at


def _is_wanted(machine: Machine, now: float) -> bool:
    """Also one that the operator has stopped for a change and then left lying: it may have died over it.

    Never one that moves to another zone: it has lost its address, and two of them must not serve. Nor one
    whose budget is spent, or that nobody could reach.
    """
    if machine.moves or not machine.reachable:
        return False
    if machine.limit is not None and machine.limit.is_over(now):
        return False
    if machine.wanted == "changing":
        return 0 < machine.stopped_at < now - CHANGING_SECONDS
    return machine.wanted == "running"


def read_tick(event_id: object, data: object) -> Tick:
    """The tick in a Pub/Sub event; anything that is not understood means every schedule."""
    identity = event_id if isinstance(event_id, str) and event_id else str(uuid.uuid4())
    content = _content(data)
    schedule = _matching(_LABEL_VALUE, content.get("schedule"))
    return Tick(schedule or EVERY_SCHEDULE, identity, _matching(_NAME, content.get("instance")))


def _content(data: object) -> dict[str, object]:
    message = data.get("message") if isinstance(data, dict) else None
    encoded = message.get("data") if isinstance(message, dict) else None
    if not isinstance(encoded, str):
        return {}
    try:
        content = json.loads(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _matching(pattern: re.Pattern[str], value: object) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def request_id(tick: Tick, machine: Machine) -> str:
    """The same for the same tick delivered twice (one start then), another for every other start."""
    seed = json.dumps([tick.id, machine.zone, machine.name, machine.incarnation])
    return str(uuid.uuid5(uuid.NAMESPACE_OID, seed))


class Cloud:
    """The calls to Compute Engine."""

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

    def machines(self) -> Listing:
        """All VMs of the installation, with one aggregated list."""
        from google.cloud import compute_v1

        kind = compute_v1.AggregatedListInstancesRequest
        request = kind(project=self._project, filter=f"labels.{LABEL_INSTALLATION}={self._installation}")
        if "return_partial_success" in kind.meta.fields:  # dropped in 2026: then it is always so
            request.return_partial_success = True
        found: list[Machine] = []
        silent: set[str] = set()
        listed = self._client.aggregated_list(request=request, retry=None, timeout=TIMEOUT_SECONDS)
        for page in listed.pages:
            missing = {"/".join(link.rstrip("/").split("/")[-2:]) for link in page.unreachables}
            for scope, scoped in page.items.items():
                if scoped.warning.code in _INCOMPLETE:
                    missing.add(scope)
                found.extend(_machine(instance) for instance in scoped.instances)
            if page.warning.code in _INCOMPLETE and not missing:
                missing.add(SOMEWHERE)
            silent |= missing
        return Listing(tuple(found), frozenset(silent))

    def start(self, machine: Machine, identity: str) -> str:
        """Start a VM; returns the operation's name."""
        return self._change(self._client.start_unary, machine, identity)

    def resume(self, machine: Machine, identity: str) -> str:
        """Resume a suspended VM; returns the operation's name."""
        return self._change(self._client.resume_unary, machine, identity)

    def _change(self, call: Callable[..., Any], machine: Machine, identity: str) -> str:
        operation = call(
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
        started_at=_seconds(instance.last_start_timestamp),
        stopped_at=_seconds(instance.last_stop_timestamp),
        moves=LABEL_MOVE in instance.labels,
        limit=_limit(instance),
        reachable=any(interface.access_configs for interface in instance.network_interfaces),
    )


def _limit(instance: Any) -> Limit | None:
    for item in instance.metadata.items:
        if item.key == METADATA_LIMIT:
            return _read_limit(item.value)
    return None


def _read_limit(text: str) -> Limit | None:
    """None if there is none, or nothing that could be understood."""
    try:
        limit = Limit(**json.loads(text))
    except (TypeError, ValueError):
        return None
    numbers = (limit.deadline, limit.monthly, limit.running, limit.stopped)
    understood = isinstance(limit.month, str) and all(type(number) is int for number in numbers)
    return limit if understood else None


def _seconds(timestamp: str) -> float:
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return 0.0


def keep_alive(cloud: Cloud, tick: Tick, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    """One tick: start what is down, then wait for what is going down and start that too."""
    waiting: dict[tuple[str, str], Machine] = {}
    listing = cloud.machines()
    for scope in sorted(listing.silent):
        log("WARNING", f"{scope} did not answer: its VMs wait for the next tick")
    for machine, action in choose(listing.machines, tick.schedule, time.time(), tick.leaving):
        if action is Action.WAIT:
            waiting[machine.key] = machine
        elif action is Action.SKIP:
            log("INFO", f"{machine.name}: nothing to do", machine)
        elif action is Action.LEAVE:
            log(
                "INFO", f"{machine.name}: did not live long enough to serve; the next tick starts it", machine
            )
        else:
            _start(cloud, tick, machine, action)
    deadline = clock() + STOPPING_SECONDS
    while waiting and clock() < deadline:
        sleep(POLL_SECONDS)
        _look_again(cloud, tick, waiting)
    for machine in waiting.values():
        log("WARNING", f"{machine.name}: still {machine.status}; left to the next tick", machine)


def _look_again(cloud: Cloud, tick: Tick, waiting: dict[tuple[str, str], Machine]) -> None:
    """Start those that have come down. One that could not be seen is waited for all the same."""
    try:
        listing = cloud.machines()
    except Exception as error:  # the next look may succeed
        log("WARNING", f"could not look: {type(error).__name__}: {error}")
        return
    chosen = choose(listing.machines, tick.schedule, time.time(), tick.leaving)
    seen = {machine.key: (machine, action) for machine, action in chosen}
    for key, before in list(waiting.items()):
        if key not in seen and listing.misses(before.zone):
            continue
        machine, action = seen.get(key, (before, Action.SKIP))
        started_since = machine.started_at > before.started_at
        if action is Action.WAIT and not started_since:
            waiting[key] = machine
            continue
        del waiting[key]
        if started_since or action in (Action.SKIP, Action.LEAVE):
            log("INFO", f"{machine.name}: nothing to do any more", machine)
        else:
            _start(cloud, tick, machine, action)


def _start(cloud: Cloud, tick: Tick, machine: Machine, action: Action) -> None:
    call = cloud.resume if action is Action.RESUME else cloud.start
    try:
        operation = call(machine, request_id(tick, machine))
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
        whose = f", sent by {tick.leaving}" if tick.leaving else ""
        log("INFO", f"tick of {tick.schedule or 'every schedule'}{whose}")
        keep_alive(_cloud(), tick, time.monotonic, time.sleep)
    except Exception as error:  # a missing setting, a list that failed, a bug: all end well
        log("ERROR", f"nothing could be done: {type(error).__name__}: {error}")
    return ""
