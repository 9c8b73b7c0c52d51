"""gcloud whose modules are loaded once for many calls says what it says otherwise."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dev.conformance.clients import Gcloud, gcloud_environment, warm_gcloud_environment

pytestmark = pytest.mark.skipif(not Gcloud.is_here(), reason="gcloud is not installed")

NOBODY = "http://127.0.0.1:9"


def run(words: str, environment: Mapping[str, str], folder: Path, said: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        ["gcloud", *words.split()],
        env=environment,
        cwd=folder,
        input=said,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return os.environ | gcloud_environment(NOBODY, "p1", tmp_path_factory.mktemp("gcloud"))


@pytest.fixture(scope="module")
def warm(cold: dict[str, str]) -> Iterator[dict[str, str]]:
    with warm_gcloud_environment(cold) as environment:
        yield environment


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("info --format=json(installation,basic,config.project,config.paths.global_config_dir)", 0),
        ("iam roles create r --project=p1 --file=-", 1),
    ],
)
def test_a_call_says_what_it_says_alone(
    words: str, code: int, cold: dict[str, str], warm: dict[str, str], tmp_path: Path
) -> None:
    alone = run(words, cold, tmp_path, "title: [")
    assert alone[0] == code, alone[2]
    assert run(words, warm, tmp_path, "title: [") == alone


def test_other_settings_count(warm: dict[str, str], tmp_path: Path) -> None:
    other = warm | {"CLOUDSDK_CORE_PROJECT": "p2"}
    assert run("config get project", other, tmp_path)[:2] == (0, "p2\n")
    assert run("config get project", warm, tmp_path)[:2] == (0, "p1\n")


def test_nothing_is_left(cold: dict[str, str], tmp_path: Path) -> None:
    with warm_gcloud_environment(cold) as environment:
        place = Path(environment["CLOUDSDK_PYTHON"]).parent
        assert run("config get project", environment, tmp_path)[0] == 0
    assert not place.exists()
    assert run("config get project", environment, tmp_path)[0] != 0
