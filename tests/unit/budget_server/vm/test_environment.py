"""Environments for requirements, built by the real uv from files and from indexes on loopback."""

import base64
import contextlib
import functools
import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from budget_server.vm import environment, requirements
from budget_server.vm.artifact import Artifact
from budget_server.vm.config import BudgetConfig, Manifest, Secrets
from budget_server.vm.environment import Environments, cache_is_too_large, environment_key, uv_settings
from budget_server.vm.errors import Interrupted, RequirementsFailed
from budget_server.vm.process import Identity
from budget_server.vm.settings import image_paths

ENV = {"PATH": "/usr/bin:/bin"}
PASSWORD = "s3cr3t-of-the-index"


def wheel(directory: Path, name: str, version: str, *needs: str) -> str:
    """A one-module wheel; the requirement line that means it."""
    directory.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {line}\n" for line in needs),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return f"./{path.name}"


def artifact(
    code_dir: Path, lines: Sequence[str], seconds: float = 60, revision: str = "a" * 12, **env: str
) -> Artifact:
    code_dir.mkdir(exist_ok=True)
    config = BudgetConfig(
        image="i",
        deployment="d",
        revision=revision,
        bucket="b",
        bundle="x",
        bundle_sha256=hashlib.sha256(b"").hexdigest(),
        sealed="y",
        sealed_sha256="",
    )
    manifest = Manifest.model_validate(
        {
            "version": 1,
            "deployment": "team/demo",
            "entrypoint": "predictor:Predictor",
            "requirements": list(lines),
            "readiness": {"startupSeconds": seconds},
        }
    )
    secrets = Secrets(username="u", password="hunter22", token="t0ken", env=env)
    return Artifact(config, manifest, secrets, code_dir)


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environments:
    """Environments whose server needs nothing, so that no index is asked."""
    monkeypatch.setattr(requirements, "server_requirements", tuple)
    root = tmp_path / "environments"
    root.mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / "cache").mkdir()
    return Environments(root, tmp_path / "cache", image_paths(), Identity())


def run(python: Path, code: str) -> str:
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_without_requirements_the_image_serves_as_it_is(environments: Environments, tmp_path: Path) -> None:
    provided = environments.provide(artifact(tmp_path / "code", ()), ENV, lambda: False)
    assert provided.name == ""
    assert run(provided.python, "import budget_server; print('here')") == "here"


def test_own_packages_win_and_the_image_stays_visible(environments: Environments, tmp_path: Path) -> None:
    code = tmp_path / "code"
    lines = [wheel(code, "httpx", "99.0")]  # the image has another one
    provided = environments.provide(artifact(code, lines), ENV, lambda: False)
    assert run(provided.python, "import httpx; print(httpx.version)") == "99.0"
    assert run(provided.python, "import budget_server.app, fastapi; print('here')") == "here"
    assert provided.python.parent.parent.name == provided.name


