"""References are read, named when they are missing, and never quoted."""

from dataclasses import replace
from typing import Any

import pytest

from budget_operator.core.api import parse_spec
from budget_operator.core.errors import InvalidSpec, ReferenceMissing
from budget_operator.core.names import METADATA_CONFIG, METADATA_KEY
from budget_operator.reconcile import inputs
from dev.simulation.apiserver import CODE
from tests.unit.budget_operator.fakes import World

LOGIN = {"username": b"u", "password": b"p", "token": b"t"}


def read(world: World, **spec: Any) -> Any:
    spec = {"predictor": {"inline": CODE}, **spec}
    document = world.kube.apply("iris", spec)
    return inputs.read_source(world.kube, document, parse_spec(spec), lambda: None, lambda _: ())


def test_a_login_is_made_once(world: World) -> None:
    first = read(world).login
    assert first.username == "budget"
    assert len(first.password) >= 24
    assert first.password != first.token
    assert read(world).login == first


def test_a_login_under_the_same_name_that_nobody_owns_is_taken(world: World) -> None:
    world.kube.secrets["default", "iris-login"] = LOGIN
    assert read(world).login.password == "p"


def test_the_users_secret_is_taken_as_it_is(world: World) -> None:
    world.kube.secrets["default", "auth"] = {**LOGIN, "password": "p£ss\n".encode()}
    assert read(world, auth={"secretName": "auth"}).login.password == "p£ss\n"
    assert ("default", "iris-login") not in world.kube.secrets


@pytest.mark.parametrize("missing", ["username", "password", "token"])
@pytest.mark.parametrize("empty", [True, False])
def test_every_key_of_the_login_has_to_be_there(world: World, missing: str, empty: bool) -> None:
    held = {key: value for key, value in LOGIN.items() if key != missing}
    world.kube.secrets["default", "auth"] = {**held, missing: b""} if empty else held
    with pytest.raises(ReferenceMissing, match=f"non-empty key {missing}"):
        read(world, auth={"secretName": "auth"})


def test_a_long_name_has_a_login_too() -> None:
    spec = parse_spec({"predictor": {"inline": CODE}})
    name = inputs.login_secret("a" * 246 + ".b" + "c" * 5, spec)
    assert len(name) <= 253
    assert name.endswith("a-login")


def test_a_config_map_becomes_files(world: World) -> None:
    files = {"predictor.py": CODE.encode(), "weights.bin": b"\0\1"}
    world.kube.config_maps["default", "code"] = files
    assert read(world, predictor={"configMap": {"name": "code"}}).files == files


def test_environment_from_values_and_secrets(world: World) -> None:
    world.kube.secrets["default", "s"] = {"k": b"hidden"}
    env = [
        {"name": "A", "value": "plain"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    assert read(world, env=env).env == {"A": "plain", "B": "hidden"}


def test_a_missing_key_is_named(world: World) -> None:
    world.kube.secrets["default", "s"] = {}
    env = [{"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    with pytest.raises(ReferenceMissing, match=r"spec\.env\[0\]\.valueFrom\.secretKeyRef\.key"):
        read(world, env=env)


@pytest.mark.parametrize("value", [b"\xff\xfehidden", b"hid\0den"])
def test_unusable_values_are_named_not_quoted(world: World, value: bytes) -> None:
    world.kube.secrets["default", "s"] = {"k": value}
    env = [{"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    with pytest.raises(InvalidSpec, match=r"spec\.env\[0\]") as caught:
        read(world, env=env)
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize("variable", [{"name": "BUDGET_TOKEN", "value": "x"}, {"name": "A"}])
def test_rules_of_the_schema_hold_for_older_objects_too(world: World, variable: dict[str, str]) -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.env\[0\]"):
        read(world, env=[variable])


def test_a_key_of_the_wrong_length_is_refused(world: World) -> None:
    owner = world.owner("iris")
    world.kube.secrets["system", inputs.key_secret(owner)] = {"key": b"short"}
    with pytest.raises(InvalidSpec, match="32 bytes"):
        inputs.held_key(world.kube, "system", owner)


def test_a_new_key_is_random(world: World) -> None:
    one = inputs.make_key(world.kube, "system", world.owner("a"), None)
    two = inputs.make_key(world.kube, "system", world.owner("b"), None)
    assert len(one) == 32
    assert one != two
    assert inputs.held_key(world.kube, "system", world.owner("a")) == one


def test_a_login_in_an_index_url_travels_with_the_secrets(world: World) -> None:
    found = read(
        world,
        requirements=["--extra-index-url https://me:hunter22@e.org/simple", "ours"],
        env=[{"name": "X", "value": "y"}],
    )
    assert "hunter22" not in "".join(found.requirements)
    assert found.env == {"X": "y", "BUDGET_REQUIREMENTS_LOGIN_0": "me:hunter22"}
    assert "hunter22" not in repr(found)


def test_requirements_may_lie_in_the_config_map(world: World) -> None:
    files = {"predictor.py": CODE.encode(), "more.txt": b"six==1.17.0\n"}
    world.kube.config_maps["default", "code"] = files
    found = read(world, predictor={"configMap": {"name": "code"}}, requirements=["-r more.txt"])
    assert found.requirements == ("six==1.17.0",)


@pytest.mark.parametrize("config", [None, "", "{}", "[]", '{"sealed": "absent", "revision": "r"}'])
def test_a_vm_that_does_not_tell_its_login_has_none(world: World, config: str | None) -> None:
    world.up()
    vm = world.vm("iris")
    assert vm is not None
    owner, storage = world.owner("iris"), world.cloud
    assert inputs.former_login(storage, owner, vm) is not None
    metadata = {key: value for key, value in vm.metadata.items() if key != METADATA_CONFIG}
    if config is not None:
        metadata[METADATA_CONFIG] = config
    assert inputs.former_login(storage, owner, replace(vm, metadata=metadata)) is None
    no_key = {key: value for key, value in vm.metadata.items() if key != METADATA_KEY}
    assert inputs.former_login(storage, owner, replace(vm, metadata=no_key)) is None
