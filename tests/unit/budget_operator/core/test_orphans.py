"""What nobody owns, what is only said to be so, and what it costs."""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from budget_operator.core.names import LABEL_DELETION, LABEL_WANTED, METADATA_OWNER, Owner, key_in, key_of
from budget_operator.core.observed import (
    Address,
    Bucket,
    Disk,
    Firewall,
    Instance,
    InstanceStatus,
    Inventory,
    Job,
    Object,
    Topic,
)
from budget_operator.core.orphans import told
from budget_operator.core.orphans.model import End, Found, Kind, Outcome, Report, Seen, Verdict
from budget_operator.core.orphans.verdicts import GRACE, report
from budget_operator.core.prices.table import shipped
from tests.unit.budget_operator.core.conftest import NOW, OWNER, SHARED, Scene

OLD, YOUNG = NOW - 2 * GRACE, NOW - GRACE / 2
ZONE, REGION = "us-central1-a", "us-central1"
PRICES = shipped()
BESIDE = Owner(OWNER.installation, "default", "rose")
NAME = OWNER.cloud_name
SHARED_KINDS = [Kind.JOB, Kind.FUNCTION, Kind.TOPIC, Kind.FIREWALL, Kind.BUCKET]


def vm(owner: Owner = OWNER, **changes: Any) -> Instance:
    made = Instance(
        name=owner.cloud_name,
        zone=ZONE,
        id=f"id-{owner.name}",
        status=InstanceStatus.RUNNING,
        machine_type="e2-medium",
        provisioning_model="SPOT",
        external_ip="10.0.0.1",
        labels={**owner.labels, LABEL_WANTED: "running", LABEL_DELETION: "delete"},
        label_fingerprint="f",
        metadata={METADATA_OWNER: owner.document},
        metadata_fingerprint="f",
        disk=owner.cloud_name,
        disk_gib=20,
        created=OLD,
    )
    return replace(made, **changes)


def retained(owner: Owner = OWNER) -> Instance:
    return vm(owner, labels={**vm(owner).labels, LABEL_DELETION: "retain"})


def ip(owner: Owner = OWNER, **changes: Any) -> Address:
    made = Address(owner.cloud_name, REGION, "10.0.0.1", "IN_USE", owner.labels, "ip-1", OLD)
    return replace(made, **changes)


def disk(owner: Owner = OWNER, **changes: Any) -> Disk:
    made = Disk(owner.cloud_name, ZONE, "disk-1", "pd-balanced", 20, owner.labels, (), OLD, OLD)
    return replace(made, **changes)


def stored(name: str, size: int = 2**30, created: datetime = OLD) -> Object:
    return Object(name, size, 1, created)


def look(
    instances: tuple[Instance, ...] = (),
    addresses: tuple[Address, ...] = (),
    *,
    owners: tuple[Owner, ...] = (),
    shared: Inventory | None = None,
    **seen: Any,
) -> Report:
    picture = replace(shared or Inventory(NOW), instances=instances, addresses=addresses)
    return report(Seen(picture, frozenset(owners), **seen), SHARED, PRICES, NOW)


def lines(found: Report) -> list[tuple[Verdict, Kind]]:
    return [(each.verdict, each.resource.kind) for each in found.found]


def only(found: Report) -> Found:
    (line,) = found.found
    return line


# --- names ---


@pytest.mark.parametrize("name", ["iris", "a" * 200, "ML/ü", ""])
def test_names_and_labels_have_the_key_in_common(name: str) -> None:
    owner = Owner("default", "default", name)
    assert key_in(owner.cloud_name) == key_of(owner.labels) == owner.key
    assert len(owner.key) == 10


@pytest.mark.parametrize("name", [SHARED.keep_alive, SHARED.firewall, "budget-iris", "iris-0123456789", ""])
def test_other_names_have_none(name: str) -> None:
    assert key_in(name) == ""


# --- whose it is ---


def test_what_an_object_owns_is_not_told() -> None:
    objects = (stored(f"code/{NAME}/1/bundle.zip"), stored(f"state/{NAME}/log"))
    seen = look((vm(),), (ip(),), owners=(OWNER,), disks=(disk(users=(NAME,)),), objects=objects)
    assert seen.found == ()


