"""Each strategy against its definition, and where its randomness comes from."""

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dyconv import (
    AggregationContext,
    AggregationError,
    DynamicConv2d,
    ShapeError,
    available_aggregations,
    get_aggregation,
    register_aggregation,
)
from dyconv.aggregation import ForwardPass
from tests.registries import registries_kept

STRATEGIES = ["attention", "average", "max", "shuffle_per_image", "shuffle_across_images"]


@pytest.fixture
def registry() -> Iterator[None]:
    """Take back what a test registers."""
    with registries_kept():
        yield


def weights(batch: int = 6, kernels: int = 4) -> Tensor:
    return torch.softmax(torch.randn(batch, kernels, generator=torch.Generator().manual_seed(1)), 1)


def context(seed: int = 0, step: int = 0, layer: str = "a") -> AggregationContext:
    forward_pass = ForwardPass(seed)
    forward_pass.set(step)
    return AggregationContext(forward_pass, layer)


def apply(name: str, attention: Tensor, **kw: int | str) -> Tensor:
    return get_aggregation(name)(attention, context(**kw))  # type: ignore[arg-type]


def test_the_five_strategies_are_there() -> None:
    assert available_aggregations()[:5] == STRATEGIES


def test_attention_is_left_as_it_is() -> None:
    assert torch.equal(apply("attention", weights()), weights())


def test_average_gives_every_kernel_the_same() -> None:
    assert torch.equal(apply("average", weights()), torch.full((6, 4), 0.25))


def test_max_takes_the_largest_alone() -> None:
    attention = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    assert torch.equal(apply("max", attention), torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))


def test_shuffle_per_image_permutes_within_each_image() -> None:
    attention = weights(200)
    shuffled = apply("shuffle_per_image", attention)
    assert torch.equal(shuffled.sort(1).values, attention.sort(1).values)
    orders = {tuple(row.tolist()) for row in shuffled.argsort(1).gather(1, attention.argsort(1).argsort(1))}
    assert len(orders) == 24, "200 images and 4! = 24 orders: each is drawn"


def test_shuffle_per_image_differs_by_layer_and_pass_and_repeats_by_seed() -> None:
    attention = weights(50)
    base = apply("shuffle_per_image", attention)
    assert torch.equal(apply("shuffle_per_image", attention), base)
    assert not torch.equal(apply("shuffle_per_image", attention, layer="b"), base)
    assert not torch.equal(apply("shuffle_per_image", attention, step=1), base)
    assert not torch.equal(apply("shuffle_per_image", attention, seed=1), base)


@settings(deadline=None)
@given(batch=st.integers(2, 40), seed=st.integers(0, 2**31), step=st.integers(0, 100))
def test_shuffle_across_images_is_a_derangement(batch: int, seed: int, step: int) -> None:
    partner = context(seed, step).derangement(batch)
    assert sorted(partner.tolist()) == list(range(batch))
    assert not (partner == torch.arange(batch)).any()
    attention = weights(batch)
    assert torch.equal(apply("shuffle_across_images", attention, seed=seed, step=step), attention[partner])


def test_each_partner_is_equally_likely() -> None:
    counts = torch.zeros(5, 5)
    for step in range(2000):
        counts[torch.arange(5), context(step=step).derangement(5)] += 1
    assert (counts.diagonal() == 0).all()
    off = counts[~torch.eye(5, dtype=torch.bool)]
    assert (off - 500).abs().max() < 100, "500 expected, standard deviation 19"


def test_shuffle_across_images_is_the_same_in_all_layers_of_a_pass_only() -> None:
    attention = weights(30)
    base = apply("shuffle_across_images", attention)
    assert torch.equal(apply("shuffle_across_images", attention, layer="b"), base)
    assert not torch.equal(apply("shuffle_across_images", attention, step=1), base)
    assert not torch.equal(apply("shuffle_across_images", attention, seed=1), base)


def test_a_batch_of_one_has_no_other_image() -> None:
    with pytest.raises(AggregationError, match="at least two images"):
        apply("shuffle_across_images", weights(1))


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_strategy_touches_the_global_generator_or_its_input(name: str) -> None:
    attention, state = weights(), torch.random.get_rng_state()
    apply(name, attention)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(attention, weights())


@pytest.mark.parametrize("name", STRATEGIES)
def test_gradient_reaches_the_branch_where_a_strategy_depends_on_it(name: str) -> None:
    layer = DynamicConv2d(3, 4, 3, aggregation=name, temperature=1.0)
    layer(torch.randn(4, 3, 5, 5)).square().sum().backward()
    assert layer.weight.grad is not None
    reaches = layer.attention_branch.excite.weight.grad is not None
    assert reaches == (name not in ("average", "max"))


def test_a_strategy_of_ones_own(registry: None) -> None:
    @register_aggregation("sharpened")
    def sharpened(attention: Tensor, context: AggregationContext) -> Tensor:
        return attention.square() / attention.square().sum(1, keepdim=True)

    layer = DynamicConv2d(3, 4, 3, aggregation="sharpened")
    assert layer(torch.randn(2, 3, 5, 5)).shape == (2, 4, 3, 3)
    assert copy.deepcopy(layer).aggregation == "sharpened"


def test_a_second_definition_is_an_error(registry: None) -> None:
    with pytest.raises(AggregationError, match="'max' is registered already"):
        register_aggregation("max")(lambda attention, context: attention)


def test_an_unknown_name_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(AggregationError, match=r"'shufle_per_image'.*'shuffle_per_image'"):
        get_aggregation("shufle_per_image")


def test_a_strategy_that_changes_the_shape_is_an_error(registry: None) -> None:
    register_aggregation("broken")(lambda attention, context: attention[:, :1])
    with pytest.raises(ShapeError, match=r"'broken' must return .*\(2, 4\)"):
        DynamicConv2d(3, 4, 3, aggregation="broken")(torch.randn(2, 3, 5, 5))


@pytest.mark.parametrize("normalization", ["sigmoid", "signed"])
def test_average_keeps_the_sum_of_weights_that_do_not_sum_to_one(normalization: str) -> None:
    layer = DynamicConv2d(6, 8, 3, bias=False, num_kernels=3, normalization=normalization, aggregation="average")
    images = torch.randn(4, 6, 5, 5)
    weights = layer.attention(images).mean(1)
    expected = [F.conv2d(images[b : b + 1], weights[b] * layer.weight.sum(0)) for b in range(4)]
    torch.testing.assert_close(layer(images), torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(weights, torch.full_like(weights, 1 / 3), atol=0.02)


@pytest.mark.parametrize("normalization", ["softmax", "normalized_sigmoid"])
def test_average_is_the_same_for_every_image_where_weights_sum_to_one(normalization: str) -> None:
    layer = DynamicConv2d(6, 8, 3, bias=False, num_kernels=3, normalization=normalization, aggregation="average")
    images = torch.randn(4, 6, 5, 5)
    torch.testing.assert_close(layer(images), F.conv2d(images, layer.weight.mean(0)), rtol=1e-4, atol=1e-5)
