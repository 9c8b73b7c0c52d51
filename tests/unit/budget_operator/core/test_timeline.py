"""Every outage once, with both its ends: seen while they happened, or found out afterwards."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from budget_operator.core.api import Availability, Outage, Status
from budget_operator.core.conditions import timestamp
from budget_operator.core.observed import PREEMPTED, Instance, InstanceStatus, PowerChange
from budget_operator.core.timeline import KEPT, PREEMPTIONS_KEPT, Course, Look, followed, is_awaited, noted

SINCE = datetime(2026, 11, 24, tzinfo=UTC)
VM = Instance(
    "vm", "zone", "1", InstanceStatus.RUNNING, "e2-small", "SPOT", None, {}, "", {}, "", started_at=SINCE
)


def at(seconds: float) -> datetime:
    return SINCE + timedelta(seconds=seconds)


def change(kind: str, begun: float, ended: float | None = None) -> PowerChange:
    return PowerChange(
        f"{kind}-{begun:g}", "vm", "zone", at(begun), kind, None if ended is None else at(ended)
    )


def preempted(begun: float) -> PowerChange:
    return change(PREEMPTED, begun, begun)


class Story:
    """Passes over one deployment that was Ready at the beginning."""

    def __init__(self) -> None:
        self.power: list[PowerChange] = []
        self.status = Status(availability=Availability(since=timestamp(SINCE), last_7d=100.0, last_30d=100.0))
        self.course = Course(())

    def look(self, seconds: float, serving: bool | None, vm: Instance = VM, **seen: Any) -> "Story":
        running = vm.status is InstanceStatus.RUNNING
        look = Look(
            at(seconds), serving, vm.zone, running=running, instance=vm, power=tuple(self.power), **seen
        )
        found = noted(self.status, self.power, SINCE)
        self.course = followed(found, timestamp(SINCE), look)
        self.status = self.status.model_copy(update={"timeline": self.course.outages})
        return self

    @property
    def told(self) -> list[tuple[str, str, float, int | None]]:
        """Cause, how it was found, from when, for how long."""
        return [
            (each.cause, each.found, seconds(each.down_since or each.at), each.down_seconds)
            for each in self.status.timeline
        ]


def seconds(text: str) -> float:
    return (datetime.fromisoformat(text) - SINCE).total_seconds()


OFF = replace(VM, status=InstanceStatus.TERMINATED, stopped_at=at(230))
BACK = replace(VM, started_at=at(260), stopped_at=at(230))


def test_a_preemption_with_notice_counts_from_when_nobody_is_answered() -> None:
    story = Story()
    story.power = [preempted(100)]
    story.look(105, True)
    assert story.told == [("Preempted", "Operation", 100, None)]
    assert is_awaited(story.status.timeline, at(105))
    assert [each.operation for each in story.course.preempted] == [f"{PREEMPTED}-100"]
    story.look(235, False, OFF)
    assert story.told == [("Preempted", "Operation", 230, None)]
    assert not is_awaited(story.status.timeline, at(235))
    story.power.append(change("start", 240, 260))
    story.look(265, False, BACK)
    story.look(285, True, BACK, watched=True, boot_seconds=5.0)
    assert story.told == [("Preempted", "Operation", 230, 55)]
    assert story.status.timeline[0].at == timestamp(at(100)), "when Google said so"
    assert [(each.since, each.until) for each in story.course.ended] == [(at(230), at(285))]
    again = story.look(400, True, BACK)
    assert (again.course.preempted, again.course.ended) == ((), ())


def test_what_happened_while_the_operator_was_off_is_in_the_operations() -> None:
    """The first end is the VM's own boot, as long as the last one was; so is the last."""
    story = Story()
    story.power = [
        preempted(100),
        change("start", 160, 180),
        change("stop", 1000, 1020),
        change("start", 1100, 1110),
        change("compute.instances.hostError", 2000, 2000),
        change("start", 2050, 2070),
    ]
    back = replace(VM, started_at=at(2070), stopped_at=at(2000))
    story.look(9000, True, back, boot_seconds=30.0)
    assert story.told == [
        ("Preempted", "Operation", 100, 110),
        ("Stopped", "Operation", 1000, 140),
        ("HostError", "Operation", 2000, 100),
    ]
    assert len(story.course.ended) == 3


def test_boots_that_are_cut_short_share_the_time() -> None:
    story = Story()
    story.power = [preempted(100), change("start", 110, 130), preempted(140), change("start", 150, 170)]
    story.look(500, True, replace(VM, started_at=at(170), stopped_at=at(145)), boot_seconds=40.0)
    assert story.told == [("Preempted", "Operation", 100, 40), ("Preempted", "Operation", 145, 65)]


def test_an_operator_that_comes_back_in_the_middle_does_not_count_its_own_absence() -> None:
    story = Story()
    story.power = [preempted(100)]
    story.look(235, False, OFF)
    story.power.append(change("start", 240, 260))
    story.look(5000, True, BACK, boot_seconds=30.0)
    assert story.told == [("Preempted", "Operation", 230, 60)]


