"""`echo` in a thread."""

from typing import Any

from dev.bench.work import echo


class Predictor:
    """Asked by /predict_dict."""

    def load(self) -> None:
        """Nothing to load."""

    def predict(self, request: Any) -> Any:
        """The answer to one payload."""
        return echo.work(request.payload)
