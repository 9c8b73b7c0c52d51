"""Which iris is it? Trained when the server starts, asked with four lengths in centimetres."""

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


class Predictor:
    def load(self):
        iris = load_iris()
        self.species = [str(name) for name in iris.target_names]
        self.model = LogisticRegression(max_iter=1000).fit(iris.data, iris.target)

    def predict(self, request):
        payload = request.payload
        features = payload.get("features") or [payload[name] for name in FEATURES]
        probabilities = self.model.predict_proba([features])[0]
        return {
            "species": self.species[probabilities.argmax()],
            "probabilities": dict(zip(self.species, probabilities.round(3), strict=True)),
        }
