"""Each example's manifest carries the code beside it, pinned, and the code answers as its README shows."""

import base64
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from PIL import Image

from budget_operator.core.api import parse_spec
from budget_server.app import create_app
from budget_server.settings import Settings
from dev.paths import REGISTRY_HOST

EXAMPLES = Path(__file__).parents[3] / "examples"
CARRIED = ["embeddings", "iris", "ocr", "photo", "sentiment", "weights"]  # whose code is in the manifest
NAMES = [*CARRIED, "bucket-model", "budgetml", "custom-image"]
DOWNLOADED = {"weights.json"}
"""What a VM fetches from elsewhere: no code, and not in the manifest."""


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((EXAMPLES / name / "deployment.yaml").read_text(encoding="utf-8")))


def manifest(name: str) -> dict[str, Any]:
    (content,) = [each for each in documents(name) if each["kind"] == "BudgetDeployment"]
    return dict(content)


def code(name: str) -> dict[str, str]:
    """The files of code that the manifest carries."""
    predictor = manifest(name)["spec"]["predictor"]
    if "inline" in predictor:
        return {"predictor.py": predictor["inline"]}
    (held,) = [each for each in documents(name) if each["kind"] == "ConfigMap"]
    assert predictor == {"configMap": {"name": held["metadata"]["name"]}}
    return dict(held["data"])


@contextmanager
def served(name: str, folder: Path | None = None) -> Iterator[TestClient]:
    environment = {
        "BUDGET_USERNAME": "u",
        "BUDGET_PWD": "p",
        "BUDGET_TOKEN": "t",
        "BUDGET_SIGNING_KEY": "ab" * 32,
        "BUDGET_NAME": f"default/{name}",
        "BUDGET_CODE_DIR": str(folder or EXAMPLES / name),
    }
    path = list(sys.path)
    try:
        with TestClient(create_app(Settings.from_environment(environment))) as client:
            client.headers["Authorization"] = "Bearer t"
            yield client
    finally:
        sys.path[:] = path
        sys.modules.pop("predictor", None)


def shown(name: str) -> list[Any]:
    """The answers the README shows, in order."""
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]


def test_every_example_is_tested() -> None:
    assert sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_is_of_the_example(name: str) -> None:
    content = manifest(name)
    assert (content["apiVersion"], content["kind"]) == ("budgetml.dev/v1alpha1", "BudgetDeployment")
    assert content["metadata"] == {"name": name}
    parse_spec(content["spec"])


@pytest.mark.parametrize("name", CARRIED)
def test_the_manifest_carries_the_code_beside_it(name: str) -> None:
    beside = [path for path in (EXAMPLES / name).iterdir() if path.suffix in (".py", ".json", ".txt")]
    held = [path for path in beside if path.name not in DOWNLOADED]
    assert code(name) == {path.name: path.read_text(encoding="utf-8") for path in held}


@pytest.mark.parametrize("name", NAMES)
def test_requirements_are_pinned(name: str) -> None:
    for line in manifest(name)["spec"].get("requirements", ()):
        assert re.fullmatch(r"[A-Za-z0-9-]+==[0-9.]+", line)


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_applies_its_manifest(name: str) -> None:
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert f"kubectl apply -f examples/{name}/deployment.yaml" in text


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_iris_answers_as_shown() -> None:
    payload = manifest("iris")["spec"]["readiness"]["payload"]
    with served("iris") as client:
        by_name = client.post("/predict_dict", json={"payload": payload})
        in_order = client.post("/predict_dict", json={"payload": {"features": list(payload.values())}})
        by_request = client.post("/predict", json={"payload": payload})
        other = client.post("/predict", json={"payload": {"features": [6.7, 3.0, 5.2, 2.3]}})
    assert by_name.json() == in_order.json() == by_request.json() == shown("iris")[0]
    assert other.json() == shown("iris")[1]


