"""Process 1 with requirements: a power loss while they are installed, and room made before the next ones.

The server's own packages are offered as wheels without code, so that uv resolves them from a folder; the code
is the image's, which stays visible.
"""

import importlib.metadata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from budget_server.vm.requirements import server_requirements

BACKEND = """
import pathlib, time, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    (MARKS / "seen").write_text("\\n".join(path.name for path in ENVIRONMENTS.iterdir()))
    (MARKS / "begun").touch()
    while not (MARKS / "go-on").exists():
        time.sleep(0.02)
    with zipfile.ZipFile(pathlib.Path(directory, NAME + "-1.0-py3-none-any.whl"), "w") as wheel:
        info = NAME + "-1.0.dist-info"
        wheel.writestr(NAME + ".py", "says = 'slowly'")
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: " + NAME + "\\nVersion: 1.0\\n")
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        names = (NAME + ".py", *(info + "/" + name for name in ("METADATA", "WHEEL", "RECORD")))
        wheel.writestr(info + "/RECORD", "".join(name + ",,\\n" for name in names))
    return NAME + "-1.0-py3-none-any.whl"
"""
PREDICTOR = """
import {name}
class Predictor:
    def load(self): pass
    def predict(self, request): return {{"says": {name}.says}}
"""


def codeless_wheel(directory: Path, name: str) -> None:
    """What the image has under this name, as a wheel of the same version without code and needs."""
    version = importlib.metadata.version(name)
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "".join(f"{stem}.dist-info/{each},,\n" for each in ("METADATA", "WHEEL", "RECORD")),
    }
    with zipfile.ZipFile(directory / f"{stem}-py3-none-any.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(f"{stem}.dist-info/{file}", text)


@pytest.fixture
def publish(world: Any, vm: Any, tmp_path: Path) -> Callable[..., Any]:
    """Publish a revision that needs a package of this name, whose build waits for the mark `go-on`."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for line in server_requirements():
        codeless_wheel(wheels, Requirement(line).name)

    def do(revision: str, name: str, predictor: str = PREDICTOR) -> Any:
        setting = f"NAME = {name!r}\nimport pathlib\nMARKS = pathlib.Path({str(tmp_path)!r})\n"
        setting += f"ENVIRONMENTS = pathlib.Path({str(vm.disk / 'environments')!r})\n"
        build = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        code = {
            "predictor.py": predictor.format(name=name),
            f"{name}/pyproject.toml": f"{build}[project]\nname = {name!r}\nversion = '1.0'\n",
            f"{name}/backend.py": setting + BACKEND,
        }
        lines = ["--no-index", f"--find-links {wheels}", f"./{name}"]
        return world.publish(revision, code, {"requirements": lines})

    return do


def environments(vm: Any) -> set[str]:
    return {path.name for path in (vm.disk / "environments").iterdir()}


def names_of(vm: Any, *revisions: str) -> set[str]:
    """The environments that these revisions use."""
    return {(vm.disk / "environments" / f".used-{revision}").readlink().name for revision in revisions}


def test_a_power_loss_in_the_middle_of_an_install_boots_clean(
    world: Any, vm: Any, until: Callable[..., Any], publish: Callable[..., Any], tmp_path: Path
) -> None:
    publish("a" * 12, "slow")
    vm.boot()
    until((tmp_path / "begun").exists)
    vm.cut_power()
    assert any(name.startswith(".building-") for name in environments(vm))
    left = vm.disk / "cache" / "left-from-before"
    left.touch()
    (tmp_path / "go-on").touch()

    world.states.clear()
    vm.boot()
    world.await_state(phase="serving", active="a" * 12)
    with vm.client() as client:
        assert vm.predict(client).json() == {"says": "slowly"}
    assert not any(name.startswith(".building-") for name in environments(vm))
    assert not left.exists()

    # what is whole survives the next power loss, and so does the cache
    built = environments(vm)
    left.touch()
    vm.cut_power()
    (tmp_path / "begun").unlink()
    world.states.clear()
    vm.boot()
    world.await_state(phase="serving", active="a" * 12)
    assert environments(vm) == built
    assert left.exists()
    assert not (tmp_path / "begun").exists()


def test_old_environments_go_before_a_new_one_is_built(
    world: Any, vm: Any, until: Callable[..., Any], publish: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "go-on").touch()
    vm.boot()
    publish("a" * 12, "serving")
    world.await_state(phase="serving", active="a" * 12)
    publish("b" * 12, "failing", predictor="class Predictor: oops")
    until(lambda: (world.state.get("failure") or {}).get("revision") == "b" * 12)
    assert len(names_of(vm, "a" * 12, "b" * 12)) == 2
    old = names_of(vm, "b" * 12)
    publish("c" * 12, "third")
    world.await_state(phase="serving", active="c" * 12)
    seen = set((tmp_path / "seen").read_text().split())  # while the third was built
    assert names_of(vm, "a" * 12) <= seen
    assert not old & seen
