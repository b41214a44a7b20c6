"""`make_dynamic`: what is swapped, how it is initialised, and what is refused."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, mobilenet_v3_small, resnet18

from dyconv import (
    ArgumentError,
    ConversionError,
    DyconvError,
    DynamicConv2d,
    Name,
    PlacementError,
    Resolution,
    Role,
    dynamic_layers,
    make_dynamic,
    record_attention,
    set_forward_seed,
    set_forward_step,
)


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(8, 4, 1),
    )


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_all_but_the_stem_by_default_in_place_with_the_settings_of_each() -> None:
    model = small()
    assert make_dynamic(model, num_kernels=3, temperature=5, reduction=2, aggregation="average") is model
    assert type(model[0]) is nn.Conv2d
    layer = model[2]
    assert isinstance(layer, DynamicConv2d)
    assert isinstance(model[3], DynamicConv2d)
    assert (layer.groups, layer.padding, layer.bias, layer.num_kernels) == (2, (1, 1), None, 3)
    assert (float(layer.temperature), layer.aggregation, layer.attention_branch.squeeze.out_features) == (
        5,
        "average",
        4,
    )
    assert model(torch.randn(2, 3, 6, 6)).shape == (2, 4, 6, 6)


@pytest.mark.parametrize("where", [Role("depthwise"), {"role": ["depthwise"]}])
def test_a_placement_or_its_form_as_data(where: Any) -> None:
    model = make_dynamic(mobilenet_v2(width_mult=0.35), where=where)
    dynamic = [m for m in model.modules() if isinstance(m, DynamicConv2d)]
    assert len(dynamic) == 17
    assert all(layer.groups == layer.in_channels for layer in dynamic)


def test_gates_of_squeeze_and_excitation_are_left_static_unless_asked_for() -> None:
    names = [n for n, m in make_dynamic(mobilenet_v3_small()).named_modules() if isinstance(m, DynamicConv2d)]
    assert len(names) == 33
    assert not any(".fc" in name for name in names)


def test_a_placement_by_resolution_needs_the_size_of_an_image() -> None:
    model = make_dynamic(mobilenet_v2(width_mult=0.35), where=Resolution(7), input_size=(3, 224, 224))
    assert sum(isinstance(m, DynamicConv2d) for m in model.modules()) == 11
    with pytest.raises(PlacementError, match="input_size"):
        make_dynamic(mobilenet_v2(width_mult=0.35), where=Resolution(7))


def test_residual_networks_have_the_known_parameter_count() -> None:
    assert parameters(make_dynamic(resnet18())) / 1e6 == pytest.approx(45.47, abs=0.005)


@pytest.mark.parametrize(
    ("width", "where", "millions"),
    [
        (0.5, ~Role("stem", "head"), 3.95),
        (1.0, ~Role("stem", "head"), 11.15),
        (0.5, None, 4.57),
        (1.0, None, 12.40),
    ],
    ids=str,
)
def test_mobilenets_have_the_published_parameter_counts(width: float, where: Any, millions: float) -> None:
    model = make_dynamic(mobilenet_v2(width_mult=width), where=where)
    assert parameters(model) / 1e6 == pytest.approx(millions, abs=0.005)


def test_kernels_are_drawn_as_torchvision_drew_the_static_one() -> None:
    model = mobilenet_v2()
    static = {name: m.weight.std().item() for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    make_dynamic(model, seed=0)
    for name, layer in model.named_modules():
        if isinstance(layer, DynamicConv2d) and layer.weight[0].numel() > 2000:
            for kernel in layer.weight:
                assert kernel.std().item() == pytest.approx(static[name], rel=0.1)


def test_initialisation_can_be_chosen() -> None:
    def constant(weight: Tensor, bias: Tensor | None) -> None:
        weight.fill_(2.0)
        if bias is not None:
            bias.fill_(3.0)

    model = make_dynamic(small(), init=constant)
    assert torch.equal(model[3].weight, torch.full((4, 4, 8, 1, 1), 2.0))  # type: ignore[index]
    assert torch.equal(model[3].bias, torch.full((4, 4), 3.0))  # type: ignore[index]
    zero_bias = make_dynamic(small(), init="kaiming_fan_out")
    assert zero_bias[3].bias.abs().max() == 0  # type: ignore[index]
    assert make_dynamic(small(), init="auto")[3].bias.abs().max() > 0  # type: ignore[index]


def test_a_seed_makes_the_draws_and_leaves_the_global_generator() -> None:
    base = small()
    state = torch.random.get_rng_state()
    first, second = (make_dynamic(copy.deepcopy(base), seed=3) for _ in range(2))
    other = make_dynamic(copy.deepcopy(base), seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first[2].weight, second[2].weight)  # type: ignore[index]
    assert not torch.equal(first[2].weight, other[2].weight)  # type: ignore[index]


def test_a_layer_used_twice_stays_one_layer() -> None:
    shared = nn.Conv2d(4, 4, 1)
    model = make_dynamic(nn.Sequential(nn.Conv2d(4, 4, 1), shared, nn.Sequential(shared)))
    assert isinstance(model[1], DynamicConv2d)
    assert model[1] is model[2][0]
    assert [name for name, _ in dynamic_layers(model)] == ["1"]


def test_mode_and_dtype_of_the_static_layer_are_kept() -> None:
    model = make_dynamic(small().double().eval())
    layer = model.get_submodule("2")
    assert not layer.training
    assert layer.weight.dtype == torch.float64
    assert model(torch.randn(1, 3, 5, 5, dtype=torch.float64)).dtype == torch.float64


def passes(model: nn.Module, count: int = 3) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 6, 6, generator=g) + 5 * torch.randn(5, 3, 1, 1, generator=g)
    with torch.no_grad():
        return [model(x) for _ in range(count)]


def shuffled(seed: int = 0) -> nn.Module:
    torch.manual_seed(0)
    return make_dynamic(small(), aggregation="shuffle_across_images", temperature=0.1, seed=seed).eval()


def test_forward_passes_are_counted_and_can_be_set() -> None:
    model = shuffled()
    first = passes(model, 4)
    assert not torch.equal(first[0], first[1])
    assert set_forward_step(model, 2) == 2
    again = passes(model, 2)
    assert torch.equal(again[0], first[2])
    assert torch.equal(again[1], first[3])


def test_the_seed_is_that_of_random_strategies_too() -> None:
    first, second = (shuffled(seed).get_submodule("2").aggregator.context for seed in (0, 1))
    assert not torch.equal(first.derangement(50), second.derangement(50))


def test_a_network_draws_from_another_seed_when_it_is_given_one() -> None:
    model, draws = shuffled(0), []
    assert set_forward_seed(model, 1) == 2
    for seed in (0, 1):
        draws.append(shuffled(seed).get_submodule("2").aggregator.context.derangement(50))
    assert torch.equal(model.get_submodule("2").aggregator.context.derangement(50), draws[1])
    assert not torch.equal(*draws)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_counts_on_its_own(clone: Any) -> None:
    expected, model = passes(shuffled(), 4), shuffled()
    passes(model, 1)
    other = clone(model)
    for network in (other, model):
        assert all(torch.equal(a, b) for a, b in zip(passes(network, 3), expected[1:], strict=True))


def test_all_layers_take_attention_from_the_same_image() -> None:
    model = shuffled()
    with record_attention(model) as recorder:
        passes(model, 1)
    assert list(recorder.branch) == ["2", "3"]
    partner = model.get_submodule("2").aggregator.context.derangement(5)
    for name, branch in recorder.branch.items():
        assert torch.equal(recorder.used[name], branch[partner])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"where": Name("nothing*")}, PlacementError, r"(?s)selects none.*0: stem"),
        ({"where": {"rolle": "stem"}}, PlacementError, "'role'"),
        ({"num_kernels": 0}, ArgumentError, "num_kernels"),
        ({"temperature": 0}, ArgumentError, "temperature"),
        ({"aggregation": "avrage"}, DyconvError, "'average'"),
        ({"init": "kaiming"}, ArgumentError, "'kaiming_fan_out'"),
    ],
    ids=str,
)
def test_bad_settings_are_errors_and_change_nothing(settings: Any, error: type[Exception], message: str) -> None:
    model = small()
    with pytest.raises(error, match=message):
        make_dynamic(model, **settings)
    assert [type(m) for m in model] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.Conv2d]
    assert not model._forward_pre_hooks


def test_what_cannot_be_converted() -> None:
    class Own(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    with pytest.raises(ConversionError, match="dynamic layers already"):
        make_dynamic(make_dynamic(small()))
    with pytest.raises(ConversionError, match=r"'1' is a Own"):
        make_dynamic(nn.Sequential(nn.Conv2d(3, 3, 1), Own(3, 3, 1)))
    with pytest.raises(ConversionError, match="whole model"):
        make_dynamic(nn.Conv2d(3, 3, 1), where={})
    with pytest.raises(PlacementError, match="none"):
        make_dynamic(nn.Linear(3, 3))
