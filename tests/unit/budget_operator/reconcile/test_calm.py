"""Quiet passes: they cost next to nothing, and miss nothing that full ones would notice."""

import itertools
import json
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from budget_operator.core import trail
from budget_operator.core.errors import PermissionDenied, Unavailable
from budget_operator.core.gateways import Door
from budget_operator.core.names import METADATA_CONFIG
from budget_operator.core.observed import Contents, InstanceStatus, PowerChange, Probe, Stored
from budget_operator.core.steps import Passed
from dev.simulation.apiserver import CODE
from tests.unit.budget_operator.fakes import World

SPEC = {
    "predictor": {"configMap": {"name": "code"}},
    "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "x"}}}],
}


def quiet(world: World, name: str = "iris") -> float:
    """One pass that time has brought."""
    passed = world.reconciler.reconcile("default", name, quiet=True)
    assert passed.after is not None
    world.clock.advance(passed.after)
    return passed.after


def settle(world: World, name: str = "iris") -> None:
    """Pass after pass until full ones are rare."""
    for _ in range(10):
        quiet(world, name)
        rest = world.reconciler.common.calm._rests.get(("default", name))
        if rest is not None and rest.passes == 2:
            return
    raise AssertionError("it does not come to rest")


@pytest.fixture
def rest() -> World:
    """With a deployment that refers to everything there is, at rest."""
    world = World()
    world.kube.config_maps["default", "code"] = {"predictor.py": CODE.encode()}
    world.kube.secrets["default", "keys"] = {"x": b"1"}
    world.up("iris", SPEC)
    settle(world)
    return world


