"""What starts the VM while the operator is away: topic, Scheduler job and function, for all deployments."""

from budget_operator.core import actions
from budget_operator.core.conditions import Reason
from budget_operator.core.errors import NameConflict, OperationFailed
from budget_operator.core.gateways import FunctionRequest
from budget_operator.core.observed import Function
from budget_operator.core.steps import ANOTHER_ROOM, CHANGE, Situation, Step, look


def check_topic(now: Situation) -> Step | None:
    inventory = now.seen.inventory
    look(inventory, "topic")
    if inventory.topic is None:
        make = actions.CreateTopic(now.shared.keep_alive, now.shared.labels)
        return Step((make,), Reason.ARMING, "the keep-alive topic is being made", proceed=True)
    if not now.shared.owns(inventory.topic.labels):
        raise NameConflict(f"topic {inventory.topic.name} exists without the label of this installation")
    return None


def check_job(now: Situation) -> Step | None:
    inventory, wanted = now.seen.inventory, now.wanted.keep_alive.job
    look(inventory, "job")
    job = inventory.job
    if job is None:
        make: actions.Action = actions.CreateJob(wanted)
        return Step((make,), Reason.ARMING, "the Scheduler job is being made", proceed=True)
    if job.description != now.shared.mark:
        raise NameConflict(f"Scheduler job {job.name} exists without the mark of this installation")
    found = (job.schedule, job.time_zone, job.topic, job.data)
    if found == (wanted.schedule, wanted.time_zone, wanted.topic, wanted.data) and job.state == "ENABLED":
        return None
    return Step(
        (actions.UpdateJob(wanted),),
        Reason.ARMING,
        f"the Scheduler job is {job.state} and is being updated",
        proceed=True,
    )


def check_function_state(now: Situation) -> Step | None:
    """A function that is there is ours and has come to rest."""
    look(now.seen.inventory, "function")
    function = now.seen.inventory.function
    if function is None:
        return None
    if not now.shared.owns(function.labels):
        raise NameConflict(f"function {function.name} exists without the label of this installation")
    remove = actions.DeleteFunction(function.name)
    if function.state == "FAILED":
        failure = OperationFailed(f"the keep-alive function failed: {function.message or 'no message'}")
        return Step((remove,), failure.reason, failure.message, failure=failure)
    if function.state != "ACTIVE":
        message = f"the keep-alive function is {function.state}"
        return Step((), Reason.FUNCTION_DEPLOYING, message, CHANGE)
    wanted = now.wanted.keep_alive.function
    trigger = wanted.trigger_service_account in ("", function.trigger_service_account)
    if function.topic != wanted.topic or not trigger:  # a trigger cannot be changed
        return Step((remove,), Reason.ARMING, "the keep-alive function is being made again")
    topic = now.seen.inventory.topic
    if topic is not None and not topic.subscribed:
        # A topic that was deleted comes back without its subscriptions, and only a new trigger makes one.
        message = "nothing listens to the keep-alive topic: the function is being made again"
        return Step((remove,), Reason.ARMING, message)
    return None


def check_function(now: Situation) -> Step | None:
    """The function runs the source and environment of this operator, as the settings say."""
    inventory, wanted = now.seen.inventory, now.wanted.keep_alive
    function = inventory.function
    if function is not None and _is_current(function, wanted.function):
        return None
    look(inventory, "bucket")
    if inventory.bucket is None or not now.shared.owns(inventory.bucket.labels):
        return Step((), Reason.ARMING, "the keep-alive function waits for the bucket", ANOTHER_ROOM)
    upload = actions.Upload(wanted.source)
    if function is None:
        make = actions.CreateFunction(wanted.function)
        return Step((upload, make), Reason.ARMING, "the keep-alive function is being made")
    update = actions.UpdateFunction(wanted.function)
    return Step((upload, update), Reason.FUNCTION_DEPLOYING, "the keep-alive function is being updated")


def _is_current(function: Function, wanted: FunctionRequest) -> bool:
    """Accounts that are left to Google are whatever it chose."""
    return (
        (function.source_object, dict(function.environment), function.runtime)
        == (wanted.source_object, dict(wanted.environment), wanted.runtime)
        and function.as_made
        and wanted.service_account in ("", function.service_account)
        and wanted.build_service_account in ("", function.build_service_account)
    )
