"""The Triton programs, run step by step by Triton's interpreter on the CPU, against the definition in double precision.

Tensors of the CPU are taken for those of a CUDA device, so that layers, operators and autograd come to the programs as
they do there.
"""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from dyconv.functional import dynamic_conv2d
from dyconv.kernels import native, operators
from dyconv.kernels.cuda import device, launching
from dyconv.kernels.cuda.launching import Tile
from dyconv.kernels.geometry import Geometry
from tests.dyconv.definition import by_image, with_gradients

pytest.importorskip("triton")

TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Lets programs compute, a few large tiles each, and collects the names of those that were started."""
    monkeypatch.setattr(device, "is_on_device", lambda tensor: True)
    monkeypatch.setattr(native, "_LIBRARY", None)
    monkeypatch.setattr(launching, "_PROGRAMS", 4)
    names: list[str] = []
    start = launching._start

    def noted(name: str, *arguments: Any, **constants: Any) -> None:
        names.append(name)
        start(name, *arguments, **constants)

    monkeypatch.setattr(launching, "_start", noted)
    _multiply_bfloat16_as_numbers(monkeypatch)
    with launching.forced(
        product=Tile(32, 32, 64, 1, 1), gradient=Tile(32, 32, 64, 1, 1), depthwise=Tile(64, 64, 0, 1, 1)
    ):
        yield names


def _multiply_bfloat16_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mend the interpreter, which multiplies bfloat16 matrices as the integers that it keeps them in."""
    from triton import language
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    multiply = builder.create_dot

    def mended(self: Any, left: Any, right: Any, *others: Any) -> Any:
        operands = []
        for operand in (left, right):
            if operand.dtype.scalar == language.bfloat16:
                operand = self.cast_impl(operand, language.float32)
            operands.append(operand)
        return multiply(self, *operands, *others)

    monkeypatch.setattr(builder, "create_dot", mended)


DENSE = {
    "pointwise": ((2, 20, 5, 6), (4, 33, 20, 1, 1), {}, torch.float32),
    "pointwise, stride": ((3, 17, 5, 6), (1, 18, 17, 1, 1), {"stride": 2}, torch.float16),
    "pointwise, one pixel": ((3, 40, 1, 1), (8, 70, 40, 1, 1), {}, torch.bfloat16),
    "square": ((2, 16, 5, 4), (3, 16, 16, 3, 3), {"padding": 1}, torch.bfloat16),
    "stride": ((2, 40, 4, 5), (2, 18, 40, 3, 2), {"stride": (2, 1), "padding": (1, 0)}, torch.float32),
    "stride three": ((2, 16, 8, 7), (2, 16, 16, 2, 1), {"stride": 3}, torch.float32),
    "dilation": ((2, 18, 5, 6), (5, 70, 18, 2, 1), {"dilation": 2, "padding": 1}, torch.float32),
}
DEPTHWISE = {
    "depthwise": ((2, 20, 5, 4), (3, 20, 1, 3, 3), {"padding": 1}, torch.float32),
    "depthwise, stride": ((2, 70, 5, 4), (2, 70, 1, 3, 2), {"padding": 1, "stride": 2}, torch.bfloat16),
    "depthwise, dilation": ((3, 17, 6, 5), (3, 17, 1, 2, 2), {"dilation": 2}, torch.float16),
}


def _drawn(case: tuple[Any, ...], memory_format: torch.memory_format) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    size, kernels, how, dtype = case
    torch.manual_seed(0)
    images = torch.randn(size).contiguous(memory_format=memory_format)
    weight = torch.randn(kernels) / math.sqrt(math.prod(kernels[2:]))
    attention = torch.softmax(torch.randn(size[0], kernels[0]), 1)
    tensors = tuple(tensor.to(dtype).requires_grad_() for tensor in (images, weight, attention))
    return tensors, how


@pytest.mark.parametrize("name", [*DENSE, *DEPTHWISE])
def test_programs_compute_the_definition_and_its_gradients(started: list[str], name: str) -> None:
    last = torch.channels_last
    # Every other case comes in the other memory format, which is brought to this one.
    memory_format = last if name in ("pointwise", "square", "stride", "depthwise, stride") else torch.contiguous_format
    tensors, how = _drawn({**DENSE, **DEPTHWISE}[name], memory_format)
    groups = {"groups": tensors[0].shape[1]} if name in DEPTHWISE else {}
    algorithm = "direct" if name in DEPTHWISE else "tiled"
    results = with_gradients(dynamic_conv2d(*tensors, algorithm=algorithm, **how, **groups), tensors)
    expected = with_gradients(by_image(*tensors, **how, **groups), tensors)
    programs = ["depthwise"] * 2 + ["depthwise_kernel_gradient"]
    if name in DENSE:
        programs = ["mixed_product"] * 2 + ["kernel_gradient"]
    assert started == programs
    for result, exact in zip(results, expected, strict=True):
        assert result.dtype == tensors[0].dtype
        scale = float(exact.detach().abs().max())
        torch.testing.assert_close(
            result.double(), exact.double(), rtol=0, atol=TOLERANCES[tensors[0].dtype] * max(1.0, scale)
        )
    assert results[0].is_contiguous(memory_format=memory_format)


