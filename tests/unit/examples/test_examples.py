"""Each example's manifest carries the code beside it, pinned, and the code answers as its README shows."""

import base64
import importlib.util
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from PIL import Image

from budget_server.app import create_app
from budget_server.settings import Settings

EXAMPLES = Path(__file__).parents[3] / "examples"
NAMES = ["iris", "photo", "sentiment"]


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
def served(name: str) -> Iterator[TestClient]:
    environment = {
        "BUDGET_USERNAME": "u",
        "BUDGET_PWD": "p",
        "BUDGET_TOKEN": "t",
        "BUDGET_SIGNING_KEY": "ab" * 32,
        "BUDGET_NAME": f"default/{name}",
        "BUDGET_CODE_DIR": str(EXAMPLES / name),
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
    assert sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_carries_the_code_beside_it(name: str) -> None:
    content = manifest(name)
    assert (content["apiVersion"], content["kind"]) == ("budgetml.dev/v1alpha1", "BudgetDeployment")
    assert content["metadata"] == {"name": name}
    beside = [path for path in (EXAMPLES / name).iterdir() if path.suffix in (".py", ".json")]
    assert code(name) == {path.name: path.read_text(encoding="utf-8") for path in beside}


@pytest.mark.parametrize("name", NAMES)
def test_requirements_are_pinned(name: str) -> None:
    for line in manifest(name)["spec"]["requirements"]:
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
