"""Timm's own CondConv networks, adopted: outputs, interventions, recordings and costs, against timm's layers."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import timm
import torch
from timm.layers import CondConv2d
from torch import Tensor, nn

import dyconv
from dyconv import (
    AdoptedCondConv2d,
    ArgumentError,
    ConversionError,
    DyconvError,
    ModelError,
    Name,
    Role,
    ShapeError,
    adopt,
    build_model,
    conversion_report,
    cost,
    describe_layers,
    dynamic_layers,
    intervene,
    make_dynamic,
    record_attention,
    register_layer,
    set_forward_step,
)
from tests.dyconv.definition import by_image, with_gradients

NAME = "tf_efficientnet_cc_b0_4e"
SIZE = (3, 64, 64)
LAYERS = 24
BLOCKS = 8


def images(batch: int = 4, size: tuple[int, int, int] = SIZE) -> Tensor:
    """Noise of a brightness of its own per image, so that routing differs between images."""
    generator = torch.Generator().manual_seed(batch)
    noise = torch.randn(batch, *size, generator=generator) + 2 * torch.randn(batch, 3, 1, 1, generator=generator)
    return noise.double()


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """Timm's network with the statistics of some images and a routing that differs between them.

    In double precision, as statistics of few images let rounding grow.
    """
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=7)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
        if name.endswith("routing_fn"):
            nn.init.normal_(module.weight, std=2.0)
    with torch.no_grad():
        model.double().train()(images(32))
    return model.eval()  # type: ignore[no-any-return]


@pytest.fixture
def original(trained: nn.Module) -> nn.Module:
    return copy.deepcopy(trained)


@pytest.fixture
def adopted(trained: nn.Module) -> nn.Module:
    return adopt(copy.deepcopy(trained))


def run(model: nn.Module, x: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model(images() if x is None else x)  # type: ignore[no-any-return]


def assert_unequal(first: Tensor, second: Tensor) -> None:
    assert (first - second).abs().max() > 1e-3 * second.abs().max()


@contextmanager
def rerouted(model: nn.Module, change: Callable[[Tensor], Tensor], names: set[str] | None = None) -> Iterator[None]:
    """Change by hand the routing weights that timm's layers are given."""

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return args[0], change(args[1])

    with ExitStack() as stack:
        for name, layer in model.named_modules():
            if isinstance(layer, CondConv2d) and (names is None or name in names):
                stack.callback(layer.register_forward_pre_hook(hook).remove)
        yield


@pytest.mark.parametrize("size", [SIZE, (3, 61, 70)])
def test_an_adopted_network_computes_what_it_did(original: nn.Module, adopted: nn.Module, size: Any) -> None:
    before = run(original, images(3, size))
    assert before.abs().max() > 0.1
    torch.testing.assert_close(run(adopted, images(3, size)), before, rtol=1e-9, atol=1e-9)
    assert sum(isinstance(layer, AdoptedCondConv2d) for _, layer in dynamic_layers(adopted)) == LAYERS
    assert not any(isinstance(module, CondConv2d) for module in adopted.modules())


def test_so_it_does_in_single_precision() -> None:
    torch.manual_seed(1)
    model = timm.create_model(NAME, num_classes=7).eval()
    x = images(3).float()
    before = run(model, x)
    difference = (run(adopt(model), x) - before).abs().max()
    assert before.abs().max() > 0
    assert difference <= 1e-5 * before.abs().max()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("padding", ["", "same", 0])
@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 1},
        {"kernel_size": 3},
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 3, "dilation": 2},
        {"kernel_size": 5, "groups": 2},
        {"kernel_size": 3, "groups": 6, "stride": 2},
    ],
    ids=str,
)
def test_each_layer_is_timms_and_the_definition(geometry: dict[str, Any], padding: Any, bias: bool) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = CondConv2d(6, 12, padding=padding, bias=bias, num_experts=3, **geometry)

        def forward(self, x: Tensor, weights: Tensor) -> Tensor:
            return self.conv(x, weights)  # type: ignore[no-any-return]

    block, x, weights = Block(), torch.randn(4, 6, 9, 8), torch.rand(4, 3)
    layer: Any = copy.deepcopy(block).conv
    mixed_bias = weights @ layer.bias if bias else torch.zeros(4, 12)
    if not layer.dynamic_padding:
        kernels = layer.weight.unflatten(1, layer.weight_shape)
        settings = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
        expected = by_image(x, kernels, weights, **settings) + mixed_bias[:, :, None, None]
        torch.testing.assert_close(adopt(copy.deepcopy(block))(x, weights), expected.float())
    own = with_gradients(block(x, weights), tuple(block.parameters()))
    adopt(block)
    torch.testing.assert_close(with_gradients(block(x, weights), tuple(block.parameters())), own)


