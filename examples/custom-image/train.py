"""Trains the model while the image is built: `train.py FILE CLOSENESS`."""

import pickle
import sys
from pathlib import Path

from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FEATURES = ["alcohol", "flavanoids", "color_intensity", "proline"]


def train(closeness: float) -> dict[str, object]:
    wine = load_wine()
    columns = [wine.feature_names.index(name) for name in FEATURES]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=closeness))
    return {"features": FEATURES, "model": model.fit(wine.data[:, columns], wine.target)}


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(pickle.dumps(train(float(sys.argv[2]))))
