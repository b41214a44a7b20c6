"""Which images were classified correctly: by hand, and of a trained network image by image."""

from __future__ import annotations

import base64
import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from ablations import vocabulary as names
from ablations.errors import LeaseError
from ablations.spec.fingerprint import digest
from ablations.spec.parts import Intervention
from ablations.spec.trial import TrialSpec
from runners.data import SplitName, load_dataset, subset
from runners.state.nodes import NodeState
from runners.training.checkpoint import load_weights
from runners.training.correctness import correctness
from runners.training.evaluation import Measurement
from runners.training.network import build_network, intervened
from runners.workers.task import Task
from runners.workers.trial import run_node
from tests.runners.bench import Bench


class _Source:
    """Gives images 3, 0, 2, 1 of a split of four."""

    digest = "of the data"

    def evaluation_order(self, split: SplitName) -> np.ndarray:
        assert split == "test"
        return np.array([3, 0, 2, 1])


class _Older:
    """A source that does not tell its order."""

    digest = "of the data"


def _measured(correct: list[bool], among_five: list[bool] | None) -> Measurement:
    bits = torch.tensor(correct)
    five = None if among_five is None else torch.tensor(among_five)
    return Measurement(0.0, None, 0.0, (), bits, five, torch.zeros(len(correct), dtype=torch.int64))


def _bits(content: dict[str, Any], metric: str = "test/top1") -> list[bool]:
    packed = np.frombuffer(base64.b64decode(content["bits"][metric]), dtype=np.uint8)
    return [bool(bit) for bit in np.unpackbits(packed, count=content["images"])]


def test_bits_stand_in_the_order_of_the_split() -> None:
    content = correctness(_measured([True, False, False, True], [True] * 4), _Source(), "test")  # type: ignore[arg-type]
    assert _bits(content) == [False, True, False, True]
    assert content["bits"] == {"test/top1": base64.b64encode(b"\x50").decode(), "test/top5": "8A=="}
    told = {key: content[key] for key in ("split", "images", "data_digest", "order")}
    assert told == {"split": "test", "images": 4, "data_digest": "of the data", "order": "data set"}
    assert content["sha256"] == digest({key: value for key, value in content.items() if key != "sha256"})


def test_few_classes_have_no_five() -> None:
    content = correctness(_measured([True, False, False, True], None), _Source(), "test")  # type: ignore[arg-type]
    assert list(content["bits"]) == ["test/top1"]


def test_a_source_that_does_not_tell_its_order_is_no_error() -> None:
    content = correctness(_measured([True, False, False, True], None), _Older(), "test")  # type: ignore[arg-type]
    assert (content["order"], _bits(content)) == ("evaluation", [True, False, False, True])


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NodeState]:
    """A trained network and an evaluation of it that draws at random, both measured."""
    bench = Bench(tmp_path_factory.mktemp("states"))
    trial = bench.trial(train__temperature__start=1.0, train__batch_size=4, train__epochs=4)
    other = bench.evaluation(trial, Intervention(aggregation="average"))
    for node in (trial, other):
        assert run_node(Task(bench.root, node.fingerprint, device="cpu")) == "finished"
    return {"trial": bench.states[trial.fingerprint], "evaluation": bench.states[other.fingerprint]}


def _content(state: NodeState) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((state.folder / names.CORRECTNESS_FILE).read_text())
    return found


@pytest.mark.parametrize("kind", ["trial", "evaluation"])
def test_the_bits_of_a_node_are_its_accuracy(states: dict[str, NodeState], kind: str) -> None:
    content, result = _content(states[kind]), states[kind].result()
    assert result is not None
    for metric in ("test/top1", "test/top5"):
        assert np.mean(_bits(content, metric)) * 100 == pytest.approx(result["metrics"][metric])


def test_two_evaluations_differ_in_some_images_only(states: dict[str, NodeState]) -> None:
    one, two = (_bits(_content(states[kind])) for kind in ("trial", "evaluation"))
    assert 0 < sum(a != b for a, b in zip(one, two, strict=True)) < len(one)


@pytest.mark.parametrize("kind", ["trial", "evaluation"])
def test_each_bit_is_its_image(states: dict[str, NodeState], kind: str) -> None:
    """Images of the split one after the other, each on its own, through the trained network."""
    node = states[kind].node()
    spec = node.spec
    model = build_network(spec.model, spec.data.facts, spec.seed)
    load_weights(states["trial"].weights_file, model)
    model.eval()
    data = load_dataset(spec.data.name)
    split = subset(data.test, spec.data.test_images or 0, seed=0, num_classes=data.facts.num_classes)
    mean, std = (part.view(1, -1, 1, 1) for part in (data.mean, data.std))
    with torch.inference_mode(), _changed(model, kind, spec):
        right = [
            int(model((image[None] / 255 - mean) / std).argmax()) == int(label)
            for image, label in zip(split.images.float(), split.labels, strict=True)
        ]
    assert right == _bits(_content(states[kind]))


def _changed(model: torch.nn.Module, kind: str, spec: TrialSpec) -> AbstractContextManager[object]:
    change = Intervention(aggregation="average")
    return intervened(model, change, spec.data.facts, spec.seed) if kind == "evaluation" else nullcontext()


def test_who_was_taken_over_leaves_the_bits_to_the_new_owner(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bits might differ from the accuracies that the other wrote."""
    trial = bench.trial(train__epochs=1)
    evaluation = bench.evaluation(trial, Intervention(aggregation="average"))
    assert run_node(Task(bench.root, trial.fingerprint, device="cpu")) == "finished"

    def taken(*where: object) -> None:
        raise LeaseError("another process has it")

    monkeypatch.setattr("runners.state.attempts.check", taken)
    assert run_node(Task(bench.root, evaluation.fingerprint, device="cpu")) == "held"
    assert not (bench.states[evaluation.fingerprint].folder / names.CORRECTNESS_FILE).exists()
