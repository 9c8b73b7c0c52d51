"""examples/weights: one download for all loads, and nothing is kept that is not whole and right."""

import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from dev.progress import until
from tests.unit.examples.test_examples import EXAMPLES, manifest, served, shown

WEIGHTS = EXAMPLES / "weights" / "weights.json"


class Source(ThreadingHTTPServer):
    """Serves one file and counts how often it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Download)
        self.content = WEIGHTS.read_bytes()
        self.missing = 0  # bytes that are promised and do not come
        self.downloads = 0
        self.released = threading.Event()
        self.released.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights?signature=s"


class _Download(BaseHTTPRequestHandler):
    server: Source

    def do_GET(self) -> None:
        self.server.downloads += 1
        self.server.released.wait(30)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content) + self.server.missing))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def source() -> Iterator[Source]:
    with Source() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def kept(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what is kept, in a HOME of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WEIGHTS_URL", source.url)
    monkeypatch.setenv("WEIGHTS_SHA256", pinned())
    return tmp_path / ".cache" / "weights"


def pinned() -> str:
    (found,) = [each["value"] for each in manifest("weights")["spec"]["env"] if "value" in each]
    return str(found)


def ask() -> object:
    """Load in a server of its own, as after a boot, and predict."""
    payload = manifest("weights")["spec"]["readiness"]["payload"]
    with served("weights") as client:
        return client.post("/predict_dict", json={"payload": payload}).json()


def predictor() -> ModuleType:
    spec = spec_from_file_location("weights_predictor", EXAMPLES / "weights" / "predictor.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_weights_are_those_of_iris_and_pinned() -> None:
    data = load_iris()
    trained = LogisticRegression(max_iter=1000).fit(data.data, data.target)
    weights = json.loads(WEIGHTS.read_bytes())
    assert weights["species"] == list(data.target_names)
    scores = np.exp(data.data @ np.transpose(weights["coefficients"]) + weights["intercepts"])
    said = scores / scores.sum(axis=1, keepdims=True)
    # Not the weights: where training stops on its way to the best ones depends on the processor.
    assert np.abs(said - trained.predict_proba(data.data)).max() < 0.01
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == pinned()


def test_every_boot_answers_as_shown_after_one_download(source: Source, kept: Path) -> None:
    assert [ask(), ask()] == [shown("weights")[0]] * 2
    assert source.downloads == 1
    assert (kept / pinned()).read_bytes() == WEIGHTS.read_bytes()


@pytest.mark.parametrize(("content", "missing"), [(b"<html>Please log in</html>", 0), (b"{", 500)])
def test_what_is_wrong_or_cut_off_fails_the_load_and_is_not_kept(
    source: Source, kept: Path, content: bytes, missing: int
) -> None:
    right, source.content, source.missing = source.content, content, missing
    with pytest.raises(ValueError, match="not the one that WEIGHTS_SHA256 names") as caught:
        predictor().Predictor().load()
    assert "signature" not in str(caught.value)
    assert not (kept / pinned()).exists()
    source.content, source.missing = right, 0
    assert ask() == shown("weights")[0]


def test_of_workers_that_load_at_once_one_downloads(source: Source, kept: Path) -> None:
    source.released.clear()
    code = predictor()
    with ThreadPoolExecutor(2) as pool:
        files = [pool.submit(code.kept, source.url, pinned()) for _ in range(2)]
        until(lambda: source.downloads == 1 and waits_for(kept / "lock"), 30, "nobody waits for the other")
        source.released.set()
        assert [file.result() for file in files] == [kept / pinned()] * 2
    assert source.downloads == 1


def waits_for(lock: Path) -> bool:
    """Whether somebody waits for this lock to be released."""
    held = Path("/proc/locks").read_text().splitlines()
    return any("-> FLOCK" in line and f":{lock.stat().st_ino} " in line for line in held)
