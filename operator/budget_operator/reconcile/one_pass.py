"""One pass over a deployment that should be there: look, plan, act, tell.

What it decides is in `core.plan`; a crash between any two calls loses and doubles nothing. Passes that need
not be made are in `calm`, those over a deployment that is to go in `deletion`.
"""

import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

from budget_operator.core import (
    availability,
    drill,
    endpoint,
    pause,
    placement,
    plan,
    preemptions,
    quiet,
    serving,
    timeline,
)
from budget_operator.core import desired as wishes
from budget_operator.core import status as statuses
from budget_operator.core.actions import Copy, InsertInstance, Room, Upload
from budget_operator.core.api import (
    FINALIZER,
    Cost,
    Drill,
    Intent,
    Status,
)
from budget_operator.core.artifact import objects_prefix
from budget_operator.core.budget import Limit
from budget_operator.core.conditions import Type, is_true
from budget_operator.core.desired import Desired
from budget_operator.core.endpoint import Tls
from budget_operator.core.errors import BudgetError, OwnedElsewhere
from budget_operator.core.gateways import Document
from budget_operator.core.memory import Memory
from budget_operator.core.names import Owner, Shared
from budget_operator.core.observed import DOWN, Contents, Instance, InstanceStatus, Inventory, PowerChange
from budget_operator.core.quiet import Rest
from budget_operator.core.steps import Observation, Outcome, Passed, Plan, Situation
from budget_operator.core.timeline import Course, Look
from budget_operator.reconcile import inputs, observe
from budget_operator.reconcile.budgeting import budgeted
from budget_operator.reconcile.calm import References
from budget_operator.reconcile.common import Common
from budget_operator.reconcile.costing import Costing
from budget_operator.reconcile.drilling import Drilling
from budget_operator.reconcile.execution import Execution
from budget_operator.reconcile.probing import PROBE_EVERY, Probing, motion_pause
from budget_operator.reconcile.sharing import Sharing
from budget_operator.reconcile.wishing import Wish, Wishing

IDLE_SECONDS = 30.0
STALLED_SECONDS = 10.0
NOTICE_SECONDS = 5.0  # between passes while Google is about to take the VM away
WATCHING = timedelta(minutes=2)  # for so long after it was seen to be down, its end is seen as well


@dataclass(frozen=True)
class View:
    """What a pass sees of the cloud. With a problem nothing may be changed."""

    inventory: Inventory | None
    held: bool = False  # the installation is
    problem: BudgetError | None = None