def test_what_only_requests_tell() -> None:
    """From the first that failed; the operation that explains it may be seen later."""
    story = Story().look(500, False, silent_seconds=60.0)
    assert story.told == [("NotAnswering", "Probe", 440, None)]
    story.look(505, False, silent_seconds=65.0).look(520, True, watched=True)
    assert story.told == [("NotAnswering", "Probe", 440, 80)]
    story.look(600, False, replace(VM, status=InstanceStatus.STOPPING))
    assert story.told[1:] == [("NotRunning", "Probe", 600, None)]
    story.power = [preempted(470)]
    story.look(610, False, replace(VM, status=InstanceStatus.STOPPING))
    assert story.told[1:] == [("Preempted", "Probe", 600, None)]
    assert len(story.course.preempted) == 1


def test_an_operation_that_is_no_cause_of_an_outage_is_another_one() -> None:
    story = Story().look(500, False, silent_seconds=60.0).look(520, True, watched=True)
    story.power = [preempted(521)]
    story.look(525, True)
    assert [cause for cause, *_ in story.told] == ["NotAnswering", "Preempted"]


def test_a_start_that_nothing_else_explains_was_the_functions() -> None:
    story = Story().look(5000, True, BACK, boot_seconds=30.0)
    assert story.told == [("NotRunning", "Function", 230, 60)]
    story.look(5060, True, BACK, boot_seconds=30.0)
    assert len(story.told) == 1, "once"
    assert Story().look(60, True, replace(VM, stopped_at=at(-50))).told == [], "before it was Ready"


def test_the_vm_itself_may_have_read_why() -> None:
    """Where operations are not to be had; if they are in the end, it is the same preemption."""
    story = Story().look(5000, True, BACK, boot_seconds=30.0, noticed_at=at(110))
    assert story.told == [("Preempted", "Metadata", 230, 60)]
    story.power = [preempted(109)]
    story.look(5060, True, BACK, boot_seconds=30.0)
    assert story.told == [("Preempted", "Metadata", 230, 60)]
    assert len(story.course.preempted) == 1
    other = Story().look(500, False, silent_seconds=60.0, noticed_at=at(110))
    assert other.told == [("NotAnswering", "Probe", 440, None)], "that was long before"


def test_who_does_not_know_says_nothing() -> None:
    story = Story().look(500, None)
    assert story.told == []
    story.power = [preempted(600)]
    story.look(605, None)
    assert story.told == [("Preempted", "Operation", 600, None)]


def test_before_it_was_ready_nothing_was_down() -> None:
    early = noted(Status(), [preempted(10), change("stop", 20, 30)], SINCE)
    assert [each.cause for each in early.outages] == ["Preempted"]
    assert followed(early, None, Look(at(60), False, "zone")).outages == early.outages
    later = followed(early, timestamp(at(50)), Look(at(60), False, "zone", silent_seconds=5.0))
    assert [(each.cause, each.down_since) for each in later.outages] == [
        ("Preempted", None),
        ("NotAnswering", timestamp(at(55))),
    ]


def test_the_last_ones_are_kept_and_some_preemptions_among_them() -> None:
    story = Story()
    story.power = [preempted(10.0 * number) for number in range(1, 8)]
    story.look(100, True, replace(VM, started_at=at(90)))
    for number in range(40):
        story.look(1000 + 100 * number, False).look(1050 + 100 * number, True, watched=True)
    assert len(story.status.timeline) == KEPT
    assert [cause for cause, *_ in story.told].count("Preempted") == PREEMPTIONS_KEPT
    assert story.told[-1] == ("NotAnswering", "Probe", 4900, 50)
    assert story.status.timeline == tuple(sorted(story.status.timeline, key=lambda each: each.at))


def test_clocks_that_differ_make_no_time_negative() -> None:
    outage = Outage(
        at=timestamp(at(100)), zone="z", cause="NotRunning", found="Probe", down_since=timestamp(at(100))
    )
    course = followed(Course((outage,)), timestamp(SINCE), Look(at(40), True, "z", watched=True))
    assert course.outages[0].down_seconds == 0


def test_what_its_owner_suspends_is_no_outage_of_the_vm() -> None:
    story = Story()
    story.look(100, True, paused=True)
    assert story.told == [("Paused", "Spec", 100, None)], "from when it was wanted, whoever still answers"
    story.power = [change("stop", 102)]
    story.look(240, False, OFF, paused=True)
    story.look(250, None, OFF, paused=True)
    assert story.told == [("Paused", "Spec", 100, None)]
    story.power.append(change("start", 255, 260))
    story.look(265, False, BACK)
    story.look(285, True, BACK, watched=True)
    assert story.told == [("Paused", "Spec", 100, 185)]
    assert [each.outage.cause for each in story.course.ended] == ["Paused"]
    assert story.look(400, True, BACK).told == [("Paused", "Spec", 100, 185)]


def test_an_outage_ends_where_its_owner_suspends_the_deployment() -> None:
    story = Story()
    story.power = [preempted(100)]
    story.look(110, False, replace(OFF, stopped_at=at(100)))
    story.look(160, False, replace(OFF, stopped_at=at(100)), paused=True)
    assert story.told == [("Preempted", "Operation", 100, 60), ("Paused", "Spec", 160, None)]


def test_a_preemption_of_what_is_being_suspended_is_counted() -> None:
    story = Story()
    story.look(100, True, paused=True)
    story.power = [preempted(101)]
    story.look(120, False, OFF, paused=True)
    assert [cause for cause, *_ in story.told] == ["Preempted", "Paused"]
    assert [each.operation for each in story.course.preempted] == [f"{PREEMPTED}-101"]
