"""The images: small, without rights, the same bytes at every build, and they run as their pods do."""

import json
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest

from dev import images
from dev.docker import Docker
from dev.paths import ROOT, locked
from dev.progress import until

OPERATOR, LOCALCLOUD, SERVER = (f"budgetml/{name}:local" for name in ("operator", "localcloud", "server"))
#: Bytes, the base included.
MOST = {OPERATOR: 250 * 10**6, LOCALCLOUD: 170 * 10**6, SERVER: 350 * 10**6}
#: What a pod's security context does to the container, in Docker's words.
AS_A_POD = ("--rm", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def built(docker: Docker) -> Docker:
    """An engine that has every image."""
    with locked("images"):
        images.build(docker, images.TARGETS)
    return docker


@pytest.fixture(scope="module")
def run(built: Docker) -> Run:
    """A command in an image, as a pod runs it."""

    def call(*argv: str, settings: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        given = [f"--env={setting}" for setting in settings]
        return built.run("run", *AS_A_POD, "--network=none", *given, *argv)

    return call


@pytest.mark.parametrize("image", MOST)
def test_they_are_small(built: Docker, image: str) -> None:
    assert int(built("image", "inspect", "--format", "{{.Size}}", image)) < MOST[image]


def test_a_build_from_nothing_gives_the_same_layers(built: Docker) -> None:
    attempt = uuid.uuid4().hex
    for image in (SERVER, LOCALCLOUD, OPERATOR):
        again = image.replace(":local", ":again")
        try:
            images.build_again(built, image.split("/")[1].removesuffix(":local"), again, attempt)
            assert _layers(built, again) == _layers(built, image)
        finally:
            built.run("image", "rm", again)


@pytest.mark.parametrize("image", [OPERATOR, LOCALCLOUD])
def test_they_run_as_nobody_that_counts(run: Run, image: str) -> None:
    code = "import os; print(os.getuid()); open('/opt/budget/venv/x', 'w')"
    done = run("--entrypoint=python", image, "-c", code)
    assert done.stdout.strip() == "10001"
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("image", [OPERATOR, LOCALCLOUD])
@pytest.mark.parametrize("program", ["sh", "apt-get", "pip"])
def test_nothing_to_install_or_to_look_around_with_is_in_them(run: Run, image: str, program: str) -> None:
    assert run(f"--entrypoint={program}", image).returncode == 127


@pytest.mark.parametrize(
    ("image", "whole"),
    [
        (
            OPERATOR,
            "budget_operator.main, budget_operator.cloud.compute_client, budget_operator.cloud.wiring",
        ),
        (LOCALCLOUD, "localcloud.cli, localcloud.app, localcloud.vm.docker"),
    ],
)
def test_all_that_is_imported_is_there_and_compiled(run: Run, image: str, whole: str) -> None:
    code = f"import ssl, sqlite3, ctypes, zoneinfo, {whole}; zoneinfo.ZoneInfo('Europe/Vienna')"
    done = run("--entrypoint=python", image, "-v", "-c", code)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.findall(r"# code object from '(/.*\.py)'", done.stderr) == [], "compiled at every start"
    assert re.search(r"# code object from '/usr/.*\.pyc'", done.stderr)


def test_the_operator_says_which_settings_are_missing_and_ends(run: Run) -> None:
    ended = run(OPERATOR)
    assert ended.returncode == 2
    said = ended.stdout + ended.stderr
    for name in ("BUDGET_PROJECT", "BUDGET_ZONES", "BUDGET_BUCKET", "BUDGET_IMAGE"):
        assert f"{name} is not set" in said


def test_with_settings_the_cluster_alone_is_missing(run: Run) -> None:
    settings = (
        "BUDGET_PROJECT=project-1",
        "BUDGET_ZONES=us-central1-a",
        "BUDGET_BUCKET=b-1",
        "BUDGET_IMAGE=i",
    )
    ended = run(OPERATOR, settings=settings)
    assert ended.returncode == 2
    assert "no access to Kubernetes" in ended.stdout + ended.stderr


def test_the_operator_holds_the_function_that_it_deploys(run: Run) -> None:
    code = (
        "import json, pathlib; folder = pathlib.Path('/opt/budget/restart_function');"
        "print(json.dumps({path.name: path.read_text() for path in folder.iterdir()}))"
    )
    held = json.loads(run("--entrypoint=python", OPERATOR, "-c", code).stdout)
    for name in ("main.py", "requirements.txt"):
        assert held[name] == (ROOT / "restart_function" / name).read_text()


@pytest.fixture(params=[("--tmpfs=/var/lib/localcloud:exec", "--user=0:0"), ()], ids=["root", "its user"])
def in_cloud(built: Docker, request: pytest.FixtureRequest) -> Iterator[Run]:
    """Commands in the container of a local cloud, which runs as root without rights or as its own user."""
    name = "budgetml-images-localcloud"
    built.run("container", "rm", "--force", "--volumes", name)
    serve = ("serve", "--home=/var/lib/localcloud", "--backend=simulated")
    built("run", "--detach", f"--name={name}", *AS_A_POD, *request.param, LOCALCLOUD, *serve)
    try:
        yield lambda *argv: built.run("exec", name, *argv)
    finally:
        built.run("container", "rm", "--force", "--volumes", name)


def test_the_local_cloud_passes_its_health_check_and_can_build_functions(
    built: Docker, in_cloud: Run
) -> None:
    check = _health_check(built, LOCALCLOUD)
    until(lambda: in_cloud(*check).returncode == 0, 60, lambda: in_cloud(*check).stderr)
    made = in_cloud("uv", "venv", "--python=/opt/budget/venv/bin/python", "/var/lib/localcloud/made")
    assert made.returncode == 0, made.stderr
    assert in_cloud("/var/lib/localcloud/made/bin/python", "-c", "import ssl").returncode == 0


def test_the_servers_health_check_asks_its_front_door(built: Docker) -> None:
    name = "budgetml-images-server"
    door = ("python", "-m", "http.server", "--directory=/tmp", "80")
    built.run("container", "rm", "--force", name)
    built("run", "--detach", f"--name={name}", *AS_A_POD, "--network=none", "--entrypoint=", SERVER, *door)
    try:
        check = _health_check(built, SERVER)
        assert built.run("exec", name, *check).returncode
        built("exec", name, "sh", "-c", "mkdir -p /tmp/healthz && touch /tmp/healthz/live")
        until(lambda: built.run("exec", name, *check).returncode == 0, 30, "the health check does not pass")
    finally:
        built.run("container", "rm", "--force", name)


def test_a_custom_image_installs_with_every_tool(built: Docker) -> None:
    tools = ("pip --version", "uv --version", "apt-get --version", "dpkg --audit", "python3 -m venv /tmp/v")
    done = built.run("run", "--rm", "--network=none", "--entrypoint=sh", SERVER, "-ec", "; ".join(tools))
    assert done.returncode == 0, done.stderr


def _layers(docker: Docker, image: str) -> str:
    return docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", image)


def _health_check(docker: Docker, image: str) -> list[str]:
    kind, *words = json.loads(
        docker("image", "inspect", "--format", "{{json .Config.Healthcheck.Test}}", image)
    )
    assert kind == "CMD"
    return list(words)
