"""What the stack tells its processes and people, and what it says when something is missing."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from dev import cluster, docker, engine, environment, golang, paths, process
from dev.checks import run as run_checks
from dev.docker import Docker
from dev.errors import DevError
from dev.paths import E2E, HOMES, MAIN, Home, main_home
from dev.progress import step, until


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, "test", 99)


def test_stacks_share_no_network_and_no_folder_of_state() -> None:
    assert len({home.subnet for home in HOMES}) == len({home.network for home in HOMES}) == len(HOMES)
    assert E2E.run != MAIN.run


def test_a_second_checkout_on_an_engine_takes_another_network() -> None:
    assert main_home({}) == MAIN or "BUDGETML_NETWORK" in os.environ
    other = main_home({"BUDGETML_NETWORK": "budgetml-other:77"})
    assert (other.root, other.network, other.gateway) == (MAIN.root, "budgetml-other", "10.202.77.1")
    for wrong in ("budgetml", "budgetml:", "budgetml:x", ":50"):
        with pytest.raises(DevError, match="BUDGETML_NETWORK"):
            main_home({"BUDGETML_NETWORK": wrong})


def test_a_port_is_remembered_until_somebody_else_takes_it(home: Home) -> None:
    port = home.port("api")
    assert home.port("api") == port == home.known_port("api")
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert home.port("api") != port


def test_the_file_to_source_sets_what_it_says(home: Home) -> None:
    port = home.port("registry")
    environment.write(home, Docker("unix:///a b.sock", "/usr/bin/docker"))
    named = " ".join(
        f'"${name}"' for name in ("KUBECONFIG", "DOCKER_HOST", "LOCALCLOUD_URL", "LOCAL_REGISTRY", "PATH")
    )
    script = f'. {environment.path(home)}; printf "%s\\n" {named}'
    lines = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    cloud, registry = "http://10.202.99.1:8085", f"127.0.0.1:{port}"
    assert lines[:4] == [str(home.kubeconfig), "unix:///a b.sock", cloud, registry]
    assert lines[4].split(":")[0].endswith("/.local/bin")


def test_the_operator_gets_its_own_kubeconfig_and_no_credentials_of_the_user(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/secret.json")
    settings = environment.operator(home)
    assert settings["KUBECONFIG"] == str(home.operator_kubeconfig)
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in settings
    assert settings["BUDGET_API_ENDPOINT"] == home.cloud_url


def test_without_go_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(golang, "BIN", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(DevError, match="`go` is missing"):
        cluster.CONTROL_PLANE.build()


def test_what_another_process_has_just_compiled_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks = iter((False, True))
    monkeypatch.setattr(paths, "LOCAL", tmp_path)
    monkeypatch.setattr(golang, "find_go", lambda: "/bin/false")
    monkeypatch.setattr(golang.Programs, "is_built", lambda self: next(looks))
    assert golang.Programs("tried", cluster.MODULE, (), tags="").build() is False


def test_without_an_engine_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DevError, match="No Docker engine answers"):
        engine.up()


def test_a_docker_host_where_nothing_answers_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(DevError, match=r"none\.sock"):
        engine.find()


def test_the_private_engines_own_address_is_no_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that sourced .local/env may call make up after make down."""
    monkeypatch.setenv("DOCKER_HOST", engine.PRIVATE_HOST)
    monkeypatch.setattr(docker, "answers", lambda host: False)
    monkeypatch.setattr(docker, "may_connect", lambda host: True)
    assert engine.find() is None


def test_a_second_private_engine_on_the_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(process, "marks", lambda: {1: "/other/.local:dockerd"})
    with pytest.raises(DevError, match="/other"):
        engine._refuse_unless_possible()


def test_an_unknown_check_is_named_with_those_there_are() -> None:
    with pytest.raises(DevError, match=r"No such check: speed.*lint"):
        run_checks(["speed"])


def test_a_step_says_its_seconds_and_its_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with step("good") as current:
        current.note = "a note"
    with pytest.raises(DevError), step("bad"):
        raise DevError("why")
    good, bad = capsys.readouterr().out.splitlines()
    assert good.endswith("ok      good  (a note)")
    assert "FAILED  bad" in bad


def test_waiting_ends_with_the_failures_sentence() -> None:
    answers = iter([False, False, True])
    until(lambda: next(answers), 10, "never", interval=0)
    with pytest.raises(DevError, match="too long"):
        until(lambda: False, 0, lambda: "too long", interval=0)
