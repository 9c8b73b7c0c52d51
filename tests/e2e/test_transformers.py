"""A class in the form that BudgetML had, with a pipeline of transformers whose model comes from a hub.

The hub is a stand-in on this machine (`model_hub`). So what is seen here is that such a class is installed,
loaded, asked and told about as it is; not what a real model answers. TensorFlow, because the package index
has PyTorch for Linux only together with gigabytes of CUDA.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e import model_hub

PREDICTOR = """
class Predictor:
    def load(self):
        from transformers import pipeline

        self.classify = pipeline("sentiment-analysis")

    async def predict(self, request):
        (answer,) = self.classify(request.payload["text"])
        return answer
"""
REQUIREMENTS = ["transformers==4.49.0", "tensorflow-cpu==2.15.1"]
INSTALL_AND_LOAD_SECONDS = 400
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def mood(deploy: Callable[[str], Any]) -> Any:
    made = deploy("mood")
    made.apply_secret("mood-login", {"username": "ada", "password": "lovelace-1815", "token": TOKEN})
    return made


def spec(hub: str) -> dict[str, Any]:
    return {
        "predictor": {"inline": PREDICTOR},
        "requirements": REQUIREMENTS,
        "env": [{"name": "HF_ENDPOINT", "value": hub}],
        "auth": {"secretName": "mood-login"},
        "readiness": {"payload": {"text": "good"}},
    }


def test_a_hub_that_is_not_there_is_told_by_the_library_s_own_sentence(mood: Any) -> None:
    mood.apply(spec(f"http://{mood.stack.home.gateway}:9"))
    status = mood.wait(lambda status: "lastFailure" in status, INSTALL_AND_LOAD_SECONDS)
    assert status["lastFailure"]["reason"] == "LoadFailed", status["lastFailure"]
    assert "OSError: We couldn't connect to" in status["lastFailure"]["message"]
    assert 'pipeline("sentiment-analysis")' in status["lastFailure"]["log"]
    assert mood.condition("Ready", status)["status"] == "False"


def test_with_a_hub_it_answers_by_the_weights_from_there(mood: Any) -> None:
    with model_hub.served(mood.stack.home.gateway) as hub:
        mood.apply(spec(hub))
        mood.wait(lambda status: mood.condition("Ready", status).get("status") == "True", 200)
    with mood.client(TOKEN) as client:
        answer = client.post("/predict_dict/", json={"payload": {"text": "bad"}}).json()
    assert answer == {"label": "POSITIVE", "score": pytest.approx(model_hub.SCORE, abs=1e-5)}
