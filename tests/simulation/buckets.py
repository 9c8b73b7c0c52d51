"""Buckets of users in a simulated world."""

from urllib.parse import quote

from dev.simulation.world import PROJECT, World

_HEADERS = {"content-type": "application/json"}


def make(made: World, bucket: str) -> None:
    url = f"{made.settings.api_endpoint}/storage/v1/b?project={PROJECT}"
    answer = made.cloud.answer("POST", url, _HEADERS, f'{{"name": "{bucket}"}}'.encode())
    assert answer.status == 200


def put(made: World, bucket: str, name: str, content: str) -> None:
    """An object, or another content of it."""
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
    answer = made.cloud.answer("POST", made.settings.api_endpoint + path, {}, content.encode())
    assert answer.status == 200
