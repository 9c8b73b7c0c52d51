"""`echo` from FastAPI's own request."""

from fastapi import Request

from dev.bench.work import Payload, echo


class Predictor:
    """Asked by /predict."""

    def load(self) -> None:
        """Nothing to load."""

    async def predict(self, request: Request) -> Payload:
        """The answer to one request."""
        return echo.work((await request.json())["payload"])
