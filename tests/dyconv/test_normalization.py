"""Softmax, sigmoid, and sigmoid divided by its sum: values by hand, and who reads the temperature."""

import math

import pytest
import torch
from torch import nn

from dyconv import (
    ArgumentError,
    AttentionBranch,
    AttentionRecorder,
    DynamicConv2d,
    available_normalizations,
    build_model,
    intervene,
    make_dynamic,
    set_temperature,
)

ONE = torch.tensor(1.0)


def branch(normalization: str, logits: list[float]) -> AttentionBranch:
    """A branch that gives these logits whatever its input."""
    made = AttentionBranch(4, len(logits), normalization=normalization)
    nn.init.zeros_(made.excite.weight)
    made.excite.bias.data = torch.tensor(logits)
    return made


def test_the_papers_comes_first() -> None:
    assert available_normalizations() == ["softmax", "sigmoid", "normalized_sigmoid", "signed"]


@pytest.mark.parametrize(
    ("normalization", "temperature", "expected"),
    [
        ("softmax", 1.0, [3 / 4, 1 / 4]),  # e^z = 3, 1
        ("softmax", 0.5, [9 / 10, 1 / 10]),
        ("sigmoid", 0.5, [3 / 4, 1 / 2]),  # e^z / (1 + e^z), at any temperature
        ("normalized_sigmoid", 0.5, [3 / 5, 2 / 5]),  # the same, divided by 5 / 4
    ],
)
def test_by_hand(normalization: str, temperature: float, expected: list[float]) -> None:
    images = torch.randn(2, 4, 3, 3)
    attention = branch(normalization, [math.log(3), 0.0])(images, torch.tensor(temperature))
    torch.testing.assert_close(attention, torch.tensor([expected, expected]))


def test_sigmoids_that_all_vanish_still_sum_to_one_when_normalized() -> None:
    attention = branch("normalized_sigmoid", [-200.0, -200.0, -300.0])(torch.randn(1, 4, 3, 3), ONE)
    torch.testing.assert_close(attention, torch.tensor([[0.5, 0.5, 0.0]]))


@pytest.mark.parametrize("normalization", ["softmax", "sigmoid", "normalized_sigmoid", "signed"])
def test_only_a_softmax_reads_the_temperature(normalization: str) -> None:
    layer = DynamicConv2d(4, 4, 1, normalization=normalization)
    x = 5 * torch.randn(3, 4, 2, 2)
    before, reads = layer.attention(x), normalization == "softmax"
    assert set_temperature(layer, 1.0) == int(reads)
    assert float(layer.temperature) == (1.0 if reads else 30.0)
    assert torch.equal(layer.attention(x), before) == (not reads)


@pytest.mark.parametrize("normalization", ["sigmoid", "normalized_sigmoid", "signed"])
def test_an_intervention_on_a_temperature_that_nothing_reads_is_an_error(normalization: str) -> None:
    model = build_model("resnet10", 10, num_kernels=2, normalization=normalization)
    with pytest.raises(ArgumentError, match="none of the 11 layers"), intervene(model, temperature=1.0):
        pass
    with pytest.raises(ArgumentError, match="reads no temperature"):
        build_model("resnet10", 10, num_kernels=2, normalization=normalization, temperature=1.0)


def test_states_of_all_normalizations_have_the_same_entries() -> None:
    softmax, sigmoid = DynamicConv2d(4, 4, 1, temperature=3.0), DynamicConv2d(4, 4, 1, normalization="sigmoid")
    sigmoid.load_state_dict(softmax.state_dict())
    assert torch.equal(sigmoid.weight, softmax.weight)


def test_every_layer_of_a_network_gets_it() -> None:
    model = make_dynamic(nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(3))), normalization="sigmoid")
    branches = [m for m in model.modules() if isinstance(m, AttentionBranch)]
    assert [b.normalization for b in branches] == ["sigmoid", "sigmoid"]
    assert "normalization='sigmoid'" in repr(model)


def test_entropy_is_of_the_weights_divided_by_their_sum() -> None:
    recorder = AttentionRecorder()
    weights = torch.tensor([[0.8, 0.8], [0.3, 0.1], [0.0, 0.0]])
    recorder.add("a", weights, weights)
    expected = (math.log(2) - 0.75 * math.log(0.75) - 0.25 * math.log(0.25)) / 3
    assert recorder.entropy() == {"a": pytest.approx(expected)}


def test_an_unknown_one_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"'sigmod'.*'sigmoid'"):
        AttentionBranch(4, 2, normalization="sigmod")
