"""The same input gives the same bytes; every change gives another revision; secrets stay sealed."""

import base64
import io
import json
import zipfile
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from budget_operator.core import api, artifact
from budget_operator.core.api import parse_spec
from budget_operator.core.artifact import Artifact, Login, Source, encoded_key
from budget_operator.core.copied import Address, select
from budget_operator.core.observed import Listed
from budget_server.vm.config import ImageCode, Manifest

KEY = bytes(range(32))
LOGIN = Login("user", "päss", "token")
SOURCE = Source({"predictor.py": b"class Predictor: ..."}, ("numpy==2",), {"A": "b"}, LOGIN)
CLOUD_NAME = "budget-iris-0123456789"


def build(source: Source = SOURCE, key: bytes = KEY, **spec: Any) -> Artifact:
    parsed = parse_spec({"predictor": {"inline": "x"}, **spec})
    return artifact.build(parsed, "team/iris", CLOUD_NAME, source, key)


def opened(made: Artifact, key: bytes = KEY, context: str | None = None) -> Any:
    """As the VM opens it."""
    sealing = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"budgetml/seal/v1").derive(key)
    bound = (context or f"{CLOUD_NAME}/{made.revision}").encode()
    return json.loads(AESGCM(sealing).decrypt(made.sealed.data[:12], made.sealed.data[12:], bound))


def test_two_builds_are_the_same_to_the_byte() -> None:
    assert build() == build(replace(SOURCE, files=dict(SOURCE.files)))


def test_the_bundle_holds_manifest_and_code() -> None:
    made = build(readiness={"payload": {"x": 1}}, auth={"tokenTTL": "2h"}, server={"workers": 2})
    with zipfile.ZipFile(io.BytesIO(made.bundle.data)) as bundle:
        assert bundle.namelist() == ["code/predictor.py", "manifest.json"]
        assert bundle.read("code/predictor.py") == b"class Predictor: ..."
        assert json.loads(bundle.read("manifest.json")) == {
            "version": 1,
            "deployment": "team/iris",
            "entrypoint": "predictor:Predictor",
            "requirements": ["numpy==2"],
            "readiness": {"payload": {"x": 1}, "startupSeconds": 1800},
            "server": {"workers": 2, "threads": 4},
            "tokenTTLSeconds": 7200,
        }


def server_of(made: Artifact) -> Any:
    with zipfile.ZipFile(io.BytesIO(made.bundle.data)) as bundle:
        return json.loads(bundle.read("manifest.json"))["server"]


def test_the_manifest_holds_the_servers_settings_that_are_not_the_default() -> None:
    given = {
        "workers": 1,
        "maxConcurrency": 8,
        "maxQueue": 0,
        "maxBodyMiB": 64,
        "batch": {"maxSize": 32, "windowMilliseconds": 20},
        "corsOrigins": ["https://b.example", "https://a.example:8443"],
    }
    expected = {**given, "threads": 4, "batch": {"windowMilliseconds": 20}}
    assert server_of(build(server=given)) == expected


def test_defaults_that_are_spelled_out_are_the_same_revision() -> None:
    """The API server writes them into every object. The name is from before there were so many of them."""
    spelled = api.Server().model_dump(mode="json", by_alias=True)
    assert spelled["batch"] == {"maxSize": 32, "windowMilliseconds": 5}
    assert build(server=spelled) == build()
    assert build().revision == "65e87bdc1b17"


def test_what_the_manifest_leaves_out_has_the_same_default_on_the_vm() -> None:
    read = Manifest.model_validate({"version": 1, "deployment": "a/b", "entrypoint": "m:C"})
    assert read.server.model_dump(mode="json", by_alias=True) == api.Server().model_dump(
        mode="json", by_alias=True
    )


def test_objects_are_named_by_deployment_and_revision() -> None:
    made = build()
    assert len(made.revision) == 12
    assert made.bundle.name == f"code/{CLOUD_NAME}/{made.revision}/bundle.zip"
    assert made.sealed.name == f"code/{CLOUD_NAME}/{made.revision}/secrets.sealed"


def test_credentials_open_with_the_key_for_this_revision_only() -> None:
    made = build()
    assert opened(made) == {"username": "user", "password": "päss", "token": "token", "env": {"A": "b"}}
    with pytest.raises(InvalidTag):
        opened(made, key=bytes(32))
    with pytest.raises(InvalidTag):
        opened(made, context=f"budget-other-0123456789/{made.revision}")


def test_no_secret_is_in_the_clear() -> None:
    made = build()
    for secret in ("päss", "token", "user"):
        assert secret.encode() not in made.sealed.data
        assert secret.encode() not in made.bundle.data.replace(b"tokenTTLSeconds", b"")
    assert "päss" not in repr(made) + repr(SOURCE)


def copied(*files: Listed) -> Artifact:
    spec = parse_spec({"predictor": {"gcs": "gs://models/iris/"}})
    code = select(Address("gs://models/iris/"), files, "predictor:Predictor")
    return artifact.build(spec, "team/iris", CLOUD_NAME, replace(SOURCE, files={}, copied=code), KEY)


