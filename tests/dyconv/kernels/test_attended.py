"""Attention and convolution in one step against the same layer computed step by step, in double precision."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dyconv import DynamicConv2d, build_model, record_attention, set_temperature
from dyconv.kernels import compiled, native, operators
from tests.dyconv.definition import compiled as with_compiler

KINDS = [
    {"channels": (20, 12), "kernel_size": 1},
    {"channels": (9, 37), "kernel_size": 1},
    {"channels": (16, 24), "kernel_size": 3, "padding": 1},
    {"channels": (16, 8), "kernel_size": (3, 2), "padding": (0, 1), "stride": (2, 1), "dilation": (1, 2)},
    {"channels": (19, 19), "kernel_size": 3, "padding": 1, "groups": 19},
    {"channels": (35, 35), "kernel_size": 5, "padding": 2, "stride": 2, "groups": 35},
]


def layer_of(kind: dict[str, Any], **more: Any) -> DynamicConv2d:
    how = {"bias": False, "temperature": 2.0, **kind, **more}
    return DynamicConv2d(*how.pop("channels"), **how)


def images_for(layer: DynamicConv2d, size: tuple[int, int] = (9, 8), batch: int = 5) -> Tensor:
    images = torch.randn(batch, layer.in_channels, *size) + 0.3
    return images.contiguous(memory_format=torch.channels_last).requires_grad_()


def in_double(layer: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    return copy.deepcopy(layer).double(), images.detach().double().requires_grad_()


def found(layer: nn.Module, images: Tensor) -> list[Tensor]:
    """The output, and the gradients of the images and of every parameter."""
    output = layer(images)
    draw = torch.Generator().manual_seed(1)
    seed = torch.randn(output.shape, generator=draw, dtype=torch.float32).to(output.dtype)
    wanted = [t for t in (images, *layer.parameters()) if t.requires_grad]
    return [output, *torch.autograd.grad(output, wanted, seed)]


def assert_alike(ours: list[Tensor], expected: list[Tensor], **close: float) -> None:
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), **({"rtol": 1e-4, "atol": 1e-3} | close))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows whenever a layer is done in one step."""
    made: list[int] = []
    attend = operators.attend_and_convolve
    monkeypatch.setattr(operators, "attend_and_convolve", lambda *a: (made.append(1), attend(*a))[1])
    return made


@with_compiler
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_kernels", [2, 4, 7])
@pytest.mark.parametrize("threads", [1, 2])
def test_one_step_is_the_layer_step_by_step(
    kind: dict[str, Any], num_kernels: int, threads: int, calls: list[int], two_threads: None
) -> None:
    torch.set_num_threads(threads)
    layer = layer_of(kind, num_kernels=num_kernels)
    images = images_for(layer)
    ours = found(layer, images)
    assert len(calls) == 1
    assert_alike(ours, found(*in_double(layer, images)))
    assert len(calls) == 1, "double precision is torch's business"
    assert ours[0].is_contiguous(memory_format=torch.channels_last)


@with_compiler
@settings(deadline=None, max_examples=60)
@given(
    channels=st.integers(8, 150),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    batch=st.integers(2, 6),
    reduction=st.integers(1, 200),
    temperature=st.floats(0.5, 40),
)
def test_attention_of_any_size(
    channels: int, size: tuple[int, int], batch: int, reduction: int, temperature: float
) -> None:
    layer = layer_of({"channels": (channels, 8), "kernel_size": 1}, reduction=reduction, temperature=temperature)
    images = images_for(layer, size, batch)
    assert_alike(found(layer, images), found(*in_double(layer, images)), atol=3e-3)


@with_compiler
def test_long_averages_are_exact() -> None:
    layer = layer_of({"channels": (24, 24), "kernel_size": 3, "padding": 1, "groups": 24}, temperature=1.0)
    images = (torch.randn(2, 24, 150, 150) + 100).contiguous(memory_format=torch.channels_last)
    double, exact = in_double(layer, images)
    with torch.no_grad():
        torch.testing.assert_close(layer(images), double(exact).float(), rtol=1e-4, atol=1e-3)


@with_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_bit(kind: dict[str, Any], two_threads: None) -> None:
    layer = layer_of(kind)
    images = images_for(layer)
    ours = found(layer, images)
    torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(ours, found(layer, images), strict=True))


@with_compiler
@pytest.mark.parametrize("frozen", ["images", "weight", "attention_branch.squeeze.weight", "attention_branch"])
def test_what_wants_no_gradient_gets_none(frozen: str, calls: list[int]) -> None:
    layer = layer_of(KINDS[0])
    images = images_for(layer)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    images.requires_grad_(frozen != "images")
    double, exact = in_double(layer, images)
    exact.requires_grad_(frozen != "images")
    assert_alike(found(layer, images), found(double, exact))
    assert calls


@with_compiler
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2], KINDS[4]])
def test_a_second_derivative(kind: dict[str, Any]) -> None:
    def penalty(layer: nn.Module, images: Tensor) -> list[Tensor]:
        wanted = [images, *layer.parameters()]
        first = torch.autograd.grad(layer(images).square().sum(), wanted, create_graph=True)
        return list(torch.autograd.grad(sum((g.square().sum() for g in first), torch.zeros(())), wanted))

    layer = layer_of(kind)
    images = images_for(layer, (4, 3), 3)
    for one, other in zip(penalty(layer, images), penalty(*in_double(layer, images)), strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-3, atol=1e-3 * float(other.abs().max()))


