"""BentoML with one worker: bentoml serve dev.bench.apps.bentoml_app:Bench."""

from typing import Any

import bentoml  # type: ignore[import-not-found]

from dev.bench.work import chosen


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Bench:
    """The workload as BentoML wants it."""

    def __init__(self) -> None:
        self.work = chosen().work

    @bentoml.api(route="/predict_dict")  # type: ignore[untyped-decorator]
    async def predict(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The answer to one payload."""
        return self.work(payload)
