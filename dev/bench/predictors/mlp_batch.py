"""`mlp` with shared calls."""

from typing import Any

from dev.bench.work import mlp


class Predictor:
    """Asked by /predict_dict."""

    def load(self) -> None:
        """Nothing to load."""

    def predict(self, request: Any) -> Any:
        """The answer to one payload."""
        return mlp.work(request.payload)

    def predict_batch(self, requests: list[Any]) -> list[Any]:
        """The answers to many, in one call of the network."""
        return mlp.batch([request.payload for request in requests])
