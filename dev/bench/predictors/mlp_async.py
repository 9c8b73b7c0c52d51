"""`mlp` on the event loop."""

from typing import Any

from dev.bench.work import mlp


class Predictor:
    """Asked by /predict_dict."""

    def load(self) -> None:
        """Nothing to load."""

    async def predict(self, request: Any) -> Any:
        """The answer to one payload."""
        return mlp.work(request.payload)
