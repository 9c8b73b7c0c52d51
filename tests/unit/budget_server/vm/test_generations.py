"""How a generation is started, and what it may say about its failure. (`test_main` runs real ones.)"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from budget_server.settings import Settings
from budget_server.vm.artifact import Artifact
from budget_server.vm.config import BudgetConfig, Manifest, Secrets
from budget_server.vm.errors import Died, DiskFull, Interrupted, LoadFailed, OutOfMemory, RolloutError
from budget_server.vm.generations import Generation, Launch, web_environment
from budget_server.vm.process import Identity

KEY = bytes(range(32))
SERVER_SETTINGS = (
    "workers",
    "threads",
    "max_concurrency",
    "max_queue",
    "max_body_mib",
    "batch_size",
    "batch_window_ms",
    "cors_origins",
)


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """A launch whose "Python" ends at once."""
    digests = {"bundleSha256": "", "sealedSha256": ""}
    names = {"image": "i", "deployment": "d", "bucket": "b", "bundle": "x", "sealed": "y"}
    config = BudgetConfig.model_validate({**names, **digests, "revision": "a" * 12})
    manifest = Manifest.model_validate(
        {"version": 1, "deployment": "team/demo", "entrypoint": "m:C", "tokenTTLSeconds": 60}
    )
    env = {"X": "user", "BUDGET_TOKEN": "of the user", "PATH": "/user"}
    secrets = Secrets(username="me", password="hunter22", token="t0ken", env=env)
    artifact = Artifact(config, manifest, secrets, tmp_path)
    return Launch(artifact, Path("/bin/true"), KEY, {"X": "image", "LANG": "C"})


def test_the_users_environment_wins_over_the_images_but_not_over_ours(launch: Launch) -> None:
    env = web_environment(launch, Path("/f"))
    assert (env["X"], env["LANG"], env["PATH"], env["BUDGET_TOKEN"]) == ("user", "C", "/user", "t0ken")
    assert env["BUDGET_NAME"] == "team/demo"
    assert env["BUDGET_FAILURE_FILE"] == "/f"


def test_the_settings_of_the_manifest_are_those_of_the_web_side(launch: Launch, tmp_path: Path) -> None:
    server = {
        "workers": 2,
        "threads": 3,
        "maxConcurrency": 5,
        "maxQueue": 7,
        "maxBodyMiB": 11,
        "batch": {"maxSize": 13, "windowMilliseconds": 17},
        "corsOrigins": ["https://a.example", "http://localhost:3000"],
    }
    read = web_settings(launch, server, tmp_path)
    assert (read.workers, read.threads, read.max_concurrency, read.max_queue) == (2, 3, 5, 7)
    assert (read.max_body_mib, read.batch_size, read.batch_window_ms) == (11, 13, 17)
    assert read.cors_origins == ("https://a.example", "http://localhost:3000")


@pytest.mark.parametrize("server", [{}, {"workers": 1, "threads": 4}], ids=["none", "an old manifest"])
def test_settings_that_no_manifest_names_have_the_web_sides_own_defaults(
    launch: Launch, tmp_path: Path, server: dict[str, object]
) -> None:
    read = web_settings(launch, server, tmp_path)
    for name in SERVER_SETTINGS:
        assert getattr(read, name) == Settings.model_fields[name].default, name


def web_settings(launch: Launch, server: dict[str, object], code: Path) -> Settings:
    """What the web side reads from the environment that it is given."""
    artifact = launch.artifact
    manifest = Manifest.model_validate({**artifact.manifest.model_dump(by_alias=True), "server": server})
    launch = replace(launch, artifact=replace(artifact, manifest=manifest, code_dir=code))
    return Settings.from_environment(web_environment(launch, Path("/f")))


def test_the_signing_key_is_the_same_at_every_boot_and_differs_by_key(launch: Launch) -> None:
    key = web_environment(launch, Path("/f"))["BUDGET_SIGNING_KEY"]
    assert len(bytes.fromhex(key)) == 32
    assert web_environment(launch, Path("/f"))["BUDGET_SIGNING_KEY"] == key
    other = Launch(launch.artifact, launch.python, bytes(32), {})
    assert web_environment(other, Path("/f"))["BUDGET_SIGNING_KEY"] != key


def test_a_server_that_ends_is_a_failed_load(launch: Launch, tmp_path: Path) -> None:
    generation = Generation(1, launch, tmp_path, Identity())
    with pytest.raises(LoadFailed, match="exit code 0"):
        generation.wait_ready(lambda: False)


def test_newer_intent_ends_the_wait(launch: Launch, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        Generation(1, launch, tmp_path, Identity()).wait_ready(lambda: True)


def _as_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def _as_pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _as_half(path: Path, _: Path) -> None:
    path.write_text('{"message": "hal')


@pytest.mark.parametrize("place", [_as_link, _as_pipe, _as_half])
def test_what_the_model_left_as_its_failure_is_not_followed(
    launch: Launch, tmp_path: Path, place: Callable[[Path, Path], None]
) -> None:
    private = tmp_path / "private.json"
    private.write_text(json.dumps({"message": "not for you"}))
    generation = Generation(1, launch, tmp_path, Identity())
    place(generation.place / "failure.json", private)
    with pytest.raises(LoadFailed, match="exit code 0"):
        generation.wait_ready(lambda: False)


def test_a_told_failure_is_masked(launch: Launch, tmp_path: Path) -> None:
    generation = Generation(1, launch, tmp_path, Identity())
    told = {"reason": "LoadFailed", "message": "bad hunter22", "log": "line t0ken"}
    (generation.place / "failure.json").write_text(json.dumps(told))
    with pytest.raises(LoadFailed) as raised:
        generation.wait_ready(lambda: False)
    assert (raised.value.message, raised.value.log) == ("bad [secret]", "line [secret]")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("OutOfMemory", OutOfMemory), ("DiskFull", DiskFull), ("WorkerDied", Died), ("Ready", LoadFailed)],
)
def test_of_reasons_only_the_known_are_believed(
    launch: Launch, tmp_path: Path, reason: str, kind: type[RolloutError]
) -> None:
    generation = Generation(1, launch, tmp_path, Identity())
    (generation.place / "failure.json").write_text(json.dumps({"reason": reason, "message": "m", "log": "l"}))
    with pytest.raises(kind) as raised:
        generation.wait_ready(lambda: False)
    assert type(raised.value) is kind


def test_temporary_files_go_with_their_generation(launch: Launch, tmp_path: Path) -> None:
    scratch = tmp_path / "tmp"
    launch = replace(launch, scratch=scratch)
    assert web_environment(launch, Path("/f"))["TMPDIR"] == str(scratch)
    generation = Generation(1, launch, tmp_path, Identity())
    (scratch / "half a download").touch()
    generation.discard()
    assert not scratch.exists()


def test_a_server_that_loads_is_what_the_kernel_ends_first(launch: Launch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n/bin/cat /proc/self/oom_score_adj\n")
    python.chmod(0o755)
    generation = Generation(1, replace(launch, python=python), tmp_path, Identity())
    with pytest.raises(LoadFailed) as raised:
        generation.wait_ready(lambda: False)
    assert raised.value.log == "1000"


def test_no_secret_is_in_the_log_of_a_model_that_prints_its_whole_environment(
    launch: Launch, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec /usr/bin/env\n")
    python.chmod(0o755)
    generation = Generation(1, replace(launch, python=python), tmp_path, Identity())
    with pytest.raises(LoadFailed) as raised:
        generation.wait_ready(lambda: False)
    told = dict(line.split("=", 1) for line in raised.value.log.splitlines())
    assert told["BUDGET_NAME"] == "team/demo", "the environment was printed"
    assert {told[name] for name in ("BUDGET_PWD", "BUDGET_TOKEN", "BUDGET_SIGNING_KEY")} == {"[secret]"}
    assert launch.signing_key not in raised.value.log