def test_what_nobody_owns_is_an_orphan_with_the_name_that_its_vm_tells() -> None:
    found = look((vm(),), (ip(),), owners=(BESIDE,), disks=(disk(users=(NAME,)),))
    assert lines(found) == [
        (Verdict.ORPHAN, Kind.INSTANCE),
        (Verdict.ORPHAN, Kind.DISK),
        (Verdict.ORPHAN, Kind.ADDRESS),
    ]
    assert {each.why for each in found.found} == {"there is no BudgetDeployment default/iris"}


@pytest.mark.parametrize("told_by_vm", ["", "{}", "[]", "null", BESIDE.document])
def test_a_name_that_does_not_fit_the_labels_is_not_believed(told_by_vm: str) -> None:
    found = look((vm(metadata={METADATA_OWNER: told_by_vm}),))
    assert only(found).why == "there is no BudgetDeployment for it"


def test_what_was_left_on_purpose_is_retained_with_all_it_lives_by(scene: Scene) -> None:
    objects = (stored(f"code/{NAME}/1/bundle.zip"),)
    shared = replace(scene.inventory, instances=(), addresses=())
    found = look((retained(),), (ip(),), shared=shared, disks=(disk(users=(NAME,)),), objects=objects)
    assert {each.verdict for each in found.found} == {Verdict.RETAINED}
    assert {each.resource.kind for each in found.found} == set(Kind)
    assert told.exit_code(found) == told.ALL_WELL


def test_an_object_that_is_there_owns_whatever_its_vm_says() -> None:
    assert look((retained(),), owners=(OWNER,)).found == ()


def test_an_address_whose_vm_is_gone_is_an_orphan_although_it_was_retained_with_it() -> None:
    assert lines(look((), (ip(),))) == [(Verdict.ORPHAN, Kind.ADDRESS)]


def test_a_copy_with_our_labels_is_not_ours_to_delete() -> None:
    copied = vm(name="instance-1")
    for owners in ((), (OWNER,)):
        found = only(look((copied,), owners=owners))
        assert (found.verdict, found.resource.name) == (Verdict.COPY, "instance-1")
    beside = vm(BESIDE)
    assert look((replace(beside, labels=vm().labels),)).found[0].verdict is Verdict.COPY, "another's name"
    unnamed = vm(labels={"budgetml-installation": SHARED.hash})
    assert only(look((unnamed,))).verdict is Verdict.COPY, "no deployment's label"


def test_a_copy_is_no_reason_to_keep_what_is_shared(scene: Scene) -> None:
    shared = replace(scene.inventory, instances=(), addresses=())
    found = look((vm(name="instance-1"),), shared=shared)
    assert [each.resource.kind for each in found.orphans] == SHARED_KINDS


def test_a_copy_that_says_retain_retains_nothing() -> None:
    copied = replace(retained(), name="instance-1", id="2")
    assert lines(look((copied, vm()))) == [(Verdict.COPY, Kind.INSTANCE), (Verdict.ORPHAN, Kind.INSTANCE)]


# --- disks ---


def test_a_disk_that_no_vm_has_is_an_orphan_of_an_object_that_is_there() -> None:
    found = only(look((vm(),), owners=(OWNER,), disks=(disk(),)))
    assert (found.verdict, found.resource.kind) == (Verdict.ORPHAN, Kind.DISK)
    assert found.why == "of BudgetDeployment default/iris, and no VM has it"


def test_somebody_may_be_at_work_with_a_disk() -> None:
    at_work = disk(detached=YOUNG)
    assert only(look((vm(),), owners=(OWNER,), disks=(at_work,))).verdict is Verdict.NEW
    assert only(look(disks=(at_work,))).verdict is Verdict.ORPHAN, "whose VM was an orphan"


def test_a_loose_disk_of_what_was_retained_is_retained() -> None:
    assert {each.verdict for each in look((retained(),), disks=(disk(),)).found} == {Verdict.RETAINED}


# --- what cannot be told ---


