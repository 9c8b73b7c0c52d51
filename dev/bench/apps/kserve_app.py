"""KServe's model server with one worker: python -m dev.bench.apps.kserve_app --http_port=PORT."""

from typing import Any

import kserve  # type: ignore[import-not-found]

from dev.bench.work import chosen


class Bench(kserve.Model):  # type: ignore[misc]
    """The workload as KServe wants it."""

    def __init__(self) -> None:
        super().__init__("bench")
        self.work = chosen().work
        self.ready = True

    async def predict(self, payload: Any, _headers: Any = None, _response_headers: Any = None) -> Any:
        """The answer to one payload."""
        return self.work(payload["payload"])


if __name__ == "__main__":
    kserve.ModelServer(workers=1, enable_grpc=False, access_log_format=None).start([Bench()])
