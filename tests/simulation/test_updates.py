"""Each field of the spec does what the reference says its change does, and nothing else.

What was done is read from the local cloud's journal, and from what is there before and after.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from budget_operator.core.artifact import Login
from budget_operator.core.names import Owner
from budget_operator.reconcile.inputs import former_login
from dev.simulation import invariants
from dev.simulation.apiserver import CODE
from dev.simulation.world import NAMESPACE, PROJECT, ZONES, World, vm, world
from localcloud.faults import parse
from localcloud.services.compute.records import INSTANCE
from tests.simulation.acts import NAME
from tests.simulation.buckets import make, put
from tests.simulation.scenes import WHILE
from tests.unit.docs.test_reference import fields, kind_of, schema_of

Spec = Mapping[str, Any]

SET_METADATA, SET_LABELS = "compute.instances.setMetadata", "compute.instances.setLabels"
STOP, START = "compute.instances.stop", "compute.instances.start"
BOOT = [SET_LABELS, STOP, SET_LABELS, START]
ANEW = ["compute.instances.delete", "compute.instances.create"]
TYPES, RESIZE = "compute.instances.setMachineType", "compute.disks.resize"
GIVE_BACK = ["compute.instances.deleteAccessConfig", "compute.addresses.delete"]
TAKE = ["compute.addresses.create", "compute.instances.addAccessConfig"]
CALLS: Mapping[str, list[list[str]]] = {
    "nothing": [[]],
    "front door": [[SET_METADATA]],
    "replace": [[SET_METADATA]],
    "rollout": [[SET_METADATA]],
    "restart": [[*BOOT[:2], TYPES, *BOOT[2:]], [RESIZE, *BOOT]],
    "recreate": [ANEW],
    "power": [[*BOOT[:2], *GIVE_BACK], [SET_METADATA]],
}
"""For each kind of change, what may be called of Compute, in order."""

BUNDLE = "-----BEGIN CERTIFICATE-----\nMIIB{}\n-----END CERTIFICATE-----\n"
TWO = f"{CODE}class Second(Predictor): pass\n"
BATCHED = f"{CODE}    def predict_batch(self, requests): return requests\n"
LOGIN = {"username": b"u", "password": b"p", "token": b"t"}


def inline(code: str = CODE, entrypoint: str = "predictor:Predictor", **more: Any) -> Spec:
    return {"predictor": {"inline": code, "entrypoint": entrypoint}, **more}


def files(name: str) -> Spec:
    return {"predictor": {"configMap": {"name": name}}}


def in_bucket(folder: str) -> Spec:
    return {"predictor": {"gcs": f"gs://models/{folder}/"}}


def in_image(folder: str, image: str = "registry/mine:1") -> Spec:
    return {"predictor": {"image": folder}, "image": image}


def variable(name: str = "A", **more: Any) -> Spec:
    return inline(env=[{"name": name, **more}])


def from_secret(name: str, key: str) -> Spec:
    return variable(valueFrom={"secretKeyRef": {"name": name, "key": key}})


def acme(host: str = "a.acme.org", **tls: Any) -> Spec:
    return inline(endpoint={"host": host, "tls": {"mode": "Acme", **tls}})


def server(**fields: Any) -> Spec:
    return inline(BATCHED, server=fields)


def machine(**fields: Any) -> Spec:
    return inline(machine=fields)


EDITS: Mapping[str, tuple[Spec, Spec]] = {
    "spec.predictor.entrypoint": (inline(TWO), inline(TWO, "predictor:Second")),
    "spec.predictor.inline": (inline(), inline(f"{CODE}# another\n")),
    "spec.predictor.configMap.name": (files("one"), files("two")),
    "spec.predictor.gcs": (in_bucket("one"), in_bucket("two")),
    "spec.predictor.image": (in_image("/app"), in_image("/other")),
    "spec.image": (inline(), inline(image="registry/server:mine")),
    "spec.requirements": (inline(), inline(requirements=["numpy"])),
    "spec.env[].name": (variable(value="x"), variable("B", value="x")),
    "spec.env[].value": (variable(value="x"), variable(value="y")),
    "spec.env[].valueFrom.secretKeyRef.name": (from_secret("one", "token"), from_secret("two", "token")),
    "spec.env[].valueFrom.secretKeyRef.key": (from_secret("one", "token"), from_secret("one", "password")),
    "spec.auth.secretName": (inline(), inline(auth={"secretName": "two"})),
    "spec.auth.tokenTTL": (inline(), inline(auth={"tokenTTL": "1h"})),
    "spec.machine.type": (machine(), machine(type="e2-small")),
    "spec.machine.provisioning": (machine(), machine(provisioning="Standard")),
    "spec.machine.diskGiB": (machine(), machine(diskGiB=30)),
    "spec.placement.zones": (inline(), inline(placement={"zones": [ZONES[1]]})),
    "spec.placement.regions": (
        inline(placement={"regions": ["us-central1"]}),
        inline(placement={"regions": ["us-east1", "us-central1"]}),
    ),
    "spec.placement.prefer": (
        inline(placement={"regions": ["us-central1"]}),
        inline(placement={"regions": ["us-central1"], "prefer": "Cheapest"}),
    ),
    "spec.endpoint.host": (acme(), acme("b.acme.org")),
    "spec.endpoint.tls.mode": (inline(), inline(endpoint={"tls": {"mode": "Internal"}})),
    "spec.endpoint.tls.email": (acme(), acme(email="ops@acme.org")),
    "spec.endpoint.tls.directory": (acme(), acme(directory="https://ca.acme.org/directory")),
    "spec.endpoint.tls.caBundle": (acme(caBundle=BUNDLE.format("A")), acme(caBundle=BUNDLE.format("B"))),
    "spec.readiness.payload": (inline(), inline(readiness={"payload": {"x": 1}})),
    "spec.readiness.startupSeconds": (inline(), inline(readiness={"startupSeconds": 100})),
    "spec.readiness.failureSeconds": (inline(), inline(readiness={"failureSeconds": 100})),
    "spec.server.workers": (server(), server(workers=2)),
    "spec.server.threads": (server(), server(threads=2)),
    "spec.server.maxConcurrency": (server(), server(maxConcurrency=2)),
    "spec.server.maxQueue": (server(), server(maxQueue=2)),
    "spec.server.maxBodyMiB": (server(), server(maxBodyMiB=2)),
    "spec.server.batch.maxSize": (server(), server(batch={"maxSize": 2})),
    "spec.server.batch.windowMilliseconds": (server(), server(batch={"windowMilliseconds": 2})),
    "spec.server.corsOrigins": (server(), server(corsOrigins=["*"])),
    "spec.budget.monthly": (inline(budget={"monthly": 30}), inline(budget={"monthly": 31})),
    "spec.budget.onExceeded": (
        inline(budget={"monthly": 30}),
        inline(budget={"monthly": 30, "onExceeded": "Warn"}),
    ),
    "spec.budget.warnAt": (inline(budget={"monthly": 30}), inline(budget={"monthly": 30, "warnAt": 50})),
    "spec.suspend": (inline(), inline(suspend=True)),
    "spec.deletionPolicy": (inline(), inline(deletionPolicy="Retain")),
}


@dataclass(frozen=True)
class Picture:
    """What there is of a deployment in the cloud."""

    vm: str  # an id, as those of disk and address
    disk: str
    address: str  # empty: given back
    ip: str
    config: Mapping[str, Any]
    last_entry: int

    @property
    def revision(self) -> str:
        """That the VM should serve."""
        return str(self.config["revision"])


def picture(made: World) -> Picture:
    (instance,) = [doc for _, doc in made.store.list(INSTANCE)]
    (disk,) = [doc for _, doc in made.store.list("compute.disk")]
    address = next((doc["id"] for _, doc in made.store.list("compute.address")), "")
    items = {item["key"]: item["value"] for item in instance["body"]["metadata"]["items"]}
    entries = made.cloud.context.journal.entries(limit=1)
    config = json.loads(items["budget-config"])
    ip = instance["ip"] if address else ""
    return Picture(instance["body"]["id"], disk["id"], address, ip, config, entries[-1].id)


def called(made: World, since: Picture) -> list[str]:
    """What changed something of Compute, in order."""
    entries = made.cloud.context.journal.entries(since.last_entry, 100_000, "compute.*", effective=True)
    return [entry.permission for entry in entries if entry.method != "GET"]


def leaves() -> Iterator[str]:
    """The fields that hold a value and no fields."""
    paths = [path for path, _ in fields(schema_of("spec"), "spec")]
    return (path for path in paths if not any(other.startswith((f"{path}.", f"{path}[]")) for other in paths))


def serves(made: World, name: str = NAME) -> bool:
    revision = made.kube.status(name)["revision"]
    said = [made.kube.condition(name, kind)[0] for kind in ("Ready", "Reconciling")]
    return said == ["True", "False"] and revision["target"] == revision["active"]


def changed(edit: Callable[[World], None], before: Spec) -> tuple[World, Picture, Picture, list[str]]:
    """A deployment that serves, and what an edit of it did."""
    with world() as made:
        make(made, "models")
        for name in ("one", "two"):
            made.kube.secrets[NAMESPACE, name] = {key: value + name.encode() for key, value in LOGIN.items()}
            made.kube.config_maps[NAMESPACE, name] = {"predictor.py": f"{CODE}# {name}\n".encode()}
            put(made, "models", f"{name}/predictor.py", f"{CODE}# {name}\n")
        made.apply(NAME, dict(before))
        made.run(WHILE)
        old = picture(made)
        edit(made)
        made.run(WHILE)
        return made, old, picture(made), called(made, old)


def check(kind: str, old: Picture, new: Picture, calls: list[str]) -> None:
    assert calls in CALLS[kind]
    kept = (new.address, new.ip) == (old.address, old.ip)
    assert kept == (GIVE_BACK[0] not in calls), "the endpoint stays whatever else is changed"
    assert ((new.vm, new.disk) == (old.vm, old.disk)) == (kind != "recreate")
    assert (new.revision != old.revision) == (kind == "rollout")
    assert (new.config != old.config) == (kind in ("rollout", "front door", "replace"))


def test_every_field_is_edited() -> None:
    assert set(EDITS) == set(leaves())


@pytest.mark.parametrize("field", EDITS)
def test_a_change_does_what_the_reference_says(field: str) -> None:
    before, after = EDITS[field]
    made, old, new, calls = changed(lambda made: made.apply(NAME, dict(after)), before)
    if field == "spec.deletionPolicy":  # the VM has to know what it is once its object is gone
        assert calls.pop() == SET_LABELS
    check(kind_of(field), old, new, calls)
    assert (GIVE_BACK[0] in calls) == (field == "spec.suspend")
    # whose certificate nobody signs, or nobody can look at, is not asked in the simulation
    assert serves(made) or field.startswith("spec.endpoint.") or field == "spec.suspend"


def new_code(made: World) -> None:
    made.kube.config_maps[NAMESPACE, "one"] = {"predictor.py": f"{CODE}# another\n".encode()}
    made.look_again()


def new_object(made: World) -> None:
    put(made, "models", "one/predictor.py", f"{CODE}# another\n")
    made.look_again()


def new_secret(made: World) -> None:
    made.kube.secrets[NAMESPACE, "one"] = {**LOGIN, "token": b"another"}
    made.look_again()


@pytest.mark.parametrize(
    ("field", "before", "edit"),
    [
        ("spec.predictor.configMap", files("one"), new_code),
        ("spec.predictor.gcs", in_bucket("one"), new_object),
        ("spec.env[].valueFrom.secretKeyRef", from_secret("one", "token"), new_secret),
        ("spec.auth.secretName", inline(auth={"secretName": "one"}), new_secret),
    ],
)
def test_new_content_of_what_a_field_refers_to_is_a_rollout(
    field: str, before: Spec, edit: Callable[[World], None]
) -> None:
    made, old, new, calls = changed(edit, before)
    assert kind_of(field) == "rollout"
    check("rollout", old, new, calls)
    assert serves(made)


def taken(made: World) -> None:
    made.preempt(NAME)


@pytest.mark.parametrize("events", [(new_secret, taken), (taken, new_secret)])
def test_a_login_that_is_rotated_as_the_vm_is_taken_away_is_that_of_the_next_boot(
    events: tuple[Callable[[World], None], ...],
) -> None:
    owner = Owner("default", NAMESPACE, NAME)
    with world() as made:
        made.kube.secrets[NAMESPACE, "one"] = dict(LOGIN)
        made.apply(NAME, dict(inline(auth={"secretName": "one"})))
        made.run(WHILE)
        old = picture(made)
        for event in events:
            event(made)
        for _ in range(int(WHILE)):
            made.run(1)
            if serves(made) and made.kube.status(NAME)["preemptions"]["count"] == 1:
                break
        assert made.operator is not None
        cloud = made.operator.common.means.cloud
        instance = cloud.compute.instance(made.kube.status(NAME)["zone"], vm(NAME))
        assert instance is not None
        login = former_login(cloud.storage, owner, instance)
    assert login == Login("u", "p", "another")
    assert made.kube.status(NAME)["revision"]["active"] not in (None, old.revision)


def test_another_image_is_another_revision_of_code_that_lies_in_it() -> None:
    edit = in_image("/app", "registry/mine:2")
    made, old, new, calls = changed(lambda made: made.apply(NAME, dict(edit)), in_image("/app"))
    check("rollout", old, new, calls)
    assert (old.config["image"], new.config["image"]) == ("registry/mine:1", "registry/mine:2")
    assert serves(made)


def test_a_vm_whose_zone_is_taken_off_the_list_and_sold_out_moves_behind_its_address() -> None:
    def move(made: World) -> None:
        made.apply(NAME, dict(inline(placement={"zones": [ZONES[1]]})))
        made.cloud.context.faults.add(parse({"kind": "stock-out", "zone": ZONES[0]}), made.clock.now())
        made.preempt(NAME)

    made, old, new, calls = changed(move, inline())
    moved = ["deleteAccessConfig", "create", "delete"]
    assert [call for call in calls if call.rpartition(".")[2] in moved] == [
        f"compute.instances.{verb}" for verb in moved
    ]
    check("recreate", old, new, ANEW)
    assert made.kube.status(NAME)["zone"] == ZONES[1]


def test_several_changes_at_once_boot_the_vm_once() -> None:
    after = inline(f"{CODE}# another\n", machine={"type": "e2-small", "diskGiB": 30})
    made, old, new, calls = changed(lambda made: made.apply(NAME, dict(after)), inline())
    counted = Counter(calls)
    assert counted.pop(SET_LABELS) >= 2
    assert counted == Counter([SET_METADATA, RESIZE, TYPES, STOP, START])
    assert (new.vm, new.disk, new.address) == (old.vm, old.disk, old.address)
    assert serves(made)


def is_off(made: World) -> bool:
    [(_, instance)] = made.store.list(INSTANCE)
    return (made.kube.status(NAME)["state"], instance["body"]["status"]) == ("Suspended", "TERMINATED")


def test_a_suspended_deployment_stays_off_and_comes_back_with_all_that_was_changed_meanwhile() -> None:
    later = inline(f"{CODE}# another\n", machine={"type": "e2-small", "diskGiB": 30})

    def suspend(made: World) -> None:
        made.apply(NAME, dict(inline(suspend=True)))
        made.run(WHILE)
        assert is_off(made)
        made.apply(NAME, {**later, "suspend": True})
        made.run(WHILE)
        assert is_off(made), "a change wakes nobody"
        made.apply(NAME, dict(later))

    made, old, new, calls = changed(suspend, inline())
    counted = Counter(calls)
    assert counted.pop(SET_LABELS) >= 2
    assert counted == Counter([SET_METADATA, RESIZE, TYPES, STOP, START, *GIVE_BACK, *TAKE])
    assert (new.vm, new.disk) == (old.vm, old.disk)
    assert new.address not in ("", old.address)
    assert serves(made)


def test_of_a_deployment_that_is_suspended_from_the_start_nothing_is_made_that_is_paid_for() -> None:
    wanted = inline(suspend=True)
    with world() as made:
        made.apply(NAME, dict(wanted))
        made.run(WHILE)
        assert invariants.calm(made, {NAME: wanted}, frozenset()) == []
        assert made.store.list(INSTANCE) == made.store.list("compute.address") == []
        before = made.cloud.context.journal.entries(limit=1)[-1].id
        made.run(600)
        calls = made.cloud.context.journal.entries(before, 100_000, "compute.instances.get")
        assert calls == [], "what is off asks no questions"
        made.apply(NAME, dict(inline()))
        made.run(WHILE)
        assert serves(made)


def test_a_vm_that_somebody_starts_although_it_is_suspended_is_stopped_again() -> None:
    wanted = inline(suspend=True)
    with world() as made:
        made.apply(NAME, dict(inline()))
        made.run(WHILE)
        made.apply(NAME, dict(wanted))
        made.run(WHILE)
        [(key, _)] = made.store.list(INSTANCE)
        url = f"{made.settings.api_endpoint}/compute/v1/{key}/start"
        assert made.cloud.answer("POST", url, {}, b"").status == 200
        made.run(WHILE)
        assert invariants.calm(made, {NAME: wanted}, frozenset()) == []


def test_a_disk_that_somebody_resized_is_kept_and_told() -> None:
    def resize(made: World) -> None:
        path = f"/compute/v1/projects/{PROJECT}/zones/{ZONES[0]}/disks/{vm(NAME)}/resize"
        url, headers = made.settings.api_endpoint + path, {"content-type": "application/json"}
        answer = made.cloud.answer("POST", url, headers, b'{"sizeGb": "50"}')
        assert answer.status == 200

    made, old, new, calls = changed(resize, inline())
    assert calls == [RESIZE]
    assert (new.vm, new.disk) == (old.vm, old.disk)
    status, reason, message = made.kube.condition(NAME, "Stalled")
    assert (status, reason) == ("True", "InvalidSpec")
    assert message.startswith("spec.machine.diskGiB: 20 is less than the 50 GiB")
    assert made.kube.condition(NAME, "Ready")[0] == "True"
