"""`ODConv2d` against its formula, written image by image, and as a layer kind among the others."""

import copy
import itertools
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.export import Dim, export

from dyconv import (
    ArgumentError,
    DyconvError,
    LayerCost,
    ODConv2d,
    Role,
    ShapeError,
    build_model,
    cost,
    dynamic_layers,
    intervene,
    layer_kind,
    make_dynamic,
    record_attention,
    set_temperature,
)

# Kernels, patches and maps are scaled in turn, as sizes decide: few output pixels for the channels, and many.
GEOMETRIES: dict[str, dict[str, Any]] = {
    "pointwise": {"out_channels": 24, "kernel_size": 1},
    "pointwise_strided": {"out_channels": 24, "kernel_size": 1, "stride": 2},
    "pointwise_grouped": {"out_channels": 24, "kernel_size": 1, "groups": 4},
    "dense": {"out_channels": 24, "kernel_size": 3, "padding": 1},
    "dense_strided": {"out_channels": 24, "kernel_size": 3, "padding": 1, "stride": 2},
    "dense_dilated": {"out_channels": 12, "kernel_size": 3, "padding": "same", "dilation": 2},
    "rows": {"out_channels": 24, "kernel_size": (3, 1), "padding": (1, 0)},
    "even": {"out_channels": 24, "kernel_size": 2, "padding": "tf_same", "stride": 2},
    "reflected": {"out_channels": 24, "kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "grouped": {"out_channels": 24, "kernel_size": 3, "padding": 1, "groups": 2},
    "grouped_wide": {"out_channels": 32, "kernel_size": 3, "groups": 16},
    "depthwise": {"out_channels": 16, "kernel_size": 3, "padding": 1, "groups": 16},
    "depthwise_strided": {"out_channels": 16, "kernel_size": 5, "padding": 2, "stride": 2, "groups": 16},
    "depthwise_pointwise": {"out_channels": 16, "kernel_size": 1, "groups": 16},
}
CHANNELS = 16
FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def layer_of(geometry: str, **settings: Any) -> ODConv2d:
    """A layer in training whose attentions differ visibly between images."""
    layer = ODConv2d(CHANNELS, **GEOMETRIES[geometry], **({"num_kernels": 3, "temperature": 0.7} | settings))
    for bias in (layer.bias, *(head.bias for head in layer.attention_branch.heads())):
        if bias is not None:
            nn.init.normal_(bias)
    return layer


def images_of(pixels: int, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    images = torch.randn(4, CHANNELS, pixels, pixels + 1) + torch.randn(4, CHANNELS, 1, 1)
    return images.contiguous(memory_format=memory_format)


def attentions_by_definition(layer: ODConv2d, image: Tensor, hidden: Tensor) -> dict[str, Tensor]:
    """The attentions of one image from its hidden units, each with the softmax or sigmoid of the formula."""
    branch: Any = layer.attention_branch
    logits = {}
    for name in ("kernel", "channel", "filter", "spatial"):
        head = getattr(branch, f"{name}_fc", None)
        if head is not None:
            logits[name] = (head.weight[:, :, 0, 0] @ hidden + head.bias) / layer.temperature
    attentions = {name: 1 / (1 + (-z).exp()) for name, z in logits.items()}
    if "kernel" in logits:
        attentions["kernel"] = logits["kernel"].exp() / logits["kernel"].exp().sum()
    return attentions


def hidden_by_definition(layer: ODConv2d, images: Tensor) -> Tensor:
    """The hidden units (B, A): average, product, batch norm over the batch in training, else by what it saw, ReLU."""
    branch: Any = layer.attention_branch
    squeezed = images.flatten(2).mean(2) @ branch.fc.weight[:, :, 0, 0].t()
    mean, variance = branch.bn.running_mean, branch.bn.running_var
    if layer.training:
        mean, variance = squeezed.mean(0), squeezed.var(0, correction=0)
    normalised = (squeezed - mean) / (variance + branch.bn.eps).sqrt() * branch.bn.weight + branch.bn.bias
    return normalised.clamp_min(0)


def by_definition(layer: ODConv2d, images: Tensor) -> Tensor:
    """a_f * conv(a_c * x, a_s * sum_k a_wk W_k) image by image, without any function of the package."""
    static = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        0 if layer.padding == "tf_same" else layer.padding,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
        layer.padding_mode,
    )
    outputs = []
    for image, hidden in zip(images, hidden_by_definition(layer, images), strict=True):
        attentions = attentions_by_definition(layer, image, hidden)
        mixing = attentions.get("kernel", torch.ones(1, dtype=images.dtype))
        kernel = sum(mixing[k] * layer.weight[k] for k in range(layer.num_kernels))
        if "spatial" in attentions:
            kernel = kernel * attentions["spatial"].view(layer.kernel_size)
        bias = None
        if layer.bias is not None:
            bias = sum(mixing[k] * layer.bias[k] for k in range(layer.num_kernels))
        scaled = attentions["channel"][:, None, None] * image
        if layer.padding == "tf_same":
            # TensorFlow's: ceil(H / 2) pixels out of a 2 x 2 kernel with stride 2, the odd pixel below and right.
            scaled = F.pad(scaled, (0, scaled.shape[2] % 2, 0, scaled.shape[1] % 2))
        parameters = {"weight": kernel} | ({} if bias is None else {"bias": bias})
        output = torch.func.functional_call(static, parameters, (scaled[None],))[0]
        if "filter" in attentions:
            output = attentions["filter"][:, None, None] * output
        outputs.append(output)
    return torch.stack(outputs)


def with_gradients(layer: nn.Module, images: Tensor, run: Any) -> list[Tensor]:
    images = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    output = run(images)
    seed = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [output.detach(), *torch.autograd.grad(output, [images, *layer.parameters()], seed.to(output.dtype))]


def settings_of_the_formula() -> list[Any]:
    """Each combination of four settings with two values; half of them are left to the tests that take minutes.

    In the other half, any three of the settings meet in each of their combinations.
    """
    cases = []
    for choice in itertools.product((0, 1), repeat=4):
        kernels, bias, pixels, memory_format = choice
        values = ((1, 3)[kernels], bool(bias), (3, 9)[pixels], tuple(FORMATS)[memory_format])
        cases.append(pytest.param(*values, marks=pytest.mark.torture if sum(choice) % 2 else ()))
    return cases


@pytest.mark.parametrize(("num_kernels", "bias", "pixels", "memory_format"), settings_of_the_formula())
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_output_and_gradients_are_those_of_the_formula(
    geometry: str, num_kernels: int, bias: bool, pixels: int, memory_format: str
) -> None:
    layer = layer_of(geometry, num_kernels=num_kernels, bias=bias)
    images = images_of(pixels, FORMATS[memory_format])
    exact = copy.deepcopy(layer).double()
    results = with_gradients(layer, images, layer)
    expected = with_gradients(exact, images.double(), lambda x: by_definition(exact, x))
    assert results[0].is_contiguous(memory_format=FORMATS[memory_format])
    for result, reference in zip(results, expected, strict=True):
        scale = max(1.0, float(reference.abs().max()))
        torch.testing.assert_close(result.double(), reference, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_evaluation_uses_what_the_batch_norm_has_seen_and_takes_one_image(geometry: str) -> None:
    layer = layer_of(geometry)
    for _ in range(3):
        layer(images_of(9))
    layer.eval()
    images = images_of(9)
    with torch.no_grad():
        expected = by_definition(copy.deepcopy(layer).double(), images.double()).float()
        torch.testing.assert_close(layer(images), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(layer(images[:1]), expected[:1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(layer(images[1]), expected[1], rtol=1e-4, atol=1e-4)
        assert layer(images[:0]).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("geometry", ["pointwise", "dense", "grouped", "depthwise"])
def test_derivatives_and_their_derivatives_are_right(geometry: str) -> None:
    layer = layer_of(geometry, num_kernels=2).double()
    images = torch.randn(2, CHANNELS, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(layer, (images,))
    # By products with random vectors: all second derivatives one by one take a hundred times as long.
    assert gradgradcheck(layer, (images,), fast_mode=True)


def test_a_second_derivative_goes_through_the_compiled_depthwise_kernels() -> None:
    layer, images = layer_of("depthwise"), images_of(5, torch.channels_last)

    def second(own: nn.Module, x: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(own(x).square().sum(), x, create_graph=True)
        return list(torch.autograd.grad(gradient.square().sum(), [x, *own.parameters()]))

    results, expected = second(layer, images), second(copy.deepcopy(layer).double(), images.double())
    for result, reference in zip(results, expected, strict=True):
        scale = float(reference.abs().max())
        torch.testing.assert_close(result.double(), reference, rtol=1e-3, atol=1e-4 * scale)


def test_one_image_cannot_train() -> None:
    layer = layer_of("dense")
    with pytest.raises(ShapeError, match="batch of one image"):
        layer(images_of(5)[:1])
    with pytest.raises(ShapeError, match="batch of one image"):
        layer(images_of(5)[0])
    layer.attention_branch.bn.eval()
    assert layer(images_of(5)[:1]).shape == (1, 24, 5, 6)


ATTENTIONS = {
    "pointwise": ("kernel", "channel", "filter"),
    "dense": ("kernel", "channel", "filter", "spatial"),
    "grouped_wide": ("kernel", "channel", "filter", "spatial"),
    "depthwise": ("kernel", "channel", "spatial"),
    "depthwise_pointwise": ("kernel", "channel"),
}


@pytest.mark.parametrize("geometry", ATTENTIONS)
def test_attentions_that_say_nothing_are_left_out(geometry: str) -> None:
    layer, single = layer_of(geometry), layer_of(geometry, num_kernels=1)
    assert layer.attentions == ATTENTIONS[geometry]
    assert single.attentions == ATTENTIONS[geometry][1:]
    widths = {name: weights.shape[1] for name, weights in layer.all_attentions(images_of(5)).items()}
    sizes = {"kernel": 3, "channel": 16, "filter": layer.out_channels, "spatial": layer.weight[0, 0, 0].numel()}
    assert widths == {name: sizes[name] for name in layer.attentions}
    assert layer.attention(images_of(5)).shape == (4, 3)
    assert single.attention(images_of(5)).shape == (4, 16)


def test_the_state_has_the_authors_names_and_shapes() -> None:
    layer = ODConv2d(40, 6, 3, groups=2, num_kernels=5, hidden_ratio=0.5)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    assert shapes == {
        "weight": (5, 6, 20, 3, 3),
        "bias": (5, 6),
        "temperature": (),
        "attention_branch.fc.weight": (20, 40, 1, 1),
        "attention_branch.bn.weight": (20,),
        "attention_branch.bn.bias": (20,),
        "attention_branch.bn.running_mean": (20,),
        "attention_branch.bn.running_var": (20,),
        "attention_branch.bn.num_batches_tracked": (),
        "attention_branch.kernel_fc.weight": (5, 20, 1, 1),
        "attention_branch.kernel_fc.bias": (5,),
        "attention_branch.channel_fc.weight": (40, 20, 1, 1),
        "attention_branch.channel_fc.bias": (40,),
        "attention_branch.filter_fc.weight": (6, 20, 1, 1),
        "attention_branch.filter_fc.bias": (6,),
        "attention_branch.spatial_fc.weight": (9, 20, 1, 1),
        "attention_branch.spatial_fc.bias": (9,),
    }


@pytest.mark.parametrize(
    ("channels", "options", "hidden"),
    [
        (8, {}, 16),
        (256, {}, 16),
        (264, {}, 16),
        (272, {}, 17),
        (960, {}, 60),
        (960, {"hidden_ratio": 0.25}, 240),
        (960, {"hidden_ratio": 0}, 16),
        (960, {"least_hidden": 64}, 64),
        (8, {"least_hidden": 1}, 1),
    ],
    ids=str,
)
def test_hidden_units_are_a_share_of_the_channels(channels: int, options: dict[str, Any], hidden: int) -> None:
    assert ODConv2d(channels, 8, 1, **options).attention_branch.fc.out_channels == hidden


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_kernels": 0}, "num_kernels"),
        ({"groups": 3}, "groups=3"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"temperature": 0.0}, "temperature"),
        ({"hidden_ratio": 1.5}, "'hidden_ratio' must be between 0 and 1"),
        ({"hidden_ratio": True}, "'hidden_ratio' must be of type float"),
        ({"least_hidden": 0}, "'least_hidden' must be between 1"),
        ({"least_hidden": 8.0}, "'least_hidden' must be of type int"),
    ],
    ids=str,
)
def test_bad_arguments_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DyconvError, match=re.escape(message)):
        ODConv2d(**({"in_channels": 4, "out_channels": 4, "kernel_size": 3} | settings))


@pytest.mark.parametrize(
    "option", [{"reduction": 8}, {"normalization": "sigmoid"}, {"options": {"ratio": 0.1}}], ids=str
)
def test_settings_that_it_does_not_read_are_errors(option: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="odconv"):
        make_dynamic(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)), layer="odconv", **option)


def test_kernels_and_branch_are_drawn_by_the_fan_out() -> None:
    layer = ODConv2d(128, 96, 3, num_kernels=2, hidden_ratio=0.5)
    branch: Any = layer.attention_branch
    for kernel in layer.weight:
        assert kernel.std().item() == pytest.approx((2 / (96 * 9)) ** 0.5, rel=0.02)
    assert not torch.equal(layer.weight[0], layer.weight[1])
    assert branch.fc.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert branch.filter_fc.weight.std().item() == pytest.approx((2 / 96) ** 0.5, rel=0.05)
    assert branch.channel_fc.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert layer.bias is not None
    for bias in (layer.bias, *(head.bias for head in branch.heads())):
        assert not bias.any()


def test_temperature_flattens_every_attention() -> None:
    layer = layer_of("dense").eval()
    sharp = layer.all_attentions(images_of(5))
    assert set_temperature(nn.Sequential(layer), 1e6) == 1
    assert layer.state_dict()["temperature"] == 1e6
    for name, weights in layer.all_attentions(images_of(5)).items():
        level = 1 / 3 if name == "kernel" else 0.5
        torch.testing.assert_close(weights, torch.full_like(weights, level), rtol=1e-4, atol=0)
        assert (sharp[name] - level).abs().max() > 0.05


def network(**options: Any) -> nn.Module:
    model = build_model("mobilenet_v2", 10, width=0.35, depth=0.5, in_channels=1, layer="odconv", seed=0, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # The statistics of the last batch: after two batches, averages from one would still hide the images.
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(digits(16))
    return model.eval()


def digits(batch: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 1, 28, 28, generator=generator) + 2 * torch.randn(batch, 1, 1, 1, generator=generator)


@pytest.mark.parametrize("attention", ["kernel", "channel", "filter", "spatial"])
def test_an_intervention_changes_one_attention(attention: str) -> None:
    model, x = network(num_kernels=2, temperature=1.0), digits()
    having = [name for name, layer in dynamic_layers(model) if attention in layer.attentions]
    with torch.no_grad():
        before = model(x)
        with (
            intervene(model, "shuffle_across_images", attention=attention),
            record_attention(model) as kernels,
            record_attention(model, attention) as changed,
        ):
            assert not torch.equal(model(x), before)
        assert torch.equal(model(x), before)
    assert list(changed.used) == having
    assert all(not torch.equal(changed.used[name], changed.branch[name]) for name in having)
    for name in kernels.used:
        assert torch.equal(kernels.used[name], kernels.branch[name]) == (attention != "kernel")


def test_averages_take_the_mean_of_each_attention() -> None:
    layer, images = layer_of("dense", aggregation="average").eval(), images_of(5)
    attentions = layer.all_attentions(images)
    means = {name: weights.mean(1) for name, weights in attentions.items()}
    for b in range(4):
        assert layer.bias is not None
        gate = means["filter"][b]
        kernel = means["channel"][b] * means["spatial"][b] * gate * layer.weight.mean(0)
        expected = F.conv2d(images[b : b + 1], kernel, gate * layer.bias.mean(0), padding=1)
        torch.testing.assert_close(layer(images)[b], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_kernels", [1, 4])
def test_a_static_start_computes_what_the_network_did_and_learns(num_kernels: int) -> None:
    static = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 12, 1, bias=False),
        nn.Conv2d(12, 6, 3, groups=2),
        nn.Conv2d(6, 6, 1, groups=6),
    )
    x = digits()
    with torch.no_grad():
        before = static(x)
    model = make_dynamic(static, layer="odconv", num_kernels=num_kernels, start="static", noise=0, seed=0)
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5)
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        if "channel_fc" in name or "filter_fc" in name or "spatial_fc" in name:
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("geometry", "pixels"),
    [
        *[(geometry, 4) for geometry in ("pointwise", "dense", "grouped", "depthwise")],
        # The sum of so many pixels exceeds float16, whatever the convolution; others take seconds in float16.
        ("depthwise", 112),
        *[pytest.param(name, 112, marks=pytest.mark.torture) for name in ("pointwise", "dense", "grouped")],
    ],
)
def test_half_precision_is_finite_and_near(geometry: str, pixels: int, autocast: bool, dtype: torch.dtype) -> None:
    # A flat softmax and flat sigmoids: sharp ones enlarge the rounding of their logits.
    layer = layer_of(geometry, temperature=3.0)
    images = images_of(pixels) + 6
    expected = layer(images)
    low = copy.deepcopy(layer)
    inputs = images.to(dtype).requires_grad_()
    if autocast:
        with torch.autocast("cpu", dtype):
            output = low(inputs)
    else:
        output = low.to(dtype)(inputs)
    assert output.dtype == dtype
    assert (output.float() - expected).norm() < 0.05 * expected.norm()
    output.float().mean().backward()
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()
    for parameter in low.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


