"""Softmax, sigmoid, sigmoid divided by its sum, and signed weights: values by hand, and who reads the temperature."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
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
    record_attention,
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
    assert available_normalizations() == ["softmax", "sigmoid", "tempered_sigmoid", "normalized_sigmoid", "signed"]


@pytest.mark.parametrize(
    ("normalization", "temperature", "expected"),
    [
        ("softmax", 1.0, [3 / 4, 1 / 4]),  # e^z = 3, 1
        ("softmax", 0.5, [9 / 10, 1 / 10]),
        ("sigmoid", 0.5, [3 / 4, 1 / 2]),  # e^z / (1 + e^z), at any temperature
        ("tempered_sigmoid", 0.5, [9 / 10, 1 / 2]),  # e^2z / (1 + e^2z)
        ("tempered_sigmoid", 1e9, [1 / 2, 1 / 2]),
        ("normalized_sigmoid", 0.5, [3 / 5, 2 / 5]),  # the same, divided by 5 / 4
    ],
)
def test_by_hand(normalization: str, temperature: float, expected: list[float]) -> None:
    images = torch.randn(2, 4, 3, 3)
    attention = branch(normalization, [math.log(3), 0.0])(images, torch.tensor(temperature))
    torch.testing.assert_close(attention, torch.tensor([expected, expected]))


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([3.0, 1.0], [3 / 4, 1 / 4]),
        ([3.0, -1.0, 0.0], [3 / 4, -1 / 4, 0.0]),
        ([-2.0, -2.0], [-1 / 2, -1 / 2]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([1e-30, -3e-30], [1 / 4, -3 / 4]),
        ([1e37, 1e37], [1 / 2, 1 / 2]),
    ],
)
def test_signed_weights_by_hand(logits: list[float], expected: list[float]) -> None:
    images = torch.randn(2, 4, 3, 3)
    attention = branch("signed", logits)(images, torch.tensor(0.5))
    torch.testing.assert_close(attention, torch.tensor([expected, expected]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_layer_of_signed_weights_is_the_formulas(dtype: torch.dtype) -> None:
    layer = DynamicConv2d(4, 6, 3, num_kernels=5, normalization="signed", bias=True).to(dtype)
    x = (3 * torch.randn(4, 4, 5, 5)).to(dtype)
    exact, images = copy.deepcopy(layer).double(), x.double()
    outputs, weights = [], []
    for image in images:
        hidden = torch.clamp(exact.attention_branch.squeeze(image.mean((1, 2))), min=0)
        z = exact.attention_branch.excite(hidden)
        pi = z / sum(abs(z[k]) for k in range(5))
        kernel, bias = (sum(pi[k] * p[k] for k in range(5)) for p in (exact.weight, exact.bias))
        outputs.append(F.conv2d(image[None], kernel, bias))
        weights.append(pi)
    precision = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(layer.attention(x).double(), torch.stack(weights), **precision)
    torch.testing.assert_close(layer(x).double(), torch.cat(outputs), **precision)
    assert layer.attention(x).min() < 0
    torch.testing.assert_close(layer.attention(x).abs().sum(1).double(), torch.ones(4).double())


def test_gradients_of_signed_weights_are_finite_at_zero() -> None:
    made = branch("signed", [0.0, 0.0, 0.0])
    made(torch.randn(2, 4, 3, 3), ONE).sum().backward()
    assert made.excite.bias.grad is not None
    assert made.excite.bias.grad.isfinite().all()


@pytest.mark.parametrize("aggregation", ["average", "max", "shuffle_per_image", "shuffle_across_images"])
def test_strategies_take_signed_weights(aggregation: str) -> None:
    model = build_model("resnet10", 10, num_kernels=3, normalization="signed", seed=0).eval()
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad(), intervene(model, aggregation), record_attention(model) as recorder:
        model(x)
    for name, weights in recorder.branch.items():
        used = recorder.used[name]
        # Their sum is not always one, so the average keeps each image's own.
        if aggregation == "average":
            torch.testing.assert_close(used, weights.mean(1, keepdim=True).expand_as(weights))
        elif aggregation == "max":
            assert torch.equal(used.argmax(1), weights.argmax(1))
        else:
            assert torch.equal(used.sort(1)[0].sort(0)[0], weights.sort(1)[0].sort(0)[0])
    entropies = recorder.entropy(normalized=True)
    assert all(0 <= entropy <= 1 for entropy in entropies.values())


def test_a_network_of_signed_weights_begins_as_the_static_one() -> None:
    model, x = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3)), torch.randn(3, 4, 5, 5)
    with torch.no_grad():
        expected = model(x)
        make_dynamic(model, normalization="signed", start="static", noise=0.0)
        torch.testing.assert_close(model(x), expected)


def test_sigmoids_that_all_vanish_still_sum_to_one_when_normalized() -> None:
    attention = branch("normalized_sigmoid", [-200.0, -200.0, -300.0])(torch.randn(1, 4, 3, 3), ONE)
    torch.testing.assert_close(attention, torch.tensor([[0.5, 0.5, 0.0]]))


@pytest.mark.parametrize("normalization", available_normalizations())
def test_a_softmax_and_a_tempered_sigmoid_read_the_temperature(normalization: str) -> None:
    layer = DynamicConv2d(4, 4, 1, normalization=normalization)
    x = 5 * torch.randn(3, 4, 2, 2)
    before, reads = layer.attention(x), normalization in ("softmax", "tempered_sigmoid")
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


def test_entropy_of_negative_weights_is_of_their_magnitudes() -> None:
    signed, positive = AttentionRecorder(), AttentionRecorder()
    weights = torch.tensor([[0.5, -0.5, 0.0], [-0.75, 0.0, -0.25]])
    signed.add("a", weights, weights)
    positive.add("a", weights.abs(), weights.abs())
    assert signed.entropy() == positive.entropy()
    assert 0 < signed.entropy(normalized=True)["a"] < 1


def test_an_unknown_one_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"'sigmod'.*'sigmoid'"):
        AttentionBranch(4, 2, normalization="sigmod")