@with_compiler
def test_the_temperature_that_is_set_is_the_one_that_counts() -> None:
    layer = layer_of(KINDS[0])
    images = images_for(layer)
    before = layer(images)
    set_temperature(layer, 0.3)
    assert not torch.allclose(before, layer(images))
    before.sum().backward()  # by the temperature of its own forward pass, though another is set by now
    assert_alike(found(layer, images), found(*in_double(layer, images)))


@with_compiler
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[5]])
def test_attention_without_gradient_is_the_branchs(
    kind: dict[str, Any], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    attend = compiled.attend
    monkeypatch.setattr(compiled, "attend", lambda *a: (made.append(1), attend(*a))[1])
    layer = layer_of(kind)
    images = images_for(layer, batch=batch).detach().contiguous()
    expected = layer.attention(images)
    assert not made
    with torch.no_grad():
        found = layer.attention(images)
    assert made
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(layer.double().attention(images.double()).float(), expected)
    assert len(made) == 1, "double precision is torch's business"


@with_compiler
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_one_image_without_gradient(
    kind: dict[str, Any], memory_format: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    evaluate = native.evaluate
    monkeypatch.setattr(native, "evaluate", lambda *a: (made.append(1), evaluate(*a))[1])
    layer = layer_of(kind)
    image = images_for(layer, batch=1).detach().contiguous(memory_format=memory_format)
    double, exact = in_double(layer, image)
    with torch.inference_mode():
        output = layer(image)
    assert made == [1]
    torch.testing.assert_close(output, double(exact).float(), rtol=1e-4, atol=1e-4)
    assert output.is_contiguous(memory_format=memory_format)


@with_compiler
def test_a_transposed_weight_of_the_branch_is_read_as_it_is() -> None:
    layer = layer_of(KINDS[0], reduction=1)
    weight = layer.attention_branch.squeeze.weight
    weight.data = weight.data.t()
    images = images_for(layer).detach()
    expected = layer.attention(images)
    with torch.no_grad():
        torch.testing.assert_close(layer.attention(images), expected)


@with_compiler
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[4]])
def test_another_default_dtype_changes_nothing(kind: dict[str, Any]) -> None:
    layer = layer_of(kind)
    images = images_for(layer, batch=40)
    expected = found(layer, images)
    torch.set_default_dtype(torch.float64)
    try:
        assert_alike(found(layer, images), expected, rtol=0, atol=0)
    finally:
        torch.set_default_dtype(torch.float32)


@with_compiler
def test_values_that_are_not_numbers_stay_seen() -> None:
    layer = layer_of(KINDS[0])
    with torch.no_grad():
        images = images_for(layer)
        images[2, 3, 0, 0] = torch.nan
        assert torch.equal(layer(images).isnan().flatten(1).all(1), torch.arange(5) == 2)


@with_compiler
def test_who_watches_or_changes_a_part_is_not_passed_by(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(layer: DynamicConv2d, images: Tensor | None = None) -> int:
        calls.clear()
        layer(images_for(layer) if images is None else images)
        return len(calls)

    seen: list[str] = []
    assert attempt(layer_of(KINDS[0])) == 1
    for part in ("aggregator", "attention_branch", "attention_branch.squeeze", "attention_branch.excite"):
        layer = layer_of(KINDS[0])
        layer.get_submodule(part).register_forward_hook(lambda *_, part=part: seen.append(part))
        assert attempt(layer) == 0
        assert seen == [part]
        seen.clear()
    assert attempt(layer_of(KINDS[0], aggregation="average")) == 0
    assert attempt(layer_of(KINDS[0], normalization="sigmoid", temperature=30.0)) == 0
    assert attempt(layer_of(KINDS[0], bias=True)) == 0
    assert attempt(layer_of({"channels": (16, 24), "kernel_size": 3, "padding": "same"})) == 0
    assert attempt(layer_of({"channels": (16, 24), "kernel_size": 3, "padding": 1, "padding_mode": "reflect"})) == 0
    layer = layer_of(KINDS[0])
    assert attempt(layer, images_for(layer).contiguous()) == 0
    with monkeypatch.context() as patch:
        patch.setattr(native, "_LIBRARY", None)
        assert attempt(layer) == 0
    with torch.autocast("cpu", torch.bfloat16):
        assert attempt(layer) == 0
    changed = layer_of(KINDS[0])
    nn.utils.parametrizations.weight_norm(changed.attention_branch.squeeze)
    assert attempt(changed) == 0


@with_compiler
def test_a_recorded_network_computes_what_an_unrecorded_one_does(calls: list[int]) -> None:
    model = build_model("mobilenet_v2", 10, num_kernels=4, width=0.35, depth=0.5, seed=0).eval()
    model = model.to(memory_format=torch.channels_last)
    # More images than are evaluated in another way.
    images = torch.randn(33, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = model(images)
        assert calls, "no layer was done in one step"
        calls.clear()
        with record_attention(model) as recorder:
            recorded = model(images)
    assert not calls
    assert recorder is not None
    assert torch.equal(plain, recorded), "what is watched and what is not are the same to the last bit"