def test_an_environment_is_built_once(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    wanted = artifact(code, [wheel(code, "demo", "1.0")])
    first = environments.provide(wanted, ENV, lambda: False)
    monkeypatch.setattr(environment, "find_uv_bin", lambda: "/bin/false")
    assert environments.provide(wanted, ENV, lambda: False) == first


def test_a_conflict_is_named_and_leaves_nothing(environments: Environments, tmp_path: Path) -> None:
    code = tmp_path / "code"
    lines = [wheel(code, "demo", "1.0"), "demo>=2"]
    with pytest.raises(RequirementsFailed, match="demo"):
        environments.provide(artifact(code, lines), ENV, lambda: False)
    assert not list((tmp_path / "environments").iterdir())


def test_a_line_that_is_no_requirement_is_named(environments: Environments, tmp_path: Path) -> None:
    with pytest.raises(RequirementsFailed, match="Unexpected '!'") as raised:
        environments.provide(artifact(tmp_path / "code", ["!!"]), ENV, lambda: False)
    assert "error" in raised.value.log


def test_a_file_of_the_code_may_be_referred_to(environments: Environments, tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "more.txt").write_text(wheel(code, "demo", "1.0"))
    provided = environments.provide(artifact(code, ["-r more.txt"]), ENV, lambda: False)
    assert run(provided.python, "import demo; print(demo.version)") == "1.0"


def test_newer_intent_and_lateness_end_the_build(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = tmp_path / "uv"
    endless.write_text("#!/bin/sh\nexec sleep 60\n")
    endless.chmod(0o755)
    monkeypatch.setattr(environment, "find_uv_bin", lambda: str(endless))
    with pytest.raises(Interrupted):
        environments.provide(artifact(tmp_path / "code", ["demo"]), ENV, lambda: True)
    with pytest.raises(RequirementsFailed, match="longer than"):
        environments.provide(artifact(tmp_path / "code", ["demo"], seconds=0.2), ENV, lambda: False)


def test_an_editable_install_of_the_image_stays_visible(
    tmp_path: Path, environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, sources = tmp_path / "site", tmp_path / "sources"
    site.mkdir()
    sources.mkdir()
    (sources / "company.py").write_text("name = 'ours'")
    (site / "company.pth").write_text(f"{sources}\n")
    custom = Environments(tmp_path / "environments", tmp_path / "cache", [str(site)], Identity())
    lines = [wheel(tmp_path / "code", "demo", "1.0")]
    provided = custom.provide(artifact(tmp_path / "code", lines), ENV, lambda: False)
    assert run(provided.python, "import company, demo; print(company.name)") == "ours"


class Index(SimpleHTTPRequestHandler):
    """A folder's listings are pages that uv reads as an index."""

    login = ""

    def do_GET(self) -> None:
        wanted = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextlib.contextmanager
def serve(folder: Path, login: str = "") -> Iterator[str]:
    """The folder as an index on loopback; its address without a scheme."""
    handler = type("Guarded", (Index,), {"login": login})
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def stock(folder: Path, name: str, *versions: str) -> None:
    for version in versions:
        wheel(folder / name, name, version)


@pytest.fixture
def public(tmp_path: Path) -> Iterator[str]:
    """An index for everybody."""
    stock(tmp_path / "public", "common", "1.0", "2.0", "3.0rc1")
    stock(tmp_path / "public", "ours", "9.0")
    stock(tmp_path / "public", "webby", "1.0")
    with serve(tmp_path / "public") as address:
        yield address


@pytest.fixture
def private(tmp_path: Path) -> Iterator[str]:
    """An index behind a login, with an old version of a common package as many have."""
    stock(tmp_path / "private", "ours", "1.0")
    stock(tmp_path / "private", "common", "1.0")
    with serve(tmp_path / "private", f"me:{PASSWORD}") as address:
        yield address


def versions(python: Path, *names: str) -> list[str]:
    return [run(python, f"import {name}; print({name}.version)") for name in names]


@pytest.mark.parametrize("login", [f"me:{PASSWORD}", "${INDEX_LOGIN}"])
def test_a_private_index_goes_first_and_not_alone(
    login: str,
    environments: Environments,
    tmp_path: Path,
    public: str,
    private: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(requirements, "server_requirements", lambda: ("webby", "common>=2"))
    lines = [f"--index-url http://{public}", f"--extra-index-url=http://{login}@{private}", "ours"]
    wanted = artifact(tmp_path / "code", lines, INDEX_LOGIN=f"me:{PASSWORD}")
    provided = environments.provide(wanted, ENV, lambda: False)
    assert versions(provided.python, "ours", "common", "webby") == ["1.0", "2.0", "1.0"]
    assert PASSWORD not in "".join(capfd.readouterr())


@pytest.mark.parametrize("login", ["me:wr0ng-passw0rd", "me:wr0ng%2Dpassw0rd", "${INDEX_LOGIN}"])
def test_a_refused_login_is_told_without_the_password(
    login: str, environments: Environments, tmp_path: Path, private: str, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = [
        f"--index-url http://{login}@{private}",
        f"ours @ http://{login}@{private}/ours/ours-1.0-py3-none-any.whl",
    ]
    wanted = artifact(tmp_path / "code", lines, INDEX_LOGIN="me:wr0ng-passw0rd")
    with pytest.raises(RequirementsFailed, match="401") as raised:
        environments.provide(wanted, ENV, lambda: False)
    said = raised.value.message + raised.value.log + "".join(capfd.readouterr())
    assert "passw0rd" not in said


def test_an_index_without_the_servers_packages_says_what_to_do(
    environments: Environments, tmp_path: Path, public: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "server_requirements", lambda: ("elsewhere>=1",))
    wanted = artifact(tmp_path / "code", [f"-i http://{public}", "ours"])
    with pytest.raises(RequirementsFailed, match=r"elsewhere was not found .*use --extra-index-url"):
        environments.provide(wanted, ENV, lambda: False)


@pytest.mark.parametrize(
    ("line", "said"), [("common==1.0", "you require common==1.0"), ("legacy", "legacy depend on common<2")]
)
def test_a_conflict_names_both_packages_and_leaves_everything(
    line: str,
    said: str,
    environments: Environments,
    tmp_path: Path,
    public: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`pydantic==1.10.13` beside a server that needs another one, and one that comes with something else."""
    index = f"--index-url http://{public}"
    monkeypatch.setattr(requirements, "server_requirements", lambda: ("common>=2",))
    wheel(tmp_path / "public" / "legacy", "legacy", "1.0", "common<2")
    serving = environments.provide(
        artifact(tmp_path / "code", [index, "ours"], revision="b" * 12), ENV, lambda: False
    )
    before = sorted(path.name for path in (tmp_path / "environments").iterdir())
    with pytest.raises(RequirementsFailed) as raised:
        environments.provide(artifact(tmp_path / "code", [index, line]), ENV, lambda: False)
    assert said in raised.value.message
    assert "budget-server==0.1.0 depends on common>=2" in raised.value.message
    assert sorted(path.name for path in (tmp_path / "environments").iterdir()) == before
    assert versions(serving.python, "ours", "common") == ["9.0", "2.0"]


@pytest.mark.parametrize(
    ("lines", "version"),
    [
        (["common"], "2.0"),
        (["common", "--pre"], "3.0rc1"),
        (["common==3.0rc1"], "3.0rc1"),
        (["common", "-c limits.txt"], "1.0"),
        (["common", "--only-binary=:all:", "--trusted-host 127.0.0.1"], "2.0"),
        (["common @ http://{index}/common/common-1.0-py3-none-any.whl"], "1.0"),
    ],
)
def test_options_do_what_they_do_in_pip(
    lines: list[str], version: str, environments: Environments, tmp_path: Path, public: str
) -> None:
    (tmp_path / "code" / "limits.txt").write_text("common<2\n")
    lines = [line.format(index=public) for line in (*lines, "--index-url http://{index}")]
    provided = environments.provide(artifact(tmp_path / "code", lines), ENV, lambda: False)
    assert versions(provided.python, "common") == [version]


def test_files_and_links_without_an_index(environments: Environments, tmp_path: Path, public: str) -> None:
    lines = ["--no-index", f"--find-links http://{public}/common/", "common"]
    provided = environments.provide(artifact(tmp_path / "code", lines), ENV, lambda: False)
    assert versions(provided.python, "common") == ["2.0"]


def test_a_source_is_insisted_on(environments: Environments, tmp_path: Path, public: str) -> None:
    wanted = artifact(tmp_path / "code", [f"-i http://{public}", "--no-binary common", "common==2.0"])
    with pytest.raises(RequirementsFailed, match=r"common==2\.0 has no usable wheels|no source distribution"):
        environments.provide(wanted, ENV, lambda: False)


def test_hashes_are_verified(environments: Environments, tmp_path: Path, public: str) -> None:
    file = tmp_path / "public" / "common" / "common-2.0-py3-none-any.whl"
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    index = f"--index-url http://{public}"
    wrong = artifact(tmp_path / "code", [index, f"common==2.0 --hash=sha256:{'0' * 64}"])
    with pytest.raises(RequirementsFailed, match=r"Hash mismatch for `common==2\.0`"):
        environments.provide(wrong, ENV, lambda: False)
    good = artifact(tmp_path / "code", [index, f"common==2.0 --hash=sha256:{right}"])
    assert versions(environments.provide(good, ENV, lambda: False).python, "common") == ["2.0"]


def test_git_is_refused_by_name_where_there_is_none(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(environment, "find_uv_bin", lambda: pytest.fail("nothing may be started"))
    line = "ours @ git+https://me:hunter22@git.example/ours@v1"
    with pytest.raises(RequirementsFailed, match=r"ours @ git\+https.*needs git.*an archive") as raised:
        environments.provide(artifact(tmp_path / "code", [line]), ENV, lambda: False)
    assert "hunter22" not in raised.value.message


BACKEND = """
import os, pathlib, time, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    here = pathlib.Path(os.environ["MARKS"])
    (here / "begun").touch()
    while not (here / "go-on").exists():
        time.sleep(0.02)
    name = "slow-1.0-py3-none-any.whl"
    info = "slow-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as wheel:
        wheel.writestr("slow.py", "version = '1.0'")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: slow\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        names = ("slow.py", *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD")))
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\\n" for name in names))
    return name
"""


def cut_power(process: Any) -> None:
    """End a process and everything it started at once."""
    found = [process.pid]
    for pid in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.join()


def test_a_power_loss_while_building_is_followed_by_a_clean_boot(
    environments: Environments, tmp_path: Path
) -> None:
    source = tmp_path / "code" / "slow"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'slow'\nversion = '1.0'\n"
    )
    (source / "backend.py").write_text(BACKEND)
    root, cache = tmp_path / "environments", tmp_path / "cache"
    before = environments.provide(
        artifact(tmp_path / "code", [wheel(tmp_path / "code", "demo", "1.0")], revision="b" * 12),
        ENV,
        lambda: False,
    )
    wanted = artifact(tmp_path / "code", ["./slow"], MARKS=str(tmp_path))
    build = multiprocessing.get_context("fork").Process(
        target=environments.provide, args=(wanted, ENV, lambda: False)
    )
    build.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    cut_power(build)
    (tmp_path / "go-on").touch()
    for path in cache.rglob("*"):  # what a power loss makes of files that nobody flushed
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1:
            path.write_bytes(b"")
    assert [path for path in root.iterdir() if path.name.startswith(".building-")]

    booted = Environments(root, cache, image_paths(), Identity())
    booted.sweep()
    assert {path.name for path in root.iterdir() if path.is_dir() and not path.is_symlink()} == {before.name}
    assert not list(cache.iterdir())
    provided = booted.provide(wanted, ENV, lambda: False)
    assert versions(provided.python, "slow") == ["1.0"]
    assert versions(before.python, "demo") == ["1.0"], "the one that was complete stays"


def test_a_boot_without_a_half_built_one_keeps_the_cache(environments: Environments, tmp_path: Path) -> None:
    (tmp_path / "cache" / "wheels").mkdir()
    environments.sweep()
    assert (tmp_path / "cache" / "wheels").exists()


def test_what_no_kept_revision_uses_is_pruned(environments: Environments, tmp_path: Path) -> None:
    code, root = tmp_path / "code", tmp_path / "environments"
    first = [wheel(code, "demo", "1.0")]
    second = [wheel(code, "demo", "2.0")]
    lines = {"a" * 12: first, "b" * 12: first, "c" * 12: second, "d" * 12: []}
    names = {
        revision: environments.provide(artifact(code, given, revision=revision), ENV, lambda: False).name
        for revision, given in lines.items()
    }
    booted = Environments(root, tmp_path / "cache", image_paths(), Identity())
    booted.prune(frozenset({"a" * 12, "c" * 12, "e" * 12}))
    kept = {path.name for path in root.iterdir() if not path.name.startswith(".")}
    assert kept == {names["a" * 12], names["c" * 12]}
    booted.prune(frozenset({"b" * 12, "d" * 12}))
    assert list(root.iterdir()) == [], "b's own use was forgotten with the first pruning"


def test_a_revision_whose_environment_changed_uses_the_new_one(
    environments: Environments, tmp_path: Path
) -> None:
    code, root = tmp_path / "code", tmp_path / "environments"
    lines = [wheel(code, "demo", "1.0")]
    old = environments.provide(artifact(code, lines), ENV, lambda: False)
    other = Environments(root, tmp_path / "cache", ["/another/image"], Identity())
    new = other.provide(artifact(code, lines), ENV, lambda: False)
    other.prune(frozenset({"a" * 12}))
    assert old.name != new.name
    assert {path.name for path in root.iterdir()} == {new.name, f".used-{'a' * 12}"}


@pytest.mark.parametrize(
    ("unused", "free", "too_large"),
    [(0, 5, False), (10, 50, False), (21, 50, True), (10, 19, True), (20, 20, False)],
)
def test_how_large_the_cache_may_become(unused: int, free: int, too_large: bool) -> None:
    assert cache_is_too_large(unused, free, 100) is too_large


def test_the_cache_is_emptied_before_a_build_but_not_without_one(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, cache = tmp_path / "code", tmp_path / "cache"
    wanted = artifact(code, [wheel(code, "demo", "1.0")])
    asked: list[int] = []

    def decide(unused: int, free: int, total: int) -> bool:
        asked.append(unused)
        return True

    monkeypatch.setattr(environment, "cache_is_too_large", decide)
    (cache / "left").write_bytes(bytes(100_000))
    environments.provide(wanted, ENV, lambda: False)
    assert not (cache / "left").exists()
    assert len(asked) == 1
    assert 100_000 <= asked[0] < 150_000
    environments.provide(wanted, ENV, lambda: False)
    assert len(asked) == 1


def test_the_name_follows_the_content() -> None:
    given: dict[str, Any] = {
        "lines": ["a==1"],
        "settings": {},
        "server": ["b>2"],
        "image": ["/x"],
        "python": "3.11",
        "code_sha256": "0",
    }
    name = environment_key(**given)
    others = {
        "lines": ["a==2"],
        "settings": {"UV_TORCH_BACKEND": "cpu"},
        "server": ["b>3"],
        "image": ["/y"],
        "python": "3.12",
    }
    for field, value in others.items():
        assert environment_key(**{**given, field: value}) != name, field
    assert environment_key(**{**given, "code_sha256": "1"}) == name, "other code, same environment"
    for pointing in ({"lines": ["-r more.txt"]}, {"settings": {"UV_EXCLUDE": "without.txt"}}):
        files = {**given, **pointing}
        assert environment_key(**{**files, "code_sha256": "1"}) != environment_key(**files)


def test_what_uv_is_told_names_the_environment_but_for_its_indexes() -> None:
    env = {"UV_INDEX_URL": "https://u:p@packages.example", "HOME": "/x", "UV_EXCLUDE": "without.txt"}
    assert uv_settings(env) == {"UV_EXCLUDE": "without.txt"}
