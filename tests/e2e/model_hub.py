"""A stand-in for a hub of models where the VMs reach it: one model, too small to know anything.

Its weights are made up: nothing but the bias of the last layer counts, so every text is POSITIVE by the same
score. What it is good for is to see whether weights that a VM downloads are those that answer.
"""

import hashlib
import json
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WIDTH = 4
BIAS = (-2.0, 2.0)
_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad")
_POSITIONS = 16
_SQUARE = (
    *(f"distilbert.transformer.layer.0.attention.{name}_lin" for name in "qkv"),
    "distilbert.transformer.layer.0.attention.out_lin",
    "distilbert.transformer.layer.0.ffn.lin1",
    "distilbert.transformer.layer.0.ffn.lin2",
    "pre_classifier",
)
_NORMS = (
    "distilbert.embeddings.LayerNorm",
    "distilbert.transformer.layer.0.sa_layer_norm",
    "distilbert.transformer.layer.0.output_layer_norm",
)


def files() -> dict[str, bytes]:
    """A DistilBERT with one layer that classifies into two."""
    config = {
        "model_type": "distilbert",
        "architectures": ["DistilBertForSequenceClassification"],
        "vocab_size": len(_WORDS),
        "max_position_embeddings": _POSITIONS,
        **{"dim": WIDTH, "hidden_dim": WIDTH, "n_layers": 1, "n_heads": 1},
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
        "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
    }
    tokenizer = {"tokenizer_class": "DistilBertTokenizer", "model_max_length": _POSITIONS}
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer_config.json": json.dumps(tokenizer).encode(),
        "vocab.txt": "".join(f"{word}\n" for word in _WORDS).encode(),
        "model.safetensors": _safetensors(_shapes(), {"classifier.bias": BIAS}),
    }


def _shapes() -> dict[str, tuple[int, ...]]:
    vectors = {f"{name}.{part}": (WIDTH,) for name in _NORMS for part in ("weight", "bias")}
    return {
        "distilbert.embeddings.word_embeddings.weight": (len(_WORDS), WIDTH),
        "distilbert.embeddings.position_embeddings.weight": (_POSITIONS, WIDTH),
        **{f"{name}.weight": (WIDTH, WIDTH) for name in _SQUARE},
        **{f"{name}.bias": (WIDTH,) for name in _SQUARE},
        **vectors,
        "classifier.weight": (2, WIDTH),
        "classifier.bias": (2,),
    }


def _safetensors(shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, tuple[float, ...]]) -> bytes:
    """The format as it is laid down: length of the head, the head as JSON, the numbers; zero if not given."""
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, shape in shapes.items():
        size = 1
        for length in shape:
            size *= length
        numbers = values.get(name, (0.0,) * size)
        begin, data = len(data), data + struct.pack(f"<{size}f", *numbers)
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": (begin, len(data))}
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + data


class _Hub(BaseHTTPRequestHandler):
    """Answers for every repository and revision with the same files."""

    held = files()

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        content = self.held.get(self.path.rpartition("/")[2])
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        return content or b""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def served(address: str) -> Iterator[str]:
    """The hub's URL."""
    with ThreadingHTTPServer((address, 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{address}:{server.server_port}"
        server.shutdown()
