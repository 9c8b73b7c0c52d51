"""Trains a model and writes it down: `train.py FILE NEIGHBOURS`."""

import pickle
import sys
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.neighbors import KNeighborsClassifier


def train(neighbours: int) -> dict[str, object]:
    iris = load_iris()
    model = KNeighborsClassifier(n_neighbors=neighbours).fit(iris.data, iris.target)
    return {"species": [str(name) for name in iris.target_names], "model": model}


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(pickle.dumps(train(int(sys.argv[2]))))
