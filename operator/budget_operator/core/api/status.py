"""`status` of a BudgetDeployment: what the operator tells. How it is computed is in `core.status`."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from budget_operator.core.api.base import Model


class Condition(Model):
    """One condition, as Kubernetes' API conventions have it."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    observed_generation: int
    last_transition_time: str


class RevisionStatus(Model):
    """Which revision is wanted and which one serves."""

    target: str | None = None
    active: str | None = None


class Outage(Model):
    """One time at which callers got no answer, or are about to get none."""

    at: str
    zone: str
    cause: Literal[
        "Preempted",
        "HostError",
        "PoweredOff",
        "Stopped",
        "Suspended",
        "NotRunning",
        "NotAnswering",
        "Paused",
    ]
    found: Literal["Operation", "Metadata", "Function", "Probe", "Spec"]
    operation: str | None = None
    down_since: str | None = None
    down_seconds: int | None = None


class Preemptions(Model):
    """How often Google took the VM away."""

    count: int = 0
    last_24h: Annotated[int, Field(alias="last24h", description="In the last 24 hours.")] = 0


class DownDay(Model):
    """One day in UTC on which callers were without an answer."""

    date: str
    seconds: int
    paused: Annotated[int | None, Field(description="Seconds of spec.suspend, which count neither way.")] = (
        None
    )


class Availability(Model):
    """For how much of the time callers got an answer."""

    since: Annotated[str, Field(description="When it was Ready first; nothing before that counts.")]
    last_7d: Annotated[
        float, Field(alias="last7d", description="Percent of the last seven days in UTC, today included.")
    ]
    last_30d: Annotated[
        float, Field(alias="last30d", description="Percent of the last thirty days in UTC, today included.")
    ]
    days: Annotated[
        tuple[DownDay, ...],
        Field(
            description="Seconds without an answer, of the last thirty days those that had any.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["date"]},
        ),
    ] = ()


class DrillSteps(Model):
    """Seconds from the request to each step of the way down and up again."""

    notice: int | None = None
    stopped: int | None = None
    started: int | None = None
    running: int | None = None
    serving: int | None = None


class Drill(Model):
    """The last preemption that the annotation asked for."""

    value: str
    at: str
    state: Literal["Requested", "Running", "Recovered", "Refused"]
    message: str | None = None
    steps: DrillSteps | None = None
    down_seconds: int | None = None
    zone: str | None = None
    request_id: str | None = None
    operation: str | None = None


class Failure(Model):
    """The last failure of the model's code, its requirements or the cloud."""

    reason: str
    message: str
    log: str = ""


class Replacement(Model):
    """One image took another one's place, in the VM as it was."""

    image: str
    down_seconds: float


class CostParts(Model):
    """Dollars of each part of a deployment."""

    machine: float
    disk: float
    address: float


class Cost(Model):
    """What the deployment costs in US dollars, at list prices."""

    forecast: Annotated[
        float | None, Field(description="A month of 730 hours in which the VM runs all the time.")
    ] = None
    parts: Annotated[CostParts | None, Field(description="What the forecast is made of.")] = None
    saved_versus_on_demand: Annotated[
        float | None, Field(description="How much more that month would cost on a Standard VM.")
    ] = None
    hourly: Annotated[float | None, Field(description="An hour at present: what is there, as it is.")] = None
    month_to_date: Annotated[
        float | None, Field(description="What was there in this month, in UTC, until asOf; as it really was.")
    ] = None
    as_of: Annotated[str | None, Field(description="The last change, or midnight if that was later.")] = None
    prices_as_of: Annotated[str | None, Field(description="The day of the list of prices.")] = None
    not_included: Annotated[str | None, Field(description="What is paid for besides.")] = None
    note: Annotated[
        str | None, Field(description="Why there are no figures, or why they may not be right.")
    ] = None


class Intent(Model):
    """What was decided before an instance is created: written to status before the call."""

    name: str
    zone: str
    request_id: str
    operation: str | None = None


class Status(Model):
    """status of a BudgetDeployment. Written by the operator alone."""

    model_config = ConfigDict(extra="ignore")

    state: str | None = None
    endpoint: str | None = None
    ip: str | None = None
    zone: str | None = None
    provisioning: str | None = None
    login_secret: Annotated[
        str | None, Field(description="Secret with the endpoint's username, password and token.")
    ] = None
    ca_certificate: Annotated[
        str | None, Field(description="PEM of the private authority that signed the endpoint's certificate.")
    ] = None
    revision: RevisionStatus = RevisionStatus()
    observed_generation: int | None = None
    conditions: Annotated[
        tuple[Condition, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = ()
    boot: Annotated[Mapping[str, float], Field(description="Seconds of each phase of the last boot.")] = {}
    logs: Annotated[str | None, Field(description="The command that shows the server's log.")] = None
    preemptions: Preemptions = Preemptions()
    timeline: Annotated[
        tuple[Outage, ...],
        Field(description="The last outages, preemptions among them; the newest at the end."),
    ] = ()
    availability: Availability | None = None
    drill: Drill | None = None
    replacement: Annotated[
        Replacement | None,
        Field(description="The last change of the server's image, and for how long nobody was answered."),
    ] = None
    cost: Cost | None = None
    last_failure: Failure | None = None
    instance: Intent | None = None
