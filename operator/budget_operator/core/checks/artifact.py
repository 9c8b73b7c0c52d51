"""The bucket and what lies in it: code, credentials and the function's source."""

from collections.abc import Callable

from budget_operator.core import actions
from budget_operator.core.actions import Room
from budget_operator.core.artifact import lies_in, objects_prefix
from budget_operator.core.conditions import Reason
from budget_operator.core.errors import NameConflict
from budget_operator.core.steps import ANOTHER_ROOM, OBJECTS_AT_ONCE, Situation, Step, Unseen, look


def check_bucket(now: Situation) -> Step | None:
    desired, inventory = now.wanted, now.seen.inventory
    look(inventory, "bucket")
    if inventory.bucket is None:
        make = actions.CreateBucket(desired.bucket_region, now.shared.labels)
        return Step((make,), Reason.UPLOADING, "the bucket is being made")
    if not now.shared.owns(inventory.bucket.labels):
        raise NameConflict(
            f"bucket {inventory.bucket.name} exists without the label of this installation; "
            f"set BUDGET_BUCKET to a name that is free"
        )
    return None


def check_objects(now: Situation) -> Step | None:
    """What is missing, or was written over: its name tells its content, so the right one disturbs nobody."""
    if Room.ARTIFACT in now.seen.problems:
        raise Unseen(now.seen.problems[Room.ARTIFACT])
    held = now.seen.objects or {}
    artifact = now.wanted.artifact
    copies = tuple(actions.Copy(copy) for copy in artifact.copies if not lies_in(held, copy))
    if len(copies) > OBJECTS_AT_ONCE:
        done, all_of_them = len(artifact.copies) - len(copies), len(artifact.copies)
        message = f"{done} of {all_of_them} files are copied"
        return Step(copies[:OBJECTS_AT_ONCE], Reason.UPLOADING, message)
    uploads = tuple(actions.Upload(blob) for blob in artifact.blobs if not lies_in(held, blob))
    if not copies and not uploads:
        return None
    message = "code and credentials are being uploaded"
    return Step((*copies, *uploads), Reason.UPLOADING, message, completes=True)


def check_old_revisions(now: Situation) -> Step | None:
    """Once the wanted revision serves, nothing asks for another one."""
    if not now.settled or not now.seen.objects:
        return None
    wanted = now.wanted.artifact.names
    prefix = objects_prefix(now.owner.cloud_name)
    old = sorted(name for name in now.seen.objects if name.startswith(prefix) and name not in wanted)
    found = tuple(actions.DeleteObject(name) for name in old[:OBJECTS_AT_ONCE])
    return Step(found, proceed=True) if found else None


def wait_for_bucket(reason: Reason) -> Callable[[Situation], Step]:
    """Nothing else is made before other clusters can see in the bucket whose installation this is."""
    step = Step((), reason, "waits until the installation has its bucket", ANOTHER_ROOM)
    return lambda _: step