def test_smaller_tiles_and_more_parts_of_the_batch_give_the_same(
    started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors, _ = _drawn(((3, 17, 5, 4), (2, 16, 17, 1, 1), {}, torch.float32), torch.channels_last)
    whole = with_gradients(dynamic_conv2d(*tensors, algorithm="tiled"), tensors)
    monkeypatch.setattr(launching, "_PROGRAMS", 8)
    with launching.forced(product=Tile(16, 16, 16, 1, 1), gradient=Tile(16, 16, 16, 1, 1)):
        cut = with_gradients(dynamic_conv2d(*tensors, algorithm="tiled"), tensors)
    for one, other in zip(whole, cut, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_kernels_of_each_image_are_convolved_tap_by_tap(started: list[str]) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 20, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    kernels = torch.randn(2, 4, 20, requires_grad=True)
    g = Geometry(2, 1, 20, 20, (5, 6), (2, 2), (2, 1), (1, 1), (1, 1), 20)
    results = with_gradients(operators.convolve_each(images, kernels, g), (images, kernels))
    weight = kernels.transpose(1, 2).reshape(2, 20, 1, 2, 2)
    exact = by_image(images, weight, torch.eye(2), stride=(2, 1), padding=1, groups=20)
    assert started == ["depthwise"] * 2 + ["depthwise_kernel_gradient"]
    for one, other in zip(results, with_gradients(exact, (images, kernels)), strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-5, atol=1e-5)


def test_a_derivative_of_a_derivative_is_torchs_own(started: list[str]) -> None:
    tensors, _ = _drawn(((2, 16, 3, 3), (2, 16, 16, 1, 1), {}, torch.float32), torch.channels_last)

    def penalty(compute: Any, tensors: tuple[Tensor, ...]) -> list[Tensor]:
        first = torch.autograd.grad(compute(*tensors).square().sum(), tensors, create_graph=True)
        return list(torch.autograd.grad(sum((g.square().sum() for g in first), torch.zeros(())), tensors))

    found = penalty(lambda *tensors: dynamic_conv2d(*tensors, algorithm="tiled"), tensors)
    exact = tuple(tensor.detach().double().requires_grad_() for tensor in tensors)
    assert started[0] == "mixed_product"
    for one, other in zip(found, penalty(by_image, exact), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_a_compiled_call_takes_the_programs_whole(started: list[str]) -> None:
    tensors, _ = _drawn(((2, 16, 9, 9), (2, 16, 16, 1, 1), {}, torch.float32), torch.channels_last)
    eager = with_gradients(dynamic_conv2d(*tensors), tensors)
    count = len(started)
    call = torch.compile(dynamic_conv2d, fullgraph=True, backend="eager")
    # The choice as well is a constant of the compiled program.
    compiled = with_gradients(call(*tensors), tensors)
    assert 2 * count == len(started) == 6
    assert all(torch.equal(one, other) for one, other in zip(eager, compiled, strict=True))


def test_autocast_gives_the_programs_half_precision(started: list[str]) -> None:
    tensors, _ = _drawn(((2, 16, 3, 3), (2, 16, 16, 1, 1), {}, torch.float32), torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        output = dynamic_conv2d(*tensors, algorithm="tiled")
    assert output.dtype == torch.bfloat16
    assert started == ["mixed_product"]
    gradients = torch.autograd.grad(output, tensors, torch.ones_like(output))
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


@pytest.mark.parametrize("element_size", [2, 4])
@pytest.mark.parametrize("num_kernels", [1, 2, 4, 8, 16])
def test_a_tile_fits_the_memory_and_the_registers_of_a_program(num_kernels: int, element_size: int) -> None:
    for pixels in (1, 4, 49, 64, 196, 784, 3136):
        for channels in (16, 24, 96, 160, 512, 1280):
            tile = launching.product_tile(64, pixels, channels, num_kernels, element_size)
            assert tile.shared_bytes(num_kernels, element_size) <= launching._SHARED_BYTES
            gradient = launching.gradient_tile(num_kernels, channels, channels)
            # A thread has 255 registers, and a warp 32 threads.
            assert launching.lanes_of(num_kernels) * gradient.inner * gradient.outer <= 64 * 32 * gradient.warps