class Pass:
    """Over a deployment that should be there."""

    def __init__(self, common: Common, document: Document, owner: Owner, memory: Memory) -> None:
        self._common = common
        self._settings = common.settings
        self._kube = common.kube
        self._means = common.means
        self._document = document
        self._owner = owner
        self._memory = memory
        self._generation = int(document["metadata"].get("generation", 1))
        self._before = statuses.read(document)
        self._key = (owner.namespace, owner.name)
        self._edited = self._generation != self._before.observed_generation
        settled = quiet.is_settled(self._before, self._generation)
        self._references = References(common.kube, common.buckets, edited=self._edited, resting=settled)
        self._created = datetime.fromisoformat(document["metadata"]["creationTimestamp"])
        self._rested, self._due = 0, False
        self._course = Course(self._before.timeline)
        self._glimpse: serving.Glimpse | None = None
        self._held = False  # the installation is, as this pass has seen
        self._costing = Costing(self._means, owner, memory, self._before.cost)
        self._execution = Execution(self._means, memory, self._persist)

    def run(self) -> Passed:
        """The pass."""
        self._rested, self._due = self._common.calm.begin(self._key)
        self._memory.new_generation(self._generation)
        self._execution.poll()
        try:
            view = self._look()
        except OwnedElsewhere as error:
            return self._stand_back(error)
        if view.problem is None and FINALIZER not in self._document["metadata"].get("finalizers", ()):
            self._document = self._kube.add_finalizer(self._document)
        wishing = Wishing(self._common, self._document, self._owner, self._before, self._references)
        wish = wishing.read(view.inventory if view.problem is None else None)
        self._held = view.held
        zones = self._zones(wish)
        seen = None
        if view.inventory is not None:
            observer = observe.Observer(
                self._means.cloud, self._owner, self._memory, self._means.clock, self._common.calm.objects
            )
            seen = observer.observe(
                view.inventory,
                zones,
                self._before.instance,
                making=wish.desired is not None and wish.pause is None,
                uploading=wish.desired is not None,
            )
        if seen is not None:
            wish = self._budgeted(wish, seen)
        self._course = timeline.noted(self._before, self._power(seen), self._created, _limit(seen))
        outcome = self._act(seen, wish, zones, view)
        judged = self._serving(seen, wish, outcome)
        look = self._seen(seen, judged, wish)
        known = self._before.availability
        self._course = timeline.followed(self._course, known.since if known is not None else None, look)
        drilled = self._drill(seen, outcome, view, busy=judged.in_motion(wish.target))
        after = self._tell(seen, wish, outcome, judged, look, drilled)
        again = self._again(outcome, after, wish)
        ok = view.problem is None and wish.hindrance is None and not outcome.unseen
        if ok and view.held:
            self._rest(seen, wish, outcome, after, again)
        return Passed(
            again,
            ok=ok,
            state=after.state or "",
            preemptions=len(self._course.preempted),
            ended=tuple(each.outage for each in self._course.ended if each.outage.cause != timeline.PAUSED),
            figures=self._costing.figures(after.cost),
        )

    def _rest(
        self, seen: Observation | None, wish: Wish, outcome: Outcome, status: Status, again: float
    ) -> None:
        """Let quiet passes follow if there was nothing to do."""
        if seen is None:
            return
        memory, part = self._memory, quiet.part(seen.inventory, self._owner)
        if part is None or not quiet.is_at_rest(status, self._generation, outcome, memory, wish.target):
            return
        wall = self._means.wall()
        if timeline.is_awaited(status.timeline, wall) or drill.is_under_way(status.drill):
            return
        forgotten = preemptions.until_forgotten(self._power(seen), self._created, wall)
        changes = min(forgotten, self._until_changes(wish))
        # What Google offers may be what a stalled one waits for: only full passes look.
        now, passes = self._means.clock(), 1 if wish.stall is not None else self._rested + 1
        rest = Rest(
            at=now,
            memory=memory,
            version=self._document["metadata"]["resourceVersion"],
            part=part,
            references=self._references.seen,
            objects=self._rested_objects() if wish.desired is not None else None,
            door=memory.door if quiet.serves(status, memory) else None,
            revision=status.revision.active,
            passes=passes,
            until=now + min(changes, quiet.pause(passes, self._means.jitter())),
            longest=PROBE_EVERY if wish.stall is None else timedelta(seconds=STALLED_SECONDS),
        )
        self._common.calm.rest(self._key, rest, timedelta(seconds=again))

    def _rested_objects(self) -> Contents | None:
        """Of the deployment's own; not what is uploaded for all."""
        prefix, objects = objects_prefix(self._owner.cloud_name), self._memory.objects
        if objects is None:
            return None
        return {name: each for name, each in objects.items() if name.startswith(prefix)}

    def _until_changes(self, wish: Wish) -> timedelta:
        """How the deployment stands with its budget changes by itself."""
        changes = wish.standing.changes if wish.standing is not None else None
        return timedelta.max if changes is None else max(timedelta(0), changes - self._means.wall())

    def _budgeted(self, wish: Wish, seen: Observation) -> Wish:
        costing, now = self._costing, self._means.wall()
        costing.look(seen, now)
        book = costing.problem or costing.book or ()
        return budgeted(wish, seen, self._means.prices(), book, self._place(seen, wish), now)

    def _stand_back(self, error: OwnedElsewhere) -> Passed:
        """Another cluster has the installation: only the status tells so. What was known may change there."""
        self._memory.objects = self._memory.account = None
        after = statuses.elsewhere(self._before, self._generation, error, self._means.wall())
        self._write(after, statuses.events(self._before.conditions, after.conditions))
        return Passed(IDLE_SECONDS, ok=False, state=after.state or "")

    def _look(self) -> View:
        """Raises OwnedElsewhere where another cluster has the installation."""
        inventory = None
        try:
            look = observe.resting if self._due else observe.snapshot
            inventory = look(self._means.cloud, self._memory, self._means.clock())
            return View(inventory, held=self._common.ownership.hold(inventory))
        except OwnedElsewhere:
            raise
        except BudgetError as error:
            return View(inventory, problem=error)

    def _zones(self, wish: Wish) -> tuple[str, ...]:
        return wish.desired.zones if wish.desired is not None else self._settings.zones

    def _act(
        self,
        seen: Observation | None,
        wish: Wish,
        zones: tuple[str, ...],
        view: View,
    ) -> Outcome:
        execution = self._execution
        if seen is None or view.problem is not None:
            error = view.problem or statuses.SILENCE
            lost = Plan((), dict.fromkeys(Room, error), frozenset(Room))
            return execution.run(lost, self._before.instance)
        if wish.desired is not None:
            self._note_lost_insert(execution, seen, wish.desired)
        planned = plan.plan(self._situation(seen, wish.desired, zones, held=view.held))
        if wish.hindrance is not None:
            planned = planned.hindered(wish.hindrance)
        with _touching(planned, self._common.sharing):
            return self._with_refusal(execution.run(planned, seen.intent), seen, wish)

    def _note_lost_insert(self, execution: Execution, seen: Observation, wanted: Desired) -> None:
        intent = self._before.instance
        if seen.insert is None or not seen.insert.done or intent is None:
            return
        old = seen.instance
        if old is not None and (old.zone == intent.zone or not old.destination):
            return
        address = seen.address.address if seen.address is not None else ""
        execution.insert_ended(
            seen.insert, InsertInstance(wanted.instance_request(intent.zone, address), intent)
        )

    def _situation(
        self, seen: Observation, wanted: Desired | None, zones: tuple[str, ...], *, held: bool
    ) -> Situation:
        candidates = {*zones, *([seen.instance.zone] if seen.instance is not None else [])}
        now = self._means.clock()
        barred = self._memory.shuns(now)
        sold_out: Mapping[str, datetime] = {}
        if wanted is not None:
            capacity, asked = self._means.capacity, (wanted.machine_type, wanted.provisioning_model)
            sold_out = capacity.sold_out(candidates, *asked, now)
            barred |= capacity.ruled_out(candidates, *asked, now)
        target = wanted.artifact.revision if wanted is not None else None
        return Situation(
            owner=self._owner,
            shared=Shared(self._settings.installation),
            seen=seen,
            desired=wanted,
            zones=(*zones, *([self._before.zone] if self._before.zone else [])),
            sold_out=sold_out,
            refused_machine_type=self._memory.refused_type(seen.instance, now),
            settled=is_true(self._before.conditions, Type.MODEL_SERVING)
            and self._before.revision.active == target,
            request_id=str(uuid.uuid4()),
            held=held,
            rest=preemptions.rest(self._course.outages, self._before.conditions, self._means.wall()),
            over_limit=self._is_over_limit(seen),
            start_refused=self._start_refused(seen.instance, now),
            barred=barred,
        )

    def _is_over_limit(self, seen: Observation) -> bool:
        held = _limit(seen)
        return held is not None and held.is_over(self._means.wall())

    def _start_refused(self, instance: Instance | None, now: datetime) -> bool:
        """Whether the zone had no room when the VM, which is off since, was to start."""
        memory = self._memory
        if (
            instance is None
            or instance.status is InstanceStatus.RUNNING
            or instance.zone != memory.start_refused
        ):
            memory.start_refused = ""
            return False
        asked = (instance.machine_type, instance.provisioning_model)
        return instance.zone in self._means.capacity.sold_out((instance.zone,), *asked, now)

    def _power(self, seen: Observation | None) -> tuple[PowerChange, ...]:
        """What took the VM down and brought it up."""
        return seen.inventory.power_of(self._owner.cloud_name) if seen is not None else ()

    def _with_refusal(self, outcome: Outcome, seen: Observation, wish: Wish) -> Outcome:
        """A refused machine type stays in the conditions while the VM runs on with the old one."""
        refused, wanted = self._memory.refused, wish.desired
        stands = self._memory.refused_type(seen.instance, self._means.clock())
        if refused is not None and wanted is not None and wanted.machine_type == stands:
            outcome.problems.setdefault(Room.INSTANCE, refused.error)
        return outcome

    def _persist(self, intent: Intent) -> None:
        """Write an insert's intent down before the insert is made; a stale document ends the pass."""
        held = statuses.read(self._document).instance
        if held == intent:
            return
        self._document = self._kube.patch_status(
            self._document, {"instance": intent.model_dump(by_alias=True)}
        )

    def _serving(self, seen: Observation | None, wish: Wish, outcome: Outcome) -> serving.Serving:
        means, wanted = self._means, wish.desired
        instance = seen.instance if seen is not None else None
        tls = wanted.tls if wanted is not None else self._kept_tls()
        image = wanted.image if wanted is not None else wishes.told_image(instance)
        probing = Probing(means.cloud, self._memory, means.clock, self._before, image, tls)
        unseen = seen is None or Room.INSTANCE in outcome.unseen
        running = statuses.instance_is_running(instance, unseen)
        glimpse = probing.look(
            instance=instance,
            boot=self._boot(seen, instance),
            running=running,
            ip=statuses.address_of(self._before, seen, outcome),
            target=wanted.artifact.revision if wanted is not None else None,
            spec=wish.spec,
            token=wish.token,
        )
        self._glimpse = glimpse
        judged = serving.judge(self._before, glimpse)
        if serving.doubts_artifact(self._before, judged):
            self._memory.objects_at = None
        return judged

    def _kept_tls(self) -> Tls:
        return endpoint.kept(self._before.endpoint or "", self._before.ca_certificate or "")

    def _boot(self, seen: Observation | None, instance: Instance | None) -> str:
        """Which boot of which VM is observed, as far as operations tell; other ends of a boot are seen."""
        if seen is None or instance is None:
            return ""
        ends = [change for change in seen.inventory.power_of(instance.name) if change.kind in DOWN]
        last = max(ends, key=lambda end: end.at, default=None)
        return f"{instance.id} {last.operation if last is not None else ''}"

    def _drill(self, seen: Observation | None, outcome: Outcome, view: View, *, busy: bool) -> Drill | None:
        """The preemption that the owner asks for: begun, or followed on its way."""
        before = self._before.drill
        if seen is None or view.problem is not None or not view.held:
            return before
        drilling = Drilling(self._means, self._memory, self._persist_drill)
        if before is not None and drill.is_under_way(before):
            return drilling.follow(before, seen.instance, self._power(seen), self._course.outages)
        value = drill.asked(self._document["metadata"].get("annotations") or {}, before)
        if value is None:
            return before
        busy = busy or bool(outcome.acted or outcome.open or outcome.problems or outcome.intent)
        return drilling.begin(value, self._before, seen.instance, busy=busy or self._edited)

    def _persist_drill(self, begun: Drill) -> None:
        """Before the call is made; a stale document ends the pass."""
        wanted = {"drill": begun.model_dump(by_alias=True, exclude_none=True)}
        held = {"drill": (self._document.get("status") or {}).get("drill")}
        self._document = self._kube.patch_status(self._document, statuses.merge_patch(held, wanted))

    def _tell(
        self,
        seen: Observation | None,
        wish: Wish,
        outcome: Outcome,
        judged: serving.Serving,
        look: Look,
        drilled: Drill | None,
    ) -> Status:
        now, course, settings = look.now, self._course, self._settings
        told_of = seen is not None and "power" not in seen.inventory.unknown
        facts = statuses.Facts(
            generation=self._generation,
            now=now,
            target=wish.target,
            login_secret=inputs.login_secret(self._owner.name, wish.spec)
            if wish.desired and wish.spec
            else None,
            logs=self._logs(seen),
            ca=judged.ca,
            stall=wish.stall,
            schedule_label=Shared(settings.installation).schedule_label(
                settings.schedule, settings.time_zone
            ),
            pause=wish.pause,
            budget=wish.standing.verdict if wish.standing is not None else None,
            hindrance=wish.hindrance,
            seen=seen,
            outcome=outcome,
            serving=judged,
            preemptions=preemptions.counted(
                self._before.preemptions, course, look.power if told_of else None, self._created, now
            ),
            timeline=course.outages,
            availability=availability.counted(
                self._before.availability,
                course.outages,
                course.ended,
                now,
                serving=look.serving is True,
            ),
            drill=drilled,
            cost=self._cost(seen, wish, outcome, now),
        )
        after = statuses.build(self._before, facts)
        cut = preemptions.cut_short(course.outages, self._before.conditions)
        changes = statuses.events(self._before.conditions, after.conditions)
        replaced = statuses.replacement(self._before, judged)
        news = (
            *drill.events(self._before.drill, drilled),
            *preemptions.events(course.preempted, cut),
            *statuses.recreation(judged),
            *replaced,
            *changes,
        )
        self._write(after, news)
        return after

    def _seen(self, seen: Observation | None, judged: serving.Serving, wish: Wish) -> Look:
        """What this pass tells of the outages. It serves if it was asked just now and answered."""
        memory, clock, glimpse = self._memory, self._means.clock(), self._glimpse
        instance = seen.instance if seen is not None else None
        answered = glimpse is not None and glimpse.due and glimpse.ok and judged.model.status == "True"
        down = judged.model.status == "False"
        watched = memory.unserved_at is not None and clock - memory.unserved_at <= WATCHING
        if down:
            memory.unserved_at = clock
        return Look(
            now=self._means.wall(),
            serving=True if answered else (False if down else None),
            zone=(instance.zone if instance is not None else self._before.zone) or "",
            running=glimpse.running if glimpse is not None else None,
            instance=instance,
            power=self._power(seen),
            silent_seconds=glimpse.failing_seconds if glimpse is not None else 0.0,
            boot_seconds=sum(seconds for phase, seconds in judged.boot.items() if phase != "certificate"),
            noticed_at=glimpse.report.noticed_at if glimpse is not None and glimpse.report else None,
            watched=watched,
            paused=wish.pause is not None,
        )

    def _cost(self, seen: Observation | None, wish: Wish, outcome: Outcome, now: datetime) -> Cost | None:
        if seen is None:
            return None
        moving = outcome.acted or outcome.open or self._memory.operations
        place = self._place(seen, wish)
        return self._costing.cost(seen, wish.spec, place, now, settled=not moving, held=self._held)

    def _place(self, seen: Observation, wish: Wish) -> str | None:
        """The zone whose prices count; None: it is not chosen yet."""
        if seen.instance is not None:
            return seen.instance.zone
        zones = wish.desired.zones if wish.desired is not None else None
        if zones is None and wish.spec is not None:
            zones = placement.listed(wish.spec, self._settings.zones)
        return zones[0] if zones else None

    def _write(self, after: Status, news: tuple[statuses.Event, ...]) -> None:
        patch = statuses.merge_patch(self._document.get("status") or {}, statuses.dump(after))
        if not patch:
            return
        self._document = self._kube.patch_status(self._document, patch)
        for event in news:
            self._kube.event(self._document, event.kind, event.reason, event.message)

    def _again(self, outcome: Outcome, after: Status, wish: Wish) -> float:
        """Seconds to the next pass: soon while something moves, rarely when all is well."""
        stalled = wish.stall is not None
        ready = is_true(after.conditions, Type.READY)
        settled = ready or after.state in pause.STATES
        moving = not stalled and (not settled or is_true(after.conditions, Type.RECONCILING))
        pauses = [STALLED_SECONDS if stalled else IDLE_SECONDS]
        pauses.append(motion_pause(self._memory, self._means.clock(), moving=moving, ready=ready))
        if timeline.is_awaited(after.timeline, self._means.wall()) or drill.is_under_way(after.drill):
            pauses.append(NOTICE_SECONDS)
        if outcome.after is not None:
            pauses.append(outcome.after)
        pauses.append(self._until_changes(wish).total_seconds())
        return max(0.0, min(pauses))

    def _logs(self, seen: Observation | None) -> str | None:
        zone = seen.instance.zone if seen is not None and seen.instance is not None else self._before.zone
        if zone is None:
            return None
        return self._settings.logs_command.format(
            name=self._owner.cloud_name, project=self._settings.project, zone=zone
        )


def _limit(seen: Observation | None) -> Limit | None:
    """That stands on the VM."""
    return None if seen is None or seen.instance is None else Limit.read(seen.instance.metadata)


def _touching(planned: Plan, sharing: Sharing) -> AbstractContextManager[None]:
    """Alone with what all share while it changes, beside others while only code is put into the bucket."""
    found = [action for _, step in planned.steps for action in step.actions]
    if any(action.shared for action in found):
        return sharing.alone()
    return sharing.together() if any(isinstance(action, Upload | Copy) for action in found) else nullcontext()