def test_where_a_zone_is_silent_nothing_is_told_of_what_may_be_there() -> None:
    unseen = {"zones/us-central1-b": "zones/us-central1-b does not answer"}
    objects = (stored(f"code/{NAME}/1/bundle.zip"),)
    found = look((), (ip(),), disks=(disk(),), objects=objects, unseen=unseen)
    assert {each.verdict for each in found.found} == {Verdict.UNKNOWN}
    assert told.exit_code(found) == told.UNTOLD


def test_a_vm_that_shows_itself_is_told_although_another_zone_is_silent(scene: Scene) -> None:
    unseen = {"zones/us-central1-b": "zones/us-central1-b does not answer"}
    shared = replace(scene.inventory, instances=(), addresses=())
    found = look((vm(),), (ip(),), shared=shared, unseen=unseen)
    assert [each.resource.kind for each in found.orphans] == [Kind.INSTANCE, Kind.ADDRESS]
    rest = {each.resource.kind for each in found.found if each.verdict is Verdict.UNKNOWN}
    assert rest == set(SHARED_KINDS)


@pytest.mark.parametrize(("age", "verdict"), [(YOUNG, Verdict.NEW), (OLD, Verdict.ORPHAN)])
def test_what_is_young_may_still_get_its_object(age: datetime, verdict: Verdict, scene: Scene) -> None:
    shared = replace(scene.inventory, instances=(), addresses=())
    objects = (stored(f"code/{NAME}/1/bundle.zip", created=age),)
    found = look((vm(created=age),), (ip(created=age),), shared=shared, objects=objects)
    assert {each.verdict for each in found.found} == {verdict}


@pytest.mark.parametrize(("since", "verdict"), [(YOUNG, Verdict.NEW), (OLD, Verdict.ORPHAN)])
def test_a_cluster_that_has_just_got_the_installation_may_be_being_restored(
    since: datetime, verdict: Verdict
) -> None:
    assert only(look((vm(),), since=since)).verdict is verdict


def test_a_clock_that_is_behind_makes_no_orphans() -> None:
    assert only(look((vm(created=NOW + timedelta(hours=1)),))).verdict is Verdict.NEW


# --- what all share ---


def test_what_is_shared_is_an_orphan_once_nobody_is_left(scene: Scene) -> None:
    shared = replace(scene.inventory, instances=(), addresses=())
    assert look(shared=shared, owners=(BESIDE,)).found == ()
    found = look(shared=shared)
    assert [each.resource.kind for each in found.orphans] == SHARED_KINDS


def test_what_only_has_our_names_is_not_ours() -> None:
    strangers = Inventory(
        NOW,
        bucket=Bucket("bucket", {}),
        topic=Topic(SHARED.keep_alive, {}),
        job=Job(SHARED.keep_alive, "ENABLED", "* * * * *", "Etc/UTC", "t", "somebody's"),
        firewall=Firewall(SHARED.firewall, "", (), ()),
    )
    assert look(shared=strangers, objects=(stored(f"code/{NAME}/1/bundle.zip"),)).found == ()


def test_objects_are_told_by_folder() -> None:
    bucket = Inventory(NOW, bucket=Bucket("bucket", SHARED.labels, REGION))
    names = (f"code/{NAME}/1/a", f"code/{NAME}/2/b", f"state/{NAME}/log", "code/theirs/x", "code/y", "mine")
    found = look(shared=bucket, owners=(BESIDE,), objects=tuple(stored(name) for name in names))
    assert [(each.verdict, each.resource.name) for each in found.found] == [
        (Verdict.ORPHAN, f"code/{NAME}/"),
        (Verdict.ORPHAN, f"state/{NAME}/"),
        (Verdict.COPY, "code/theirs/"),
        (Verdict.COPY, "code/y"),
    ]
    assert [each.monthly for each in found.found] == [
        pytest.approx(price) for price in (0.04, 0.02, 0.02, 0.02)
    ]


def test_a_folder_in_which_anything_changes_is_another_one() -> None:
    bucket = Inventory(NOW, bucket=Bucket("bucket", SHARED.labels, REGION))

    def identity(*objects: Object) -> str:
        return look(shared=bucket, owners=(BESIDE,), objects=objects).found[0].resource.id

    one = stored(f"code/{NAME}/1/a")
    assert identity(one) == identity(one)
    assert (
        len({identity(one), identity(replace(one, generation=2)), identity(one, stored(f"{one.name}b"))}) == 3
    )