def test_parameters_stay_the_same_objects_under_the_same_names(original: nn.Module) -> None:
    before = dict(original.named_parameters())
    buffers = set(dict(original.named_buffers()))
    original.get_parameter("blocks.4.0.conv_pw.weight").requires_grad_(False)
    adopt(original)
    after = dict(original.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert set(dict(original.named_buffers())) == buffers
    assert not original.get_parameter("blocks.4.0.conv_pw.weight").requires_grad


def test_adoption_draws_no_random_numbers(original: nn.Module) -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    for build in (lambda: adopt(original), lambda: build_model(f"timm/{NAME}", 7, layer="adopted", seed=0)):
        torch.manual_seed(4)
        model = build()
        assert torch.equal(torch.rand(3), expected)
        assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))


def test_a_file_of_timms_loads_into_an_adopted_network(original: nn.Module) -> None:
    fresh = build_model(f"timm/{NAME}", 7, layer="adopted", seed=3).double().eval()
    assert_unequal(run(fresh), run(original))
    fresh.load_state_dict(original.state_dict())
    torch.testing.assert_close(run(fresh), run(original), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("aggregation", ["average", "max", "shuffle_per_image", "shuffle_across_images"])
def test_every_intervention_changes_the_result_within_and_only_within(adopted: nn.Module, aggregation: str) -> None:
    before = run(adopted)
    with intervene(adopted, aggregation) as layers:
        assert len(layers) == LAYERS
        assert_unequal(run(adopted), before)
    assert torch.equal(run(adopted), before)


def one_hot(weights: Tensor) -> Tensor:
    return nn.functional.one_hot(weights.argmax(1), weights.shape[1]).to(weights.dtype)


def mean(weights: Tensor) -> Tensor:
    return weights.mean(1, keepdim=True) * torch.ones_like(weights)


@pytest.mark.torture
@pytest.mark.parametrize(("aggregation", "by_hand"), [("average", mean), ("max", one_hot)])
@pytest.mark.parametrize(
    "where",
    [None, Role("projection"), {"resolution": [2]}, Name("blocks.5.*") & ~Role("depthwise")],
    ids=["all", "projections", "resolution", "names"],
)
def test_an_intervention_is_the_change_of_routing_weights_by_hand(
    original: nn.Module, adopted: nn.Module, aggregation: str, by_hand: Callable[[Tensor], Tensor], where: Any
) -> None:
    with intervene(adopted, aggregation, where, input_size=SIZE) as layers:
        changed = run(adopted)
    names = {layer.name for layer in layers}
    assert where is None or 0 < len(names) < LAYERS
    with rerouted(original, by_hand, names):
        torch.testing.assert_close(changed, run(original), rtol=1e-9, atol=1e-9)
    assert_unequal(changed, run(original))


def test_recorded_attention_is_the_routing_of_each_block(original: nn.Module, adopted: nn.Module) -> None:
    routing: dict[str, Tensor] = {}
    for name, module in original.named_modules():
        if name.endswith("routing_fn"):
            block = name.removesuffix(".routing_fn")

            def keep(_: nn.Module, args: Any, output: Tensor, block: str = block) -> None:
                routing[block] = 1 / (1 + (-output).exp())

            module.register_forward_hook(keep)
    run(original)
    with record_attention(adopted) as recorder:
        run(adopted)
    assert len(routing) == BLOCKS
    assert len(recorder.branch) == LAYERS
    for name, weights in recorder.branch.items():
        torch.testing.assert_close(weights, routing[name.rpartition(".")[0]], rtol=1e-4, atol=1e-5)
        assert weights.std(0).max() > 0.01


def test_a_shuffle_across_images_takes_the_same_partner_everywhere(adopted: nn.Module) -> None:
    # Only the last layer of a block is recorded with the images' own input, so one forward pass tells each partner.
    with intervene(adopted, "shuffle_across_images", Role("expansion")), record_attention(adopted) as recorder:
        run(adopted, images(6))
    partners = set()
    for name, used in recorder.used.items():
        if name.endswith("conv_pw"):
            order = (used[:, None] - recorder.branch[name][None]).abs().sum(2).argmin(1)
            assert all(int(partner) != image for image, partner in enumerate(order))
            partners.add(tuple(order.tolist()))
    assert len(partners) == 1


def test_strategies_that_stay_draw_from_the_seed_and_the_count_of_passes(trained: nn.Module) -> None:
    def shuffled(seed: int) -> tuple[nn.Module, Tensor]:
        model = adopt(copy.deepcopy(trained), seed=seed)
        for _, layer in dynamic_layers(model):
            layer.aggregator.name = "shuffle_per_image"
        return model, run(model)

    model, first = shuffled(1)
    assert_unequal(run(model), first)
    assert set_forward_step(model, 0) == LAYERS
    assert torch.equal(run(model), first)
    assert torch.equal(shuffled(1)[1], first)
    assert_unequal(shuffled(2)[1], first)


def test_descriptions_name_roles_and_resolutions(adopted: nn.Module) -> None:
    infos = [info for info in describe_layers(adopted, SIZE) if info.dynamic]
    assert len(infos) == LAYERS
    assert {info.role for info in infos} == {"expansion", "depthwise", "projection"}
    # Blocks 4.0 to 5.0 read 4 x 4 pixels, but for the projection after the stride of 5.0.
    assert {info.name for info in infos if info.resolution == 2} >= {"blocks.5.0.conv_pwl", "blocks.6.0.conv_pw"}
    report = conversion_report(adopted)
    assert report is not None
    assert report.dynamic == tuple(info.name for info in infos)
    assert len(report.left_static) == len(describe_layers(adopted)) - LAYERS


def test_costs_by_the_formulas(original: nn.Module, adopted: nn.Module) -> None:
    counted = cost(adopted, SIZE)
    assert counted.parameters == sum(p.numel() for p in original.parameters())
    by_name = {layer.name: layer for layer in counted.layers}
    attention = pooling = 0
    for info in describe_layers(adopted, SIZE):
        assert info.input_size is not None
        layer = by_name[info.name]
        if not info.dynamic:
            assert (layer.pooling, layer.attention, layer.aggregation) == (0, 0, 0)
            continue
        height = info.input_size[0] // info.stride[0]
        per_kernel = info.out_channels * info.in_channels // info.groups * info.kernel_size[0] ** 2
        assert layer.convolution == per_kernel * height * height
        assert layer.aggregation == 4 * per_kernel
        if info.role == "expansion":
            # The routing reads what the first layer of its block reads.
            attention += 4 * info.in_channels
            pooling += info.in_channels * info.input_size[0] * info.input_size[1]
    assert counted.total.attention == attention
    assert counted.total.pooling == pooling
    assert counted.total.linear == 1280 * 7
    assert counted.total.other == 0


def test_a_built_network_is_timms(original: nn.Module) -> None:
    built = build_model(f"timm/{NAME}", 7, in_channels=1, layer="adopted", seed=5)
    again = build_model(f"timm/{NAME}", 7, in_channels=1, layer="adopted", seed=5)
    assert built.training
    assert built.get_parameter("conv_stem.weight").shape[1] == 1
    for name, value in built.state_dict().items():
        assert torch.equal(value, again.get_buffer(name) if name in dict(again.named_buffers()) else value), name
    torch.testing.assert_close(dict(built.named_parameters()), dict(again.named_parameters()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_kernels": 4}, "own num_kernels, got 4: leave it out"),
        ({"where": {"role": "projection"}}, "reads no where"),
        ({"reduction": 8}, "reads no reduction, got 8"),
        ({"temperature": 1.0}, "reads no temperature"),
        ({"aggregation": "average"}, "reads no aggregation"),
        ({"options": {"a": 1}}, "reads no options"),
        ({"width": 0.5}, "has no width"),
    ],
    ids=str,
)
def test_settings_that_nothing_reads_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(f"timm/{NAME}", 7, layer="adopted", **settings)


def test_refusals_name_the_way() -> None:
    with pytest.raises(ModelError, match=r"24 dynamic layers of its own.*dyconv\.adopt\(model\), or layer='adopted'"):
        build_model(f"timm/{NAME}", 7)
    with pytest.raises(ModelError, match="'mobilenet_v2': this network has no dynamic layer to adopt"):
        build_model("mobilenet_v2", 7, layer="adopted")
    with pytest.raises(ArgumentError, match=r"call dyconv\.adopt\(model\) instead"):
        make_dynamic(nn.Sequential(nn.Conv2d(3, 3, 1)), layer="adopted")


def test_an_adopted_network_is_neither_adopted_nor_converted_again(adopted: nn.Module) -> None:
    with pytest.raises(ConversionError, match="dynamic layers of this package already"):
        adopt(adopted)
    with pytest.raises(ConversionError, match="dynamic layers already"):
        make_dynamic(adopted)


class Foreign(nn.Module):
    """A dynamic convolution of another project."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel_size = 3
        self.weight = nn.Parameter(torch.randn(4, 8, 3, 3, 3))


def test_a_network_with_other_foreign_layers_is_refused_and_unchanged() -> None:
    model = nn.Sequential(CondConv2d(3, 8, 3), Foreign())
    with pytest.raises(ConversionError, match=r"1 dynamic layers of its own, '1' \(Foreign\).*without them$"):
        adopt(model)
    assert type(model[0]) is CondConv2d


@pytest.mark.parametrize("shape", [(2, 3), (2,), (3, 4)], ids=str)
def test_weights_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    layer = AdoptedCondConv2d(3, 8, 1)
    with pytest.raises(ShapeError):
        layer(torch.randn(2, 3, 5, 5), torch.rand(shape))
    with pytest.raises(DyconvError, match="no attention of its own"):
        layer.attention(torch.randn(2, 3, 5, 5))


@pytest.mark.parametrize("name", ["adopted", "static"])
def test_no_kind_of_a_users_can_take_the_name(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"'{name}' is registered already"):
        register_layer(name)(dyconv.CondConv2d)
