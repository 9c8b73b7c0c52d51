"""LitServe with one worker: python -m dev.bench.apps.litserve_app PORT."""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]

from dev.bench.work import chosen


class Api(litserve.LitAPI):  # type: ignore[misc]
    """The workload as LitServe wants it."""

    def setup(self, _device: str) -> None:
        """Once in the worker."""
        self.work = chosen().work

    def decode_request(self, request: dict[str, Any]) -> Any:
        """The body without its shell."""
        return request["payload"]

    def predict(self, payload: Any) -> Any:
        """The answer to one payload."""
        return self.work(payload)

    def encode_response(self, output: Any) -> Any:
        """As it is."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="error",
        generate_client_file=False,
    )
