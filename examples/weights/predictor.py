"""Weights that `load` downloads once: they lie below HOME, on the disk of the VM, and survive every boot."""

import fcntl
import hashlib
import json
import math
import os
import shutil
import urllib.request
from pathlib import Path


class Predictor:
    def load(self):
        file = kept(os.environ["WEIGHTS_URL"], os.environ["WEIGHTS_SHA256"])
        weights = json.loads(file.read_text())
        self.features, self.species = weights["features"], weights["species"]
        self.intercepts, self.coefficients = weights["intercepts"], weights["coefficients"]

    def predict(self, request):
        values = [request.payload[name] for name in self.features]
        scores = [
            math.exp(intercept + sum(weight * value for weight, value in zip(row, values, strict=True)))
            for intercept, row in zip(self.intercepts, self.coefficients, strict=True)
        ]
        probabilities = [round(score / sum(scores), 3) for score in scores]
        return {
            "species": self.species[scores.index(max(scores))],
            "probabilities": dict(zip(self.species, probabilities, strict=True)),
        }


def kept(url, sha256):
    """The file with this hash: the one on the disk, or else a download."""
    folder = Path.home() / ".cache" / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / sha256
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several workers one downloads, the others wait
        if not file.exists():
            download(url, sha256, file)
    return file


def download(url, sha256, file):
    """The file appears whole and verified, or not at all: the VM may be taken away in the middle."""
    part = file.with_name("part")
    with urllib.request.urlopen(url, timeout=60) as answer, part.open("wb") as written:
        shutil.copyfileobj(answer, written)
        written.flush()
        os.fsync(written.fileno())
    with part.open("rb") as read:
        found = hashlib.file_digest(read, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"the file at WEIGHTS_URL is not the one that WEIGHTS_SHA256 names: it has {found}")
    part.replace(file)
