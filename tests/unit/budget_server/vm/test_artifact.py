"""Fetching, checking, unpacking and opening a revision."""

import io
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from budget_server.vm.artifact import Artifacts, open_sealed, unpack
from budget_server.vm.config import BudgetConfig, parse_config
from budget_server.vm.errors import ArtifactInvalid, ArtifactUnreachable, CodeInvalid, Interrupted
from localcloud.services.storage.blobs import crc32c, md5

KEY = bytes(range(32))
REVISION = "a" * 12


def artifacts(root: Path, given_up: bool = False) -> Artifacts:
    root.mkdir(exist_ok=True)
    return Artifacts(root, lambda: "vm-token", lambda _: None, lambda: given_up)


def published(world: Any, **config: Any) -> BudgetConfig:
    document = world.publish(REVISION, {"predictor.py": "x = 1", "data/w.txt": "w"}, **config)
    return BudgetConfig.model_validate(document)


def test_a_revision_is_fetched_and_opened(world: Any, tmp_path: Path) -> None:
    artifact = artifacts(tmp_path / "root").fetch(published(world), KEY)
    assert (artifact.code_dir / "data" / "w.txt").read_text() == "w"
    assert artifact.manifest.deployment == "team/demo"
    assert artifact.manifest.readiness.payload == {"x": 1}
    assert artifact.secrets.env == {"X": "y"}
    assert world.authorizations == ["Bearer vm-token"] * 2


def test_code_is_readable_by_all_and_credentials_by_none(world: Any, tmp_path: Path) -> None:
    place = artifacts(tmp_path / "root").fetch(published(world), KEY).code_dir.parent
    assert stat.S_IMODE((place / "code" / "predictor.py").stat().st_mode) == 0o644
    assert stat.S_IMODE((place / "secrets.sealed").stat().st_mode) == 0o600
    assert b"hunter22" not in b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())


def test_what_is_on_disk_is_not_fetched_again(world: Any, tmp_path: Path) -> None:
    store = artifacts(tmp_path / "root")
    config = published(world)
    store.fetch(config, KEY)
    world.objects.clear()
    assert store.fetch(config, KEY).secrets.username == "me"


def test_what_is_damaged_on_disk_is_fetched_again(world: Any, tmp_path: Path) -> None:
    store = artifacts(tmp_path / "root")
    config = published(world)
    place = store.fetch(config, KEY).code_dir.parent
    (place / "bundle.zip").write_bytes(b"")
    (place / "code" / "predictor.py").write_text("")
    assert (store.fetch(config, KEY).code_dir / "predictor.py").read_text() == "x = 1"


def test_a_wrong_hash_is_refused_and_leaves_nothing(world: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid, match="sha256"):
        artifacts(tmp_path / "root").fetch(published(world, bundleSha256="0" * 64), KEY)
    assert not list((tmp_path / "root").iterdir())


def test_a_missing_object_says_where_and_may_come_later(world: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactUnreachable, match=r"gs://b/elsewhere.*404"):
        artifacts(tmp_path / "root").fetch(published(world, bundle="elsewhere"), KEY)


def test_a_short_outage_is_sat_out(world: Any, tmp_path: Path) -> None:
    config = published(world)
    world.outages = 2
    assert artifacts(tmp_path / "root").fetch(config, KEY).config == config