# --- prices ---

REGION_PRICES = PRICES.regions[REGION]
SPOT = 730 * (REGION_PRICES.machines["e2-medium"].spot or 0)
ON_DEMAND = 730 * (REGION_PRICES.machines["e2-medium"].on_demand or 0)
DISK = 20 * (REGION_PRICES.disk or 0)
UNUSED, USED_BY_SPOT, USED = (
    730 * (price or 0)
    for price in (
        REGION_PRICES.address.unused,
        REGION_PRICES.address.spot,
        REGION_PRICES.address.on_demand,
    )
)
STOPPED: dict[str, Any] = {
    "status": InstanceStatus.TERMINATED,
    "labels": {**vm().labels, LABEL_WANTED: "stopped"},
}


def price(kind: Kind, *given: Any, **seen: Any) -> float | None:
    return next(each.monthly for each in look(*given, **seen).found if each.resource.kind is kind)


def test_the_prices_are_known() -> None:
    assert all(each > 0 for each in (SPOT, ON_DEMAND, DISK, UNUSED, USED_BY_SPOT, USED))


@pytest.mark.parametrize(
    ("changes", "monthly"),
    [
        ({}, SPOT),
        ({"status": InstanceStatus.TERMINATED}, SPOT),  # it is started again
        (STOPPED, 0.0),
        ({"provisioning_model": "STANDARD"}, ON_DEMAND),
        ({"provisioning_model": "FLEX_START"}, None),
        ({"machine_type": "e2-nothing"}, None),
        ({"zone": "nowhere1-a"}, None),
        ({"status": InstanceStatus.SUSPENDED}, None),
    ],
)
def test_a_vm_costs_what_its_machine_does(changes: dict[str, Any], monthly: float | None) -> None:
    there = vm(**changes)
    found = price(Kind.INSTANCE, (there,), (ip(),), disks=(disk(zone=there.zone, users=(NAME,)),))
    assert found == (None if monthly is None else pytest.approx(monthly))


def test_what_a_vm_alone_has_is_in_its_price() -> None:
    assert price(Kind.INSTANCE, (vm(),)) == pytest.approx(SPOT + DISK + USED_BY_SPOT)
    assert price(Kind.INSTANCE, (vm(external_ip=None),)) == pytest.approx(SPOT + DISK)
    assert price(Kind.INSTANCE, (vm(disk_gib=0),)) is None, "a disk of unknown size"


@pytest.mark.parametrize(
    ("instances", "changes", "monthly"),
    [
        ((), {"status": "RESERVED"}, UNUSED),
        ((), {"status": "IN_USE"}, None),
        ((), {"status": "RESERVED", "region": "nowhere1"}, None),
        ((vm(),), {}, USED_BY_SPOT),
        ((vm(provisioning_model="STANDARD"),), {}, USED),
        ((vm(**STOPPED),), {}, UNUSED),
    ],
)
def test_an_address_costs_by_its_use(
    instances: tuple[Instance, ...], changes: dict[str, Any], monthly: float | None
) -> None:
    found = price(Kind.ADDRESS, instances, (ip(**changes),))
    assert found == (None if monthly is None else pytest.approx(monthly))


def test_a_disk_costs_by_its_kind_and_size() -> None:
    assert price(Kind.DISK, disks=(disk(),)) == pytest.approx(DISK)
    assert price(Kind.DISK, disks=(disk(gib=40),)) == pytest.approx(2 * DISK)
    assert price(Kind.DISK, disks=(disk(kind="pd-ssd"),)) is None


def test_what_is_shared_costs_little_or_nobody_knows(scene: Scene) -> None:
    bucket = Bucket("bucket", SHARED.labels, REGION)
    shared = replace(scene.inventory, instances=(), addresses=(), bucket=bucket)
    objects = (stored("function/1.zip"), stored("owner"), stored(f"code/{NAME}/1/a"))
    found = {each.resource.kind: each.monthly for each in look(shared=shared, objects=objects).found}
    assert found == {
        Kind.JOB: 0.1,
        Kind.FUNCTION: None,
        Kind.TOPIC: 0.0,
        Kind.FIREWALL: 0.0,
        Kind.OBJECTS: pytest.approx(0.02),
        Kind.BUCKET: pytest.approx(0.04),
    }
    assert price(Kind.BUCKET, shared=shared) is None, "what lies in it was not looked at"
    elsewhere = replace(shared, bucket=replace(bucket, region="us"))
    assert price(Kind.BUCKET, shared=elsewhere, objects=objects) is None, "a multi-region"


