"""The registry of facts: names, duplicates, nonsense, and that it needs neither torch nor mlflow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from ablations.datasets.facts import DatasetFacts
from ablations.datasets.registry import available_datasets, facts_of, register_dataset
from ablations.errors import DatasetError, UnknownNameError


def test_facts_are_known_without_torch_or_mlflow() -> None:
    code = "import sys, ablations.datasets; print([m for m in ('torch', 'mlflow', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_embedded_and_full_sets_are_available() -> None:
    assert {"fashion_mnist_mini", "fashion_mnist", "imagenet"} <= set(available_datasets())
    assert list(available_datasets()) == sorted(available_datasets())


def test_fashion_mnist_facts_add_up() -> None:
    full = facts_of("fashion_mnist")
    assert full.train_images + full.validation_images == 60_000
    assert full.class_names[9] == "Ankle boot"
    assert full.digest != facts_of("fashion_mnist_mini").digest


def test_a_typo_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="fashion_mnist_mini"):
        facts_of("fashion_mnist_mimi")


@pytest.mark.usefixtures("own_registries")
def test_a_duplicate_is_refused_and_the_first_stays(make_facts: Callable[..., DatasetFacts]) -> None:
    first = register_dataset(make_facts())
    with pytest.raises(DatasetError, match="'tiny' is registered twice"):
        register_dataset(make_facts(title="Second"))
    assert facts_of("tiny") is first


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"test_images": 0}, "test_images=0"), ({"class_names": ("a", "b")}, "2 class names for 3 classes")],
)
def test_facts_that_cannot_be_are_refused(
    make_facts: Callable[..., DatasetFacts], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        make_facts(**changes)
