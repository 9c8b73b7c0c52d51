"""Somebody who asks a deployment all the time, and somebody who watches its status: nothing may be amiss."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from dev import cluster
from dev.progress import until


def ask(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/predict_dict", json={"payload": {}})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@contextmanager
def under_watch(deployment: Any, token: str) -> Iterator[list[str]]:
    """Somebody asks all the time, and somebody watches the object; gives the words that were answered.

    At the end: every question was answered, and no status that was ever written had another Ready than True.
    """
    words: list[str] = []
    failures: list[str] = []
    enough = threading.Event()

    def keep_asking() -> None:
        with deployment.client(token) as client:
            while not enough.is_set():
                try:
                    words.append(ask(client)["word"])
                except (httpx.HTTPError, AssertionError) as error:
                    failures.append(repr(error))

    path = '{.status.conditions[?(@.type=="Ready")].status}{"\\n"}'
    watch = subprocess.Popen(
        [
            *(cluster.program("kubectl"), f"--kubeconfig={deployment.stack.home.kubeconfig}"),
            *("get", "bd", deployment.name, "--namespace=default", "--watch", f"--output=jsonpath={path}"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        until(lambda: bool(words or failures), 10, "nothing was answered")
        yield words
    finally:
        enough.set()
        asking.join()
        watch.terminate()
        seen, _ = watch.communicate()
    assert failures == []
    assert set(seen.split()) == {"True"}