def test_photo_answers_as_shown() -> None:
    sideways = io.BytesIO()
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(sideways, "png", exif=exif)
    transparent = io.BytesIO()
    Image.new("RGBA", (20, 40), (9, 9, 9, 0)).save(transparent, "png")
    readme = (EXAMPLES / "photo" / "README.md").read_text(encoding="utf-8")
    encoded = re.search(r"echo (\S+) \| base64", readme)
    assert encoded
    with served("photo") as client:
        upright = client.post(
            "/predict_image", files={"request": ("r.png", sideways.getvalue(), "image/png")}
        )
        opaque = client.post("/predict_image", content=transparent.getvalue())
        orange = client.post("/predict_image", content=base64.b64decode(encoded[1]))
    assert upright.json() == {"size": [20, 40], "colour": "#ff0000"}
    assert opaque.json() == {"size": [20, 40], "colour": "#ffffff"}
    assert orange.json() == shown("photo")[0]


def test_the_image_is_built_as_the_manifest_says() -> None:
    folder, spec = EXAMPLES / "custom-image", manifest("custom-image")["spec"]
    dockerfile, readme = ((folder / name).read_text(encoding="utf-8") for name in ("Dockerfile", "README.md"))
    copied = re.findall(r"^COPY (.+) (\S+)/$", dockerfile, re.MULTILINE)
    assert copied == [
        (" ".join(sorted(path.name for path in folder.glob("*.py"))), spec["predictor"]["image"])
    ]
    host, _, built = spec["image"].partition("/")
    assert host == REGISTRY_HOST
    assert f'docker push --quiet "$LOCAL_REGISTRY/{built}"' in readme


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_custom_image_answers_as_shown(tmp_path: Path) -> None:
    folder = EXAMPLES / "custom-image"
    first = re.search(r"ARG CLOSENESS=(\S+)", (folder / "Dockerfile").read_text(encoding="utf-8"))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    second = re.search(r"--build-arg=CLOSENESS=(\S+)", readme)
    asked = re.search(r"-d '(.+)'", readme)
    assert first
    assert second
    assert asked
    shutil.copytree(folder, tmp_path / "app")
    for closeness, answer in zip((first[1], second[1]), shown("custom-image"), strict=True):
        command = [sys.executable, str(folder / "train.py"), str(tmp_path / "app" / "model.pkl"), closeness]
        subprocess.run(command, check=True)
        with served("custom-image", tmp_path / "app") as client:
            assert client.post("/predict_dict", json=json.loads(asked[1])).json() == answer


def test_the_readme_puts_the_files_to_where_the_manifest_looks() -> None:
    readme = (EXAMPLES / "bucket-model" / "README.md").read_text(encoding="utf-8")
    (bucket, folder) = re.findall(r"/storage/v1/b/([\w-]+)/o\?uploadType=media&name=(\w+/)", readme)[0]
    assert manifest("bucket-model")["spec"]["predictor"] == {"gcs": f"gs://{bucket}/{folder}"}
    put = re.findall(r"^put (?:.*/)?(\S+)$", readme, re.MULTILINE)
    assert put == ["predictor.py", "model.pkl", "model.pkl"]


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_bucket_model_answers_as_shown(tmp_path: Path) -> None:
    folder = EXAMPLES / "bucket-model"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    trained = re.findall(r"^python3 examples/bucket-model/train.py model.pkl (\d+)$", readme, re.MULTILINE)
    asked = re.search(r"-d '(\{\"payload\".+)'", readme)
    assert asked
    shutil.copytree(folder, tmp_path / "code")
    for neighbours, answer in zip(trained, shown("bucket-model"), strict=True):
        command = [sys.executable, str(folder / "train.py"), str(tmp_path / "code" / "model.pkl"), neighbours]
        subprocess.run(command, check=True)
        with served("bucket-model", tmp_path / "code") as client:
            assert client.post("/predict_dict", json=json.loads(asked[1])).json() == answer