EXPORTED = ("even", "reflected", "rows", "grouped_wide")
"""Beside those that are exported for any batch; the others differ from these in sizes alone."""


@pytest.mark.parametrize(
    "geometry", [pytest.param(name, marks=() if name in EXPORTED else pytest.mark.torture) for name in GEOMETRIES]
)
def test_an_exported_layer_gives_the_same(geometry: str) -> None:
    layer, images = layer_of(geometry).eval(), images_of(6)
    exported = export(layer, (images,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(images), layer(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("geometry", ["pointwise", "dense", "grouped", "depthwise"])
def test_an_exported_layer_takes_any_batch(geometry: str) -> None:
    layer = layer_of(geometry).eval()
    exported = export(layer, (images_of(6),), dynamic_shapes=({0: Dim("batch", min=2)},)).module()
    with torch.no_grad():
        for images in (images_of(6)[:2], torch.cat([images_of(6)] * 3)):
            torch.testing.assert_close(exported(images), layer(images), rtol=1e-4, atol=1e-5)


@pytest.mark.torture
@pytest.mark.parametrize("geometry", ["pointwise", "dense", "depthwise"])
def test_a_compiled_layer_gives_the_same_and_the_same_gradients(geometry: str) -> None:
    torch._dynamo.reset()
    layer, images = layer_of(geometry).eval(), images_of(4)
    expected = with_gradients(layer, images, layer)
    results = with_gradients(layer, images, torch.compile(layer, backend="aot_eager", fullgraph=True))
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result, reference, rtol=1e-3, atol=1e-4)


def test_multiply_adds_by_hand() -> None:
    def only(layer: nn.Module, size: tuple[int, int, int]) -> LayerCost:
        return cost(nn.Sequential(layer), size).layers[0]

    kernel, hidden = 6 * 4 * 9, 8 * 16
    heads = 16 * (5 + 8 + 6 + 9)
    assert only(ODConv2d(8, 6, 3, padding=1, stride=2, groups=2, num_kernels=5), (8, 10, 12)) == LayerCost(
        "0",
        "ODConv2d",
        parameters=5 * (kernel + 6) + hidden + 2 * 16 + heads + (5 + 8 + 6 + 9),
        convolution=5 * 6 * kernel,
        pooling=8 * 10 * 12,
        attention=hidden + heads,
        # Mixing, then positions and input channels of the kernel, and the output, which has fewer numbers than that.
        aggregation=5 * (kernel + 6) + kernel + kernel + 6 * 5 * 6,
    )
    assert only(ODConv2d(8, 8, 1, groups=8, bias=False, num_kernels=1), (8, 3, 2)).aggregation == 8
    assert only(ODConv2d(8, 90, 1, bias=False, num_kernels=1), (8, 3, 2)).aggregation == 8 * 6 + 90 * 6


# Parameters in millions and multiply-adds as ODConv's authors publish them. Their ResNet-18 keeps its shortcuts static.
PUBLISHED: list[tuple[str, dict[str, Any], int, float, float]] = [
    ("mobilenet_v2", {}, 1, 4.94, 311.8),
    ("mobilenet_v2", {}, 4, 11.51, 327.1),
    ("mobilenet_v2", {"width": 0.75}, 1, 3.51, 217.1),
    ("mobilenet_v2", {"width": 0.75}, 4, 7.50, 226.3),
    ("mobilenet_v2", {"width": 0.5}, 1, 2.43, 101.8),
    ("mobilenet_v2", {"width": 0.5}, 4, 4.44, 106.4),
    ("resnet18", {"where": ~Role("stem", "downsample")}, 1, 11.94, 1838),
    ("resnet18", {"where": ~Role("stem", "downsample")}, 4, 44.90, 1916),
]


@pytest.mark.parametrize(("name", "options", "num_kernels", "parameters", "multiply_adds"), PUBLISHED, ids=str)
def test_published_costs(
    name: str, options: dict[str, Any], num_kernels: int, parameters: float, multiply_adds: float
) -> None:
    model = build_model(name, 1000, layer="odconv", num_kernels=num_kernels, **options)
    counted = cost(model, (3, 224, 224))
    assert counted.parameters / 1e6 == pytest.approx(parameters, abs=0.0051)
    # Mixing K kernels takes K multiplications and K - 1 additions, which the authors count as well.
    kernels = sum(layer.get_parameter("weight")[0].numel() for _, layer in dynamic_layers(model))
    additions = (num_kernels - 1) * kernels
    assert (counted.multiply_adds + additions) / 1e6 == pytest.approx(multiply_adds, rel=0.006)


def test_it_is_registered_with_its_options() -> None:
    kind = layer_kind("odconv")
    assert kind.layer is ODConv2d
    assert kind.reads == {"num_kernels", "temperature", "aggregation"}
    assert kind.checked_options({"least_hidden": 8}) == {"hidden_ratio": 0.0625, "least_hidden": 8}
    model = build_model("resnet10", 10, num_kernels=2, layer="odconv", options={"least_hidden": 8, "hidden_ratio": 0})
    assert {layer.attention_branch.fc.out_channels for _, layer in dynamic_layers(model)} == {8}  # type: ignore[union-attr]
