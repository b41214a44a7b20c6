"""`intervene`: what changes within, and that everything is back after."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dyconv import (
    ConversionError,
    DyconvError,
    Name,
    PlacementError,
    Role,
    build_model,
    intervene,
    record_attention,
    set_temperature,
)
from dyconv.base import dynamic_layers

SIZE = (1, 28, 28)


@pytest.fixture
def model() -> nn.Module:
    network = build_model(
        "mobilenet_v2", 10, width=0.35, depth=0.5, in_channels=1, num_kernels=4, temperature=0.1, seed=0
    )
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(images(64))
    return network.eval()


def images(batch: int) -> Tensor:
    """Noise of a brightness of its own per image, so that attention differs between images."""
    g = torch.Generator().manual_seed(batch)
    return torch.randn(batch, *SIZE, generator=g) + 3 * torch.randn(batch, 1, 1, 1, generator=g)


def run(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(images(6))  # type: ignore[no-any-return]


def state(model: nn.Module) -> list[Any]:
    """All that an intervention could leave behind."""
    hooks = len(model._forward_pre_hooks)
    layers = [layer for _, layer in dynamic_layers(model)]
    passes = [(id(layer.aggregator.context), vars(layer.aggregator.context.forward_pass).copy()) for layer in layers]
    return [hooks, passes, [(layer.aggregation, float(layer.temperature), layer.training) for layer in layers]]


@pytest.mark.parametrize("aggregation", ["average", "max", "shuffle_per_image", "shuffle_across_images"])
def test_an_aggregation_changes_the_result_within_and_only_within(model: nn.Module, aggregation: str) -> None:
    before, kept = run(model), state(model)
    with intervene(model, aggregation) as layers:
        assert len(layers) == 33
        assert not torch.allclose(run(model), before)
    assert state(model) == kept
    assert torch.equal(run(model), before)


def test_attention_at_its_own_layers_changes_nothing(model: nn.Module) -> None:
    before = run(model)
    with intervene(model, "attention"):
        assert torch.equal(run(model), before)


def test_only_the_layers_that_are_meant(model: nn.Module) -> None:
    with (
        intervene(model, "average", {"resolution": [2, 1]}, input_size=SIZE) as layers,
        record_attention(model) as recorder,
    ):
        run(model)
    assert {layer.resolution for layer in layers} == {1, 2}
    chosen = {layer.name for layer in layers}
    for name, used in recorder.used.items():
        assert torch.equal(used, torch.full_like(used, 0.25)) == (name in chosen)


def test_temperature(model: nn.Module) -> None:
    before = run(model)
    with intervene(model, temperature=30.0, where=Role("projection")) as layers:
        assert all(layer.role == "projection" for layer in layers)
        changed = run(model)
        assert not torch.allclose(changed, before)
    assert torch.equal(run(model), before)
    set_temperature(model, 30.0)
    assert not torch.allclose(run(model), changed)


def test_back_after_an_error_too(model: nn.Module) -> None:
    kept = state(model)

    def stop(*args: Any) -> None:
        assert state(model) != kept
        raise KeyError("stop")

    handle = model.get_submodule("features.3").register_forward_pre_hook(stop)
    with pytest.raises(KeyError), intervene(model, "max", temperature=2.0):
        run(model)
    handle.remove()
    assert state(model) == kept


def test_random_strategies_repeat_by_seed_and_differ_by_pass(model: nn.Module) -> None:
    def results(seed: int) -> list[Tensor]:
        with intervene(model, "shuffle_per_image", seed=seed, input_size=SIZE):
            return [run(model), run(model)]

    first, again, other = results(0), results(0), results(1)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_interventions_nest(model: nn.Module) -> None:
    kept = state(model)
    with intervene(model, "average", Name("features.1.*")), intervene(model, "max", Name("features.2.*")):
        names = {name: layer.aggregation for name, layer in dynamic_layers(model)}
        assert names["features.1.conv.1"] == "average"
        assert names["features.2.conv.2"] == "max"
        assert names["features.3.conv.2"] == "attention"
    assert state(model) == kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "neither"),
        ({"aggregation": "averge"}, "'average'"),
        ({"temperature": 0}, "temperature"),
        ({"aggregation": "max", "where": Role("stem")}, r"(?s)none of these layers.*features\.1\.conv\.0\.0"),
        ({"aggregation": "max", "where": {"resolution": [7]}}, "input_size"),
        ({"aggregation": "max", "where": {"resolution": [13]}, "input_size": SIZE}, "none of these layers"),
    ],
    ids=str,
)
def test_bad_interventions_are_errors_and_change_nothing(
    model: nn.Module, settings: dict[str, Any], message: str
) -> None:
    kept = state(model)
    with pytest.raises(DyconvError, match=message), intervene(model, **settings):
        pass
    assert state(model) == kept


def test_a_static_network_has_nothing_to_intervene_at() -> None:
    with pytest.raises(ConversionError, match="no dynamic layer"), intervene(nn.Conv2d(1, 1, 1), "max"):
        pass


def test_the_listing_of_an_empty_placement_names_dynamic_layers_only(model: nn.Module) -> None:
    with pytest.raises(PlacementError) as error, intervene(model, "max", Name("nothing")):
        pass
    assert "features.0.0" not in str(error.value)