def reads(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the object, from now on: a full pass makes one."""
    made: list[str] = []
    read = world.kube.deployment

    def counted(namespace: str, name: str) -> Any:
        made.append(name)
        return read(namespace, name)

    monkeypatch.setattr(world.kube, "deployment", counted)
    return made


def test_at_rest_full_passes_get_rare(rest: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = reads(rest, monkeypatch), len(rest.journal.calls)
    begun = rest.clock.now
    while rest.clock.now - begun < timedelta(hours=3):
        quiet(rest)
    assert 2 <= len(made) <= 6
    written = {call.partition(" ")[0] for call in rest.journal.calls[calls:]}
    assert written <= {"write"}, "nothing but the claim on the installation"


def test_a_full_pass_that_time_alone_brings_uses_the_picture_that_is_there(rest: World) -> None:
    """With 2,000 deployments one is due every two seconds."""
    known = rest.reconciler.common.calm._rests["default", "iris"]
    rest.cloud.snapshot()
    taken = rest.cloud.snapshots_taken
    rest.clock.advance(20)
    late = replace(known, until=rest.clock.now)
    rest.reconciler.common.calm._rests["default", "iris"] = late
    rest.reconciler.reconcile("default", "iris", quiet=True)
    assert rest.reconciler.common.calm._rests["default", "iris"] is not late, "it was a full one"
    assert rest.cloud.snapshots_taken == taken
    rest.clock.advance(20)
    rest.reconciler.wake("default", "iris")
    rest.reconciler.reconcile("default", "iris", quiet=True)
    assert rest.cloud.snapshots_taken == taken + 1, "what somebody has changed is looked at"


def test_the_endpoint_is_asked_at_least_once_a_minute_and_hardly_more(rest: World) -> None:
    asked = 0
    ready = rest.cloud.ready

    def counted(door: Door) -> Probe:
        nonlocal asked
        asked += 1
        return ready(door)

    rest.cloud.ready = counted  # type: ignore[method-assign]
    begun = rest.clock.now
    while rest.clock.now - begun < timedelta(minutes=30):
        quiet(rest)
    assert 29 <= asked <= 37


def test_the_claim_is_renewed(rest: World) -> None:
    before = json.loads(rest.cloud.the_owner.data)["renewedAt"] if rest.cloud.the_owner else ""
    for _ in range(12):
        quiet(rest)
    assert rest.cloud.the_owner is not None
    assert json.loads(rest.cloud.the_owner.data)["renewedAt"] > before


def edit(world: World) -> None:
    world.kube.apply("iris", SPEC | {"machine": {"type": "e2-small"}})
    tell(world)


def tell(world: World) -> None:
    """The watch shows the object as it is."""
    version = world.kube.objects["default", "iris"]["metadata"]["resourceVersion"]
    world.reconciler.saw("default", "iris", version)


def edit_status(world: World) -> None:
    found = world.kube.objects["default", "iris"]
    found["status"]["state"] = "Fantastic"
    world.kube._touch(found)
    tell(world)


def delete(world: World) -> None:
    world.kube.delete("iris")
    tell(world)


def stop(world: World) -> None:
    key, vm = next(iter(world.cloud.vms.items()))
    world.cloud.vms[key] = replace(vm, status=InstanceStatus.TERMINATED)


def preempt(world: World) -> None:
    stop(world)
    vm = next(iter(world.cloud.vms.values()))
    world.cloud.power.append(PowerChange("p1", vm.name, vm.zone, world.clock.now))


def rewrite_metadata(world: World) -> None:
    key, vm = next(iter(world.cloud.vms.items()))
    world.cloud.vms[key] = replace(vm, metadata={}, metadata_fingerprint="changed")


def relabel(world: World) -> None:
    key, vm = next(iter(world.cloud.vms.items()))
    world.cloud.vms[key] = replace(vm, labels=dict(vm.labels) | {"budgetml-wanted": "no"})


def lose(part: str) -> Callable[[World], None]:
    def lost(world: World) -> None:
        setattr(world.cloud, part, None)

    return lost


def lose_address(world: World) -> None:
    world.cloud.ips.clear()


def lose_objects(world: World) -> None:
    world.cloud.blobs.clear()


def lose_object(world: World) -> None:
    del world.cloud.blobs[next(name for name in world.cloud.blobs if name.endswith("/bundle.zip"))]


def write_over(world: World) -> None:
    for name, data in world.cloud.blobs.items():
        world.cloud.blobs[name] = bytes(len(data))


def truncate(world: World) -> None:
    for name in world.cloud.blobs:
        world.cloud.blobs[name] = b""


def lose_bucket(world: World) -> None:
    world.cloud.the_bucket = None


def rotate_secret(world: World) -> None:
    world.kube.secrets["default", "keys"] = {"x": b"2"}


def rotate_login(world: World) -> None:
    world.kube.secrets["default", "iris-login"]["password"] = b"another"


def delete_secret(world: World) -> None:
    del world.kube.secrets["default", "keys"]


def change_code(world: World) -> None:
    world.kube.config_maps["default", "code"] = {"predictor.py": f"{CODE}# new\n".encode()}


def take_installation(world: World) -> None:
    claim = {
        "cluster": "other",
        "since": world.clock.wall().isoformat(),
        "renewedAt": world.clock.wall().isoformat(),
    }
    world.cloud.the_owner = Stored(json.dumps(claim).encode(), 99)


def fall_silent(world: World) -> None:
    world.cloud.unknown = {"zones/us-central1-a"}


def fail(world: World) -> None:
    world.cloud.ready = lambda door: Probe(False, "GET /healthz/ready: no answer")  # type: ignore[method-assign]


def serve_another(world: World) -> None:
    world.cloud.ready = lambda door: Probe(True, "", "another", True)  # type: ignore[method-assign]


SOON = [
    edit,
    edit_status,
    delete,
    stop,
    preempt,
    rewrite_metadata,
    relabel,
    lose_address,
    lose_bucket,
    *[lose(part) for part in ("the_topic", "the_function", "the_job", "the_firewall")],
    rotate_secret,
    rotate_login,
    delete_secret,
    change_code,
    take_installation,
    fall_silent,
]


@pytest.mark.parametrize("happens", SOON)
def test_what_happens_is_noticed_by_the_next_pass(
    rest: World, monkeypatch: pytest.MonkeyPatch, happens: Callable[[World], None]
) -> None:
    made = reads(rest, monkeypatch)
    quiet(rest)
    quiet(rest)
    assert made == []
    happens(rest)
    rest.reconciler.reconcile("default", "iris", quiet=True)
    assert made == ["iris"]


@pytest.mark.parametrize("happens", [fail, serve_another])
def test_what_the_endpoint_says_is_noticed_within_a_minute(
    rest: World, monkeypatch: pytest.MonkeyPatch, happens: Callable[[World], None]
) -> None:
    made = reads(rest, monkeypatch)
    happens(rest)
    begun = rest.clock.now
    while not made:
        rest.reconciler.reconcile("default", "iris", quiet=True)
        rest.clock.advance(30)
    assert rest.clock.now - begun <= timedelta(seconds=90)


def code(world: World) -> dict[str, bytes]:
    """What lies in the bucket but the function's source, which has been built."""
    return {name: data for name, data in world.cloud.blobs.items() if name.startswith("code/")}


@pytest.mark.parametrize("happens", [lose_objects, lose_object, write_over, truncate])
def test_objects_that_are_lost_or_written_over_are_put_right_within_a_cycle(
    rest: World, happens: Callable[[World], None]
) -> None:
    before = code(rest)
    quiet(rest)
    happens(rest)
    begun = rest.clock.now
    while code(rest) != before:
        rest.reconciler.reconcile("default", "iris", quiet=True)
        rest.clock.advance(1)
    assert rest.clock.now - begun <= timedelta(seconds=32)
    settle(rest)


def test_one_list_of_the_bucket_serves_all(many: World) -> None:
    lists = many.cloud.objects = Counted(many.cloud.objects)  # type: ignore[method-assign, assignment]
    before = code(many)
    write_over(many)
    for _ in range(4):
        all_pass(many, NAMES)
    assert len(lists.sizes) == 4, "those that have to mend something use it as well"
    assert all(many.is_ready(name) for name in NAMES)
    assert code(many) == before


def test_a_list_that_fails_is_told_and_keeps_nothing_from_the_vm(
    rest: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(prefix: str) -> Contents:
        raise PermissionDenied("storage.objects.list")

    with monkeypatch.context() as patch:
        patch.setattr(rest.cloud, "objects", refused)
        rest.clock.advance(60)
        quiet(rest)
        assert rest.kube.condition("iris", "Stalled")[:2] == ("True", "PermissionDenied")
        assert rest.is_ready("iris")
        rewrite_metadata(rest)
        quiet(rest)
        assert rest.vm("iris") is not None
        rest.clock.advance(10)
        quiet(rest)
        vm = rest.vm("iris")
        assert vm is not None
        assert METADATA_CONFIG in vm.metadata, "as its code is known to lie there"
    rest.clock.advance(60)
    settle(rest)
    assert rest.kube.condition("iris", "Stalled")[0] == "False"


def test_what_the_watch_shows_as_it_was_left_calls_for_nothing(
    rest: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = reads(rest, monkeypatch)
    tell(rest)
    rest.reconciler.reconcile("default", "iris", quiet=True)
    assert made == []
    edit_status(rest)
    rest.reconciler.reconcile("default", "iris", quiet=True)
    assert made == ["iris"]


def test_a_version_that_is_told_late_costs_one_full_pass(
    rest: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of before the operator's own last write, whose version the watch has not told yet."""
    rest.reconciler.saw("default", "iris", "0")
    made = reads(rest, monkeypatch)
    rest.reconciler.reconcile("default", "iris", quiet=True)
    tell(rest)
    rest.reconciler.reconcile("default", "iris", quiet=True)
    assert made == ["iris"]


def test_what_is_told_during_a_pass_is_not_forgotten_by_it(
    rest: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest.reconciler.wake("default", "iris")
    secret = rest.kube.secret

    def told(namespace: str, name: str) -> Any:
        rest.reconciler.wake("default", "iris")
        return secret(namespace, name)

    with monkeypatch.context() as patch:
        patch.setattr(rest.kube, "secret", told)
        rest.reconciler.reconcile("default", "iris", quiet=True)
    made = reads(rest, monkeypatch)
    rest.reconciler.reconcile("default", "iris", quiet=True)
    assert made == ["iris"]


def test_one_that_has_gone_unnoticed_is_forgotten_once_it_is_woken(rest: World) -> None:
    key = "default", "iris"
    del rest.kube.objects[key]
    assert rest.reconciler.reconcile(*key, quiet=True).after is not None, "nothing tells of it"
    assert rest.reconciler.remembered() == {key}
    rest.reconciler.wake(*key)
    assert rest.reconciler.reconcile(*key, quiet=True).after is None
    assert rest.reconciler.remembered() == frozenset()


def test_a_picture_that_is_being_taken_is_not_waited_for(
    rest: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = reads(rest, monkeypatch)
    rest.reconciler.wake("default", "iris")
    monkeypatch.setattr(rest.cloud, "awaited", lambda newer_than: timedelta(seconds=1.5))
    passed = rest.reconciler.reconcile("default", "iris", quiet=True)
    assert (passed.after, passed.waits, made) == (1.5, True, [])
    monkeypatch.setattr(rest.cloud, "awaited", lambda newer_than: None)
    rest.reconciler.reconcile("default", "iris", quiet=True)
    assert made == ["iris"]


def test_what_is_logged_names_the_generation_that_is_known(
    rest: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the pass does not read the object: it is a quiet one, or the API server does not answer."""
    told: list[int] = []

    def refused(*_: object) -> Any:
        seen = trail.current()
        assert seen is not None
        told.append(seen.generation)
        raise Unavailable("no answer")

    def passed() -> None:
        with trail.following("default", "iris") as made:
            rest.reconciler.reconcile("default", "iris", quiet=True)
        told.append(made.generation)

    passed()
    monkeypatch.setattr(rest.kube, "deployment", refused)
    rest.reconciler.wake("default", "iris")
    passed()
    assert told == [1, 1, 1]


def test_pauses_grow_although_a_picture_is_waited_for_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.kube.apply("iris")

    def refused(*_: object) -> Any:
        raise Unavailable("the API server does not answer")

    monkeypatch.setattr(world.kube, "patch_status", refused)
    pauses = []
    for _ in range(4):
        pauses.append(world.reconciler.reconcile("default", "iris", quiet=True).after or 0.0)
        with monkeypatch.context() as patch:
            patch.setattr(world.cloud, "awaited", lambda newer_than: timedelta(seconds=1.5))
            assert world.reconciler.reconcile("default", "iris", quiet=True).waits
    assert all(later > before for before, later in itertools.pairwise(pauses)), pauses


def test_one_whose_vm_does_not_answer_holds_no_other_up(rest: World) -> None:
    rest.up("lily")
    settle(rest, "lily")
    entered, let_go = threading.Event(), threading.Event()
    ready = rest.cloud.ready

    def first_is_slow(door: Door) -> Probe:
        if not entered.is_set():
            entered.set()
            let_go.wait()
        return ready(door)

    rest.cloud.ready = first_is_slow  # type: ignore[method-assign]
    rest.cloud.many_ready = lambda doors: {}  # type: ignore[method-assign]  # nobody answers in time
    rest.clock.advance(60)
    with ThreadPoolExecutor(2) as pool:
        try:
            pool.submit(rest.reconciler.reconcile, "default", "iris", quiet=True)
            assert entered.wait(30)
            assert pool.submit(rest.reconciler.reconcile, "default", "lily", quiet=True).result(30).ok
        finally:
            let_go.set()


NAMES = [f"model-{number:03d}" for number in range(110)]


@pytest.fixture
def many() -> World:
    """With many deployments at rest, each of which has made a quiet pass."""
    world = World()
    for name in NAMES:
        world.up(name)
    for name in NAMES:
        settle(world, name)
    all_pass(world, NAMES)
    return world


def all_pass(world: World, names: Sequence[str]) -> None:
    """When it is time for their endpoints to be asked."""
    world.clock.advance(61)
    for name in names:
        assert world.reconciler.reconcile("default", name, quiet=True).ok


def test_many_at_rest_are_asked_together(many: World) -> None:
    """In whatever order their passes come."""
    asked = many.cloud.many_ready = Counted(many.cloud.many_ready)  # type: ignore[method-assign, assignment]
    read = many.kube.many_secrets = Counted(many.kube.many_secrets)  # type: ignore[method-assign, assignment]
    chance = random.Random(1)
    for _ in range(2):
        all_pass(many, chance.sample(NAMES, len(NAMES)))
    assert len(read.sizes) == len(asked.sizes) == 6, "not each alone"
    assert sum(read.sizes) == sum(asked.sizes) == 2 * len(NAMES), "each once"


def test_those_that_are_at_rest_no_longer_keep_the_others_from_being_asked_together(many: World) -> None:
    asked = many.cloud.many_ready = Counted(many.cloud.many_ready)  # type: ignore[method-assign, assignment]
    for name in NAMES[:50]:
        many.reconciler.wake("default", name)
    all_pass(many, NAMES[50:])
    assert asked.sizes == [50, 10]


class Counted:
    """How many something was called with, each time."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self._call = call
        self.sizes: list[int] = []

    def __call__(self, asked: Any) -> Any:
        self.sizes.append(len(asked))
        return self._call(asked)


def test_many_new_ones_share_the_next_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    names = [f"model-{number}" for number in range(20)]
    for name in names:
        world.kube.apply(name)
    monkeypatch.setattr(world.cloud, "awaited", lambda newer_than: timedelta(seconds=1.5))
    ends = {world.reconciler.reconcile("default", name, quiet=True) for name in names}
    assert (ends, world.cloud.snapshots_taken) == ({Passed(1.5, waits=True, brief=True)}, 0)
    monkeypatch.setattr(world.cloud, "awaited", lambda newer_than: None)
    for name in names:
        world.reconciler.reconcile("default", name, quiet=True)
    assert world.cloud.snapshots_taken <= 4, "a new one only after what all share was made"


def test_many_at_rest_cost_the_cloud_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def calls(count: int) -> int:
        world = World()
        names = [f"model-{number}" for number in range(count)]
        for name in names:
            world.up(name)
        for name in names:
            settle(world, name)
        lists: list[str] = []
        objects = world.cloud.objects

        def listed(prefix: str) -> Contents:
            lists.append(prefix)
            return objects(prefix)

        monkeypatch.setattr(world.cloud, "objects", listed)
        taken, begun = world.cloud.snapshots_taken, world.clock.now
        while world.clock.now - begun < timedelta(hours=2):
            for name in names:
                world.reconciler.reconcile("default", name, quiet=True)
            world.clock.advance(30)
        return world.cloud.snapshots_taken - taken + len(lists)

    assert calls(12) <= calls(1) + 2
