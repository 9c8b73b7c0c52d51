"""Next to no work: what a request costs by itself."""

from dev.bench.work import Payload

PAYLOAD: Payload = {"text": "The quick brown fox jumps over the lazy dog."}


def work(payload: Payload) -> Payload:
    """The text as it came."""
    return {"text": payload["text"]}
