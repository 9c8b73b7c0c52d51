"""From what should be there and what is there to what is done next: an ordered tuple of small checks. Pure.

The checks themselves are in `checks`. A room's checks run in order until one has to wait; rooms fail alone.
Deleting is in `removal`, running the steps in `execution`, what the VM serves in `serving`.
"""

from budget_operator.core.actions import Room
from budget_operator.core.checks import artifact, instance, keep_alive, move, network, resize
from budget_operator.core.conditions import Reason
from budget_operator.core.steps import Check, Plan, Situation, run


def plan(situation: Situation) -> Plan:
    """What is to be done for a deployment that should be there."""
    if situation.desired is None:
        return run(KEEPING_CHECKS, situation)
    if not situation.held:
        return run(FIRST_CHECKS, situation)
    return run(CHECKS if situation.desired.pause is None else PAUSED_CHECKS, situation)


SHARED_CHECKS: tuple[Check, ...] = (
    (Room.ARTIFACT, artifact.check_bucket),
    (Room.ARTIFACT, artifact.check_objects),
    (Room.ARTIFACT, artifact.check_old_revisions),
    (Room.KEEP_ALIVE, keep_alive.check_topic),
    (Room.KEEP_ALIVE, keep_alive.check_job),
    (Room.KEEP_ALIVE, keep_alive.check_function_state),
    (Room.KEEP_ALIVE, keep_alive.check_function),
)
CHECKS: tuple[Check, ...] = (
    *SHARED_CHECKS,
    (Room.INSTANCE, instance.check_surplus),
    (Room.INSTANCE, instance.check_insert),
    (Room.INSTANCE, instance.check_replaced),
    (Room.INSTANCE, move.check_begun),
    (Room.INSTANCE, network.check_tagged),
    (Room.INSTANCE, instance.check_metadata),
    (Room.INSTANCE, resize.check_disk),
    (Room.INSTANCE, instance.check_labels),
    (Room.INSTANCE, instance.check_suspended),
    (Room.INSTANCE, resize.check_machine_type),
    (Room.INSTANCE, resize.check_file_system),
    (Room.INSTANCE, move.check_attached),
    (Room.INSTANCE, move.check_sold_out),
    (Room.INSTANCE, instance.check_started),
    (Room.INSTANCE, instance.check_visible),
    (Room.INSTANCE, instance.check_strangers),
    (Room.INSTANCE, network.check_firewall),
    (Room.INSTANCE, network.check_left_addresses),
    (Room.INSTANCE, network.check_address),
    (Room.INSTANCE, network.check_stale_addresses),
    (Room.INSTANCE, resize.check_larger_disk),
    (Room.INSTANCE, instance.check_left_disk),
    (Room.INSTANCE, instance.check_made),
)
PAUSED_CHECKS: tuple[Check, ...] = (
    *SHARED_CHECKS,
    (Room.INSTANCE, instance.check_surplus),
    (Room.INSTANCE, instance.check_insert),
    (Room.INSTANCE, instance.check_metadata),
    (Room.INSTANCE, instance.check_labels),
    (Room.INSTANCE, instance.check_suspended),
    (Room.INSTANCE, instance.check_stopped),
    (Room.INSTANCE, network.check_detached),
    (Room.INSTANCE, instance.check_visible),
    (Room.INSTANCE, network.check_released),
)
FIRST_CHECKS: tuple[Check, ...] = (
    (Room.ARTIFACT, artifact.check_bucket),
    (Room.KEEP_ALIVE, artifact.wait_for_bucket(Reason.ARMING)),
    (Room.INSTANCE, artifact.wait_for_bucket(Reason.PROVISIONING)),
)
KEEPING_CHECKS: tuple[Check, ...] = (
    (Room.INSTANCE, instance.check_surplus),
    (Room.INSTANCE, instance.check_insert),
    (Room.INSTANCE, move.check_begun),
    (Room.INSTANCE, network.check_tagged),
    (Room.INSTANCE, move.check_attached),
    (Room.INSTANCE, instance.check_wanted),
    (Room.INSTANCE, instance.check_suspended),
    (Room.INSTANCE, instance.check_started),
    (Room.INSTANCE, instance.check_visible),
)