# --- how it is shown ---


def test_people_see_a_line_each_and_what_all_cost_together() -> None:
    held = (disk(users=(NAME,)),)
    text = told.as_text(look((vm(),), (ip(region="nowhere1"),), disks=held), PRICES, PRICES.as_of)
    head, *rows = text.splitlines()
    assert head.split()[:4] == ["verdict", "kind", "name", "place"]
    assert [row.split()[:2] for row in rows[:3]] == [
        ["orphan", "instance"],
        ["orphan", "disk"],
        ["orphan", "address"],
    ]
    assert rows[0].index(ZONE) == head.index("place")
    assert "unknown" in rows[2]
    assert rows[3] == f"3 orphans: {SPOT + DISK:.2f} US dollars a month, and 1 of unknown price."
    assert "List prices of" in rows[4]
    assert "WARNING" in told.as_text(look((vm(),)), PRICES, date(2036, 1, 1))


def test_what_was_not_seen_is_said() -> None:
    found = look(unseen={"job": "get Scheduler job x: 503", "zones/z": "zones/z does not answer"})
    text = told.as_text(found, PRICES, PRICES.as_of)
    assert text.splitlines() == [
        "not seen: get Scheduler job x: 503",
        "not seen: zones/z does not answer",
        "No orphans in what could be told.",
    ]
    assert told.exit_code(found) == told.UNTOLD


def test_nothing_is_said_to_be_nothing() -> None:
    assert told.as_text(look(), PRICES, PRICES.as_of) == "No orphans."
    assert told.exit_code(look()) == told.ALL_WELL


def test_programs_get_null_for_a_price_that_is_not_known() -> None:
    found = look((vm(external_ip=None, disk_gib=0),), (ip(status="RESERVED"),))
    outcome = Outcome(found.orphans[0], End.FAILED, "503")
    document = json.loads(told.as_json(found, PRICES, [outcome]))
    assert [(each["kind"], each["monthly"]) for each in document["resources"]] == [
        ("instance", None),
        ("address", pytest.approx(UNUSED)),
    ]
    assert document["resources"][0]["outcome"] == {"end": "failed", "why": "503"}
    assert document["pricesAsOf"] == PRICES.as_of.isoformat()


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ((), told.REMAINING),
        ((End.DELETED,), told.REMAINING),
        ((End.DELETED, End.GONE), told.ALL_WELL),
        ((End.DELETED, End.LEFT), told.REMAINING),
        ((End.DELETED, End.FAILED), told.REMAINING),
    ],
)
def test_the_exit_code_says_whether_any_is_left(ends: tuple[End, ...], code: int) -> None:
    found = look((vm(),), (ip(),))
    outcomes = [Outcome(orphan, end) for orphan, end in zip(found.orphans, ends, strict=False)]
    assert told.exit_code(found, outcomes) == code


def test_all_kinds_are_counted_that_could_be_seen() -> None:
    found = look((vm(), vm(BESIDE, machine_type="e2-nothing")), (ip(),), disks=(disk(users=(NAME,)),))
    counted = told.tallies(found)
    assert set(counted) == set(told.COUNTED)
    machines = counted[Kind.INSTANCE]
    assert (machines.count, machines.unpriced) == (2, 1)
    assert machines.dollars == pytest.approx(SPOT)
    assert counted[Kind.JOB] == told.Tally()
    hidden = told.tallies(look(unseen={"disks": "403", "job": "503", "zones/z": "silent"}))
    assert set(told.COUNTED) - set(hidden) == {Kind.DISK, Kind.JOB}


def test_what_is_not_an_orphan_is_not_counted() -> None:
    counted = told.tallies(look((retained(), vm(BESIDE, created=YOUNG), vm(name="copy"))))
    assert {each.count for each in counted.values()} == {0}
