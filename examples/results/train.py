"""Trains a small network on handwritten digits, with three optimisers and five seeds, and writes results.csv.

It stands for anybody's code: it knows nothing of this project. `python train.py` writes the file;
`python train.py sqlite:///mlflow.db` logs each run to MLflow instead, experiment `digits`.
"""

import csv
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

OPTIMISERS = {
    "sgd": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.05},
    "momentum": {"solver": "sgd", "momentum": 0.9, "learning_rate_init": 0.05},
    "adam": {"solver": "adam", "learning_rate_init": 0.005},
}


def measure(variant: str, seed: int) -> tuple[float, float]:
    """Return accuracy in per cent and cross-entropy on images that the network was not trained on."""
    images, labels = load_digits(return_X_y=True)
    # The seed draws the split and the weights: the same for every optimiser.
    split = train_test_split(images / 16.0, labels, test_size=0.4, random_state=seed, stratify=labels)
    train_images, test_images, train_labels, test_labels = split
    network = MLPClassifier((32,), max_iter=20, random_state=seed, **OPTIMISERS[variant])
    network.fit(train_images, train_labels)
    probabilities = network.predict_proba(test_images)
    accuracy = 100.0 * float(np.mean(probabilities.argmax(axis=1) == test_labels))
    loss = -float(np.mean(np.log(probabilities[np.arange(len(test_labels)), test_labels])))
    return accuracy, loss


def main() -> None:
    """Train every optimiser with every seed."""
    runs = [(variant, seed, *measure(variant, seed)) for variant in OPTIMISERS for seed in range(5)]
    if len(sys.argv) > 1:
        import mlflow

        mlflow.set_tracking_uri(sys.argv[1])
        mlflow.set_experiment("digits")
        for variant, seed, accuracy, loss in runs:
            with mlflow.start_run(tags={"optimiser": variant}):
                mlflow.log_param("rng", seed)
                mlflow.log_metric("accuracy", accuracy)
                mlflow.log_metric("loss", loss)
        return
    with open("results.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "seed", "accuracy", "loss"])
        for variant, seed, accuracy, loss in runs:
            writer.writerow([variant, seed, f"{accuracy:.2f}", f"{loss:.4f}"])


if __name__ == "__main__":
    main()