def test_newer_intent_ends_the_download(world: Any, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        artifacts(tmp_path / "root", given_up=True).fetch(published(world), KEY)


@pytest.mark.parametrize("change", [{"revision": "b" * 12}, {"deployment": "other"}])
def test_credentials_are_bound_to_deployment_and_revision(world: Any, change: dict[str, str]) -> None:
    config = published(world)
    sealed = world.objects[config.sealed]
    assert open_sealed(sealed, KEY, config).password == "hunter22"
    with pytest.raises(ArtifactInvalid):
        open_sealed(sealed, KEY, config.model_copy(update=change))
    with pytest.raises(ArtifactInvalid):
        open_sealed(sealed, bytes(32), config)
    with pytest.raises(ArtifactInvalid):
        open_sealed(b"short", KEY, config)


@pytest.mark.parametrize(
    "name", ["../out", "code/../../out", "/etc/out", "code\\..\\out", "other/x", "code/../manifest.json"]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    bundle = tmp_path / "bundle.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), "x")
    with pytest.raises(ArtifactInvalid, match="not allowed"):
        unpack(bundle, tmp_path / "into")
    assert not (tmp_path / "out").exists()


def test_links_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    entry = zipfile.ZipInfo("code/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    (tmp_path / "bundle.zip").write_bytes(buffer.getvalue())
    with pytest.raises(ArtifactInvalid, match="not allowed"):
        unpack(tmp_path / "bundle.zip", tmp_path)


def test_no_zip_is_an_invalid_artifact(tmp_path: Path) -> None:
    (tmp_path / "bundle.zip").write_text("no zip")
    with pytest.raises(ArtifactInvalid, match="zip"):
        unpack(tmp_path / "bundle.zip", tmp_path)


def test_sweeping_removes_what_a_power_loss_left(tmp_path: Path) -> None:
    store = artifacts(tmp_path / "root")
    (tmp_path / "root" / ".building-aaaaaaaaaaaa" / "code").mkdir(parents=True)
    (tmp_path / "root" / "aaaaaaaaaaaa").mkdir()
    store.sweep()
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["aaaaaaaaaaaa"]
    store.prune(frozenset())
    assert not list((tmp_path / "root").iterdir())


@pytest.mark.parametrize(
    ("text", "names"),
    [("", "JSON"), ("{}", "image"), ('{"version":2}', "version"), ('{"revision":"../x"}', "image")],
)
def test_an_unreadable_config_names_the_problem(text: str, names: str) -> None:
    with pytest.raises(ArtifactInvalid, match=f"budget-config.*{names}"):
        parse_config(text)


def in_image(world: Any, folder: Path) -> BudgetConfig:
    code = {"image": "r/mine:1", "folder": str(folder)}
    document = world.publish(REVISION, {}, {"code": code}, imageCode=True)
    return BudgetConfig.model_validate(document)


def test_code_of_the_image_is_taken_from_where_it_lies(world: Any, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    config = in_image(world, tmp_path / "app")
    assert config.image_code
    assert artifacts(tmp_path / "root").fetch(config, KEY).code_dir == tmp_path / "app"


def test_a_folder_that_the_image_does_not_have_is_named(world: Any, tmp_path: Path) -> None:
    with pytest.raises(CodeInvalid, match=r"spec\.predictor\.image: .*/app in r/mine:1"):
        artifacts(tmp_path / "root").fetch(in_image(world, tmp_path / "app"), KEY)


# --- code that was copied from a bucket of the user's own ---

ADDRESS = "gs://models/iris/"


def copied(
    world: Any, files: dict[str, bytes], revision: str = REVISION, archive: str = "", **wrong: Any
) -> BudgetConfig:
    """As the operator has copied and named it."""
    named = []
    for path, content in files.items():
        name = f"code/budget-demo/files/{md5(content)}"
        world.objects[name] = content
        sums = {"size": len(content), "crc32c": crc32c(content), "md5": md5(content)}
        named.append({"path": path, "object": name, **sums, **wrong})
    manifest = {"copied": {"address": ADDRESS, "archive": archive, "files": named}}
    return BudgetConfig.model_validate(world.publish(revision, {}, manifest))


def test_copied_files_are_fetched_to_where_they_belong(world: Any, tmp_path: Path) -> None:
    config = copied(world, {"predictor.py": b"x = 1", "data/a/model.pkl": b"weights"})
    code = artifacts(tmp_path / "root").fetch(config, KEY).code_dir
    assert (code / "predictor.py").read_bytes() == b"x = 1"
    assert (code / "data" / "a" / "model.pkl").read_bytes() == b"weights"
    assert stat.S_IMODE((code / "data" / "a" / "model.pkl").stat().st_mode) == 0o644
    assert stat.S_IMODE((code / "data").stat().st_mode) == 0o755


def test_what_another_revision_has_is_not_fetched_again(world: Any, tmp_path: Path) -> None:
    store = artifacts(tmp_path / "root")
    first = store.fetch(copied(world, {"predictor.py": b"x = 1", "model.pkl": b"weights"}), KEY)
    (damaged := tmp_path / "root" / ("c" * 12)).mkdir()
    (damaged / "manifest.json").write_text("{")
    config = copied(world, {"predictor.py": b"x = 2", "sub/model.pkl": b"weights"}, "b" * 12)
    world.objects = {name: held for name, held in world.objects.items() if held != b"weights"}
    second = store.fetch(config, KEY)
    assert (second.code_dir / "predictor.py").read_bytes() == b"x = 2"
    assert (second.code_dir / "sub" / "model.pkl").read_bytes() == b"weights"
    store.prune(frozenset({"b" * 12}))
    assert not first.code_dir.exists()
    assert (second.code_dir / "sub" / "model.pkl").read_bytes() == b"weights"


@pytest.mark.parametrize(
    "wrong",
    [
        {"md5": md5(b"other")},
        {"crc32c": crc32c(b"other")},
        {"size": 6},
        {"md5": "", "crc32c": crc32c(b"other")},
    ],
)
def test_another_content_than_the_one_that_was_copied_is_refused(
    world: Any, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ArtifactInvalid, match="wanted"):
        artifacts(tmp_path / "root").fetch(copied(world, {"predictor.py": b"x = 1"}, **wrong), KEY)
    assert not list((tmp_path / "root").iterdir())


def test_an_object_without_md5_is_known_by_its_other_sum(world: Any, tmp_path: Path) -> None:
    config = copied(world, {"predictor.py": b"x = 1"}, md5="")
    assert (artifacts(tmp_path / "root").fetch(config, KEY).code_dir / "predictor.py").is_file()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", ""])
def test_a_path_that_leads_elsewhere_is_refused(world: Any, tmp_path: Path, path: str) -> None:
    with pytest.raises(ArtifactInvalid, match="not allowed"):
        artifacts(tmp_path / "root").fetch(copied(world, {path: b"x"}), KEY)


def test_an_archive_is_unpacked_and_not_kept(world: Any, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("predictor.py", "x = 1")
    config = copied(world, {"": packed.getvalue()}, archive="zip")
    code = artifacts(tmp_path / "root").fetch(config, KEY).code_dir
    assert [path.name for path in code.iterdir()] == ["predictor.py"]
    assert not (code.parent / "archive").exists()


def test_an_archive_that_cannot_be_unpacked_is_told_by_its_address(world: Any, tmp_path: Path) -> None:
    config = copied(world, {"": b"no zip"}, archive="zip")
    with pytest.raises(CodeInvalid, match=rf"^spec\.predictor\.gcs: {ADDRESS}: it is not a zip"):
        artifacts(tmp_path / "root").fetch(config, KEY)
    assert not list((tmp_path / "root").iterdir())