CODE = Listed("iris/predictor.py", 1, 5, "code", "code")
MODEL = Listed("iris/data/model.pkl", 2, 300, "model", "model")
TWIN = replace(MODEL, name="iris/twin.pkl")


def test_copied_code_is_named_with_its_sums_and_copied_once() -> None:
    made = copied(MODEL, CODE, TWIN)
    assert {each.name for each in made.copies} <= made.names
    assert [each.source.crc32c for each in made.copies] == ["model", "code"]
    assert all(each.name.startswith(f"code/{CLOUD_NAME}/files/") for each in made.copies)
    with zipfile.ZipFile(io.BytesIO(made.bundle.data)) as bundle:
        assert bundle.namelist() == ["manifest.json"]
        manifest = Manifest.model_validate_json(bundle.read("manifest.json"))
    assert manifest.copied is not None
    assert [file.path for file in manifest.copied.files] == ["data/model.pkl", "predictor.py", "twin.pkl"]
    assert {file.object for file in manifest.copied.files} == {each.name for each in made.copies}


def test_copied_code_makes_revisions_by_content_and_path() -> None:
    same = replace(MODEL, generation=9)
    others = (replace(MODEL, md5="x"), replace(MODEL, name="iris/model.pkl"))
    assert copied(CODE, same).revision == copied(CODE, MODEL).revision
    assert len({copied(CODE, each).revision for each in (MODEL, *others)}) == 3


def in_image(image: str = "r/mine:1", folder: str = "/app") -> Artifact:
    parsed = parse_spec({"predictor": {"image": folder}, "image": image})
    return artifact.build(parsed, "team/iris", CLOUD_NAME, replace(SOURCE, files={}), KEY)


def test_code_in_an_image_is_named_and_not_carried() -> None:
    with zipfile.ZipFile(io.BytesIO(in_image().bundle.data)) as bundle:
        assert bundle.namelist() == ["manifest.json"]
        manifest = Manifest.model_validate_json(bundle.read("manifest.json"))
    assert manifest.code == ImageCode(image="r/mine:1", folder="/app")
    others = (in_image("r/mine:2"), in_image(folder="/other"))
    assert len({each.revision for each in (in_image(), *others)}) == 3
    assert build(image="r/mine:1").revision == build().revision, "the bundle serves in any image"


@pytest.mark.parametrize(
    "other",
    [
        build(replace(SOURCE, files={"predictor.py": b"class Predictor: pass"})),
        build(replace(SOURCE, files={**SOURCE.files, "more.py": b""})),
        build(replace(SOURCE, requirements=("numpy==3",))),
        build(replace(SOURCE, env={"A": "c"})),
        build(replace(SOURCE, login=Login("user", "other", "token"))),
        build(server={"threads": 8}),
        build(server={"maxConcurrency": 1}),
        build(server={"maxQueue": 0}),
        build(server={"maxBodyMiB": 64}),
        build(server={"batch": {"maxSize": 8}}),
        build(server={"batch": {"windowMilliseconds": 0}}),
        build(server={"corsOrigins": ["*"]}),
        build(auth={"tokenTTL": "1h"}),
        build(readiness={"startupSeconds": 60}),
        build(key=bytes(32)),
    ],
)
def test_every_change_is_another_revision_and_nonce(other: Artifact) -> None:
    assert other.revision != build().revision
    assert other.sealed.data[:12] != build().sealed.data[:12]


def test_the_machine_is_no_part_of_the_revision() -> None:
    assert build(machine={"type": "e2-small"}).revision == build().revision


def test_the_function_is_named_by_its_content() -> None:
    blob = artifact.function_blob({"main.py": b"x", "requirements.txt": b""})
    assert blob.name == f"function/{blob.sha256}.zip"
    assert blob == artifact.function_blob({"requirements.txt": b"", "main.py": b"x"})
    assert blob.name != artifact.function_blob({"main.py": b"y"}).name


def test_the_key_travels_as_base64() -> None:
    assert base64.b64decode(encoded_key(KEY)) == KEY


def test_the_login_comes_back_from_what_was_sealed() -> None:
    made = build()
    assert artifact.sealed_login(made.sealed.data, KEY, CLOUD_NAME, made.revision) == LOGIN


@pytest.mark.parametrize(
    ("data", "key", "revision"),
    [
        (None, bytes(32), None),
        (None, KEY, "another"),
        (b"", KEY, None),
        (b"short", KEY, None),
        (b"long enough, but nothing that was sealed", KEY, None),
    ],
)
def test_what_does_not_open_holds_no_login(data: bytes | None, key: bytes, revision: str | None) -> None:
    made = build()
    sealed = made.sealed.data if data is None else data
    assert artifact.sealed_login(sealed, key, CLOUD_NAME, revision or made.revision) is None
